/*
 * Post-local SGD: S-SGD while the learning rate is high, Local SGD from the first decay on.
 *
 * Paper: Lin, Stich, Patel, Jaggi, "Don't Use Large Mini-Batches, Use Local SGD", ICLR 2020 (arXiv 1808.07217).
 *
 *     each step t < t':       g = average(g_i);  x, v = optimizer(x, v, g)                       S-SGD, the same on all workers
 *     at t = t':              z = x
 *     each step t >= t':      x_i, v_i = optimizer(x_i, v_i, g_i)
 *     when k | t - t' + 1:    z = z + average(x_i - z);  x_i = z                                 Local SGD
 *
 *     compute   | forward | backward b0 | b1 | wait | update | … t' … | k local steps |  wait   | k local steps |
 *     comm                              | b0 | b1   |                                 | average |
 *
 * t' is a step (switch_step) or the first step of an epoch (switch_epoch). With neither it is where the paper has it, at the first
 * decay of the learning rate: the first step whose rate is at most half of the highest one so far (a warm-up does not switch).
 *
 * S-SGD's part is ssgd.c itself. At t' the compressor's residuals change their meaning: before, e_i is gradient that was not sent
 * and would move the model by -lr e_i; afterwards it is movement. So e_i = -lr e_i with the rate of step t' (if it is 0, with the last
 * one that was not), and for plain SGD nothing is lost. With momentum it is a little too small (what went through S-SGD would have been
 * amplified by 1/(1 - momentum)).
 * Momentum: the same everywhere at t', local from then on (or as sync.momentum says).
 *
 * Limits: those of S-SGD before t', those of Local SGD after it. bytes() and cost() speak of the phase under way.
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../../core/lr.h"
#include "sync.h"

extern const struct sync_ops sync_ssgd;

struct post_local {
	int64_t period;
	int64_t switch_step, switch_epoch;      /* -1: not given */
	int64_t switched;                       /* t' + 1; 0: still S-SGD */
	union state_real highest, last;         /* learning rates so far; last: that was not 0 */
	void *ssgd;                             /* its state */
	float *z, *d;
	struct event *done;
};

static const struct option post_local_options[] = {
	{ "period", OPTION_INT, "16", 1, 1000000, NULL, "k: local steps between two averagings, after the switch" },
	{ "switch_step", OPTION_INT, NULL, 0, 1e15, NULL, "first local step" },
	{ "switch_epoch", OPTION_INT, NULL, 0, 1e15, NULL, "first local epoch; with neither: where the learning rate has halved" },
	{ 0 },
};

/* Also before the first step. */
static bool is_local(const struct post_local *state) { return state->switched || !state->switch_step || !state->switch_epoch; }

static int post_local_init(struct sync *s, const struct config *config)
{
	struct post_local *state = s->state;
	bool step = config_has(config, "sync.switch_step"), epoch = config_has(config, "sync.switch_epoch");

	if (step && epoch) {
		error("%s: sync.switch_step and sync.switch_epoch exclude each other", config_origin(config, "sync.switch_epoch"));
		return hint("give one of them, or neither: then the switch comes with the first decay of the learning rate");
	}
	state->period = config_int(config, "sync.period");
	state->switch_step = step ? config_int(config, "sync.switch_step") : -1;
	state->switch_epoch = epoch ? config_int(config, "sync.switch_epoch") : -1;
	s->alone = is_local(state) ? state->period : 1;
	return 0;
}

/* What ssgd.c sees: everything but its state is ours. Between these two calls only its functions may be called. */
static void lend(struct sync *s) { s->state = ((struct post_local *)s->state)->ssgd; }
static void take_back(struct sync *s, struct post_local *state) { s->state = state; }

static void post_local_bind(struct sync *s)
{
	struct post_local *state = s->state;

	state->ssgd = xcalloc(1, sync_ssgd.state_size);
	lend(s);
	sync_ssgd.bind(s);
	take_back(s, state);
	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
}

/* ---- the switch ---- */

static bool is_due(const struct sync *s, int64_t t)
{
	const struct post_local *state = s->state;

	if (state->switch_step >= 0)
		return t >= state->switch_step;
	if (state->switch_epoch >= 0)
		return s->epoch >= state->switch_epoch;
	return state->highest.value > 0 && s->lr <= state->highest.value / 2;
}

struct converter {
	struct state_visitor visitor;
	struct sync *s;
	double lr;
};

static void convert_vector(struct state_visitor *v, const char *name, struct device *dev, float *data, int64_t n)
{
	struct sync *s = ((struct converter *)v)->s;

	if (!strcmp(name, "residual"))
		dev->ops->vec->scale(s->compute, n, (float)-((struct converter *)v)->lr, data, data);
}

static void convert_number(struct state_visitor *v, const char *name, int64_t *value) { (void)v, (void)name, (void)value; }

