/*
 * Loops of the small layers: ReLU, addition, pooling, dropout.
 *
 * ReLU is written "0 where v <= 0" rather than "v where v > 0": a NaN must get through to the loss, where it stops the run.
 */
#include <stdbool.h>

#include "kernels.h"
#include "philox_lanes.h"
#include "simd.h"

#define HOST_DEVICE INLINE
#include "../../formulas.h"

static void relu_fwd(int64_t n, const float *x, float *y)
{
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		y[i] = x[i] <= 0 ? 0 : x[i];
}

static void relu_bwd(int64_t n, const float *y, const float *dy, float *dx, bool accumulate)
{
	if (accumulate) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			dx[i] = dx[i] + (y[i] > 0 ? dy[i] : 0);
	} else {
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			dx[i] = y[i] > 0 ? dy[i] : 0;
	}
}

static void add_fwd(int64_t n, const float *a, const float *b, bool relu, float *y)
{
	if (relu) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++) {
			float v = a[i] + b[i];

			y[i] = v <= 0 ? 0 : v;
		}
	} else {
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			y[i] = a[i] + b[i];
	}
}

/* The maximum so far and its position, for VL channels; the later of equals does not win, a NaN always does. */
INLINE void max_step(const float *x, int position, vec *best, vec_int *at)
{
	vec v = vec_load(x);
	vec_int wins = (vec_int)(v > *best) | (vec_int)(v != v);
	vec_int here = position - (vec_int){ 0 };

	*best = (vec)((wins & (vec_int)v) | (~wins & (vec_int)*best));
	*at = (wins & here) | (~wins & *at);
}

static void max_fwd(const struct window *w, const float *x, float *y, uint8_t *index)
{
	int c = 0;

	for (; c + VL <= w->c; c += VL) {
		vec best = vec_load(x + c);
		vec_int at = w->first - (vec_int){ 0 };

		for (int r = 0; r < w->rows; r++)
			for (int q = 0; q < w->cols; q++)
				max_step(x + r * w->row + (int64_t)q * w->c + c, w->first + r * w->kernel + q, &best, &at);
		vec_store(y + c, best);
		for (int j = 0; j < VL; j++)
			index[c + j] = (uint8_t)at[j];
	}
	for (; c < w->c; c++) {
		float best = x[c];
		int at = w->first;

		for (int r = 0; r < w->rows; r++) {
			for (int q = 0; q < w->cols; q++) {
				float v = x[r * w->row + (int64_t)q * w->c + c];

				if (v > best || v != v) {
					best = v;
					at = w->first + r * w->kernel + q;
				}
			}
		}
		y[c] = best;
		index[c] = (uint8_t)at;
	}
}

static void max_bwd(const struct window *w, const float *dy, const uint8_t *index, float *dx)
{
	for (int r = 0; r < w->rows; r++) {
		for (int q = 0; q < w->cols; q++) {
			float *to = dx + r * w->row + (int64_t)q * w->c;
			int position = w->first + r * w->kernel + q;

#pragma omp simd
			for (int c = 0; c < w->c; c++)
				to[c] += index[c] == position ? dy[c] : 0;
		}
	}
}

/* Sums along each row first, then over the rows: shorter chains, smaller rounding errors. */
static void mean_fwd(const struct window *w, float scale, const float *x, float *y)
{
	int c = 0;

	for (; c + VL <= w->c; c += VL) {
		vec sum = { 0 };

		for (int r = 0; r < w->rows; r++) {
			vec line = { 0 };

			for (int q = 0; q < w->cols; q++)
				line += vec_load(x + r * w->row + (int64_t)q * w->c + c);
			sum += line;
		}
		vec_store(y + c, sum * vec_all(scale));
	}
	for (; c < w->c; c++) {
		float sum = 0;

		for (int r = 0; r < w->rows; r++) {
			float line = 0;

			for (int q = 0; q < w->cols; q++)
				line += x[r * w->row + (int64_t)q * w->c + c];
			sum += line;
		}
		y[c] = sum * scale;
	}
}

static void mean_bwd(const struct window *w, float scale, const float *dy, float *dx)
{
	for (int r = 0; r < w->rows; r++) {
		for (int q = 0; q < w->cols; q++) {
			float *to = dx + r * w->row + (int64_t)q * w->c;

#pragma omp simd
			for (int c = 0; c < w->c; c++)
				to[c] += scale * dy[c];
		}
	}
}

static void dropout(int64_t first, int64_t n, uint32_t limit, float scale, const uint32_t key[2], const uint32_t counter[4],
                    const float *x, float *y)
{
	uint32_t word[4][LANES];

	for (int64_t i = 0; i < n; i += 4 * LANES) {
		int count = n - i < 4 * LANES ? (int)(n - i) : 4 * LANES;

		philox_lanes(counter[0] + (uint32_t)((first + i) / 4), key, counter, word);
		for (int j = 0; j < count; j++)
			y[i + j] = dropout_value(word[j % 4][j / 4], limit, scale, x[i + j]);
	}
}

extern const struct layer_kernels KERNEL(layer_kernels);
const struct layer_kernels KERNEL(layer_kernels) = {
	.relu_fwd = relu_fwd,
	.relu_bwd = relu_bwd,
	.add_fwd = add_fwd,
	.max_fwd = max_fwd,
	.max_bwd = max_bwd,
	.mean_fwd = mean_fwd,
	.mean_bwd = mean_bwd,
	.dropout = dropout,
};
