/* Exact selection by magnitude: what top-k and gTop-k's merge share. */
#ifndef COCOD_CPU_SELECT_H
#define COCOD_CPU_SELECT_H

#include <stdint.h>
#include <string.h>

#include "../device.h"

/* A float without its sign, as an integer: the order of magnitudes, NaN the largest. */
static inline uint32_t magnitude_bits(float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits & 0x7fffffffu;
}

/* Magnitudes above `bits` are chosen, and of those equal to it the first `ties`. */
struct cut {
	uint32_t bits;
	int64_t ties;
};

/* The cut that chooses exactly k of n, 1 <= k <= n; of a list, or of a plain vector. */
struct cut cut_list(int64_t n, int64_t k, const struct sparse *list);
struct cut cut_vector(int64_t n, int64_t k, const float *x);

/* Asked in the order of the elements: is this one chosen? Uses up the ties. */
static inline bool cut_takes(struct cut *cut, float v)
{
	uint32_t bits = magnitude_bits(v);

	if (bits != cut->bits)
		return bits > cut->bits;
	return cut->ties-- > 0;
}

#endif
