/*
 * SlowMo: Local SGD whose averaged models are taken as a direction and given momentum of their own, the slow one.
 *
 * Paper: Wang, Tantia, Ballas, Rabbat: "SlowMo: Improving Communication-Efficient Distributed SGD with Slow Momentum", ICLR 2020
 * (arXiv 1910.00643). Here the base algorithm is Local SGD.
 *
 *     each step t = 0, 1, …:   x_i, v_i = optimizer(x_i, v_i, g_i)
 *     when k divides t + 1:    u = beta u + (z - average(x_i)) / gamma
 *                              z = z - alpha gamma u;   x_i = z                                 z: the model all workers hold
 *
 *     compute   | k local steps |  wait   | slow step | k local steps |  wait   | slow step |
 *     comm                      | average |                           | average |
 *
 * gamma is the learning rate of the local steps: it makes of a movement a direction, which outlives a change of the rate. Within a
 * period it may change, so gamma is the sum of its rates here. For a constant rate that is k times as much, u is a k-th, and z is
 * the same; beyond that it makes u the mean gradient and not k times it. What is kept is v = gamma u (lr_sum.h): with Gamma the sum
 * of the period before and d = average(z - x_i)
 *
 *     v = beta (gamma / Gamma) v + d;   z = z - alpha v
 *
 * which is an outer SGD (outer.h) whose momentum follows the schedule. A period whose rates are all 0 has no direction: u stays as
 * it is, and of the rule only the part that does not divide is left, z = z - alpha d (nobody moved, but a compressor may deliver
 * what it still had to send). beta = 0 and alpha = 1 are Local SGD.
 *
 * The local momentum stays local and goes on over the averaging (the paper compares keeping, resetting and averaging it). Defaults:
 * alpha = 1, the paper's; beta = 0.5, fairscale's (more workers bear more); k = 12, usual with Local SGD inside.
 *
 * Limits: those of Local SGD; the slow momentum hides nothing of the exchange, it makes a longer period affordable.
 */
#include "../../core/config.h"
#include "lr_sum.h"
#include "outer.h"

struct slowmo {
	int64_t period;
	double alpha, beta;
	struct lr_sum rate;
	struct outer outer;
};

static const struct option slowmo_options[] = {
	{ "period", OPTION_INT, "12", 1, 1000000, NULL, "k: local steps between two averagings" },
	{ "alpha", OPTION_FLOAT, "1.0", 1e-6, 10, NULL, "slow learning rate; 1 with beta 0: Local SGD" },
	{ "beta", OPTION_FLOAT, "0.5", 0, 0.9999, NULL, "slow momentum: how much of the last period's direction is kept" },
	{ 0 },
};

static int slowmo_init(struct sync *s, const struct config *config)
{
	struct slowmo *state = s->state;

	state->period = config_int(config, "sync.period");
	state->alpha = config_float(config, "sync.alpha");
	state->beta = config_float(config, "sync.beta");
	return 0;
}

static void slowmo_bind(struct sync *s)
{
	struct slowmo *state = s->state;

	outer_bind(&state->outer, s, state->alpha, state->beta, false);
}

static void slowmo_step(struct sync *s, int64_t t)
{
	struct slowmo *state = s->state;
	double carry;

	sync_optimize(s);
	lr_sum_add(&state->rate, s->lr);
	if ((t + 1) % state->period)
		return;
	carry = lr_sum_end(&state->rate);
	/* In the first period there is nothing to carry: v is 0. */
	outer_set_momentum(&state->outer, s, carry < 0 ? 0 : carry > 0 ? carry * state->beta : state->beta);
	outer_round(&state->outer, s);
}

static void slowmo_state(struct sync *s, struct state_visitor *v)
{
	struct slowmo *state = s->state;

	outer_state(&state->outer, s, v);
	lr_sum_state(&state->rate, v);
}

static double slowmo_bytes(const struct sync *s, int workers)
{
	const struct slowmo *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double slowmo_cost(const struct sync *s, const struct cost_model *m)
{
	const struct slowmo *state = s->state;

	return m->forward + m->backward + (sync_average_cost(s, m) + sync_merged_cost(s, m)) / (double)state->period;
}

static void slowmo_release(struct sync *s)
{
	struct slowmo *state = s->state;

	outer_release(&state->outer, s);
}

extern const struct sync_ops sync_slowmo;
const struct sync_ops sync_slowmo = {
	.name = "slowmo",
	.paper = "SlowMo: Wang et al., ICLR 2020, arXiv 1910.00643",
	.topology = "all-reduce|ps",
	.options = slowmo_options,
	.averages_models = true,
	.state_size = sizeof(struct slowmo),
	.init = slowmo_init,
	.bind = slowmo_bind,
	.step = slowmo_step,
	.consensus = sync_mean_model,
	.state = slowmo_state,
	.bytes = slowmo_bytes,
	.cost = slowmo_cost,
	.release = slowmo_release,
};
