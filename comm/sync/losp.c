/*
 * LOSP: accumulated updates are pushed while the worker computes on; what comes back is compensated by its progress made meanwhile.
 *
 * Papers: Wang, Guo, Li: "OSP: Overlapping Computation and Communication in Parameter Server for Fast Machine Learning", ICPP 2019;
 * Wang, Qu, Guo, Wang, Li, Zhuang: "LOSP: Overlap Synchronization Parallel With Local Compensation for Fast Distributed Training",
 * IEEE JSAC 39(8), 2021, pp. 2541-2557. RECONSTRUCTED from their abstracts: the exact formula of the compensation is not known here.
 *
 *     u_i: what the worker's own steps have done to its model since the last exchange; z: the global model, at first x_0
 *
 *     each step:              x_i, m_i = optimizer(x_i, m_i, g_i)
 *     when k divides t + 1:   wait for the average u' of the updates pushed k steps ago (at first 0);   z = z + u'
 *                             u_i = own progress of the last k steps;   launch the average of the u_i
 *                             x_i = z + lambda u_i
 *
 *     compute   | k steps | push | k steps      | merge, push | k steps      | merge, push | …
 *     comm                |  average 1    |     |     average 2    |
 *
 * lambda. z lacks sum_j w_j u_j, which is on its way. Of that a worker knows u_i alone: the best it can do is to put lambda u_i in its
 * place. If all u_j = m + noise of variance s² each, the lambda of least error is (|m|² + s²/P) / (|m|² + s²): 1 if the workers agree,
 * its own share 1/P if all is noise. Hence the default between the two. lambda = 0 is OSP without compensation: a worker goes on from
 * the model that came back. lambda = 1 is CoCoD-SGD (cocod.c), to which this adds the coefficient: there u_i is x_i - z itself.
 *
 * u_i is the progress, not x_i - z: an update is pushed in full, once, whatever lambda is, so nothing gets lost. At the end of a period
 * x_i - z = lambda d_i + u_i with d_i what was pushed at its start; d_i belongs to communication until its average has come and is
 * intact then, so that u_i = x_i - lambda d_i - z needs no snapshot.
 *
 * The papers let fast workers take more local steps. Here all take k: an all-reduce has one moment for all of them, and unequal speed is
 * met by unequal batches (weights M_i / sum M). Momentum, weight decay: local. lambda = 0, k = 1 and plain SGD is Pipe-SGD with K = 2.
 *
 * Limits: those of CoCoD-SGD; a small lambda makes the next gradient be taken where the own last steps have not been done.
 */
#include "../../core/config.h"
#include "sync.h"

struct losp {
	int64_t period;
	float lambda;
	float *z, *d, *average;
	struct event *done;
};

static const struct option losp_options[] = {
	{ "period", OPTION_INT, "4", 1, 1000000, NULL, "k: local steps that one averaging has time for" },
	{ "compensation", OPTION_FLOAT, "0.5", 0, 1, NULL, "lambda: share of the own progress that a worker adds to what comes back" },
	{ 0 },
};

static int losp_init(struct sync *s, const struct config *config)
{
	struct losp *state = s->state;

	state->period = config_int(config, "sync.period");
	s->alone = 2 * state->period;
	state->lambda = (float)config_float(config, "sync.compensation");
	return 0;
}

static void losp_bind(struct sync *s)
{
	struct losp *state = s->state;

	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->average = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* Before the first exchange d and the average are 0. */
static void losp_step(struct sync *s, int64_t t)
{
	struct losp *state = s->state;
	const struct device_ops *dev = s->device->ops;

	sync_optimize(s);
	if ((t + 1) % state->period)
		return;
	sync_phase(s, "merge");
	dev->stream->wait(s->compute, state->done);
	dev->vec->axpby(s->compute, s->n, 1, s->x, -state->lambda, state->d);
	dev->vec->diff(s->compute, s->n, state->d, state->z, state->d);
	dev->vec->adopt(s->compute, s->n, state->average, state->z, s->x);
	dev->vec->axpby(s->compute, s->n, state->lambda, state->d, 1, s->x);
	if (t + 1 > state->period)      /* there was something to merge */
		sync_merged(s);
	sync_average(s, state->d, state->average, state->done);
}

/* The exchange in flight is state, too: whoever saves waits for it, and saves its result. */
static void losp_state(struct sync *s, struct state_visitor *v)
{
	struct losp *state = s->state;

	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "reference", s->device, state->z, s->n);
	v->vector(v, "sent", s->device, state->d, s->n);
	v->vector(v, "average", s->device, state->average, s->n);
}

static double losp_bytes(const struct sync *s, int workers)
{
	const struct losp *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double losp_cost(const struct sync *s, const struct cost_model *m)
{
	const struct losp *state = s->state;
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m) / (double)state->period;

	return (compute > comm ? compute : comm) + sync_merged_cost(s, m) / (double)state->period;
}

static void losp_release(struct sync *s)
{
	struct losp *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->mem->free(s->device, state->average);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_losp;
const struct sync_ops sync_losp = {
	.name = "losp",
	.paper = "OSP and LOSP, compensation reconstructed from the abstracts: Wang et al., ICPP 2019, JSAC 39(8) 2021",
	.topology = "all-reduce|ps",
	.options = losp_options,
	.averages_models = true,
	.state_size = sizeof(struct losp),
	.init = losp_init,
	.bind = losp_bind,
	.step = losp_step,
	.consensus = sync_mean_model,
	.state = losp_state,
	.bytes = losp_bytes,
	.cost = losp_cost,
	.release = losp_release,
};
