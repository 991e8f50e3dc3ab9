/*
 * Random-k: all workers send the same k places. Which ones is a matter of convention, so the convention is written down again here
 * from what core/draw.h says, with the generator's own functions (core/rng.h): the ring of n places in k stretches, turned by the
 * first word of stream (round, 0); of stretch j the place that word j of stream (round, 1) points to.
 */
#ifndef ORACLE_COMPRESS_RANDOMK_H
#define ORACLE_COMPRESS_RANDOMK_H

#include "../../core/die.h"
#include "../../core/rng.h"
#include "base.h"

enum { RANDOMK_SEED = 12345 };

/* A share of the whole in [0, 1), so exact that a float's rounding plays no part. */
static inline double oracle_share(uint32_t word) { return word / 4294967296.0; }

static inline void randomk_places(uint64_t round, int64_t n, int64_t k, int64_t *place)
{
	struct rng turn, word;
	int64_t turned;

	rng_init(&turn, RANDOMK_SEED, RNG_COMPRESS, round, 0);
	rng_init(&word, RANDOMK_SEED, RNG_COMPRESS, round, 1);
	turned = (int64_t)floor(oracle_share(rng_u32(&turn)) * (double)n);
	for (int64_t j = 0; j < k; j++) {
		int64_t from = j * n / k, to = (j + 1) * n / k;

		place[j] = (turned + from + (int64_t)floor(oracle_share(rng_u32(&word)) * (double)(to - from))) % n;
	}
}

static inline void oracle_randomk_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n), *place = calloc((size_t)k, sizeof(*place));

	randomk_places((uint64_t)oracle_compressions(o), n, k, place);
	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		for (int64_t j = from; j < from + n; j++)
			o->residual[i][j] += in[i][j];
		for (int64_t j = 0; j < k; j++) {
			out[from + place[j]] += set->weight[i] * o->residual[i][from + place[j]];
			o->residual[i][from + place[j]] = 0;
		}
	}
	free(place);
}

static inline int oracle_randomk_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xasprintf("compress.seed=%d", RANDOMK_SEED);
	return 1;
}

/* A ring all-reduce of k floats. */
static inline double oracle_randomk_bytes(const struct oracle_setup *p, int range)
{
	int64_t n = p->length[range];

	return 2.0 * (p->workers - 1) * 4 * (double)oracle_k(p->density, n);
}

static const struct oracle_compressor oracle_randomk = {
	.name = "randomk",
	.sparse = true,
	.keys = oracle_randomk_keys,
	.average = oracle_randomk_average,
	.bytes = oracle_randomk_bytes,
};

#endif
