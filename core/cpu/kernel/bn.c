/*
 * Batch norm's four loops. They are bound by memory, so the arithmetic can afford to be careful:
 *
 * Moments are taken block by block, small enough for the first-level cache: first the mean of a block's column, then the squares
 * of the distances to it, which the cache serves. Blocks are joined in double by Chan's formula (Chan, Golub, LeVeque 1979). So a
 * mean that is large against the deviation costs no digits, and no value of the data is trusted as a shift.
 */
#include <stdbool.h>

#include "kernels.h"
#include "simd.h"

enum { GROUP = 4, BLOCK_FLOATS = 4096, BLOCK_LEAST = 8 };

static int64_t block_rows(int width)
{
	return BLOCK_FLOATS / width < BLOCK_LEAST ? BLOCK_LEAST : BLOCK_FLOATS / width;
}

/*
 * Joins a block of `rows` to the `done` rows that mean and m2 know about. The block is given by a value m near its mean, the sum d
 * of the distances to m and the sum q of their squares: m is a rounded mean, and d puts back what the rounding took.
 */
INLINE void join(int lanes, double done, double rows, const float *m, const float *d, const float *q, double *mean, double *m2)
{
	double share = rows / (done + rows), weight = done * share;

	for (int j = 0; j < lanes; j++) {
		double off = d[j] / rows, delta = m[j] + off - mean[j];

		mean[j] += delta * share;
		m2[j] += q[j] - off * d[j] + delta * delta * weight;
	}
}

INLINE void moments_columns(const int vecs, int64_t rows, int64_t stride, int64_t done, const float *x, double *mean, double *m2)
{
	vec sum[GROUP] = { { 0 } }, distance[GROUP] = { { 0 } }, square[GROUP] = { { 0 } };
	float m[GROUP * VL], d[GROUP * VL], q[GROUP * VL];

	for (int64_t r = 0; r < rows; r++) {
		UNROLL(4)
		for (int j = 0; j < vecs; j++)
			sum[j] += vec_load(x + r * stride + j * VL);
	}
	for (int j = 0; j < vecs; j++)
		sum[j] *= vec_all(1 / (float)rows);
	for (int64_t r = 0; r < rows; r++) {
		UNROLL(4)
		for (int j = 0; j < vecs; j++) {
			vec delta = vec_load(x + r * stride + j * VL) - sum[j];

			distance[j] += delta;
			square[j] += delta * delta;
		}
	}
	for (int j = 0; j < vecs; j++) {
		vec_store(m + j * VL, sum[j]);
		vec_store(d + j * VL, distance[j]);
		vec_store(q + j * VL, square[j]);
	}
	join(vecs * VL, (double)done, (double)rows, m, d, q, mean, m2);
}

static void moments_column(int64_t rows, int64_t stride, int64_t done, const float *x, double *mean, double *m2)
{
	float sum = 0, distance = 0, square = 0;

	for (int64_t r = 0; r < rows; r++)
		sum += x[r * stride];
	sum *= 1 / (float)rows;
	for (int64_t r = 0; r < rows; r++) {
		float delta = x[r * stride] - sum;

		distance += delta;
		square += delta * delta;
	}
	join(1, (double)done, (double)rows, &sum, &distance, &square, mean, m2);
}

static void moments(const struct bn_slice *s, int64_t done, const float *x, double *mean, double *m2)
{
	int64_t block = block_rows(s->width);

	for (int c = 0; done == 0 && c < s->width; c++)
		mean[c] = m2[c] = 0;
	for (int64_t r = 0; r < s->rows; r += block) {
		int64_t rows = s->rows - r < block ? s->rows - r : block;
		const float *at = x + r * s->stride;
		int c = 0;

		for (; c + GROUP * VL <= s->width; c += GROUP * VL)
			moments_columns(GROUP, rows, s->stride, done, at + c, mean + c, m2 + c);
		for (; c + VL <= s->width; c += VL)
			moments_columns(1, rows, s->stride, done, at + c, mean + c, m2 + c);
		for (; c < s->width; c++)
			moments_column(rows, s->stride, done, at + c, mean + c, m2 + c);
		done += rows;
	}
}

/* 0 where v <= 0: unlike a maximum with 0 this lets a NaN through, to the loss, where it stops the run. */
INLINE vec vec_relu(vec v) { return (vec)((vec_int)v & ~(vec_int)(v <= (vec){ 0 })); }