/* All exchanges of S-SGD have been waited for: the residuals are the compute stream's. */
static void post_local_begin(struct sync *s, int64_t t)
{
	struct post_local *state = s->state;
	struct converter converter = { { .vector = convert_vector, .number = convert_number }, s, 0 };

	if (state->switched)
		return;
	if (s->lr > state->highest.value)
		state->highest.value = s->lr;
	if (s->lr > 0)
		state->last.value = s->lr;
	if (!is_due(s, t))
		return;
	state->switched = t + 1;
	converter.lr = state->last.value;
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	compress_state(&s->compress, &converter.visitor);
}

/* The t' that is to come in so many steps; -1: none. */
static int64_t find_switch(const struct post_local *state, const struct lr_schedule *lr, int64_t steps_per_epoch, int64_t steps)
{
	double highest = 0;

	if (state->switch_step >= 0 || state->switch_epoch >= 0) {
		int64_t t = state->switch_step >= 0 ? state->switch_step : state->switch_epoch * steps_per_epoch;

		return t < steps ? t : -1;
	}
	for (int64_t t = 0; t < steps; t++) {
		double now = lr_at(lr, (double)t / (double)steps_per_epoch);

		highest = now > highest ? now : highest;
		if (highest > 0 && now <= highest / 2)
			return t;
	}
	return -1;
}

static void post_local_foresee(const struct sync *s, const struct lr_schedule *lr, int64_t steps_per_epoch, int64_t steps)
{
	const struct post_local *state = s->state;
	int64_t t = find_switch(state, lr, steps_per_epoch, steps);

	if (t < 0 && state->switch_step < 0 && state->switch_epoch < 0)
		warn("sync.algorithm = \"post-local\" switches where the learning rate has halved, which it does not in this run: S-SGD to the end. "
		     "Set sync.switch_step or sync.switch_epoch, or another optimizer.schedule");
	else if (t < 0)
		warn("sync.algorithm = \"post-local\" switches behind the last of %lld steps: S-SGD to the end", (long long)steps);
	else if (t > 0 && t + state->period > steps)
		warn("sync.algorithm = \"post-local\" switches at step %lld, and the run has %lld: no model is averaged behind that. Set a shorter "
		     "sync.period", (long long)t, (long long)steps);
}

/* ---- both phases ---- */

static bool post_local_grad_ready(struct sync *s, const struct range *range)
{
	struct post_local *state = s->state;
	bool queued;

	if (state->switched)
		return false;
	lend(s);
	queued = sync_ssgd.grad_ready(s, range);
	take_back(s, state);
	return queued;
}

static void post_local_step(struct sync *s, int64_t t)
{
	struct post_local *state = s->state;

	if (!state->switched) {
		lend(s);
		sync_ssgd.step(s, t);
		take_back(s, state);
		return;
	}
	sync_optimize(s);
	if ((t + 2 - state->switched) % state->period)
		return;
	sync_phase(s, "average");
	s->device->ops->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	sync_average(s, state->d, state->d, state->done);
	s->device->ops->stream->wait(s->compute, state->done);
	sync_phase(s, "adopt the average");
	s->device->ops->vec->adopt(s->compute, s->n, state->d, state->z, s->x);
	sync_merged(s);
}

/* Before the switch all models are one, and copying it costs no exchange. */
static void post_local_consensus(struct sync *s, float *out)
{
	const struct post_local *state = s->state;

	if (state->switched)
		sync_mean_model(s, out);
	else
		sync_ssgd.consensus(s, out);
}

static void post_local_state(struct sync *s, struct state_visitor *v)
{
	struct post_local *state = s->state;

	v->vector(v, "reference", s->device, state->z, s->n);
	v->number(v, "switched", &state->switched);
	v->number(v, "highest_lr", &state->highest.bits);
	v->number(v, "last_lr", &state->last.bits);
}

static double post_local_bytes(const struct sync *s, int workers)
{
	const struct post_local *state = s->state;

	return is_local(state) ? sync_merge_bytes(s, workers) / (double)state->period : sync_ssgd.bytes(s, workers);
}

static double post_local_cost(const struct sync *s, const struct cost_model *m)
{
	const struct post_local *state = s->state;

	if (!is_local(state))
		return sync_ssgd.cost(s, m);
	return m->forward + m->backward + (sync_average_cost(s, m) + sync_merged_cost(s, m)) / (double)state->period;
}

static void post_local_release(struct sync *s)
{
	struct post_local *state = s->state;

	lend(s);
	sync_ssgd.release(s);
	take_back(s, state);
	free(state->ssgd);
	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_post_local;
const struct sync_ops sync_post_local = {
	.name = "post-local",
	.paper = "post-local SGD: Lin et al., ICLR 2020, arXiv 1808.07217",
	.topology = "all-reduce|ps",
	.options = post_local_options,
	.averages_models = true,
	.state_size = sizeof(struct post_local),
	.init = post_local_init,
	.bind = post_local_bind,
	.begin = post_local_begin,
	.grad_ready = post_local_grad_ready,
	.step = post_local_step,
	.consensus = post_local_consensus,
	.state = post_local_state,
	.bytes = post_local_bytes,
	.cost = post_local_cost,
	.foresee = post_local_foresee,
	.release = post_local_release,
};
