/* What is common to SlowMo and DiLoCo: an outer SGD on z with the workers' average movement as its gradient. */
#ifndef ORACLE_OUTER_H
#define ORACLE_OUTER_H

#include "local.h"

/*
 * With D_r, what the workers went away from z in round r and had delivered, and v_r = momentum v_{r-1} + D_r, summed up over all rounds
 *
 *     sum v = (sum D - momentum v) / (1 - momentum)                                               v: the last one
 *     x_0 - z = sum lr v                    = lr / (1 - momentum) (sum D - momentum v)            plain momentum: look = 1
 *     x_0 - z = sum lr (D + momentum v)     = lr / (1 - momentum) (sum D - momentum^2 v)          Nesterov: look = momentum
 *
 * and sum D is all that the workers have moved, but for what they went since the last round and what is in the residuals.
 */
static inline double oracle_outer_worth(const struct course *t, int64_t j, double lr, double momentum, double look)
{
	double z = course_state(t, "reference")[j], in = t->moved[j] + course_x(t, j) - z - course_state(t, "residual")[j];

	return z + lr / (1 - momentum) * (in - momentum * look * course_state(t, "outer_momentum")[j]);
}

#endif
