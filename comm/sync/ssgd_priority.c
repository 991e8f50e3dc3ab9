/*
 * S-SGD whose exchanges go in the order in which the next forward needs them, and whose forward starts as soon as the first is there.
 *
 * Papers: Jayarajan et al., P3, MLSys 2019; Peng et al., ByteScheduler, SOSP 2019 (schedule/priority.c).
 *
 *     backward of t:                                  gradients leave in slices, in the order of the plan, as soon as they are final
 *     forward of t + 1, before it reads bucket b:     wait for all slices of b;  x_b, v_b = optimizer(x_b, v_b, g_b)
 *
 *     compute   | backward b0 | b1 | b2 |  wait  | update b2 | forward b2 | update b1 | forward b1 | update b0 | forward b0 |
 *     comm                    | b0 1/3 | b1 1/2 | b2 | b1 2/2 | b0 2/3 | b0 3/3 |
 *
 * What does not overtake is the slice under way, so that slices are short (schedule.slice_mb) and cost a latency each.
 *
 * The plan is made of sizes and keys alone, so all ranks have the same one, and each step queues all of it, in its order, whatever the
 * clock says. It cannot deadlock: a slice waits for the gradients of its own bucket and for the slices in front of it; backward waits
 * for nothing, and forward only for slices of the step before, which are in front of all of this one's.
 *
 * A sum is added up in an order that depends on its place in the message (ring.c's chunks), and a slice is a message of its own: the
 * last bits are those of other slices of the same length, in whatever order they went. Where no bucket is longer than a slice, they are
 * those of S-SGD. lazy.h has what updates that come so late must mind.
 *
 * Costs no memory. Limits: dense sums only; the plan's, whose backward_share is not measured (schedule/priority.c says why).
 */
#include <math.h>
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "lazy.h"

struct priority {
	double slice_floats, share;     /* the keys */
	struct lazy lazy;
	struct slice *slice;            /* the plan */
	int slices, queued;             /* queued: of this step */
	int64_t ready;                  /* the arena is final up to here */
};

static int priority_init(struct sync *s, const struct config *config)
{
	struct priority *state = s->state;

	state->slice_floats = config_float(config, "schedule.slice_mb") * 1e6 / 4;
	state->share = config_float(config, "schedule.backward_share");
	return 0;
}

static int make_plan(const struct sync *s, int workers, struct slice **slice)
{
	const struct priority *state = s->state;
	const struct range *bucket;
	int buckets = sync_buckets(s, workers, &bucket);

	return schedule_slices(bucket, buckets, (int64_t)state->slice_floats, state->share, slice);
}

static void priority_bind(struct sync *s)
{
	struct priority *state = s->state;

	lazy_bind(&state->lazy, s);
	state->slices = make_plan(s, s->comm->size, &state->slice);
}

static bool priority_param_needed(struct sync *s, const struct range *range)
{
	struct priority *state = s->state;

	return lazy_needed(&state->lazy, s, range);
}

/* Queues the plan as far as gradients are final. */
static bool priority_grad_ready(struct sync *s, const struct range *range)
{
	struct priority *state = s->state;
	int before = state->queued;

	CHECK(range->offset == state->ready);   /* backward finishes the arena in its order */
	CHECK(state->lazy.asked == 0);          /* and forward has read all of it: its last gradients have done their work */
	state->ready += range->n;
	while (state->queued < state->slices) {
		const struct slice *slice = &state->slice[state->queued];
		const struct range *bucket = &state->lazy.bucket[slice->bucket];

		if (bucket->offset + bucket->n > state->ready)
			break;
		if (state->queued++ == before)
			comm_fork(s->comm, s->compute);
		trace_begin(s->comm->stream, "slice of bucket", NULL, slice->bucket);
		compress_average(&s->compress, &slice->range, s->g, s->g);
		if (slice->last)
			comm_mark(s->comm, state->lazy.done[slice->bucket]);
		trace_end(s->comm->stream);
	}
	return state->queued > before;
}

static void priority_step(struct sync *s, int64_t t)
{
	struct priority *state = s->state;

	(void)t;
	CHECK(state->queued == state->slices);
	lazy_step(&state->lazy, s);
	state->queued = 0;
	state->ready = 0;
}

static void priority_settle(struct sync *s)
{
	struct priority *state = s->state;

	lazy_land(&state->lazy, s);
}

static void priority_consensus(struct sync *s, float *out)
{
	struct priority *state = s->state;

	lazy_consensus(&state->lazy, s, out);
}

static void priority_state(struct sync *s, struct state_visitor *v) { (void)s, (void)v; }

/* ---- cost ---- */

static double priority_bytes(const struct sync *s, int workers)
{
	const struct range *bucket;
	int buckets = sync_buckets(s, workers, &bucket);

	return sync_ranges_bytes(s, bucket, buckets, workers);
}

/* The plan, carried out: a slice goes when its bucket is final and the one in front of it is through. */
static double priority_cost(const struct sync *s, const struct cost_model *m)
{
	const struct range *bucket;
	struct slice *slice;
	int buckets = sync_buckets(s, m->workers, &bucket), slices = make_plan(s, m->workers, &slice);
	double *done = xcalloc((size_t)buckets, sizeof(*done)), now = 0;

	for (int i = 0; i < slices; i++) {
		int b = slice[i].bucket;

		now = fmax(now, sync_final(s, bucket, buckets, b, m) * m->backward) + sync_ranges_cost(s, &slice[i].range, 1, m);
		done[b] = now;
	}
	now = lazy_forward(s, bucket, buckets, done, m);
	free(done);
	free(slice);
	return now;
}

static void priority_release(struct sync *s)
{
	struct priority *state = s->state;

	lazy_release(&state->lazy, s);
	free(state->slice);
}

extern const struct sync_ops sync_ssgd_priority;
const struct sync_ops sync_ssgd_priority = {
	.name = "ssgd",
	.paper = "P3: Jayarajan et al., MLSys 2019; ByteScheduler: Peng et al., SOSP 2019",
	.averages_gradients = true,
	.state_size = sizeof(struct priority),
	.init = priority_init,
	.bind = priority_bind,
	.param_needed = priority_param_needed,
	.grad_ready = priority_grad_ready,
	.step = priority_step,
	.settle = priority_settle,
	.consensus = priority_consensus,
	.state = priority_state,
	.bytes = priority_bytes,
	.cost = priority_cost,
	.release = priority_release,
};
