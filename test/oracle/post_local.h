/*
 * Post-local SGD, Lin et al., ICLR 2020: S-SGD until t', then Local SGD. What S-SGD had not sent of a gradient has not moved the model
 * by -lr of it: that is what Local SGD has not sent. lr: the one of step t', or the last before it that was not 0.
 */
#ifndef ORACLE_POST_LOCAL_H
#define ORACLE_POST_LOCAL_H

#include "local.h"
#include "ssgd.h"

enum { POST_LOCAL_SWITCH };

struct oracle_post_local_own {
	double rate;                    /* the last one that was not 0 */
};

static inline void oracle_post_local_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[POST_LOCAL_SWITCH] = (double)rng_below(rng, 8);
}

static inline int oracle_post_local_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("sync.switch_step=%d", (int)p->key[POST_LOCAL_SWITCH]);
	return 1;
}

static inline void oracle_post_local_step(struct oracle *o)
{
	const struct oracle_setup *p = o->set;
	struct oracle_post_local_own *own = o->own;
	int64_t since = o->t - (int64_t)p->key[POST_LOCAL_SWITCH];

	own->rate = o->lr != 0 ? o->lr : own->rate;
	if (since < 0) {
		oracle_ssgd_step(o);
		return;
	}
	if (since == 0) {
		memcpy(o->z, o->x[0], (size_t)p->n * sizeof(double));
		for (int i = 0; i < p->workers; i++)
			for (int64_t j = 0; j < p->n; j++)
				o->residual[i][j] *= -own->rate;
	}
	oracle_local_steps(o);
	if ((since + 1) % p->period == 0)
		oracle_local_round(o);
}

static inline double oracle_post_local_worth(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	return p->key[POST_LOCAL_SWITCH] >= (double)t->steps ? oracle_ssgd_worth(p, t, j) : oracle_local_worth(p, t, j);
}

/* In the phase in which a run begins. */
static inline double oracle_post_local_bytes(const struct oracle_setup *p, double unit)
{
	return p->key[POST_LOCAL_SWITCH] > 0 ? unit : (unit + p->merged_bytes) / (double)p->period;
}

static const struct oracle_algorithm oracle_post_local = {
	.name = "post-local",
	.merges = true,
	.own = sizeof(struct oracle_post_local_own),
	.draw = oracle_post_local_draw,
	.keys = oracle_post_local_keys,
	.step = oracle_post_local_step,
	.bytes_per_step = oracle_post_local_bytes,
	.worth = oracle_post_local_worth,
	.worth_holds = oracle_ssgd_worth_holds,
};

#endif
