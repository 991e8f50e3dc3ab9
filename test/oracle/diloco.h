/*
 * DiLoCo, Douillard et al. 2023: after H inner steps Delta_i = theta - theta_i; theta <- OuterOpt(theta, mean Delta_i), which is SGD with
 * Nesterov's momentum as PyTorch has it; all theta_i <- theta.
 */
#ifndef ORACLE_DILOCO_H
#define ORACLE_DILOCO_H

#include "outer.h"

enum { DILOCO_LR, DILOCO_MOMENTUM, DILOCO_KEYS };

struct oracle_diloco_own {
	double *momentum_buffer;
};

static inline void oracle_diloco_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	static const double lr[] = { 1, 0.7, 0.4 }, momentum[] = { 0, 0.5, 0.8 };

	(void)steps;
	p->key[DILOCO_LR] = lr[rng_below(rng, 3)];
	p->key[DILOCO_MOMENTUM] = momentum[rng_below(rng, 3)];
}

static inline int oracle_diloco_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.outer_lr=%.17g", p->key[DILOCO_LR]);
	sets[1] = xasprintf("sync.outer_momentum=%.17g", p->key[DILOCO_MOMENTUM]);
	return 2;
}

/* One parameter of torch.optim.SGD(lr, momentum, nesterov=True). */
static inline void oracle_outer_sgd(const struct oracle_setup *p, double *theta, double *buffer, double gradient)
{
	*buffer = p->key[DILOCO_MOMENTUM] * *buffer + gradient;
	*theta -= p->key[DILOCO_LR] * (gradient + p->key[DILOCO_MOMENTUM] * *buffer);
}

static inline void oracle_diloco_open(struct oracle *o)
{
	struct oracle_diloco_own *own = o->own;

	own->momentum_buffer = oracle_vector(o);
}

static inline void oracle_diloco_step(struct oracle *o)
{
	struct oracle_diloco_own *own = o->own;
	int64_t n = o->set->n;

	oracle_local_steps(o);
	if (!oracle_round(o))
		return;
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < n; j++)
			o->send[i][j] = o->z[j] - o->x[i][j];
	oracle_average(o, o->send, o->average);
	for (int64_t j = 0; j < n; j++)
		oracle_outer_sgd(o->set, &o->z[j], &own->momentum_buffer[j], o->average[j]);
	oracle_adopt(o);
	oracle_merged(o);
}

static inline double oracle_diloco_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	return oracle_outer_worth(t, j, p->key[DILOCO_LR], p->key[DILOCO_MOMENTUM], p->key[DILOCO_MOMENTUM]);
}

static const struct oracle_algorithm oracle_diloco = {
	.name = "diloco",
	.merges = true,
	.own = sizeof(struct oracle_diloco_own),
	.draw = oracle_diloco_draw,
	.keys = oracle_diloco_keys,
	.open = oracle_diloco_open,
	.step = oracle_diloco_step,
	.worth = oracle_diloco_worth,
};

#endif
