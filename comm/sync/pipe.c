/*
 * Pipe-SGD: synchronous SGD with gradients that are K - 1 steps old, so that an exchange may take K - 1 steps longer than backward.
 *
 * Paper: Li, Yu, Li, Avestimehr, Kim, Schwing: "Pipe-SGD: A Decentralized Pipelined SGD Framework for Distributed Deep Net Training",
 * NeurIPS 2018 (arXiv 1811.03619).
 *
 *     step t:     g_i[t] = gradient of worker i at x;  launch the average of the g_i[t]
 *                 wait for the average g[t - K + 1], launched K - 1 steps ago;  x, v = optimizer(x, v, g[t - K + 1])
 *
 *     compute   | step 0 | step 1 | update 0 | step 2 | update 1 | step 3 | …                  K = 2
 *     comm               | average 0 |  | average 1    | average 2   |
 *
 * The first K - 1 steps have nothing to apply: the model stays as it is and the optimizer takes no step (one with a gradient of 0 would
 * let weight decay and the moments of AdamW run). K = 1 is S-SGD (ssgd.c, which needs no copy of the gradient). An update takes the
 * learning rate of the step in which it happens.
 *
 * Gradients leave bucket by bucket while backward runs, as in S-SGD. The next step overwrites the arena g before they are all on their
 * way, so each bucket is copied to the slot t modulo K, where its average replaces it. All models are the same, to the bit.
 *
 * The first `warmup_steps` steps are those of S-SGD: when the model still turns quickly, an old gradient points elsewhere.
 *
 * Limits: the whole gradient is sent in every step, so a step takes max(compute, exchange), whatever K; K > 2 helps if exchanges vary in
 * length. Old gradients want a smaller learning rate, the more so with momentum. K arenas of memory.
 */
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "sync.h"

extern const struct sync_ops sync_ssgd;

struct pipe {
	int64_t width, warmup;          /* K; steps without delay */
	const struct range *bucket;
	int buckets, launched;          /* launched: how many are on their way in this step */
	int64_t ready;                  /* the arena is final up to here */
	int64_t slot;                   /* of the step under way */
	float **average;                /* K slots: gradients of this worker, then their average */
	char **name;
	struct event **done;
};

static const struct option pipe_options[] = {
	{ "pipeline", OPTION_INT, "2", 1, 64, NULL, "K: steps that an exchange has time for; gradients are K - 1 steps old" },
	{ "warmup_steps", OPTION_INT, "0", 0, 1e15, NULL, "so many steps are those of ssgd first" },
	{ 0 },
};

static int pipe_init(struct sync *s, const struct config *config)
{
	struct pipe *state = s->state;

	state->width = config_int(config, "sync.pipeline");
	state->warmup = config_int(config, "sync.warmup_steps");
	return 0;
}

static void pipe_bind(struct sync *s)
{
	struct pipe *state = s->state;

	state->buckets = sync_buckets(s, s->comm->size, &state->bucket);
	state->average = xcalloc((size_t)state->width, sizeof(*state->average));
	state->name = xcalloc((size_t)state->width, sizeof(*state->name));
	state->done = xcalloc((size_t)state->width, sizeof(*state->done));
	for (int i = 0; i < state->width; i++) {
		state->average[i] = sync_vector(s);
		state->name[i] = xasprintf("average.%d", i);
		state->done[i] = s->device->ops->stream->event_open(s->device);
	}
}

static void pipe_begin(struct sync *s, int64_t t)
{
	struct pipe *state = s->state;

	state->slot = t % state->width;
}

static void launch(struct sync *s, const struct range *bucket)
{
	struct pipe *state = s->state;
	float *slot = state->average[state->slot];

	s->device->ops->mem->copy(s->compute, slot + bucket->offset, s->g + bucket->offset, (size_t)bucket->n * sizeof(float), COPY_DEVICE);
	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, "bucket", NULL, state->launched);
	compress_average(&s->compress, bucket, slot, slot);
	if (++state->launched == state->buckets)
		comm_mark(s->comm, state->done[state->slot]);
	trace_end(s->comm->stream);
}

static bool pipe_grad_ready(struct sync *s, const struct range *range)
{
	struct pipe *state = s->state;
	int before = state->launched;

	CHECK(range->offset == state->ready);   /* backward finishes the arena in its order */
	state->ready += range->n;
	while (state->launched < state->buckets) {
		const struct range *bucket = &state->bucket[state->launched];

		if (bucket->offset + bucket->n > state->ready)
			break;
		launch(s, bucket);
	}
	return state->launched > before;
}

static void pipe_step(struct sync *s, int64_t t)
{
	struct pipe *state = s->state;
	int64_t from = t < state->warmup ? t : t - state->width + 1;

	CHECK(state->launched == state->buckets);
	state->launched = 0;
	state->ready = 0;
	if (from < 0 || (t >= state->warmup && from < state->warmup))   /* the pipeline fills */
		return;
	sync_phase(s, "update with an earlier gradient");
	s->device->ops->stream->wait(s->compute, state->done[from % state->width]);
	optimizer_begin(s->optimizer, s->compute, s->lr);
	optimizer_step(s->optimizer, s->compute, 0, s->n, state->average[from % state->width], s->x);
}

static void pipe_consensus(struct sync *s, float *out)
{
	s->device->ops->mem->copy(s->compute, out, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* The exchanges in flight are state, too: whoever saves waits for them, and saves their results. */
static void pipe_state(struct sync *s, struct state_visitor *v)
{
	struct pipe *state = s->state;

	for (int i = 0; i < state->width; i++) {
		s->device->ops->stream->wait(s->compute, state->done[i]);
		v->vector(v, state->name[i], s->device, state->average[i], s->n);
	}
}

static double pipe_bytes(const struct sync *s, int workers)
{
	const struct range *bucket;
	int buckets = sync_buckets(s, workers, &bucket);

	return sync_ranges_bytes(s, bucket, buckets, workers);
}

static double pipe_cost(const struct sync *s, const struct cost_model *m)
{
	const struct pipe *state = s->state;
	const struct range *bucket;
	int buckets = sync_buckets(s, m->workers, &bucket);
	double compute = m->forward + m->backward, comm = sync_ranges_cost(s, bucket, buckets, m);

	if (state->width == 1)
		return sync_ssgd.cost(s, m);
	return compute > comm ? compute : comm;
}

static void pipe_release(struct sync *s)
{
	struct pipe *state = s->state;

	for (int i = 0; i < state->width; i++) {
		s->device->ops->mem->free(s->device, state->average[i]);
		s->device->ops->stream->event_close(state->done[i]);
		free(state->name[i]);
	}
	free(state->average);
	free(state->name);
	free(state->done);
}

extern const struct sync_ops sync_pipe;
const struct sync_ops sync_pipe = {
	.name = "pipe",
	.paper = "Pipe-SGD: Li et al., NeurIPS 2018, arXiv 1811.03619",
	.topology = "all-reduce|ps",
	.options = pipe_options,
	.averages_gradients = true,
	.state_size = sizeof(struct pipe),
	.init = pipe_init,
	.bind = pipe_bind,
	.begin = pipe_begin,
	.grad_ready = pipe_grad_ready,
	.step = pipe_step,
	.consensus = pipe_consensus,
	.state = pipe_state,
	.bytes = pipe_bytes,
	.cost = pipe_cost,
	.release = pipe_release,
};
