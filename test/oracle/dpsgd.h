/*
 * D-PSGD, Lian et al., NeurIPS 2017, algorithm 1: X_{k+1} = X_k W - lr dF(X_k). Neighbours: who sends or is sent to. W by Metropolis and
 * Hastings for the stationary distribution w: W_ij = min(1, w_j / w_i) / (max(deg_i, deg_j) + 1), W_ii = the rest.
 */
#ifndef ORACLE_DPSGD_H
#define ORACLE_DPSGD_H

#include "gossip.h"

enum { DPSGD_GRAPH };

static inline void oracle_dpsgd_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[DPSGD_GRAPH] = (double)rng_below(rng, ORACLE_GRAPHS);
}

static inline int oracle_dpsgd_keys(const struct oracle_setup *p, const char **sets)
{
	return oracle_gossip_keys((enum oracle_graph)p->key[DPSGD_GRAPH], sets);
}

static inline void oracle_dpsgd_graph(const struct oracle_setup *p, int64_t round, bool near_by[ORACLE_WORKERS][ORACLE_WORKERS])
{
	bool sends[ORACLE_WORKERS][ORACLE_WORKERS];

	oracle_graph((enum oracle_graph)p->key[DPSGD_GRAPH], p->workers, round, sends);
	for (int i = 0; i < p->workers; i++)
		for (int j = 0; j < p->workers; j++)
			near_by[i][j] = sends[i][j] || sends[j][i];
}

static inline void oracle_dpsgd_step(struct oracle *o)
{
	const struct oracle_setup *p = o->set;
	bool near_by[ORACLE_WORKERS][ORACLE_WORKERS];
	double W[ORACLE_WORKERS][ORACLE_WORKERS] = { 0 };
	int degree[ORACLE_WORKERS] = { 0 };

	oracle_dpsgd_graph(p, o->t, near_by);
	for (int i = 0; i < p->workers; i++)
		for (int j = 0; j < p->workers; j++)
			degree[i] += near_by[i][j];
	for (int i = 0; i < p->workers; i++) {
		W[i][i] = 1;
		for (int j = 0; j < p->workers; j++) {
			if (!near_by[i][j])
				continue;
			W[i][j] = fmin(1, p->weight[j] / p->weight[i]) / (fmax(degree[i], degree[j]) + 1);
			W[i][i] -= W[i][j];
		}
	}
	/* X W - X; then X_{k+1} = X W + what the optimizer adds to X */
	for (int i = 0; i < p->workers; i++)
		for (int64_t j = 0; j < p->n; j++) {
			o->send[i][j] = -o->x[i][j];
			for (int l = 0; l < p->workers; l++)
				o->send[i][j] += W[i][l] * o->x[l][j];
		}
	for (int i = 0; i < p->workers; i++) {
		oracle_optimize(o, i, o->g[i]);
		for (int64_t j = 0; j < p->n; j++)
			o->x[i][j] += o->send[i][j];
	}
}

static inline double oracle_dpsgd_bytes_until(const struct oracle_setup *p, int64_t rounds)
{
	bool near_by[ORACLE_WORKERS][ORACLE_WORKERS];
	double bytes = 0;

	for (int64_t r = 0; r < rounds; r++) {
		oracle_dpsgd_graph(p, r, near_by);
		bytes += oracle_edges(near_by, p->workers, p->n);
	}
	return bytes;
}

static inline double oracle_dpsgd_bytes(const struct oracle *o) { return oracle_dpsgd_bytes_until(o->set, o->t); }

/* 6 rounds: a multiple of 1, 2 and 3, the numbers of jumps of up to 8 workers. */
static inline double oracle_dpsgd_bytes_per_step(const struct oracle_setup *p, double unit)
{
	(void)unit;
	return oracle_dpsgd_bytes_until(p, 6) / 6;
}

/* sum w_i x_i = x_0 - sum w_i lr g_i */
static inline double oracle_dpsgd_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	(void)p;
	return course_x(t, j) + t->moved[j];
}

static const struct oracle_algorithm oracle_dpsgd = {
	.name = "dpsgd",
	.every_step = true,
	.dense_only = true,
	.draw = oracle_dpsgd_draw,
	.keys = oracle_dpsgd_keys,
	.step = oracle_dpsgd_step,
	.bytes = oracle_dpsgd_bytes,
	.bytes_per_step = oracle_dpsgd_bytes_per_step,
	.worth = oracle_dpsgd_worth,
};

#endif
