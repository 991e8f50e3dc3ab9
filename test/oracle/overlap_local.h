/*
 * Overlap-Local-SGD, Wang et al., ICASSP 2020, without any delay in time: z_k is the anchor that round k computes, and what round k
 * pulls to is z_(k-1). So the rule as the authors' program has it, with lr the sum of the round's learning rates, for rounds k = 0, 1, …:
 *
 *     x_i <- (1 - alpha) x_i + alpha z_(k-1);    v_k = beta v_(k-1) + (average of x_i - z_(k-1)) / lr;    z_k = z_(k-1) + lr v_k
 *
 * lr = 0: z_k is the average of the x_i, and v_k = v_(k-1).
 * o->z is the anchor that all workers know: z_(k-1) from round k on.
 */
#ifndef ORACLE_OVERLAP_LOCAL_H
#define ORACLE_OVERLAP_LOCAL_H

#include "local.h"

enum { OVERLAP_ALPHA, OVERLAP_BETA };

struct oracle_overlap_own {
	double *anchor, *v;             /* z_k, v_k */
	double lr;                      /* of this round, so far */
};

static inline void oracle_overlap_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[OVERLAP_ALPHA] = 0.1 + 0.2 * (double)rng_below(rng, 5);
	p->key[OVERLAP_BETA] = rng_below(rng, 3) ? 0.2 * (double)(1 + rng_below(rng, 4)) : 0;
}

static inline int oracle_overlap_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.alpha=%.17g", p->key[OVERLAP_ALPHA]);
	sets[1] = xasprintf("sync.beta=%.17g", p->key[OVERLAP_BETA]);
	return 2;
}

static inline void oracle_overlap_open(struct oracle *o)
{
	struct oracle_overlap_own *own = o->own;

	own->v = oracle_vector(o);
	own->anchor = oracle_vector(o);
	memcpy(own->anchor, o->z, (size_t)o->set->n * sizeof(double));
}

static inline void oracle_overlap_step(struct oracle *o)
{
	struct oracle_overlap_own *own = o->own;
	double alpha = o->set->key[OVERLAP_ALPHA], beta = o->set->key[OVERLAP_BETA];

	oracle_local_steps(o);
	own->lr += o->lr;
	if (!oracle_round(o))
		return;
	memcpy(o->z, own->anchor, (size_t)o->set->n * sizeof(double));
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < o->set->n; j++)
			o->x[i][j] = (1 - alpha) * o->x[i][j] + alpha * o->z[j];
	oracle_mean_to(o, o->average);
	for (int64_t j = 0; j < o->set->n; j++) {
		own->anchor[j] = o->average[j];
		if (own->lr == 0)
			continue;
		own->v[j] = beta * own->v[j] + (o->average[j] - o->z[j]) / own->lr;
		own->anchor[j] = o->z[j] + own->lr * own->v[j];
	}
	own->lr = 0;
}

/* (1 - alpha) sum w_i (x_i + lr g_i so far) + alpha (z + average + e) - alpha beta (z - v) = (1 - alpha beta) x_0 */
static inline double oracle_overlap_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double alpha = p->key[OVERLAP_ALPHA], beta = p->key[OVERLAP_BETA], z = course_state(t, "reference")[j];
	double waits = course_state(t, "average")[j] + course_state(t, "residual")[j];

	return ((1 - alpha) * (course_x(t, j) + t->moved[j]) + alpha * (z + waits) - alpha * beta * (z - course_state(t, "anchor_momentum")[j])) /
	       (1 - alpha * beta);
}

static inline bool oracle_overlap_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return p->key[OVERLAP_BETA] == 0 || (!p->lr_decay && !p->end);
}

static const struct oracle_algorithm oracle_overlap_local = {
	.name = "overlap-local",
	.own = sizeof(struct oracle_overlap_own),
	.draw = oracle_overlap_draw,
	.keys = oracle_overlap_keys,
	.open = oracle_overlap_open,
	.step = oracle_overlap_step,
	.worth = oracle_overlap_worth,
	.worth_holds = oracle_overlap_worth_holds,
};

#endif
