/* Vectors and bounds on which choosing by a threshold can go wrong; for the CPU's kernels and those of a GPU. */
#ifndef CHOOSE_KIT_H
#define CHOOSE_KIT_H

#include <math.h>

#include "../core/rng.h"

static const struct { int64_t n, k; } choose_size[] = {
	{ 1, 1 }, { 3, 2 }, { 17, 16 }, { 64, 5 }, { 1000, 1000 }, { 1025, 100 }, { 50021, 500 }, { 300007, 300 }, { 300007, 70000 }, { 300007, 90000 },
};
enum { CHOOSE_SIZES = sizeof(choose_size) / sizeof(choose_size[0]) };

enum choose_kind { CHOOSE_NORMAL, CHOOSE_TIES, CHOOSE_SPARSE, CHOOSE_ZERO, CHOOSE_NAN, CHOOSE_KINDS };
static const char *const choose_name[CHOOSE_KINDS] = { "normal", "ties", "mostly zero", "all zero", "NaN and infinity" };

static inline float choose_value(enum choose_kind kind, struct rng *r, int64_t i)
{
	switch (kind) {
	case CHOOSE_TIES:
		return (float)((int)rng_below(r, 7) - 3) * 0.5f;
	case CHOOSE_SPARSE:
		return rng_below(r, 1000) ? 0 : (float)rng_normal(r);
	case CHOOSE_ZERO:
		return i % 3 ? 0 : -0.0f;
	case CHOOSE_NAN:
		return i % 1000 == 17 ? NAN : i % 1000 == 18 ? -INFINITY : (float)rng_normal(r);
	default:
		return (float)rng_normal(r);
	}
}

/* From "all but zeros" over one that many reach exactly and more than k exceed to one that nothing reaches. */
static const float choose_bound[] = { 0, 1e-40f, 0.5f, 1, 2.5f, 5, 1e30f };
enum { CHOOSE_BOUNDS = sizeof(choose_bound) / sizeof(choose_bound[0]) };

/* By the contract alone: sorted, inside, reaching the bound, holes behind, nothing lost, as many as there can be. NULL: all right. */
static inline const char *choose_verdict(int64_t n, int64_t k, float least, const float *acc, const float *left, const struct sparse *out)
{
	int64_t taken = 0, reach = 0;

	for (int64_t i = 0; i < n; i++)
		reach += isnan(acc[i]) || (acc[i] != 0 && fabsf(acc[i]) >= least);
	for (int64_t i = 0; i < n; i++) {
		bool mine = taken < k && out[taken].index == i;

		if (mine && (left[i] != 0 || (out[taken].value != acc[i] && !isnan(acc[i])) || fabsf(acc[i]) < least || acc[i] == 0))
			return "took what it should not, or did not take it out";
		if (!mine && left[i] != acc[i] && !isnan(acc[i]))
			return "something got lost";
		taken += mine;
	}
	for (int64_t j = taken; j < k; j++)
		if (out[j].index != SPARSE_HOLE || out[j].value != 0)
			return "no holes at the end";
	return taken == (reach < k ? reach : k) ? NULL : "another number than there is";
}

#endif
