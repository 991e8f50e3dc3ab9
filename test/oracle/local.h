/* Local SGD: x_i, v_i <- optimizer(x_i, v_i, g_i); every k steps: z <- z + average(x_i - z), x_i <- z. */
#ifndef ORACLE_LOCAL_H
#define ORACLE_LOCAL_H

#include "course.h"

/* x_i <- optimizer(x_i, g_i) */
static inline void oracle_local_steps(struct oracle *o)
{
	for (int i = 0; i < o->set->workers; i++)
		oracle_optimize(o, i, o->g[i]);
}

/* z + average(x_i - z), to out */
static inline void oracle_mean_to(struct oracle *o, double *out)
{
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < o->set->n; j++)
			o->send[i][j] = o->x[i][j] - o->z[j];
	oracle_average(o, o->send, out);
	for (int64_t j = 0; j < o->set->n; j++)
		out[j] += o->z[j];
}

/* all x_i <- z */
static inline void oracle_adopt(struct oracle *o)
{
	o->shared = true;
	for (int i = 0; i < o->set->workers; i++)
		memcpy(o->x[i], o->z, (size_t)o->set->n * sizeof(double));
}

static inline void oracle_local_round(struct oracle *o)
{
	oracle_mean_to(o, o->average);
	memcpy(o->z, o->average, (size_t)o->set->n * sizeof(double));
	oracle_adopt(o);
	oracle_merged(o);
}

static inline bool oracle_round(const struct oracle *o) { return (o->t + 1) % o->set->period == 0; }

static inline void oracle_local_step(struct oracle *o)
{
	oracle_local_steps(o);
	if (oracle_round(o))
		oracle_local_round(o);
}

/* sum w_i (x_i + e_i) = x_0 - sum w_i lr g_i */
static inline double oracle_local_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	(void)p;
	return course_x(t, j) + t->moved[j] + course_state(t, "residual")[j];
}

static const struct oracle_algorithm oracle_local = {
	.name = "local",
	.merges = true,
	.step = oracle_local_step,
	.worth = oracle_local_worth,
};

#endif
