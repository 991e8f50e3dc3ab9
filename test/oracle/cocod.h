/*
 * CoCoD-SGD, Shen et al., IJCAI 2019: every k steps: A <- what was launched k steps ago (at first x_0);
 * x_i <- A + (x_i - snapshot_i); snapshot_i <- x_i; launch the average of the snapshots. And the closed form of the proof.
 */
#ifndef ORACLE_COCOD_H
#define ORACLE_COCOD_H

#include "local.h"

struct oracle_cocod_own {
	int launched;
	double *snapshot[ORACLE_WORKERS], *flight;
};

static inline void oracle_cocod_open(struct oracle *o)
{
	struct oracle_cocod_own *own = o->own;

	own->flight = oracle_vector(o);
	for (int i = 0; i < o->set->workers; i++) {
		own->snapshot[i] = oracle_vector(o);
		memcpy(own->snapshot[i], o->x[i], (size_t)o->set->n * sizeof(double));
	}
}

static inline void oracle_cocod_round(struct oracle *o)
{
	struct oracle_cocod_own *own = o->own;

	for (int64_t j = 0; j < o->set->n; j++)
		o->z[j] += own->flight[j];
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = 0; j < o->set->n; j++) {
			o->x[i][j] = o->z[j] + (o->x[i][j] - own->snapshot[i][j]);
			own->snapshot[i][j] = o->x[i][j];
			o->send[i][j] = o->x[i][j] - o->z[j];
		}
	if (own->launched++)
		oracle_merged(o);
	oracle_average(o, o->send, own->flight);
}

static inline void oracle_cocod_step(struct oracle *o)
{
	oracle_local_steps(o);
	if (oracle_round(o))
		oracle_cocod_round(o);
}

/* sum w_i (x_i + average - sent_i + e_i) = x_0 - sum w_i lr g_i */
static inline double oracle_cocod_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	(void)p;
	return course_x(t, j) + t->moved[j] + course_state(t, "average")[j] - course_state(t, "sent")[j] + course_state(t, "residual")[j];
}

static const struct oracle_algorithm oracle_cocod = {
	.name = "cocod",
	.merges = true,
	.own = sizeof(struct oracle_cocod_own),
	.open = oracle_cocod_open,
	.step = oracle_cocod_step,
	.worth = oracle_cocod_worth,
};

/*
 * The second oracle of CoCoD-SGD: the closed form of the proof (supplement, eq. 9), plain SGD and dense averages only:
 *     x_t^i = xhat_{(floor(t/k)-1) k} - sum over tau from (floor(t/k)-1) k to t-1 of lr G_tau^i,   xhat_0 before the first
 * x: (steps + 1) × workers × n, filled in for t = 0 … steps.
 */
static inline void oracle_closed_form(const struct oracle_setup *p, int64_t steps, double *x)
{
	int64_t n = p->n, row = p->workers * n;
	double *moved = calloc((size_t)((steps + 1) * row), sizeof(double));      /* sum of lr G up to t */

	for (int64_t j = 0; j < row; j++)
		x[j] = problem_start(p, j % n);
	for (int64_t t = 0; t < steps; t++) {
		int64_t base = ((t + 1) / p->period - 1) * p->period;

		if (base < 0)
			base = 0;
		for (int i = 0; i < p->workers; i++) {
			const double *now = x + t * row + i * n;

			for (int64_t j = 0; j < n; j++)
				moved[(t + 1) * row + i * n + j] = moved[t * row + i * n + j] + problem_lr(p, t) * problem_gradient(p, i, t, j, now);
		}
		for (int i = 0; i < p->workers; i++)
			for (int64_t j = 0; j < n; j++) {
				double mean = 0;

				for (int w = 0; w < p->workers; w++)
					mean += p->weight[w] * x[base * row + w * n + j];
				x[(t + 1) * row + i * n + j] = mean - (moved[(t + 1) * row + i * n + j] - moved[base * row + i * n + j]);
			}
	}
	free(moved);
}

#endif
