/*
 * STL-SGD, Shen et al., AAAI 2021: stages of Local SGD, each from the average model x_s of the one before. Doubling: T <- 2 T,
 * eta <- eta/2, k <- 2 k (identical data) or sqrt(2) k. Linear: T = s T_1, eta = eta_1/s, k = s k_1 or sqrt(s) k_1. The loss of
 * a stage has (1 / 2 gamma) |x - x_s|^2 added.
 */
#ifndef ORACLE_STL_H
#define ORACLE_STL_H

#include "local.h"

enum { STL_STEPS, STL_LINEAR, STL_IID, STL_LR, STL_PROX };

struct oracle_stl_own {
	double s, T, k, eta;            /* k: not rounded; eta: share of the schedule's rate */
	int64_t began;                  /* the stage's first step */
	double *centre;                 /* x_s */
};

static inline void oracle_stl_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[STL_STEPS] = 1 + (double)rng_below(rng, 6);
	p->key[STL_LINEAR] = (double)rng_below(rng, 2);
	p->key[STL_IID] = (double)rng_below(rng, 2);
	p->key[STL_LR] = rng_below(rng, 3) > 0;
	p->key[STL_PROX] = rng_below(rng, 2) ? 0.5 : 0;
}

static inline int oracle_stl_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.stage_steps=%.0f", p->key[STL_STEPS]);
	sets[1] = xasprintf("sync.stage_growth=%s", p->key[STL_LINEAR] ? "linear" : "doubling");
	sets[2] = xasprintf("sync.stage_data=\"%s\"", p->key[STL_IID] ? "iid" : "non-iid");
	sets[3] = xasprintf("sync.stage_lr=%s", p->key[STL_LR] ? "true" : "false");
	sets[4] = xasprintf("sync.prox=%.17g", p->key[STL_PROX]);
	return 5;
}

static inline void oracle_stl_open(struct oracle *o)
{
	struct oracle_stl_own *own = o->own;

	own->centre = oracle_vector(o);
	memcpy(own->centre, o->z, (size_t)o->set->n * sizeof(double));
	own->s = own->eta = 1;
	own->T = o->set->key[STL_STEPS];
	own->k = (double)o->set->period;
}

static inline void oracle_stl_begin(struct oracle *o)
{
	struct oracle_stl_own *own = o->own;
	const struct oracle_setup *p = o->set;

	if ((double)(o->t - own->began) == own->T) {
		own->began = o->t;
		own->s++;
		own->T = p->key[STL_LINEAR] ? own->s * p->key[STL_STEPS] : 2 * own->T;
		own->eta = p->key[STL_LINEAR] ? 1 / own->s : own->eta / 2;
		own->k *= p->key[STL_LINEAR] ? own->s / (own->s - 1) : 2;
		if (!p->key[STL_IID])
			own->k *= p->key[STL_LINEAR] ? sqrt((own->s - 1) / own->s) : sqrt(0.5);
		memcpy(own->centre, o->z, (size_t)p->n * sizeof(double));
	}
	if (p->key[STL_LR])
		o->lr *= own->eta;
}

static inline void oracle_stl_step(struct oracle *o)
{
	struct oracle_stl_own *own = o->own;
	int64_t done = o->t - own->began + 1;

	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < o->set->n; j++)
			o->g[i][j] += o->set->key[STL_PROX] * (o->x[i][j] - own->centre[j]);
	oracle_local_steps(o);
	if (done % (int64_t)(own->k + 1e-9) == 0 || (double)done == own->T)
		oracle_local_round(o);
}

static inline bool oracle_stl_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return !p->key[STL_PROX];
}

/* In the first stage. */
static inline double oracle_stl_bytes(const struct oracle_setup *p, double unit)
{
	return (unit + p->merged_bytes) * ceil(p->key[STL_STEPS] / (double)p->period) / p->key[STL_STEPS];
}

static const struct oracle_algorithm oracle_stl = {
	.name = "stl",
	.merges = true,
	.own = sizeof(struct oracle_stl_own),
	.draw = oracle_stl_draw,
	.keys = oracle_stl_keys,
	.open = oracle_stl_open,
	.begin = oracle_stl_begin,
	.step = oracle_stl_step,
	.bytes_per_step = oracle_stl_bytes,
	.worth = oracle_local_worth,
	.worth_holds = oracle_stl_worth_holds,
};

#endif
