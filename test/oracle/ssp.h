/*
 * SSP and ASP, Ho et al., NeurIPS 2013; Dean et al., NeurIPS 2012. With S servers of one shard each, from the servers' logs of what
 * came in which order:
 *
 *     push i, c on server s     z_s = z_s + (w_i u_{i,c})_s          u_{i,c}: what worker i's optimizer adds to its model at clock c
 *     read i, c on server s     (x_{i,c})_s = (x_0)_s + z_s          only if all workers have pushed up to clock c + r - 1 - bound
 *
 * Between two reads, r clocks apart, x_{i,c+1} = x_{i,c} + w_i u_{i,c}. The log gives the order and nothing else: every u is computed
 * here. With bound 0 there is nothing to log: at each clock all push, in the order of the workers, then all read.
 */
#ifndef ORACLE_SSP_H
#define ORACLE_SSP_H

#include "oracle.h"

enum { SSP_SERVERS = 5, SSP_STALENESS, SSP_READ_EVERY };       /* keys; staleness negative: no bound */
enum { SSP_MOST_SERVERS = 3, SSP_MOST_EVENTS = 1024 };

struct ssp_event {
	int read, worker;
	int64_t clock;
};

struct ssp_log {
	int events;
	struct ssp_event event[SSP_MOST_EVENTS];
};

struct ssp_replay {
	struct oracle o;                /* x[i], and the optimizers' state */
	int servers;
	int64_t steps, every, bound;
	int64_t taken[ORACLE_WORKERS];  /* each worker's steps, at most `steps` */
	int64_t from[SSP_MOST_SERVERS], to[SSP_MOST_SERVERS];
	double *z;                      /* all shards */
	double *next[ORACLE_WORKERS];   /* what worker i has read so far at its next clock */
	double *update;                 /* workers × steps × n: w_i u_{i,c} */
	int64_t done[ORACLE_WORKERS];   /* steps computed */
	int64_t got[ORACLE_WORKERS][SSP_MOST_SERVERS];          /* clock of its last read */
	int64_t pushed[ORACLE_WORKERS][SSP_MOST_SERVERS];       /* of its updates, so many are in z_s */
	int64_t oldest;                 /* c - the slowest worker's clock, at the last use of a read */
	double *x;                      /* workers × steps × n: after each step */
	double *total;                  /* steps × n: x_0 and all updates of clocks up to t */
};

static inline bool ssp_has_read(const struct ssp_replay *r, int i, int64_t clock)
{
	for (int s = 0; s < r->servers; s++)
		if (r->from[s] < r->to[s] && r->got[i][s] != clock)
			return false;
	return true;
}

/* Step `done` of worker i, if its model is known. */
static inline void ssp_compute(struct ssp_replay *r, int i)
{
	struct oracle *o = &r->o;
	int64_t n = o->set->n, c = r->done[i];
	double *before = r->next[i], *x = o->x[i], *update = r->update + (i * r->steps + c) * n;

	if (c == r->taken[i] || (c % r->every == 0 && c > 0 && !ssp_has_read(r, i, c)))
		return;
	for (int64_t j = 0; j < n; j++)
		o->g[i][j] = problem_gradient(o->set, i, c, j, x);
	memcpy(before, x, (size_t)n * sizeof(double));
	o->t = c;
	o->lr = problem_lr(o->set, c);
	oracle_optimize(o, i, o->g[i]);
	for (int64_t j = 0; j < n; j++) {
		update[j] = o->set->weight[i] * (x[j] - before[j]);
		x[j] = before[j] + update[j];
		r->x[(i * r->steps + c) * n + j] = x[j];        /* overwritten when it reads */
		for (int64_t t = c; t < r->steps; t++)
			r->total[t * n + j] += update[j];
	}
	r->done[i] = c + 1;
}

