/*
 * CoCoD-SGD: computation and communication decoupled. The models of a period's start are averaged while the next k local steps run.
 *
 * Paper: Shen, Xu, Liu, Liang, Cheng: "Faster Distributed Deep Net Training: Computation and Communication Decoupled Stochastic
 * Gradient Descent", IJCAI 2019, pp. 4582-4589 (arXiv 1906.12043), supplement, equations (9) and (10):
 *
 *     x_t^i = xhat_{(floor(t/k)-1) k} - sum_{tau = (floor(t/k)-1) k}^{t-1} gamma G_tau^i,      xhat = sum_i M_i/sum(M) x^i
 *
 * a worker stands at the average of the models one full period ago, plus all of its own steps since. As operations, at t = s k:
 *
 *     wait for the average A of the snapshots taken at (s-1) k;   x_i = A + (x_i - snapshot_i)
 *     snapshot_i = x_i;   launch the average of the snapshots;    go on with k local steps
 *
 *     compute   | k steps | snap | k steps        | merge, snap | k steps        | merge, snap | …
 *     comm                |      average 1  |     |             |   average 2    |
 *
 * The first exchange is launched at t = k: before, anchor and snapshot are x_0 (all workers start there), so a merge at t = k would
 * change nothing.
 *
 * Here z is the last average that all workers hold (A), at first x_0, and d_i = snapshot_i - z is what is sent (DESIGN 3). With
 * avg = sum_i w_i d_i of the exchange in flight, the merge is
 *
 *     A = z + avg,   x_i + A - snapshot_i = x_i + (z + avg) - (z + d_i) = x_i + avg - d_i
 *
 * so that no snapshot is kept: z += avg; x_i += avg - d_i; d_i = x_i - z, one pass over memory. d_i belongs to communication until the
 * average has come, and is intact then: the average goes to a buffer of its own.
 *
 * Momentum, weight decay: local, never corrected (the analysis has none; as in the Overlap-Local-SGD authors' re-implementation).
 * sync.momentum changes that at each merge; "average" is waited for and takes away from what this algorithm is for.
 * Batch-norm statistics are averaged for evaluation only. Unequal batches: weights M_i / sum(M) (proportional sampling).
 *
 * Limits: between k and 2k-1 own steps beyond the common point: large k with skewed data diverges. Fully hidden only if the
 * average takes no longer than k steps.
 */
#include "../../core/config.h"
#include "sync.h"

struct cocod {
	int64_t period;
	int64_t launched;               /* exchanges so far; 0: none is in flight */
	float *z, *d, *average;
	struct event *done;
};

static const struct option cocod_options[] = {
	{ "period", OPTION_INT, "4", 1, 1000000, NULL, "k: local steps that one averaging has time for" },
	{ 0 },
};

static int cocod_init(struct sync *s, const struct config *config)
{
	struct cocod *state = s->state;

	state->period = config_int(config, "sync.period");
	s->alone = 2 * state->period;
	return 0;
}

static void cocod_bind(struct sync *s)
{
	struct cocod *state = s->state;

	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->average = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

static void cocod_step(struct sync *s, int64_t t)
{
	struct cocod *state = s->state;
	const struct device_ops *dev = s->device->ops;

	sync_optimize(s);
	if ((t + 1) % state->period)
		return;
	sync_phase(s, state->launched ? "merge and snapshot" : "snapshot");
	if (state->launched == 0) {
		dev->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	} else {
		dev->stream->wait(s->compute, state->done);
		dev->vec->merge(s->compute, s->n, state->average, s->x, state->z, state->d);
		sync_merged(s);
	}
	sync_average(s, state->d, state->average, state->done);
	state->launched++;
}

/* The exchange in flight is state, too: whoever saves waits for it, and saves its result. */
static void cocod_state(struct sync *s, struct state_visitor *v)
{
	struct cocod *state = s->state;

	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "reference", s->device, state->z, s->n);
	v->vector(v, "sent", s->device, state->d, s->n);
	v->vector(v, "average", s->device, state->average, s->n);
	v->number(v, "launched", &state->launched);
}

static double cocod_bytes(const struct sync *s, int workers)
{
	const struct cocod *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double cocod_cost(const struct sync *s, const struct cost_model *m)
{
	const struct cocod *state = s->state;
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m) / (double)state->period;

	return (compute > comm ? compute : comm) + sync_merged_cost(s, m) / (double)state->period;
}

static void cocod_release(struct sync *s)
{
	struct cocod *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->mem->free(s->device, state->average);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_cocod;
const struct sync_ops sync_cocod = {
	.name = "cocod",
	.paper = "CoCoD-SGD: Shen et al., IJCAI 2019, arXiv 1906.12043",
	.topology = "all-reduce|ps",
	.options = cocod_options,
	.averages_models = true,
	.state_size = sizeof(struct cocod),
	.init = cocod_init,
	.bind = cocod_bind,
	.step = cocod_step,
	.consensus = sync_mean_model,
	.state = cocod_state,
	.bytes = cocod_bytes,
	.cost = cocod_cost,
	.release = cocod_release,
};
