/*
 * EASGD, Zhang et al., NeurIPS 2015, equations (5) and (6), nothing late: every tau steps
 *
 *     x_i <- x_i - alpha (x_i - z),    z <- z + beta (average of x_i - z),    beta = P alpha
 *
 * at once. o->z is the centre.
 */
#ifndef ORACLE_EASGD_H
#define ORACLE_EASGD_H

#include "local.h"

enum { EASGD_BETA };

static inline void oracle_easgd_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[EASGD_BETA] = 0.3 * (double)(1 + rng_below(rng, 3));
}

static inline int oracle_easgd_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.beta=%.17g", p->key[EASGD_BETA]);
	return 1;
}

static inline void oracle_easgd_step(struct oracle *o)
{
	double beta = o->set->key[EASGD_BETA], alpha = beta / o->set->workers;

	oracle_local_steps(o);
	if (!oracle_round(o))
		return;
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < o->set->n; j++) {
			o->send[i][j] = o->x[i][j] - o->z[j];
			o->x[i][j] -= alpha * o->send[i][j];
		}
	oracle_average(o, o->send, o->average);
	for (int64_t j = 0; j < o->set->n; j++)
		o->z[j] += beta * o->average[j];
}

static inline double oracle_easgd_consensus(const struct oracle *o, int64_t j) { return o->z[j]; }

/* P sum w_i (x_i + lr g_i so far) + z + beta (average + e) = (P + 1) x_0 */
static inline double oracle_easgd_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double centre = course_state(t, "reference")[j] + p->key[EASGD_BETA] * (course_state(t, "average")[j] + course_state(t, "residual")[j]);

	return (p->workers * (course_x(t, j) + t->moved[j]) + centre) / (p->workers + 1);
}

static const struct oracle_algorithm oracle_easgd = {
	.name = "easgd",
	.draw = oracle_easgd_draw,
	.keys = oracle_easgd_keys,
	.step = oracle_easgd_step,
	.consensus = oracle_easgd_consensus,
	.worth = oracle_easgd_worth,
};

#endif