/* Returns false if this event cannot come yet. */
static inline bool ssp_replay_event(struct ssp_replay *r, int s, const struct ssp_event *e)
{
	int64_t n = r->o.set->n, slowest = r->steps, i = e->worker;

	if (!e->read) {
		ssp_compute(r, e->worker);
		if (r->pushed[i][s] != e->clock || r->done[i] <= e->clock)
			return false;
		for (int64_t j = r->from[s]; j < r->to[s]; j++)
			r->z[j] += r->update[(i * r->steps + e->clock) * n + j];
		r->pushed[i][s]++;
		return true;
	}
	if (r->done[i] != e->clock || e->clock % r->every)
		return false;
	for (int w = 0; w < r->o.set->workers; w++)
		slowest = r->pushed[w][s] < slowest ? r->pushed[w][s] : slowest;
	if (e->clock + r->every - 1 - slowest > r->oldest)
		r->oldest = e->clock + r->every - 1 - slowest;
	for (int64_t j = r->from[s]; j < r->to[s]; j++)
		r->next[i][j] = problem_start(r->o.set, j) + r->z[j];
	r->got[i][s] = e->clock;
	if (ssp_has_read(r, e->worker, e->clock)) {
		memcpy(r->o.x[i], r->next[i], (size_t)n * sizeof(double));
		memcpy(r->x + (i * r->steps + e->clock - 1) * n, r->next[i], (size_t)n * sizeof(double));
	}
	return true;
}

/* Follows the logs, one a server, as far as they make sense together. True: all of them did, and every step was taken. taken: each
 * worker's own number of steps, NULL: all of them. */
static inline bool ssp_replay_run(struct ssp_replay *r, const struct oracle_setup *p, int64_t steps, const int64_t *taken,
                                  const struct ssp_log *log)
{
	int at[SSP_MOST_SERVERS] = { 0 };
	bool moved = true, whole = true;

	*r = (struct ssp_replay){
		.servers = (int)p->key[SSP_SERVERS], .steps = steps, .every = (int64_t)p->key[SSP_READ_EVERY],
		.bound = (int64_t)p->key[SSP_STALENESS],
	};
	oracle_open(&r->o, p);
	r->z = oracle_vector(&r->o);
	for (int i = 0; i < p->workers; i++)
		r->taken[i] = taken ? taken[i] : steps;
	for (int i = 0; i < p->workers; i++)
		r->next[i] = oracle_vector(&r->o);
	r->update = calloc((size_t)(p->workers * steps * p->n), sizeof(double));
	for (int s = 0; s < r->servers; s++) {          /* whole multiples of 16, as equal as can be */
		r->from[s] = (p->n + 15) / 16 * s / r->servers * 16;
		r->to[s] = s + 1 < r->servers ? (p->n + 15) / 16 * (s + 1) / r->servers * 16 : p->n;
	}
	r->x = calloc((size_t)(p->workers * steps * p->n), sizeof(double));
	r->total = calloc((size_t)(steps * p->n), sizeof(double));
	for (int64_t i = 0; i < steps * p->n; i++)
		r->total[i] = problem_start(p, i % p->n);
	while (moved) {
		moved = false;
		for (int s = 0; s < r->servers; s++)
			for (; at[s] < log[s].events && ssp_replay_event(r, s, &log[s].event[at[s]]); at[s]++)
				moved = true;
	}
	for (int s = 0; s < r->servers; s++)
		whole = whole && at[s] == log[s].events;
	for (int i = 0; i < p->workers; i++)
		whole = whole && r->done[i] == r->taken[i];
	return whole && (r->bound < 0 || r->oldest <= r->bound);
}

static inline void ssp_replay_close(struct ssp_replay *r)
{
	free(r->x);
	free(r->update);
	free(r->total);
	oracle_close(&r->o);
}

/* What a log would be with bound 0. */
static inline void ssp_lockstep(const struct oracle_setup *p, int64_t steps, struct ssp_log *log)
{
	log->events = 0;
	for (int64_t c = 0; c < steps; c++)
		for (int read = 0; read < 2; read++)
			for (int i = 0; i < p->workers; i++)
				log->event[log->events++] = (struct ssp_event){ read, i, c + read };
}

#endif
