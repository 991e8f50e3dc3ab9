/*
 * SlowMo, Wang et al., ICLR 2020: after tau local steps from x_{t,0}:  u_{t+1} = beta u_t + (x_{t,0} - mean x_{t,tau}) / gamma_t;
 * x_{t+1,0} = x_{t,0} - alpha gamma_t u_{t+1}. gamma_t: the sum of the period's learning rates; with 0 there is no direction, u waits
 * and x moves by alpha times the mean.
 */
#ifndef ORACLE_SLOWMO_H
#define ORACLE_SLOWMO_H

#include "outer.h"

enum { SLOWMO_ALPHA, SLOWMO_BETA };

struct oracle_slowmo_own {
	double *u, gamma;
};

static inline void oracle_slowmo_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	static const double alpha[] = { 1, 0.5, 1.3 }, beta[] = { 0, 0.4, 0.7 };

	(void)steps;
	p->key[SLOWMO_ALPHA] = alpha[rng_below(rng, 3)];
	p->key[SLOWMO_BETA] = beta[rng_below(rng, 3)];
}

static inline int oracle_slowmo_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.alpha=%.17g", p->key[SLOWMO_ALPHA]);
	sets[1] = xasprintf("sync.beta=%.17g", p->key[SLOWMO_BETA]);
	return 2;
}

static inline void oracle_slowmo_open(struct oracle *o)
{
	struct oracle_slowmo_own *own = o->own;

	own->u = oracle_vector(o);
}

static inline void oracle_slowmo_step(struct oracle *o)
{
	struct oracle_slowmo_own *own = o->own;
	double alpha = o->set->key[SLOWMO_ALPHA], beta = o->set->key[SLOWMO_BETA], gamma;

	oracle_local_steps(o);
	own->gamma += o->lr;
	if (!oracle_round(o))
		return;
	gamma = own->gamma;
	own->gamma = 0;
	/* What is sent is z - x_i, the way a gradient points: of a compressor for which the sign of 0 is plus that is another thing than x_i - z. */
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < o->set->n; j++)
			o->send[i][j] = o->z[j] - o->x[i][j];
	oracle_average(o, o->send, o->average);
	for (int64_t j = 0; j < o->set->n; j++) {
		double went = o->average[j];

		if (gamma == 0) {
			o->z[j] -= alpha * went;
			continue;
		}
		own->u[j] = beta * own->u[j] + went / gamma;
		o->z[j] -= alpha * gamma * own->u[j];
	}
	oracle_adopt(o);
	oracle_merged(o);
}

static inline double oracle_slowmo_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	return oracle_outer_worth(t, j, p->key[SLOWMO_ALPHA], p->key[SLOWMO_BETA], 1);
}

/* Momentum weighs what a period went by the rates of later ones. */
static inline bool oracle_slowmo_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return !p->lr_decay && !p->end;
}

static const struct oracle_algorithm oracle_slowmo = {
	.name = "slowmo",
	.merges = true,
	.own = sizeof(struct oracle_slowmo_own),
	.draw = oracle_slowmo_draw,
	.keys = oracle_slowmo_keys,
	.open = oracle_slowmo_open,
	.step = oracle_slowmo_step,
	.worth = oracle_slowmo_worth,
	.worth_holds = oracle_slowmo_worth_holds,
};

#endif
