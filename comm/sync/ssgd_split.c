/*
 * S-SGD whose all-reduce is taken apart: its first half hides behind backward, its second behind the next forward.
 *
 * Paper: Zhang et al., "DeAR: Accelerating Distributed Deep Learning with Fine-Grained All-Reduce Pipelining", ICDCS 2023
 * (arXiv 2302.12445).
 *
 *     backward of t, as soon as bucket b is final:    reduce-scatter w_i g_b
 *     behind backward, last bucket first:             all-gather g_b
 *     forward of t + 1, before it reads bucket b:     wait for all-gather b;  x_b, v_b = optimizer(x_b, v_b, g_b)
 *
 *     compute   | backward b0 | b1 | b2 |     wait     | update b2 | forward b2 | update b1 | forward b1 | update b0 | forward b0 |
 *     comm                    | RS b0 | RS b1 | RS b2 | AG b2 | AG b1 | AG b0 |
 *
 * A ring all-reduce is a reduce-scatter and an all-gather: what is sent is the same, and so is every bit of the model. Between the halves a
 * rank holds the sums of its own chunks. It does not update them there and gather parameters (ZeRO-1 does): as in the paper, gradients are
 * gathered and each worker updates all of the model, so that optimizer and state stay those of S-SGD.
 *
 * Forward reads the arena from its end, so all-gathers leave in that order, the same on every rank; the only wait that nothing can hide is
 * for the bucket of the first layers. lazy.h has what an update that comes so late must mind, and who makes it come earlier: consensus(),
 * settle(), and so evaluation and state().
 *
 * Costs no memory. Limits: buckets must be many and small for the first one to come soon; a compressor has no halves; with one bucket it
 * is S-SGD.
 */
#include <stdlib.h>

#include "../../core/die.h"
#include "../../core/trace.h"
#include "lazy.h"

struct split {
	struct lazy lazy;
	int launched;                   /* reduce-scatters of this step */
	int64_t ready;                  /* the arena is final up to here */
};

static int split_init(struct sync *s, const struct config *config)
{
	(void)s, (void)config;
	return 0;
}

static void split_bind(struct sync *s)
{
	struct split *state = s->state;

	lazy_bind(&state->lazy, s);
	for (int i = 0; i < state->lazy.buckets; i++)
		comm_expect_allreduce(s->comm, state->lazy.bucket[i].n, DTYPE_F32);
}

static bool split_param_needed(struct sync *s, const struct range *range)
{
	struct split *state = s->state;

	return lazy_needed(&state->lazy, s, range);
}

static bool split_grad_ready(struct sync *s, const struct range *range)
{
	struct split *state = s->state;
	int before = state->launched;

	CHECK(range->offset == state->ready);   /* backward finishes the arena in its order */
	CHECK(state->lazy.asked == 0);          /* and forward has read all of it: its last gradients have done their work */
	state->ready += range->n;
	while (state->launched < state->lazy.buckets) {
		const struct range *bucket = &state->lazy.bucket[state->launched];
		float *g = s->g + bucket->offset;

		if (bucket->offset + bucket->n > state->ready)
			break;
		comm_fork(s->comm, s->compute);
		trace_begin(s->comm->stream, "bucket", NULL, state->launched);
		comm_delay_half(s->comm);
		if (s->comm->size > 1)
			s->device->ops->vec->scale(s->comm->stream, bucket->n, (float)s->weight[s->comm->rank], g, g);
		comm_reduce_scatter(s->comm, g, bucket->n, DTYPE_F32, REDUCE_SUM);
		trace_end(s->comm->stream);
		state->launched++;
	}
	return state->launched > before;
}

static void split_step(struct sync *s, int64_t t)
{
	struct split *state = s->state;
	struct lazy *lazy = &state->lazy;

	(void)t;
	CHECK(state->launched == lazy->buckets);
	for (int i = lazy->buckets - 1; i >= 0; i--) {
		trace_begin(s->comm->stream, "bucket", NULL, i);
		comm_delay_half(s->comm);
		comm_gather_sums(s->comm, s->g + lazy->bucket[i].offset, lazy->bucket[i].n, DTYPE_F32);
		comm_mark(s->comm, lazy->done[i]);
		trace_end(s->comm->stream);
	}
	lazy_step(lazy, s);
	state->launched = 0;
	state->ready = 0;
}

static void split_settle(struct sync *s)
{
	struct split *state = s->state;

	lazy_land(&state->lazy, s);
}

static void split_consensus(struct sync *s, float *out)
{
	struct split *state = s->state;

	lazy_consensus(&state->lazy, s, out);
}

static void split_state(struct sync *s, struct state_visitor *v) { (void)s, (void)v; }

static double split_bytes(const struct sync *s, int workers)
{
	const struct range *bucket;
	int buckets = sync_buckets(s, workers, &bucket);

	return sync_ranges_bytes(s, bucket, buckets, workers);
}

/* Reduce-scatters follow backward, then all-gathers come in the order in which forward asks. */
static double split_cost(const struct sync *s, const struct cost_model *m)
{
	const struct range *bucket;
	int buckets = sync_buckets(s, m->workers, &bucket);
	double *done = xcalloc((size_t)buckets, sizeof(*done)), now = sync_landed(s, bucket, buckets, m, 0.5);

	for (int b = buckets - 1; b >= 0; b--)
		done[b] = now += sync_ranges_cost(s, &bucket[b], 1, m) / 2;
	now = lazy_forward(s, bucket, buckets, done, m);
	free(done);
	return now;
}

static void split_release(struct sync *s)
{
	struct split *state = s->state;

	lazy_release(&state->lazy, s);
}

extern const struct sync_ops sync_ssgd_split;
const struct sync_ops sync_ssgd_split = {
	.name = "ssgd",
	.paper = "DeAR: Zhang et al., ICDCS 2023, arXiv 2302.12445",
	.averages_gradients = true,
	.state_size = sizeof(struct split),
	.init = split_init,
	.bind = split_bind,
	.param_needed = split_param_needed,
	.grad_ready = split_grad_ready,
	.step = split_step,
	.settle = split_settle,
	.consensus = split_consensus,
	.state = split_state,
	.bytes = split_bytes,
	.cost = split_cost,
	.release = split_release,
};
