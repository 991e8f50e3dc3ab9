/*
 * Local SGD: k local steps, then the models are averaged, and everybody waits for it.
 *
 * Paper: Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019.
 *
 *     each step t = 0, 1, …:  x_i, v_i = optimizer(x_i, v_i, g_i)
 *     when k divides t + 1:   z = z + average(x_i - z);  x_i = z                    z: the model all workers hold, at first x_0
 *
 *     compute   | k local steps |  wait   | k local steps |  wait   |
 *     comm                      | average |               | average |
 *
 * The difference to z is what is sent (DESIGN 3): dense, z + average(x_i - z) is the weighted average of the x_i up to rounding; with
 * a compressor, what a worker could not send is in its residual, not in its model. The momentum stays local,
 * unless sync.momentum says otherwise.
 *
 * Limits: k steps of drift between workers, at the end of each period the exchange is exposed in full.
 */
#include "../../core/config.h"
#include "sync.h"

struct local {
	int64_t period;
	float *z, *d;
	struct event *done;
};

static const struct option local_options[] = {
	{ "period", OPTION_INT, "4", 1, 1000000, NULL, "k: local steps between two averagings" },
	{ 0 },
};

static int local_init(struct sync *s, const struct config *config)
{
	struct local *state = s->state;

	state->period = config_int(config, "sync.period");
	return 0;
}

static void local_bind(struct sync *s)
{
	struct local *state = s->state;

	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

static void local_step(struct sync *s, int64_t t)
{
	struct local *state = s->state;
	const struct device_ops *dev = s->device->ops;

	sync_optimize(s);
	if ((t + 1) % state->period)
		return;
	sync_phase(s, "average");
	dev->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	sync_average(s, state->d, state->d, state->done);
	dev->stream->wait(s->compute, state->done);
	sync_phase(s, "adopt the average");
	dev->vec->adopt(s->compute, s->n, state->d, state->z, s->x);
	sync_merged(s);
}

static void local_state(struct sync *s, struct state_visitor *v)
{
	struct local *state = s->state;

	v->vector(v, "reference", s->device, state->z, s->n);
}

static double local_bytes(const struct sync *s, int workers)
{
	const struct local *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double local_cost(const struct sync *s, const struct cost_model *m)
{
	const struct local *state = s->state;

	return m->forward + m->backward + (sync_average_cost(s, m) + sync_merged_cost(s, m)) / (double)state->period;
}

static void local_release(struct sync *s)
{
	struct local *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_local;
const struct sync_ops sync_local = {
	.name = "local",
	.paper = "Local SGD: Stich, ICLR 2019",
	.topology = "all-reduce|ps",
	.options = local_options,
	.averages_models = true,
	.state_size = sizeof(struct local),
	.init = local_init,
	.bind = local_bind,
	.step = local_step,
	.consensus = sync_mean_model,
	.state = local_state,
	.bytes = local_bytes,
	.cost = local_cost,
	.release = local_release,
};
