/*
 * ACCO, Nabli et al., NeurIPS 2025, a half-step a step, counts N_i = M_i in both halves:
 *     theta~ <- Opt(theta, sum_i M_i g~_i / sum_i M_i), the optimizer's state thrown away
 *     theta  <- Opt(theta, sum_i M_i (g~_i + g_i) / sum_i 2 M_i)
 */
#ifndef ORACLE_ACCO_H
#define ORACLE_ACCO_H

#include "local.h"

struct oracle_acco_own {
	double *first, *second, *both;  /* mean g~, mean g, of all */
	double *m, *s;                  /* the optimizer's state as it was */
	int64_t updates;
};

static inline void oracle_acco_open(struct oracle *o)
{
	struct oracle_acco_own *own = o->own;
	double **vector[] = { &own->first, &own->second, &own->both, &own->m, &own->s };

	for (size_t i = 0; i < sizeof(vector) / sizeof(*vector); i++)
		*vector[i] = oracle_vector(o);
}

/* All x_i <- Opt(theta, gradient), as update number `updates`. */
static inline void oracle_acco_opt(struct oracle *o, const double *gradient)
{
	struct oracle_acco_own *own = o->own;
	int64_t t = o->t;

	o->t = own->updates;
	oracle_adopt(o);
	for (int i = 0; i < o->set->workers; i++)
		oracle_optimize(o, i, gradient);
	o->t = t;
}

static inline void oracle_acco_step(struct oracle *o)
{
	struct oracle_acco_own *own = o->own;
	size_t bytes = (size_t)o->set->n * sizeof(double);

	o->shared = true;
	if (o->t % 2) {
		memcpy(own->m, o->m[0], bytes);
		memcpy(own->s, o->s[0], bytes);
		oracle_acco_opt(o, own->first);
		for (int i = 0; i < o->set->workers; i++) {
			memcpy(o->m[i], own->m, bytes);
			memcpy(o->s[i], own->s, bytes);
		}
		oracle_average(o, o->g, own->second);
		return;
	}
	if (o->t > 0) {
		for (int64_t j = 0; j < o->set->n; j++)
			own->both[j] = (own->first[j] + own->second[j]) / 2;
		oracle_acco_opt(o, own->both);
		memcpy(o->z, o->x[0], bytes);
		own->updates++;
	}
	oracle_average(o, o->g, own->first);
}

static inline double oracle_acco_consensus(const struct oracle *o, int64_t j) { return o->z[j]; }

/* theta - lr/2 (averages that are in no update yet + sum w_i e_i) = x_0 - sum w_i lr/2 g_i */
static inline double oracle_acco_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double waits = course_state(t, "early")[j] + course_state(t, "residual")[j];

	if ((t->steps - 1) % 2)
		waits += course_state(t, "late")[j];
	return course_state(t, "reference")[j] + t->moved[j] / 2 - p->lr / 2 * waits;
}

static inline bool oracle_acco_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return !p->lr_decay && !p->end;
}

static const struct oracle_algorithm oracle_acco = {
	.name = "acco",
	.every_step = true,
	.own = sizeof(struct oracle_acco_own),
	.open = oracle_acco_open,
	.step = oracle_acco_step,
	.consensus = oracle_acco_consensus,
	.worth = oracle_acco_worth,
	.worth_holds = oracle_acco_worth_holds,
};

#endif
