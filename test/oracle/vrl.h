/*
 * VRL-SGD, Liang et al., 2019, algorithm 1: x_i <- x_i - gamma (v_i - Delta_i), v_i the optimizer's direction; every k steps:
 * xhat = mean x_i, Delta_i <- Delta_i + (xhat - x_i) / (k gamma), x_i <- xhat, k gamma being the sum of the period's gammas.
 */
#ifndef ORACLE_VRL_H
#define ORACLE_VRL_H

#include "local.h"

enum { VRL_WARMUP };

struct oracle_vrl_own {
	double *delta[ORACLE_WORKERS];
	double gammas;                  /* of the period so far */
};

static inline void oracle_vrl_open(struct oracle *o)
{
	struct oracle_vrl_own *own = o->own;

	for (int i = 0; i < o->set->workers; i++)
		own->delta[i] = oracle_vector(o);
}

static inline void oracle_vrl_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[VRL_WARMUP] = (double)rng_below(rng, 2);
}

static inline int oracle_vrl_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.warmup=%s", p->key[VRL_WARMUP] ? "true" : "false");
	return 1;
}

static inline void oracle_vrl_step(struct oracle *o)
{
	struct oracle_vrl_own *own = o->own;
	const struct oracle_setup *p = o->set;
	int64_t first = p->key[VRL_WARMUP] ? 1 : p->period;     /* steps of the first period */

	oracle_local_steps(o);
	for (int i = 0; i < p->workers; i++)
		for (int64_t j = 0; j < p->n; j++)
			o->x[i][j] += o->lr * own->delta[i][j];
	own->gammas += o->lr;
	if (o->t + 1 < first || (o->t + 1 - first) % p->period)
		return;
	oracle_average(o, o->x, o->z);
	for (int i = 0; i < p->workers && own->gammas > 0; i++)
		for (int64_t j = 0; j < p->n; j++)
			own->delta[i][j] += (o->z[j] - o->x[i][j]) / own->gammas;
	own->gammas = 0;
	oracle_adopt(o);
	oracle_merged(o);
}

/* sum w_i x_i = x_0 - sum w_i lr g_i: the corrections cancel each other. */
static inline double oracle_vrl_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	(void)p;
	return course_x(t, j) + t->moved[j];
}

static const struct oracle_algorithm oracle_vrl = {
	.name = "vrl",
	.dense_only = true,
	.merges = true,
	.own = sizeof(struct oracle_vrl_own),
	.draw = oracle_vrl_draw,
	.keys = oracle_vrl_keys,
	.open = oracle_vrl_open,
	.step = oracle_vrl_step,
	.worth = oracle_vrl_worth,
};

#endif
