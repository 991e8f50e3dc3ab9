/*
 * The one pass over a dense vector that exact top-k needs. Magnitudes are compared as integers: for floats without their sign
 * bit the order is the same, denormals are values like any other, and a NaN is larger than infinity.
 */
#include <stdbool.h>

#include "kernels.h"
#include "simd.h"

enum { GROUP = 4 };

INLINE vec_int magnitude(vec v) { return (vec_int)v & 0x7fffffff; }

INLINE bool any(vec_int hits)
{
	uint64_t half[VEC_BYTES / 8], all = 0;

	memcpy(half, &hits, sizeof(half));
	UNROLL(8)
	for (int i = 0; i < VEC_BYTES / 8; i++)
		all |= half[i];
	return all != 0;
}

/* Appends those of [from, to) whose magnitude exceeds `below`, without a branch that nobody can predict. */
INLINE int64_t append(int64_t from, int64_t to, const float *acc, int32_t below, struct sparse *list, int64_t count)
{
	for (int64_t i = from; i < to; i++) {
		int32_t bits;

		memcpy(&bits, acc + i, sizeof(bits));
		list[count] = (struct sparse){ (uint32_t)i, acc[i] };
		count += (bits & 0x7fffffff) > below;
	}
	return count;
}

/* acc = residual + in for VL elements, and which of them exceed `below`. */
INLINE vec_int step(const float *in, float *residual, vec_int below)
{
	vec acc = vec_load(residual);

	if (in) {
		acc += vec_load(in);
		vec_store(residual, acc);
	}
	return magnitude(acc) > below;
}

static int64_t filter(int64_t from, int64_t to, const float *in, float *residual, uint32_t least, struct sparse *list, int64_t room)
{
	int32_t below = (int32_t)least - 1;
	int64_t count = 0, i = from;
	bool full = false;

	for (; i + GROUP * VL <= to; i += GROUP * VL) {
		vec_int hit[GROUP], some = { 0 }, limit = below - (vec_int){ 0 };

		UNROLL(4)
		for (int j = 0; j < GROUP; j++) {
			hit[j] = step(in ? in + i + j * VL : NULL, residual + i + j * VL, limit);
			some |= hit[j];
		}
		if (!any(some))
			continue;
		if (count + GROUP * VL > room) {        /* goes on for the sake of acc; nothing is larger than this */
			full = true;
			below = 0x7fffffff;
			continue;
		}
		for (int j = 0; j < GROUP; j++)
			if (any(hit[j]))
				count = append(i + j * VL, i + (j + 1) * VL, residual, below, list, count);
	}
	for (int64_t j = i; in && j < to; j++)
		residual[j] += in[j];
	if (full || count + (to - i) > room)
		return -1;
	return append(i, to, residual, below, list, count);
}

extern const struct sparse_kernels KERNEL(sparse_kernels);
const struct sparse_kernels KERNEL(sparse_kernels) = {
	.filter = filter,
};