static void normalise(const struct bn_slice *s, const float *x, const float *residual, const float *mean, const float *scale,
                      const float *shift, bool relu, float *y)
{
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t o = r * s->stride;
		int c = 0;

		for (; c + VL <= s->width; c += VL) {
			vec v = (vec_load(x + o + c) - vec_load(mean + c)) * vec_load(scale + c) + vec_load(shift + c);

			if (residual)
				v += vec_load(residual + o + c);
			vec_store(y + o + c, relu ? vec_relu(v) : v);
		}
		for (; c < s->width; c++) {
			float v = (x[o + c] - mean[c]) * scale[c] + shift[c];

			if (residual)
				v += residual[o + c];
			y[o + c] = relu && v <= 0 ? 0 : v;
		}
	}
}

INLINE void sums_columns(const int vecs, int64_t rows, int64_t stride, const float *x, const float *y, const float *mean, float *dy,
                         bool keep, double *sum, double *dot)
{
	vec mu[GROUP], a[GROUP] = { { 0 } }, b[GROUP] = { { 0 } };

	for (int j = 0; j < vecs; j++)
		mu[j] = vec_load(mean + j * VL);
	for (int64_t o = 0; o < rows * stride; o += stride) {
		UNROLL(4)
		for (int j = 0; j < vecs; j++) {
			vec dz = vec_load(dy + o + j * VL);

			if (y)
				dz = vec_where_positive(dz, vec_load(y + o + j * VL));
			if (keep)
				vec_store(dy + o + j * VL, dz);
			a[j] += dz;
			b[j] += dz * (vec_load(x + o + j * VL) - mu[j]);
		}
	}
	for (int j = 0; j < vecs; j++) {
		for (int l = 0; l < VL; l++) {
			sum[j * VL + l] += a[j][l];
			dot[j * VL + l] += b[j][l];
		}
	}
}

static void sums_column(int64_t rows, int64_t stride, const float *x, const float *y, float mean, float *dy, bool keep, double *sum,
                        double *dot)
{
	float a = 0, b = 0;

	for (int64_t o = 0; o < rows * stride; o += stride) {
		float dz = y && !(y[o] > 0) ? 0 : dy[o];

		if (keep)
			dy[o] = dz;
		a += dz;
		b += dz * (x[o] - mean);
	}
	*sum += a;
	*dot += b;
}

static void sums(const struct bn_slice *s, const float *x, const float *y, const float *mean, float *dy, bool keep, double *sum,
                 double *dot)
{
	int64_t block = block_rows(s->width);

	for (int64_t r = 0; r < s->rows; r += block) {
		int64_t rows = s->rows - r < block ? s->rows - r : block, o = r * s->stride;
		int c = 0;

		for (; c + GROUP * VL <= s->width; c += GROUP * VL)
			sums_columns(GROUP, rows, s->stride, x + o + c, y ? y + o + c : NULL, mean + c, dy + o + c, keep, sum + c, dot + c);
		for (; c + VL <= s->width; c += VL)
			sums_columns(1, rows, s->stride, x + o + c, y ? y + o + c : NULL, mean + c, dy + o + c, keep, sum + c, dot + c);
		for (; c < s->width; c++)
			sums_column(rows, s->stride, x + o + c, y ? y + o + c : NULL, mean[c], dy + o + c, keep, sum + c, dot + c);
	}
}

static void apply(const struct bn_slice *s, const float *x, const float *y, const float *dy, const float *mean, const float *scale,
                  const float *slope, const float *shift, float *dx, bool add_dx, float *dresidual, bool add_dresidual)
{
	for (int64_t r = 0; r < s->rows; r++) {
		int64_t o = r * s->stride;
		int c = 0;

		for (; c + VL <= s->width; c += VL) {
			vec dz = vec_load(dy + o + c);

			if (y)
				dz = vec_where_positive(dz, vec_load(y + o + c));
			if (dx) {
				vec v = dz * vec_load(scale + c) + (vec_load(x + o + c) - vec_load(mean + c)) * vec_load(slope + c) +
				        vec_load(shift + c);

				vec_store(dx + o + c, add_dx ? v + vec_load(dx + o + c) : v);
			}
			if (dresidual)
				vec_store(dresidual + o + c, add_dresidual ? dz + vec_load(dresidual + o + c) : dz);
		}
		for (; c < s->width; c++) {
			float dz = y && !(y[o + c] > 0) ? 0 : dy[o + c];

			if (dx)
				dx[o + c] = dz * scale[c] + (x[o + c] - mean[c]) * slope[c] + shift[c] + (add_dx ? dx[o + c] : 0);
			if (dresidual)
				dresidual[o + c] = dz + (add_dresidual ? dresidual[o + c] : 0);
		}
	}
}

extern const struct bn_kernels KERNEL(bn_kernels);
const struct bn_kernels KERNEL(bn_kernels) = {
	.moments = moments,
	.normalise = normalise,
	.sums = sums,
	.apply = apply,
};
