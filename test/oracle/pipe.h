/*
 * Pipe-SGD, Li et al., NeurIPS 2018, in the paper's time: w_t is what g[t] is computed at, and with the pipeline's width K
 *
 *     w_(t+1) <- optimizer(w_t, mean of g[t + 1 - K])
 *
 * nothing happens as long as there is no such gradient; with a warm-up, K is 1 in it and only later gradients may be late.
 */
#ifndef ORACLE_PIPE_H
#define ORACLE_PIPE_H

#include "course.h"

enum { PIPE_WIDTH, PIPE_WARMUP };

struct oracle_pipe_own {
	double *mean[ORACLE_VECTORS];   /* of each step so far */
};

static inline void oracle_pipe_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	p->key[PIPE_WIDTH] = (double)(1 + rng_below(rng, 4));
	p->key[PIPE_WARMUP] = rng_below(rng, 2) ? (double)rng_below(rng, (uint32_t)steps) : 0;
}

static inline int oracle_pipe_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.pipeline=%d", (int)p->key[PIPE_WIDTH]);
	sets[1] = xasprintf("sync.warmup_steps=%d", (int)p->key[PIPE_WARMUP]);
	return 2;
}

static inline void oracle_pipe_step(struct oracle *o)
{
	struct oracle_pipe_own *own = o->own;
	int64_t now = o->t, K = (int64_t)o->set->key[PIPE_WIDTH], warmup = (int64_t)o->set->key[PIPE_WARMUP];

	own->mean[now] = oracle_vector(o);
	oracle_average(o, o->g, own->mean[now]);
	o->shared = true;
	if (now < warmup)
		K = 1;
	else if (now + 1 - K < warmup)
		return;
	/* The optimizer counts its own steps: where the pipeline filled there were none. */
	o->t = now < warmup ? now : now + 1 - K;
	for (int i = 0; i < o->set->workers; i++)
		oracle_optimize(o, i, own->mean[now + 1 - K]);
	o->t = now;
}

/* x - lr (means in flight + sum w_i e_i) = x_0 - sum w_i lr g_i */
static inline double oracle_pipe_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	int64_t K = (int64_t)p->key[PIPE_WIDTH], first = t->steps - K + 1, warmup = (int64_t)p->key[PIPE_WARMUP];
	double waits = course_state(t, "residual")[j];

	for (int64_t u = first > warmup ? first : warmup; u < t->steps; u++) {
		char name[20];

		snprintf(name, sizeof(name), "average.%d", (int)(u % K));
		waits += course_state(t, name)[j];
	}
	return course_x(t, j) + t->moved[j] - p->lr * waits;
}

/* What is late is applied with a later step's rate. */
static inline bool oracle_pipe_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return !p->lr_decay && !p->end;
}

static const struct oracle_algorithm oracle_pipe = {
	.name = "pipe",
	.every_step = true,
	.own = sizeof(struct oracle_pipe_own),
	.draw = oracle_pipe_draw,
	.keys = oracle_pipe_keys,
	.step = oracle_pipe_step,
	.worth = oracle_pipe_worth,
	.worth_holds = oracle_pipe_worth_holds,
};

#endif
