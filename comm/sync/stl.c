/*
 * STL-SGD: Local SGD in stages, each longer than the one before, at a smaller learning rate, with a longer period.
 *
 * Paper: Shen, Cheng, Liu, Xu, "STL-SGD: Speeding Up Local SGD with Stagewise Communication Period", AAAI 2021 (arXiv 2006.06377).
 *
 *     stage s = 1, 2, …, from the model x_s that all workers hold:  T_s steps of Local SGD with rate eta_s and period k_s
 *         each step:                        x_i, v_i = optimizer(x_i, v_i, g_i + (x_i - x_s) / gamma)
 *         after k_s steps, and the last:    z = z + average(x_i - z);  x_i = z
 *
 *     growth        T_s              eta_s              k_s, data iid      k_s, data non-iid
 *     doubling      2^(s-1) T_1      eta_1 / 2^(s-1)    2^(s-1) k_1        sqrt(2)^(s-1) k_1
 *     linear        s T_1            eta_1 / s          s k_1              sqrt(s) k_1
 *
 *     compute   | k_1 | wait | k_1 | wait | k_2 = 2 k_1 | wait | k_2 = 2 k_1 | wait | …
 *     comm            | avg  |     | avg  |             | avg  |             | avg  |
 *
 * Growth "doubling" is the paper's algorithm for (strongly) convex losses and, with 1/gamma > 0 (prox), the first option for others;
 * "linear" is its second option for those.
 *
 * Why these periods: between two averages workers drift apart by eta k times the noise of a gradient, and by eta k times the difference
 * of their data, which does not average out. What it costs stays in proportion to the rest of the error as long as eta k, for the
 * same data eta k^2, does not grow: both columns of k_s follow from eta_s. k_s is taken from the table and rounded down then: rounding
 * from stage to stage, a period of 1 would never grow by sqrt(2).
 *
 * Learning rate: by the same reason the period may only grow because the rate falls, so stage_lr divides the rate of the config's schedule
 * as the table says; the paper's runs have optimizer.schedule = "constant". With a schedule that falls by itself (cosine) both factors
 * count; stage_lr = false leaves the rate to the schedule alone, which should then fall about as fast.
 *
 * The end of a stage is an average even where k_s does not divide T_s, since x_{s+1} is one model. Momentum stays local and goes on into
 * the next stage (the analysis has none).
 *
 * Limits: those of Local SGD; stages know nothing of the loss, T_1 must suit the run. bytes() and cost() speak of the stage under way.
 */
#include <math.h>
#include <string.h>

#include "../../core/config.h"
#include "sync.h"

struct stl {
	int64_t first_steps, first_period;      /* T_1, k_1 */
	bool linear, iid, divides_lr;
	double prox;                            /* 1/gamma */
	int64_t stage, start;                   /* s, 1 for the first; its first step */
	int64_t steps, period;                  /* T_s, k_s */
	float *z, *d, *anchor;                  /* anchor: x_s; NULL without prox */
	struct event *done;
};

static const struct option stl_options[] = {
	{ "period", OPTION_INT, "4", 1, 1000000, NULL, "k_1: local steps between two averagings in the first stage" },
	{ "stage_steps", OPTION_INT, "1000", 1, 1e15, NULL, "T_1: steps of the first stage" },
	{ "stage_growth", OPTION_STRING, "\"doubling\"", 0, 0, "doubling|linear", "how stages grow, and the learning rate falls" },
	{ "stage_data", OPTION_STRING, "\"iid\"", 0, 0, "iid|non-iid", "the period grows like the stages, or like their square root" },
	{ "stage_lr", OPTION_BOOL, "true", 0, 0, NULL, "divides the learning rate by the growth of the stages" },
	{ "prox", OPTION_FLOAT, "0.0", 0, 1e6, NULL, "1/gamma: pulls to the model at the stage's start" },
	{ 0 },
};

/* How much longer than the first the stage is. */
static double growth(const struct stl *state) { return state->linear ? (double)state->stage : pow(2, (double)(state->stage - 1)); }

