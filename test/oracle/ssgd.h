/* S-SGD: x, v <- optimizer(x, v, average of g_i), every step. */
#ifndef ORACLE_SSGD_H
#define ORACLE_SSGD_H

#include "course.h"

static inline void oracle_ssgd_step(struct oracle *o)
{
	oracle_average(o, o->g, o->average);
	for (int i = 0; i < o->set->workers; i++)
		oracle_optimize(o, i, o->average);
	o->shared = true;
}

/* x - lr sum w_i e_i = x_0 - sum w_i lr g_i */
static inline double oracle_ssgd_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	return course_x(t, j) + t->moved[j] - p->lr * course_state(t, "residual")[j];
}

/* A gradient that waits is applied with a later step's rate. */
static inline bool oracle_ssgd_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return !p->lr_decay && !p->end;
}

static const struct oracle_algorithm oracle_ssgd = {
	.name = "ssgd",
	.every_step = true,
	.step = oracle_ssgd_step,
	.worth = oracle_ssgd_worth,
	.worth_holds = oracle_ssgd_worth_holds,
};

/* The same rule with exchanges that reach into the next forward. */
static inline int oracle_split_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xasprintf("schedule.split=true");
	return 1;
}

__attribute__((unused)) static const struct oracle_algorithm oracle_ssgd_split = {
	.name = "ssgd",
	.every_step = true,
	.keys = oracle_split_keys,
	.step = oracle_ssgd_step,
};

static inline int oracle_priority_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xasprintf("schedule.priority=true");
	sets[1] = xasprintf("schedule.backward_share=0.04");
	return 2;
}

static inline int oracle_sliced_keys(const struct oracle_setup *p, const char **sets)
{
	int count = oracle_priority_keys(p, sets);

	sets[count] = xasprintf("schedule.slice_mb=0.0002");
	return count + 1;
}

__attribute__((unused)) static const struct oracle_algorithm oracle_ssgd_priority = {
	.name = "ssgd",
	.every_step = true,
	.keys = oracle_priority_keys,
	.step = oracle_ssgd_step,
};

__attribute__((unused)) static const struct oracle_algorithm oracle_ssgd_sliced = {
	.name = "ssgd",
	.every_step = true,
	.keys = oracle_sliced_keys,
	.step = oracle_ssgd_step,
};

#endif
