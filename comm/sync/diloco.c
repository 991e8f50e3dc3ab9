/*
 * DiLoCo: Local SGD with a long period, whose average movement is the gradient of an outer optimizer, SGD with Nesterov's momentum.
 *
 * Paper: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023 (arXiv 2311.08105).
 *
 *     each step t = 0, 1, …:   x_i, v_i = inner optimizer(x_i, v_i, g_i)                        optimizer.name; its state stays local
 *     when H divides t + 1:    d = average(z - x_i)                                              the outer gradient
 *                              v = momentum v + d;   z = z - lr (d + momentum v);   x_i = z      z: the model all workers hold
 *
 *     compute   | H inner steps                      |  wait   | outer | H inner steps                      |  wait   | outer |
 *     comm                                           | average |                                            | average |
 *
 * d has the inner learning rate in it, so a schedule of that rate is one of the outer steps as well, and nothing is divided by it.
 * lr = 1 without momentum is Local SGD. Where nothing changes any more, momentum makes of d a step of lr / (1 - momentum) d, 7 with the
 * paper's numbers: they want a long period and small inner steps.
 *
 * Defaults: the paper's, H = 500, lr = 0.7, momentum = 0.9, for AdamW inside. For image networks on few workers a shorter H and less
 * momentum is the milder start (SlowMo's numbers).
 *
 * Limits: those of Local SGD; the exchange is exposed in full, but only every H steps. streaming-diloco and eager-diloco hide it.
 */
#include "../../core/config.h"
#include "outer.h"

struct diloco {
	int64_t period;
	double lr, momentum;
	struct outer outer;
};

static const struct option diloco_options[] = {
	{ "period", OPTION_INT, "500", 1, 1000000, NULL, "H: inner steps between two outer ones" },
	{ "outer_lr", OPTION_FLOAT, "0.7", 1e-6, 10, NULL, "learning rate of the outer optimizer; 1 without momentum: Local SGD" },
	{ "outer_momentum", OPTION_FLOAT, "0.9", 0, 0.9999, NULL, "its (Nesterov's) momentum" },
	{ 0 },
};

static int diloco_init(struct sync *s, const struct config *config)
{
	struct diloco *state = s->state;

	state->period = config_int(config, "sync.period");
	state->lr = config_float(config, "sync.outer_lr");
	state->momentum = config_float(config, "sync.outer_momentum");
	return 0;
}

static void diloco_bind(struct sync *s)
{
	struct diloco *state = s->state;

	outer_bind(&state->outer, s, state->lr, state->momentum, true);
}

static void diloco_step(struct sync *s, int64_t t)
{
	struct diloco *state = s->state;

	sync_optimize(s);
	if ((t + 1) % state->period == 0)
		outer_round(&state->outer, s);
}

static void diloco_state(struct sync *s, struct state_visitor *v)
{
	struct diloco *state = s->state;

	outer_state(&state->outer, s, v);
}

static double diloco_bytes(const struct sync *s, int workers)
{
	const struct diloco *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double diloco_cost(const struct sync *s, const struct cost_model *m)
{
	const struct diloco *state = s->state;

	return m->forward + m->backward + (sync_average_cost(s, m) + sync_merged_cost(s, m)) / (double)state->period;
}

static void diloco_release(struct sync *s)
{
	struct diloco *state = s->state;

	outer_release(&state->outer, s);
}

extern const struct sync_ops sync_diloco;
const struct sync_ops sync_diloco = {
	.name = "diloco",
	.paper = "DiLoCo: Douillard et al. 2023, arXiv 2311.08105",
	.topology = "all-reduce|ps",
	.options = diloco_options,
	.averages_models = true,
	.state_size = sizeof(struct diloco),
	.init = diloco_init,
	.bind = diloco_bind,
	.step = diloco_step,
	.consensus = sync_mean_model,
	.state = diloco_state,
	.bytes = diloco_bytes,
	.cost = diloco_cost,
	.release = diloco_release,
};
