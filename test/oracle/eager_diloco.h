/*
 * Eager and delayed DiLoCo, Kale, Douillard, Donchev 2025: every H steps Delta_m(t) = theta_m(t-H) - (what H inner steps made of it), and
 *     eager:     G_m = w_m Delta_m(t) + sum over m' != m of w_m' Delta_m'(t-H)
 *     delayed:   G_m = sum over all m' of w_m' Delta_m'(t-H)
 *     theta_m(t) = OuterOpt(theta_m(t-H), G_m), each worker with a momentum of its own;   Delta(0) = 0
 * From the second of these steps on models have been merged in it.
 * With a compressor the delayed sum over all is what it delivered, of which the own part is w_m Delta_m(t-H).
 */
#ifndef ORACLE_EAGER_DILOCO_H
#define ORACLE_EAGER_DILOCO_H

#include "diloco.h"

enum { EAGER_NOT = DILOCO_KEYS };

struct oracle_eager_own {
	double *theta[ORACLE_WORKERS], *momentum_buffer[ORACLE_WORKERS];
	double *before[ORACLE_WORKERS];         /* Delta_m(t-H) */
	double *sum;                            /* of all of them, weighted */
};

static inline void oracle_eager_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	oracle_diloco_draw(p, rng, steps);
	p->key[EAGER_NOT] = rng_below(rng, 3) == 0;
}

static inline int oracle_eager_keys(const struct oracle_setup *p, const char **sets)
{
	int count = oracle_diloco_keys(p, sets);

	sets[count++] = xasprintf("sync.outer_gradient=%s", p->key[EAGER_NOT] ? "delayed" : "eager");
	return count;
}

static inline void oracle_eager_open(struct oracle *o)
{
	struct oracle_eager_own *own = o->own;

	own->sum = oracle_vector(o);
	for (int m = 0; m < o->set->workers; m++) {
		own->theta[m] = oracle_vector(o);
		own->momentum_buffer[m] = oracle_vector(o);
		own->before[m] = oracle_vector(o);
		memcpy(own->theta[m], o->x[m], (size_t)o->set->n * sizeof(double));
	}
}

static inline void oracle_eager_step(struct oracle *o)
{
	struct oracle_eager_own *own = o->own;
	const struct oracle_setup *p = o->set;

	oracle_local_steps(o);
	if (!oracle_round(o))
		return;
	for (int m = 0; m < p->workers; m++)
		for (int64_t j = 0; j < p->n; j++) {
			double now = own->theta[m][j] - o->x[m][j], others = own->sum[j] - p->weight[m] * own->before[m][j];

			oracle_outer_sgd(p, &own->theta[m][j], &own->momentum_buffer[m][j],
			                 p->key[EAGER_NOT] ? own->sum[j] : p->weight[m] * now + others);
			o->x[m][j] = own->theta[m][j];
			own->before[m][j] = o->send[m][j] = now;
		}
	if (o->averages > 0)
		oracle_merged(o);
	oracle_average(o, o->send, own->sum);
	o->shared = p->key[EAGER_NOT];
}

/* As DiLoCo's, but that a worker's last round began at its start, and the average of that round is still on its way. */
static inline double oracle_eager_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double lr = p->key[DILOCO_LR], momentum = p->key[DILOCO_MOMENTUM];
	double early = course_state(t, "start")[j] - course_state(t, "reference")[j] + course_state(t, "average")[j];

	return oracle_outer_worth(t, j, lr, momentum, momentum) - lr / (1 - momentum) * early;
}

static const struct oracle_algorithm oracle_eager = {
	.name = "eager-diloco",
	.merges = true,
	.own = sizeof(struct oracle_eager_own),
	.draw = oracle_eager_draw,
	.keys = oracle_eager_keys,
	.open = oracle_eager_open,
	.step = oracle_eager_step,
	.worth = oracle_eager_worth,
};

#endif
