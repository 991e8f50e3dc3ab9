/*
 * VRL-SGD: Local SGD whose workers take their own bias off each step, so that long periods do no harm where data differ.
 *
 * Paper: Liang, Shen, Liu, Pan, Chen, Cheng, "Variance Reduced Local SGD with Lower Communication Complexity", 2019
 * (arXiv 1912.12844), algorithm 1.
 *
 *     each step t = 0, 1, …:  v_i = optimizer's direction of g_i, minus Delta_i;  x_i = x_i - lr v_i           at first Delta_i = 0
 *     when k divides t + 1:   xhat = average(x_i);  Delta_i = Delta_i + (xhat - x_i) / (k lr);  x_i = xhat
 *
 *     compute   | k local steps |  wait   | k local steps |  wait   |
 *     comm                      | average |               | average |
 *
 * Delta_i is what worker i moved beyond the others, per unit of learning rate: for plain SGD, own mean gradient of the last period minus
 * that of all. sum_i w_i Delta_i = 0 after each average, by induction, so xhat moves as if there were no Delta.
 *
 * Rates that change: x_i - xhat is a sum over the period of lr times a direction, so k lr is the sum of the period's rates, S. What is
 * kept is u_i = S Delta_i (lr_sum.h): a step adds lr/S u_i to the model, an average makes u_i = (S'/S) u_i + (xhat - x_i). A period
 * without any rate averages and leaves u_i alone.
 *
 * Warm-up (VRL-SGD-W): the first period is one step long. From the common x_0, Delta_i is then g_i minus the average of g_i at once,
 * where the plain algorithm drifts for k steps with Delta_i = 0. The periods that follow are counted from step 1. A schedule that begins
 * with rate 0 leaves nothing to learn from that step.
 *
 * Momentum: the optimizer's state vectors are averaged with the models (the authors' code does it for momentum), so that a worker's own
 * direction does not outlive a period: sync.momentum is "average" here unless it is said. "local" has the volume of Local SGD.
 *
 * No compressor: with error feedback, what is not sent now comes later, while Delta_i takes it for a bias now: xhat - x_i is then minus
 * the worker's own movement, the next period cancels all of it, and only one period of every 1/density would move the model. Taking
 * (average - what i sent) instead keeps the sum at 0, but divides what 1/density periods have gathered by the rates of one: the error of
 * Delta_i is multiplied by 1 - 1/density at each turn, and explodes.
 *
 * Limits: at the end of each period the exchanges are exposed in full; three vectors beside the model.
 */
#include "../../core/config.h"
#include "../../core/die.h"
#include "lr_sum.h"

struct vrl {
	int64_t period;
	bool warmup;
	struct lr_sum rate;
	float *z, *d, *u;
	struct event *done;
};

static const struct option vrl_options[] = {
	{ "period", OPTION_INT, "20", 1, 1000000, NULL, "k: local steps between two averagings" },
	{ "warmup", OPTION_BOOL, "false", 0, 0, NULL, "VRL-SGD-W: the first period is one step" },
	{ "momentum", OPTION_STRING, "\"average\"", 0, 0, "local|average|reset", "as of all, but averaged unless it is said otherwise" },
	{ 0 },
};

static int vrl_init(struct sync *s, const struct config *config)
{
	struct vrl *state = s->state;

	state->period = config_int(config, "sync.period");
	state->warmup = config_bool(config, "sync.warmup");
	s->alone = state->warmup ? 1 : state->period;
	return sync_dense_only(s, config, "its correction would take for a bias what a compressor only sends later");
}

static void vrl_bind(struct sync *s)
{
	struct vrl *state = s->state;

	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->u = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

static bool is_due(const struct vrl *state, int64_t t) { return (state->warmup ? t : t + 1) % state->period == 0; }

static void vrl_step(struct sync *s, int64_t t)
{
	struct vrl *state = s->state;
	const struct vec_ops *vec = s->device->ops->vec;
	double carry;

	sync_optimize(s);
	lr_sum_add(&state->rate, s->lr);
	if (state->rate.last.value > 0)
		vec->axpby(s->compute, s->n, (float)(s->lr / state->rate.last.value), state->u, 1, s->x);
	if (!is_due(state, t))
		return;
	/* xhat - x_i = average - d_i. The average takes the place of d_i, so d_i goes first. */
	sync_phase(s, "average");
	vec->diff(s->compute, s->n, s->x, state->z, state->d);
	carry = lr_sum_end(&state->rate);
	if (carry >= 0)
		vec->axpby(s->compute, s->n, -1, state->d, (float)carry, state->u);
	sync_average(s, state->d, state->d, state->done);
	s->device->ops->stream->wait(s->compute, state->done);
	sync_phase(s, "adopt the average");
	if (carry >= 0)
		vec->axpby(s->compute, s->n, 1, state->d, 1, state->u);
	vec->adopt(s->compute, s->n, state->d, state->z, s->x);
	sync_merged(s);
}

static void vrl_state(struct sync *s, struct state_visitor *v)
{
	struct vrl *state = s->state;

	v->vector(v, "reference", s->device, state->z, s->n);
	v->vector(v, "correction", s->device, state->u, s->n);
	lr_sum_state(&state->rate, v);
}

static double vrl_bytes(const struct sync *s, int workers)
{
	const struct vrl *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double vrl_cost(const struct sync *s, const struct cost_model *m)
{
	const struct vrl *state = s->state;

	return m->forward + m->backward + (sync_average_cost(s, m) + sync_merged_cost(s, m)) / (double)state->period;
}

static void vrl_release(struct sync *s)
{
	struct vrl *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->mem->free(s->device, state->u);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_vrl;
const struct sync_ops sync_vrl = {
	.name = "vrl",
	.paper = "VRL-SGD: Liang et al., 2019, arXiv 1912.12844",
	.topology = "all-reduce|ps",
	.options = vrl_options,
	.averages_models = true,
	.state_size = sizeof(struct vrl),
	.init = vrl_init,
	.bind = vrl_bind,
	.step = vrl_step,
	.consensus = sync_mean_model,
	.state = vrl_state,
	.bytes = vrl_bytes,
	.cost = vrl_cost,
	.release = vrl_release,
};
