/*
 * The one pass over a dense vector that exact top-k needs, and the two that Gaussian-k's threshold takes. Magnitudes are compared as integers: for floats without their sign
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

INLINE vec sum_at(const float *x, const float *y, int64_t i) { return y ? vec_load(x + i) + vec_load(y + i) : vec_load(x + i); }

static void moments(int64_t n, const float *x, const float *y, double sum[2])
{
	double first[VL] = { 0 }, second[VL] = { 0 };
	int64_t i = 0;

	for (; i + VL <= n; i += VL) {
		vec v = sum_at(x, y, i);

		for (int l = 0; l < VL; l++) {
			double d = v[l];

			first[l] += d;
			second[l] += d * d;
		}
	}
	sum[0] = sum[1] = 0;
	for (; i < n; i++) {
		double d = y ? x[i] + y[i] : x[i];

		sum[0] += d;
		sum[1] += d * d;
	}
	for (int l = 0; l < VL; l++) {
		sum[0] += first[l];
		sum[1] += second[l];
	}
}

static void reach(int64_t n, const float *x, const float *y, const float bound[3], int64_t count[3])
{
	enum { LONGEST = 1 << 24 };     /* elements a lane of 32 bits may count */
	vec b0 = vec_all(bound[0]), b1 = vec_all(bound[1]), b2 = vec_all(bound[2]);

	count[0] = count[1] = count[2] = 0;
	for (int64_t from = 0, to; from < n; from = to) {
		vec_int c0 = { 0 }, c1 = { 0 }, c2 = { 0 };
		int64_t i = from;

		to = n - from < LONGEST ? n : from + LONGEST;
		for (; i + VL <= to; i += VL) {
			vec m = (vec)magnitude(sum_at(x, y, i));

			c0 -= m >= b0;          /* true is -1 */
			c1 -= m >= b1;
			c2 -= m >= b2;
		}
		for (; i < to; i++) {
			float v = y ? x[i] + y[i] : x[i], m = v < 0 ? -v : v;

			count[0] += m >= bound[0];
			count[1] += m >= bound[1];
			count[2] += m >= bound[2];
		}
		for (int l = 0; l < VL; l++) {
			count[0] += c0[l];
			count[1] += c1[l];
			count[2] += c2[l];
		}
	}
}

extern const struct sparse_kernels KERNEL(sparse_kernels);
const struct sparse_kernels KERNEL(sparse_kernels) = {
	.filter = filter,
	.moments = moments,
	.reach = reach,
};
