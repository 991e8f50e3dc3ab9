/*
 * CoCoD-SGD with a list of periods: the first for the first round and until the second decision; decisions come behind rounds
 * e + 2, 2 e + 2, 3 e + 2, … (e: `every`), and what is decided is the next of the list, at its end the last.
 */
#ifndef ORACLE_ADAPTIVE_H
#define ORACLE_ADAPTIVE_H

#include "cocod.h"

enum { ADAPTIVE_EVERY, ADAPTIVE_COUNT, ADAPTIVE_LIST, ADAPTIVE_MOST = ORACLE_KEYS - ADAPTIVE_LIST };

struct oracle_adaptive_own {
	struct oracle_cocod_own cocod;  /* what its step uses */
	int64_t rounds, steps;          /* ended; of the round so far */
	int at;                         /* in the list */
};

static inline void oracle_adaptive_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[ADAPTIVE_EVERY] = 1 + (double)rng_below(rng, 3);
	p->key[ADAPTIVE_COUNT] = 1 + (double)rng_below(rng, ADAPTIVE_MOST);
	p->key[ADAPTIVE_LIST] = (double)p->period;
	for (int i = 1; i < ADAPTIVE_MOST; i++)
		p->key[ADAPTIVE_LIST + i] = 1 + (double)rng_below(rng, 4);
}

static inline int oracle_adaptive_keys(const struct oracle_setup *p, const char **sets)
{
	char list[100] = "";

	for (int i = 0; i < (int)p->key[ADAPTIVE_COUNT]; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%.0f", i ? ", " : "", p->key[ADAPTIVE_LIST + i]);
	sets[0] = xasprintf("sync.every=%.0f", p->key[ADAPTIVE_EVERY]);
	sets[1] = xasprintf("sync.periods=[%s]", list);
	return 2;
}

static inline void oracle_adaptive_step(struct oracle *o)
{
	struct oracle_adaptive_own *own = o->own;
	int64_t every = (int64_t)o->set->key[ADAPTIVE_EVERY];

	oracle_local_steps(o);
	if (++own->steps < (int64_t)o->set->key[ADAPTIVE_LIST + own->at])
		return;
	own->steps = 0;
	oracle_cocod_round(o);
	own->rounds++;
	if (own->rounds >= every + 2 && (own->rounds - 2) % every == 0 && own->at + 1 < (int)o->set->key[ADAPTIVE_COUNT])
		own->at++;
}

static inline double oracle_adaptive_bytes(const struct oracle_setup *p, double unit) { return (unit + p->merged_bytes) / p->key[ADAPTIVE_LIST]; }

static const struct oracle_algorithm oracle_adaptive = {
	.name = "adaptive",
	.merges = true,
	.own = sizeof(struct oracle_adaptive_own),
	.draw = oracle_adaptive_draw,
	.keys = oracle_adaptive_keys,
	.open = oracle_cocod_open,
	.step = oracle_adaptive_step,
	.bytes_per_step = oracle_adaptive_bytes,
	.worth = oracle_cocod_worth,
};

#endif
