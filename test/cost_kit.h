/*
 * For tests of predictions: an algorithm as far as its formulas need one, made of its keys alone, a machine, and what the papers' formulas
 * say of a message. Without a device, without workers.
 */
#ifndef COST_KIT_H
#define COST_KIT_H

#include "kit_config.h"
#include "tap.h"

static const double ALPHA = 50e-6, BETA = 1e-8;

/* A sync as far as its formulas need one. servers > 0: of three workers. */
struct plan {
	struct sync sync;
	struct optimizer optimizer;
	struct comm comm;
	struct config *config;
};

static inline void plan_open(struct plan *p, const struct oracle_setup *setup, const char *scope, const char *fusion, int servers)
{
	/* For mg-wfbp: tensors 2, 3 become final with 1, as 5 does with 4, much later. */
	static double ready[KIT_TENSORS] = { 1, 1, 1, 2, 2 };

	*p = (struct plan){ .config = kit_config(setup, scope, fusion), .comm = { .size = 3, .servers = servers } };
	CHECK(sync_init(&p->sync, p->config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	if (p->sync.schedule.ops->refine)
		sync_refine(&p->sync, &(struct schedule_facts){ .latency = 1e-3, .per_byte = 1e-6, .ready = ready, .tensors = KIT_TENSORS }, 3);
	optimizer_init(&p->optimizer, optimizer_find("sgd"), p->config);
	p->sync.optimizer = &p->optimizer;
	if (servers)
		p->sync.comm = p->sync.compress.comm = &p->comm;
}

static inline void plan_close(struct plan *p)
{
	p->sync.comm = p->sync.compress.comm = NULL;    /* nothing was bound */
	sync_release(&p->sync);
	config_free(p->config);
}

static inline struct cost_model machine(int workers, double compute)
{
	return (struct cost_model){
		.workers = workers, .latency = ALPHA, .per_byte = BETA, .forward = compute / 3, .backward = 2 * compute / 3, .n = KIT_N,
	};
}

static inline struct oracle_setup setup_of(const struct oracle_algorithm *a, enum oracle_method method, int period, const char *scope,
                                           const char *fusion)
{
	struct oracle_setup p = { .workers = 3, .n = KIT_N, .real = kit_real, .algorithm = a, .period = period, .method = method, .density = 0.1 };

	kit_ranges(&p, scope, fusion);
	return p;
}

/* Averaging n floats: ring all-reduce, all-gather of top-k. */
static inline double seconds(const struct oracle_setup *p, int64_t n, int workers)
{
	if (p->method == DENSE)
		return 2 * (workers - 1) * (ALPHA + 4.0 * (double)n / workers * BETA);
	return (workers - 1) * (ALPHA + 8.0 * (double)oracle_k(p->density, n) * BETA);
}

static inline double all_ranges(const struct oracle_setup *p, int workers)
{
	double sum = 0;

	for (int r = 0; r < p->ranges; r++)
		sum += seconds(p, p->length[r], workers);
	return sum;
}

static inline double predicted(const struct oracle_setup *p, const char *scope, const char *fusion, int workers, double compute)
{
	struct cost_model m = machine(workers, compute);
	struct plan plan;
	double cost;

	plan_open(&plan, p, scope, fusion, 0);
	cost = plan.sync.ops->cost(&plan.sync, &m);
	plan_close(&plan);
	return cost;
}

static inline void close_to(double got, double want, const char *what) { near(got, want, 1e-9 * want, what); }

#endif