/* T_s and k_s. A period longer than its stage is as long as it. */
static void set_stage(struct stl *state)
{
	double g = growth(state), period = (double)state->first_period * (state->iid ? g : sqrt(g));

	state->steps = (int64_t)(g * (double)state->first_steps);
	state->period = period < (double)state->steps ? (int64_t)period : state->steps;
}

static int stl_init(struct sync *s, const struct config *config)
{
	struct stl *state = s->state;

	state->first_period = config_int(config, "sync.period");
	state->first_steps = config_int(config, "sync.stage_steps");
	state->linear = !strcmp(config_string(config, "sync.stage_growth"), "linear");
	state->iid = !strcmp(config_string(config, "sync.stage_data"), "iid");
	state->divides_lr = config_bool(config, "sync.stage_lr");
	state->prox = config_float(config, "sync.prox");
	state->stage = 1;
	set_stage(state);
	s->alone = state->period;
	return 0;
}

static void stl_bind(struct sync *s)
{
	struct stl *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;

	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	if (state->prox > 0) {
		state->anchor = sync_vector(s);
		mem->copy(s->compute, state->anchor, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	}
}

static void stl_begin(struct sync *s, int64_t t)
{
	struct stl *state = s->state;

	if (t == state->start + state->steps) {
		state->stage++;
		state->start = t;
		set_stage(state);
		if (state->anchor)
			s->device->ops->mem->copy(s->compute, state->anchor, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	}
	if (state->divides_lr)
		s->lr /= growth(state);
}

static void stl_step(struct sync *s, int64_t t)
{
	struct stl *state = s->state;
	const struct device_ops *dev = s->device->ops;
	int64_t done = t + 1 - state->start;

	if (state->anchor) {
		dev->vec->diff(s->compute, s->n, s->x, state->anchor, state->d);
		dev->vec->axpby(s->compute, s->n, (float)state->prox, state->d, 1, s->g);
	}
	sync_optimize(s);
	if (done % state->period && done < state->steps)
		return;
	sync_phase(s, "average");
	dev->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	sync_average(s, state->d, state->d, state->done);
	dev->stream->wait(s->compute, state->done);
	sync_phase(s, "adopt the average");
	dev->vec->adopt(s->compute, s->n, state->d, state->z, s->x);
	sync_merged(s);
}

/* T_s and k_s follow from the stage. */
static void stl_state(struct sync *s, struct state_visitor *v)
{
	struct stl *state = s->state;

	v->vector(v, "reference", s->device, state->z, s->n);
	if (state->anchor)
		v->vector(v, "anchor", s->device, state->anchor, s->n);
	v->number(v, "stage", &state->stage);
	v->number(v, "stage_start", &state->start);
	set_stage(state);
}

/* Averages a step. */
static double frequency(const struct stl *state)
{
	return (double)((state->steps + state->period - 1) / state->period) / (double)state->steps;
}

static double stl_bytes(const struct sync *s, int workers) { return sync_merge_bytes(s, workers) * frequency(s->state); }

static double stl_cost(const struct sync *s, const struct cost_model *m)
{
	return m->forward + m->backward + (sync_average_cost(s, m) + sync_merged_cost(s, m)) * frequency(s->state);
}

static void stl_release(struct sync *s)
{
	struct stl *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->mem->free(s->device, state->anchor);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_stl;
const struct sync_ops sync_stl = {
	.name = "stl",
	.paper = "STL-SGD: Shen et al., AAAI 2021, arXiv 2006.06377",
	.topology = "all-reduce|ps",
	.options = stl_options,
	.averages_models = true,
	.state_size = sizeof(struct stl),
	.init = stl_init,
	.bind = stl_bind,
	.begin = stl_begin,
	.step = stl_step,
	.consensus = sync_mean_model,
	.state = stl_state,
	.bytes = stl_bytes,
	.cost = stl_cost,
	.release = stl_release,
};
