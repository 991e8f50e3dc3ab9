/*
 * S-SGD: synchronous mini-batch SGD, gradients averaged every step, overlapped with backward (wait-free backpropagation).
 *
 * Paper: Zhang et al., "Poseidon", USENIX ATC 2017 (WFBP); Li et al., "PyTorch Distributed", VLDB 2020 (buckets).
 *
 *     for each step:  g_i = gradient of worker i;  g = sum_i w_i g_i;  x, v = optimizer(x, v, g)        the same on all workers
 *
 *     compute   | forward | backward b0 | b1 | b2 |  wait  | update b0 | b1 | b2 |
 *     comm                              | average b0 | average b1 | b2 |
 *
 * A bucket leaves when its last tensor is final; backward finishes the arena from its start, so buckets leave in order, the same on
 * every rank. If the compressor wants the whole model, there is one bucket and no overlap.
 *
 * Limits: every step waits for the slowest worker and the whole exchange that backward could not hide.
 */
#include <stdlib.h>

#include "../../core/die.h"
#include "../../core/trace.h"
#include "sync.h"

struct ssgd {
	const struct range *bucket;
	int buckets, launched;          /* launched: how many are on their way in this step */
	int64_t ready;                  /* the arena is final up to here */
	struct event **done;            /* one a bucket */
};

static int ssgd_init(struct sync *s, const struct config *config)
{
	(void)s, (void)config;
	return 0;
}

static void ssgd_bind(struct sync *s)
{
	struct ssgd *state = s->state;

	state->buckets = sync_buckets(s, s->comm->size, &state->bucket);
	state->done = xcalloc((size_t)state->buckets, sizeof(*state->done));
	for (int i = 0; i < state->buckets; i++)
		state->done[i] = s->device->ops->stream->event_open(s->device);
}

static bool ssgd_grad_ready(struct sync *s, const struct range *range)
{
	struct ssgd *state = s->state;
	int before = state->launched;

	CHECK(range->offset == state->ready);   /* backward finishes the arena in its order */
	state->ready += range->n;
	while (state->launched < state->buckets) {
		const struct range *bucket = &state->bucket[state->launched];

		if (bucket->offset + bucket->n > state->ready)
			break;
		comm_fork(s->comm, s->compute);
		trace_begin(s->comm->stream, "bucket", NULL, state->launched);
		compress_average(&s->compress, bucket, s->g, s->g);
		comm_mark(s->comm, state->done[state->launched++]);
		trace_end(s->comm->stream);
	}
	return state->launched > before;
}

static void ssgd_step(struct sync *s, int64_t t)
{
	struct ssgd *state = s->state;

	(void)t;
	CHECK(state->launched == state->buckets);
	sync_phase(s, "update");
	optimizer_begin(s->optimizer, s->compute, s->lr);
	for (int i = 0; i < state->buckets; i++) {
		s->device->ops->stream->wait(s->compute, state->done[i]);
		optimizer_step(s->optimizer, s->compute, state->bucket[i].offset, state->bucket[i].n, s->g, s->x);
	}
	state->launched = 0;
	state->ready = 0;
}

static void ssgd_consensus(struct sync *s, float *out)
{
	s->device->ops->mem->copy(s->compute, out, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

static void ssgd_state(struct sync *s, struct state_visitor *v) { (void)s, (void)v; }

static double ssgd_bytes(const struct sync *s, int workers)
{
	const struct range *bucket;
	int buckets = sync_buckets(s, workers, &bucket);

	return sync_ranges_bytes(s, bucket, buckets, workers);
}

/* Buckets hide behind backward, as far as they are final before its end. */
static double ssgd_cost(const struct sync *s, const struct cost_model *m)
{
	const struct range *bucket;
	int buckets = sync_buckets(s, m->workers, &bucket);

	return m->forward + sync_landed(s, bucket, buckets, m, 1);
}

static void ssgd_release(struct sync *s)
{
	struct ssgd *state = s->state;

	for (int i = 0; i < state->buckets; i++)
		s->device->ops->stream->event_close(state->done[i]);
	free(state->done);
}

extern const struct sync_ops sync_ssgd, sync_ssgd_split, sync_ssgd_priority;
const struct sync_ops sync_ssgd = {
	.name = "ssgd",
	.paper = "synchronous SGD with wait-free backpropagation: Zhang et al., USENIX ATC 2017",
	.topology = "all-reduce|ps",
	.averages_gradients = true,
	.split = &sync_ssgd_split,
	.priority = &sync_ssgd_priority,
	.state_size = sizeof(struct ssgd),
	.init = ssgd_init,
	.bind = ssgd_bind,
	.grad_ready = ssgd_grad_ready,
	.step = ssgd_step,
	.consensus = ssgd_consensus,
	.state = ssgd_state,
	.bytes = ssgd_bytes,
	.cost = ssgd_cost,
	.release = ssgd_release,
};
