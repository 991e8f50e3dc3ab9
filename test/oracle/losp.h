/*
 * LOSP as comm/sync/losp.c reconstructs it, with workers that add up their own steps and a server that adds up what they push:
 * every k steps
 *
 *     server <- server + what was pushed k steps ago;   push the average of the u_i;   x_i <- server + lambda u_i;   u_i <- 0
 */
#ifndef ORACLE_LOSP_H
#define ORACLE_LOSP_H

#include "local.h"

enum { LOSP_LAMBDA };

struct oracle_losp_own {
	double *progress[ORACLE_WORKERS], *pushed;
};

static inline void oracle_losp_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[LOSP_LAMBDA] = 0.25 * (double)rng_below(rng, 5);
}

static inline int oracle_losp_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.compensation=%.17g", p->key[LOSP_LAMBDA]);
	return 1;
}

static inline void oracle_losp_open(struct oracle *o)
{
	struct oracle_losp_own *own = o->own;

	own->pushed = oracle_vector(o);
	for (int i = 0; i < o->set->workers; i++)
		own->progress[i] = oracle_vector(o);
}

static inline void oracle_losp_step(struct oracle *o)
{
	struct oracle_losp_own *own = o->own;
	double lambda = o->set->key[LOSP_LAMBDA];
	int64_t n = o->set->n;

	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < n; j++)
			own->progress[i][j] -= o->x[i][j];
	oracle_local_steps(o);
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < n; j++)
			own->progress[i][j] += o->x[i][j];
	if (!oracle_round(o))
		return;
	for (int64_t j = 0; j < n; j++)
		o->z[j] += own->pushed[j];
	oracle_average(o, own->progress, own->pushed);
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < n; j++) {
			o->x[i][j] = o->z[j] + lambda * own->progress[i][j];
			own->progress[i][j] = 0;
		}
	if (o->t + 1 > o->set->period)          /* there was something to merge */
		oracle_merged(o);
	o->shared = lambda == 0;
}

/* sum w_i (server + in flight + e_i + own progress, which is x_i - server - lambda sent_i) = x_0 - sum w_i lr g_i */
static inline double oracle_losp_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double lambda = p->key[LOSP_LAMBDA];

	return course_x(t, j) + t->moved[j] - lambda * course_state(t, "sent")[j] + course_state(t, "average")[j] + course_state(t, "residual")[j];
}

static const struct oracle_algorithm oracle_losp = {
	.name = "losp",
	.merges = true,
	.own = sizeof(struct oracle_losp_own),
	.draw = oracle_losp_draw,
	.keys = oracle_losp_keys,
	.open = oracle_losp_open,
	.step = oracle_losp_step,
	.worth = oracle_losp_worth,
};

#endif
