/*
 * Streaming DiLoCo, Douillard et al. 2025. theta_m: worker m's model after step t = 1, 2, …; theta_p: fragment p of the outer model.
 *     if t = t_p mod H:         Delta_p <- mean_m (theta_p - theta_m,p(t)), sent
 *     if t - tau = t_p mod H:   theta_p <- OuterOpt(theta_p, Delta_p(t - tau));  theta_m,p <- alpha theta_m,p + (1 - alpha) theta_p
 * with t_p = floor(p H/F). Fragment p ends behind the last tensor that has its middle in front of (p + 1)/F of the arena.
 */
#ifndef ORACLE_STREAMING_DILOCO_H
#define ORACLE_STREAMING_DILOCO_H

#include "diloco.h"

enum { STREAMING_FRAGMENTS = DILOCO_KEYS, STREAMING_DELAY, STREAMING_MIXING };

struct oracle_streaming_own {
	double *momentum_buffer;
	double *delta;
};

/* Where fragment p ends; tensors of at least one a fragment are left for those behind it. */
static inline int64_t oracle_fragment_end(const struct oracle_setup *p, int fragment)
{
	int fragments = (int)p->key[STREAMING_FRAGMENTS], taken = 0;
	int64_t end = 0;

	for (int f = 0; f <= fragment; f++) {
		int64_t target = p->n * (f + 1) / fragments;

		for (int first = taken; taken < p->tensors - (fragments - 1 - f); taken++) {
			int64_t begin = taken ? p->tensor_end[taken - 1] : 0;

			if (taken > first && (begin + p->tensor_end[taken]) / 2 >= target)
				break;
			end = p->tensor_end[taken];
		}
	}
	return end;
}

/* The compressor chooses inside of a fragment: its ranges are cut where a fragment ends. */
static inline void oracle_streaming_cut(struct oracle_setup *p)
{
	for (int f = 0; f + 1 < (int)p->key[STREAMING_FRAGMENTS]; f++) {
		int64_t cut = oracle_fragment_end(p, f);
		int r = 0;

		while (p->offset[r] + p->length[r] < cut)
			r++;
		if (p->offset[r] + p->length[r] == cut)
			continue;
		memmove(p->offset + r + 1, p->offset + r, (size_t)(p->ranges - r) * sizeof(*p->offset));
		memmove(p->length + r + 1, p->length + r, (size_t)(p->ranges - r) * sizeof(*p->length));
		p->ranges++;
		p->length[r] = cut - p->offset[r];
		p->length[r + 1] -= p->length[r];
		p->offset[r + 1] = cut;
	}
}

static inline void oracle_streaming_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	static const double mixing[] = { 0.5, 0.3 };
	bool plain = rng_below(rng, 2);

	oracle_diloco_draw(p, rng, steps);
	p->key[STREAMING_FRAGMENTS] = (double)(1 + rng_below(rng, (uint32_t)p->period));
	p->key[STREAMING_DELAY] = plain ? 0 : (double)rng_below(rng, (uint32_t)p->period);
	p->key[STREAMING_MIXING] = plain ? 0 : mixing[rng_below(rng, 2)];
	oracle_streaming_cut(p);
}

static inline int oracle_streaming_keys(const struct oracle_setup *p, const char **sets)
{
	int count = oracle_diloco_keys(p, sets);

	sets[count++] = xasprintf("sync.fragments=%d", (int)p->key[STREAMING_FRAGMENTS]);
	sets[count++] = xasprintf("sync.delay=%d", (int)p->key[STREAMING_DELAY]);
	sets[count++] = xasprintf("sync.mixing=%.17g", p->key[STREAMING_MIXING]);
	return count;
}

static inline void oracle_streaming_open(struct oracle *o)
{
	struct oracle_streaming_own *own = o->own;

	own->momentum_buffer = oracle_vector(o);
	own->delta = oracle_vector(o);
}

static inline void oracle_streaming_send(struct oracle *o, int64_t from, int64_t to)
{
	struct oracle_streaming_own *own = o->own;

	for (int m = 0; m < o->set->workers; m++)
		for (int64_t j = from; j < to; j++)
			o->send[m][j] = o->z[j] - o->x[m][j];
	for (int r = 0; r < o->set->ranges; r++)
		if (o->set->offset[r] >= from && o->set->offset[r] < to)
			oracle_average_range(o, r, o->send, own->delta);
}

static inline void oracle_streaming_receive(struct oracle *o, int64_t from, int64_t to)
{
	struct oracle_streaming_own *own = o->own;
	double alpha = o->set->key[STREAMING_MIXING];

	for (int64_t j = from; j < to; j++) {
		oracle_outer_sgd(o->set, &o->z[j], &own->momentum_buffer[j], own->delta[j]);
		for (int m = 0; m < o->set->workers; m++)
			o->x[m][j] = alpha * o->x[m][j] + (1 - alpha) * o->z[j];
	}
	o->shared = alpha == 0 && to - from == o->set->n;
}

static inline void oracle_streaming_step(struct oracle *o)
{
	int64_t t = o->t + 1, tau = (int64_t)o->set->key[STREAMING_DELAY], H = o->set->period;
	int F = (int)o->set->key[STREAMING_FRAGMENTS];

	oracle_local_steps(o);
	for (int p = 0; p < F; p++) {
		int64_t from = p ? oracle_fragment_end(o->set, p - 1) : 0, to = oracle_fragment_end(o->set, p), t_p = p * H / F;

		if (t % H == t_p)
			oracle_streaming_send(o, from, to);
		if (t > tau && (t - tau) % H == t_p)
			oracle_streaming_receive(o, from, to);
	}
}

/* Only where nobody goes on before a merge, and no own part is kept at it. */
static inline bool oracle_streaming_worth_holds(const struct oracle_setup *p, int64_t steps)
{
	(void)steps;
	return p->key[STREAMING_DELAY] == 0 && p->key[STREAMING_MIXING] == 0;
}

static const struct oracle_algorithm oracle_streaming = {
	.name = "streaming-diloco",
	.own = sizeof(struct oracle_streaming_own),
	.draw = oracle_streaming_draw,
	.keys = oracle_streaming_keys,
	.open = oracle_streaming_open,
	.step = oracle_streaming_step,
	.worth = oracle_diloco_worth,
	.worth_holds = oracle_streaming_worth_holds,
};

#endif
