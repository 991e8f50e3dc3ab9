/*
 * SGP and overlapped SGP, Assran et al., ICML 2019, algorithms 1 and 2: x <- x - lr g(z); x, w <- P x, P w with a column-stochastic P;
 * z = x / w. Overlapped: in every tau-th step only the diagonal of P is applied at once, the rest of it arrives with the next such step.
 * Batches of M_i: x and w start, and gradients count, P M_i / sum M times.
 */
#ifndef ORACLE_SGP_H
#define ORACLE_SGP_H

#include "gossip.h"

enum { SGP_GRAPH, SGP_OVERLAP };

struct oracle_sgp_own {
	double *x[ORACLE_WORKERS], *flight[ORACLE_WORKERS];     /* flight[i]: on its way to i */
	double w[ORACLE_WORKERS], w_flight[ORACLE_WORKERS];
};

static inline void oracle_sgp_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[SGP_GRAPH] = (double)rng_below(rng, ORACLE_GRAPHS);
	p->key[SGP_OVERLAP] = (double)rng_below(rng, 4);
}

static inline int oracle_sgp_keys(const struct oracle_setup *p, const char **sets)
{
	sets[2] = xasprintf("sync.overlap=%d", (int)p->key[SGP_OVERLAP]);
	return oracle_gossip_keys((enum oracle_graph)p->key[SGP_GRAPH], sets) + 1;
}

static inline double oracle_sgp_scale(const struct oracle_setup *p, int i) { return p->workers * p->weight[i]; }

static inline void oracle_sgp_open(struct oracle *o)
{
	struct oracle_sgp_own *own = o->own;

	for (int i = 0; i < o->set->workers; i++) {
		own->x[i] = oracle_vector(o);
		own->flight[i] = oracle_vector(o);
		own->w[i] = oracle_sgp_scale(o->set, i);
		for (int64_t j = 0; j < o->set->n; j++)
			own->x[i][j] = own->w[i] * o->x[i][j];
	}
}

/* One column of P x, and of P w: what j has, times p_ij, for all i. The old flights have landed. */
static inline void oracle_sgp_mix(struct oracle *o, bool sends[ORACLE_WORKERS][ORACLE_WORKERS], int64_t k)
{
	struct oracle_sgp_own *own = o->own;
	double old[ORACLE_WORKERS], out[ORACLE_WORKERS] = { 0 }, arrives[ORACLE_WORKERS] = { 0 };
	int P = o->set->workers;

	for (int j = 0; j < P; j++)
		for (int i = 0; i < P; i++)
			out[j] += sends[j][i];
	for (int j = 0; j < P; j++)
		old[j] = k < 0 ? own->w[j] : own->x[j][k];
	for (int j = 0; j < P; j++)
		for (int i = 0; i < P; i++)
			arrives[i] += sends[j][i] ? old[j] / (out[j] + 1) : 0;
	for (int i = 0; i < P; i++) {
		double *x = k < 0 ? &own->w[i] : &own->x[i][k], *flight = k < 0 ? &own->w_flight[i] : &own->flight[i][k];

		*x = old[i] / (out[i] + 1);
		if (o->set->key[SGP_OVERLAP] == 0) {
			*x += arrives[i];
			continue;
		}
		*x += *flight;
		*flight = arrives[i];
	}
}

static inline void oracle_sgp_step(struct oracle *o)
{
	const struct oracle_setup *p = o->set;
	struct oracle_sgp_own *own = o->own;
	int64_t every = p->key[SGP_OVERLAP] > 1 ? (int64_t)p->key[SGP_OVERLAP] : 1;
	bool sends[ORACLE_WORKERS][ORACLE_WORKERS];

	for (int i = 0; i < p->workers; i++) {
		memcpy(o->send[i], o->x[i], (size_t)p->n * sizeof(double));
		oracle_optimize(o, i, o->g[i]);
		for (int64_t j = 0; j < p->n; j++)
			own->x[i][j] += oracle_sgp_scale(p, i) * (o->x[i][j] - o->send[i][j]);
	}
	if (o->t % every == 0) {
		oracle_graph((enum oracle_graph)p->key[SGP_GRAPH], p->workers, o->t / every, sends);
		for (int64_t j = -1; j < p->n; j++)
			oracle_sgp_mix(o, sends, j);
	}
	for (int i = 0; i < p->workers; i++)
		for (int64_t j = 0; j < p->n; j++)
			o->x[i][j] = own->x[i][j] / own->w[i];
}

/* All x over all w, wherever they are. */
static inline double oracle_sgp_consensus(const struct oracle *o, int64_t j)
{
	const struct oracle_sgp_own *own = o->own;
	double x = 0, w = 0;

	for (int i = 0; i < o->set->workers; i++) {
		x += own->x[i][j] + own->flight[i][j];
		w += own->w[i] + own->w_flight[i];
	}
	return x / w;
}

static inline double oracle_sgp_bytes_until(const struct oracle_setup *p, int64_t rounds)
{
	bool sends[ORACLE_WORKERS][ORACLE_WORKERS];
	double bytes = 0;

	for (int64_t r = 0; r < rounds; r++) {
		oracle_graph((enum oracle_graph)p->key[SGP_GRAPH], p->workers, r, sends);
		bytes += oracle_edges(sends, p->workers, p->n);
	}
	return bytes;
}

static inline double oracle_sgp_bytes(const struct oracle *o)
{
	int64_t every = (int64_t)fmax(o->set->key[SGP_OVERLAP], 1);

	return oracle_sgp_bytes_until(o->set, (o->t + every - 1) / every);
}

static inline double oracle_sgp_bytes_per_step(const struct oracle_setup *p, double unit)
{
	(void)unit;
	return oracle_sgp_bytes_until(p, 6) / 6 / fmax(p->key[SGP_OVERLAP], 1);
}

/* sum x_i, with what is in flight, is P (x_0 - sum w_i lr g_i); a rank's part of it counts w_i times in the sum. */
static inline double oracle_sgp_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	return (course_state(t, "numerator")[j] + course_state(t, "arriving")[j]) / oracle_sgp_scale(p, t->rank) + t->moved[j];
}

static const struct oracle_algorithm oracle_sgp = {
	.name = "sgp",
	.every_step = true,
	.dense_only = true,
	.own = sizeof(struct oracle_sgp_own),
	.draw = oracle_sgp_draw,
	.keys = oracle_sgp_keys,
	.open = oracle_sgp_open,
	.step = oracle_sgp_step,
	.consensus = oracle_sgp_consensus,
	.bytes = oracle_sgp_bytes,
	.bytes_per_step = oracle_sgp_bytes_per_step,
	.worth = oracle_sgp_worth,
};

#endif
