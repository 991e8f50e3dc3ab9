/* What a run of the real program leaves behind, for comparison with the oracle. */
#ifndef ORACLE_COURSE_H
#define ORACLE_COURSE_H

#include "../../core/die.h"
#include "../../core/rng.h"
#include "base.h"

enum { COURSE_STATES = 24 };

struct course {
	int64_t steps, n;
	int rank;
	float *x, *consensus;           /* steps × n: after each step; consensus only where asked for */
	struct { char name[40]; float *value; } state[COURSE_STATES];    /* the end's: what the state visitor was told of */
	int states;
	float *zero;
	double *took;                   /* steps: seconds from the end of backward until the new model is there */
	double bytes, said;             /* sent by this rank in all; what sync->ops->bytes says of a step */
	int64_t taken, claimed;         /* own steps; what the last claim said */
	bool late;                      /* x changed after the state visitor had been told of something */
	double *moved;                  /* n: sum over t of lr g of this worker, exactly the floats that were handed over */
};

static inline void course_open(struct course *t, int64_t steps, int64_t n)
{
	*t = (struct course){ .steps = steps, .n = n };
	t->x = xcalloc((size_t)(steps * n), sizeof(float));
	t->consensus = xcalloc((size_t)(steps * n), sizeof(float));
	t->zero = xcalloc((size_t)n, sizeof(float));
	t->took = xcalloc((size_t)steps, sizeof(double));
	t->moved = xcalloc((size_t)n, sizeof(double));
}

static inline void course_close(struct course *t)
{
	free(t->x);
	free(t->consensus);
	free(t->zero);
	free(t->took);
	free(t->moved);
	for (int i = 0; i < t->states; i++)
		free(t->state[i].value);
}

/* The state vector of that name; zeros if there is none. */
static inline const float *course_state(const struct course *t, const char *name)
{
	for (int i = 0; i < t->states; i++)
		if (!strcmp(t->state[i].name, name))
			return t->state[i].value;
	return t->zero;
}

/* Where the state vector of that name is kept. */
static inline float *course_keep(struct course *t, const char *name)
{
	for (int i = 0; i < t->states; i++)
		if (!strcmp(t->state[i].name, name))
			return t->state[i].value;
	CHECK(t->states < COURSE_STATES);
	snprintf(t->state[t->states].name, sizeof(t->state[0].name), "%s", name);
	t->state[t->states].value = xcalloc((size_t)t->n, sizeof(float));
	return t->state[t->states++].value;
}

/* The own model after the last step. */
static inline double course_x(const struct course *t, int64_t j) { return t->x[(t->steps - 1) * t->n + j]; }

#endif
