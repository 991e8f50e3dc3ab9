/*
 * The inner loops of Winograd F(4x4, 3x3); ../winograd.h explains the method and what each function does. Channels lie in the
 * vector lanes everywhere, so all transforms are plain arithmetic on vectors.
 *
 * The interpolation points are 0, 1, -1, 2, -2 and infinity; the matrices are
 *
 *          4  0 -5  0  1  0          1/4    0    0
 *          0 -4 -4  1  1  0         -1/6 -1/6 -1/6           1  1  1  1  1  0
 *     B' = 0  4 -4 -1  1  0    G =  -1/6  1/6 -1/6      A' = 0  1 -1  2 -2  0
 *          0 -2 -1  2  1  0         1/24 1/12  1/6           0  1  1  4  4  0
 *          0  2 -1 -2  1  0         1/24-1/12  1/6           0  1 -1  8 -8  1
 *          0  4  0 -5  0  1            0    0    1
 */
#include "../winograd.h"
#include "winograd_product.h"

/* ---- the six matrices, applied to one row or column ---- */

INLINE void times_Bt(const vec d[6], vec out[6])
{
	vec even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);

	out[0] = 4 * d[0] - 5 * d[2] + d[4];
	out[1] = even + odd;
	out[2] = even - odd;
	out[3] = even2 + odd2;
	out[4] = even2 - odd2;
	out[5] = 4 * d[1] - 5 * d[3] + d[5];
}

INLINE void times_At(const vec m[6], vec out[4])
{
	vec sum1 = m[1] + m[2], dif1 = m[1] - m[2], sum2 = m[3] + m[4], dif2 = m[3] - m[4];

	out[0] = m[0] + sum1 + sum2;
	out[1] = dif1 + 2 * dif2;
	out[2] = sum1 + 4 * sum2;
	out[3] = dif1 + 8 * dif2 + m[5];
}

INLINE void times_A(const vec y[4], vec out[6])
{
	vec even = y[0] + y[2], odd = y[1] + y[3], even2 = y[0] + 4 * y[2], odd2 = 2 * y[1] + 8 * y[3];

	out[0] = y[0];
	out[1] = even + odd;
	out[2] = even - odd;
	out[3] = even2 + odd2;
	out[4] = even2 - odd2;
	out[5] = y[3];
}

INLINE void times_G(const vec g[3], vec out[6])
{
	vec even = (g[0] + g[2]) * (-1.0f / 6), odd = g[1] * (-1.0f / 6);
	vec even2 = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), odd2 = g[1] * (1.0f / 12);

	out[0] = g[0] * 0.25f;
	out[1] = even + odd;
	out[2] = even - odd;
	out[3] = even2 + odd2;
	out[4] = even2 - odd2;
	out[5] = g[2];
}

INLINE void times_Gt(const vec u[6], vec out[3])
{
	vec sum1 = u[1] + u[2], dif1 = u[1] - u[2], sum2 = u[3] + u[4], dif2 = u[3] - u[4];

	out[0] = u[0] * 0.25f - sum1 * (1.0f / 6) + sum2 * (1.0f / 24);
	out[1] = dif2 * (1.0f / 12) - dif1 * (1.0f / 6);
	out[2] = (sum2 - sum1) * (1.0f / 6) + u[5];
}

/* ---- activations ---- */

/* Where a tile lies: its first pixel (which may be outside), and bit i of rows and columns: is line i inside the image? */
struct place {
	int64_t pixel;                  /* in the batch */
	unsigned rows, columns;
};

static unsigned inside(int first, int size)
{
	unsigned bits = 0;

	for (int i = 0; i < 6; i++)
		bits |= (unsigned)(first + i >= 0 && first + i < size) << i;
	return bits;
}

static struct place place_of(const struct winograd_map *map, int64_t tile)
{
	int grid = map->th * map->tw, r = (int)(tile % grid);
	int y = r / map->tw * WINOGRAD_TILE - map->pad, x = r % map->tw * WINOGRAD_TILE - map->pad;

	return (struct place){ (tile / grid * map->h + y) * map->w + x, inside(y, map->h), inside(x, map->w) };
}

/* The vector at line i, column j of the tile; zero outside of the image. `whole` is constant: the tile is inside. */
INLINE vec pixel_or_zero(const float *x, const struct winograd_map *map, const struct place *at, bool whole, int i, int j)
{
	if (whole || (at->rows >> i & at->columns >> j & 1))
		return vec_load(x + ((int64_t)i * map->w + j) * map->c);
	return (vec){ 0 };
}

INLINE void input_tile(const float *x, const struct winograd_map *map, const struct place *at, bool whole, float *v, size_t plane_size)
{
	vec half[6][6];

	UNROLL(6)
	for (int j = 0; j < 6; j++) {
		vec d[6], column[6];

		UNROLL(6)
		for (int i = 0; i < 6; i++)
			d[i] = pixel_or_zero(x, map, at, whole, i, j);
		times_Bt(d, column);
		UNROLL(6)
		for (int i = 0; i < 6; i++)
			half[i][j] = column[i];
	}
	UNROLL(6)
	for (int i = 0; i < 6; i++) {
		vec row[6];

		times_Bt(half[i], row);
		UNROLL(6)
		for (int j = 0; j < 6; j++)
			vec_store(v + (i * 6 + j) * plane_size, row[j]);
	}
}

static void input(const struct winograd_map *map, const float *x, int64_t tile, int n, const struct winograd_stack *v)
{
	for (int t = 0; t < n; t++) {
		struct place at = place_of(map, tile + t);
		float *to = v->data + (size_t)t * VL;

		if (at.rows == 63 && at.columns == 63)
			for (int c = 0; c < map->c; c += VL, to += v->block)
				input_tile(x + at.pixel * map->c + c, map, &at, true, to, v->plane_size);
		else
			for (int c = 0; c < map->c; c += VL, to += v->block)
				input_tile(x + at.pixel * map->c + c, map, &at, false, to, v->plane_size);
	}
}

INLINE void gradient_tile(const float *dy, const struct winograd_map *map, const struct place *at, bool whole, float *m, size_t plane_size)
{
	vec half[6][4];

	UNROLL(4)
	for (int j = 0; j < 4; j++) {
		vec d[4], column[6];

		UNROLL(4)
		for (int i = 0; i < 4; i++)
			d[i] = pixel_or_zero(dy, map, at, whole, i, j);
		times_A(d, column);
		UNROLL(6)
		for (int i = 0; i < 6; i++)
			half[i][j] = column[i];
	}
	UNROLL(6)
	for (int i = 0; i < 6; i++) {
		vec row[6];

		times_A(half[i], row);
		UNROLL(6)
		for (int j = 0; j < 6; j++)
			vec_store(m + (i * 6 + j) * plane_size, row[j]);
	}
}

static void gradient(const struct winograd_map *map, const float *dy, int64_t tile, int n, const struct winograd_stack *m)
{
	for (int t = 0; t < n; t++) {
		struct place at = place_of(map, tile + t);
		float *to = m->data + (size_t)t * VL;

		if ((at.rows & 15) == 15 && (at.columns & 15) == 15)
			for (int c = 0; c < map->c; c += VL, to += m->block)
				gradient_tile(dy + at.pixel * map->c + c, map, &at, true, to, m->plane_size);
		else
			for (int c = 0; c < map->c; c += VL, to += m->block)
				gradient_tile(dy + at.pixel * map->c + c, map, &at, false, to, m->plane_size);
	}
}

INLINE void output_tile(const float *m, size_t plane_size, const struct winograd_map *map, const struct place *at, bool whole, vec bias,
                        bool accumulate, float *y)
{
	vec half[4][6];

	UNROLL(6)
	for (int j = 0; j < 6; j++) {
		vec d[6], column[4];

		UNROLL(6)
		for (int i = 0; i < 6; i++)
			d[i] = vec_load(m + (i * 6 + j) * plane_size);
		times_At(d, column);
		UNROLL(4)
		for (int i = 0; i < 4; i++)
			half[i][j] = column[i];
	}
	UNROLL(4)
	for (int i = 0; i < 4; i++) {
		vec row[4];

		times_At(half[i], row);
		UNROLL(4)
		for (int j = 0; j < 4; j++) {
			float *to = y + ((int64_t)i * map->w + j) * map->c;

			if (whole || (at->rows >> i & at->columns >> j & 1))
				vec_store(to, accumulate ? vec_load(to) + row[j] : row[j] + bias);
		}
	}
}

static void output(const struct winograd_map *map, const struct winograd_stack *m, int64_t tile, int n, int col, int cols,
                   const float *bias, bool accumulate, float *y)
{
	for (int t = 0; t < n; t++) {
		struct place at = place_of(map, tile + t);
		bool whole = (at.rows & 15) == 15 && (at.columns & 15) == 15;
		const float *from = m->data + (size_t)t * VL;

		for (int c = col; c < col + cols; c += VL, from += m->block) {
			vec b = bias ? vec_load(bias + c) : (vec){ 0 };
			float *to = y + at.pixel * map->c + c;

			if (accumulate)
				output_tile(from, m->plane_size, map, &at, whole, b, true, to);
			else if (whole)
				output_tile(from, m->plane_size, map, &at, true, b, false, to);
			else
				output_tile(from, m->plane_size, map, &at, false, b, false, to);
		}
	}
}

/* ---- filters ---- */

/* One vector of filters: tap k at g + k * step; turned: read from the last tap to the first. */
INLINE void filter_vector(const float *g, size_t step, bool turned, float *u, size_t plane_size)
{
	vec half[6][3];

	UNROLL(3)
	for (int j = 0; j < 3; j++) {
		vec d[3], column[6];

		UNROLL(3)
		for (int i = 0; i < 3; i++)
			d[i] = vec_load(g + (turned ? 8 - (i * 3 + j) : i * 3 + j) * step);
		times_G(d, column);
		UNROLL(6)
		for (int i = 0; i < 6; i++)
			half[i][j] = column[i];
	}
	UNROLL(6)
	for (int i = 0; i < 6; i++) {
		vec row[6];

		times_G(half[i], row);
		UNROLL(6)
		for (int j = 0; j < 6; j++)
			vec_store(u + (i * 6 + j) * plane_size, row[j]);
	}
}

/* VL filters of VL channels, from vectors of input channels to vectors of output channels. */
static void filter_transpose(const float *w, int in, float *turned)
{
	for (int k = 0; k < 9; k++)
		for (int o = 0; o < VL; o++)
			for (int c = 0; c < VL; c++)
				turned[(c * 9 + k) * VL + o] = w[((size_t)o * 9 + k) * in + c];
}

/* The taps of a filter lie too far apart for the hardware to guess; so they are asked for some filters ahead (behind the last
 * one this asks for what nobody needs, which does no harm). */
INLINE void filter_prefetch(const float *g, int in)
{
	for (int k = 0; k < 9; k++)
		__builtin_prefetch(g + (size_t)k * in);
}

static void filter(const float *w, int in, bool turned, int row, int rows, int col, int cols, const struct winograd_stack *u)
{
	enum { AHEAD = 8 };
	float block[VL * 9 * VL] __attribute__((aligned(64)));

	for (int j = 0; j < cols; j += VL)
		for (int i = 0; i < rows; i += VL) {
			float *to = u->data + j / VL * u->block + (size_t)i * VL;
			const float *from = turned ? w + (size_t)(row + i) * 9 * in + col + j : w + (size_t)(col + j) * 9 * in + row + i;

			if (turned) {
				for (int r = 0; r < VL; r++) {
					filter_prefetch(from + (size_t)(r + AHEAD) * 9 * in, in);
					filter_vector(from + (size_t)r * 9 * in, in, true, to + r * VL, u->plane_size);
				}
			} else {
				filter_transpose(from, in, block);
				for (int r = 0; r < VL; r++) {
					filter_prefetch(from + VL + (size_t)r * 9 * in, in);
					filter_vector(block + r * 9 * VL, VL, false, to + r * VL, u->plane_size);
				}
			}
		}
}

static void filter_gradient(const struct winograd_stack *u, int copies, size_t distance, int in, int row, int rows, int col, int cols,
                            float *dw)
{
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < cols; j += VL) {
			const float *from = u->data + j / VL * u->block + (size_t)i * VL;
			float *to = dw + (size_t)(row + i) * 9 * in + col + j;
			vec half[3][6], tap[3];

			UNROLL(6)
			for (int y = 0; y < 6; y++) {
				vec d[6], column[3];

				UNROLL(6)
				for (int x = 0; x < 6; x++) {
					const float *p = from + (x * 6 + y) * u->plane_size;

					d[x] = vec_load(p);
					for (int copy = 1; copy < copies; copy++)
						d[x] += vec_load(p + copy * distance);
				}
				times_Gt(d, column);
				UNROLL(3)
				for (int x = 0; x < 3; x++)
					half[x][y] = column[x];
			}
			UNROLL(3)
			for (int x = 0; x < 3; x++) {
				times_Gt(half[x], tap);
				UNROLL(3)
				for (int y = 0; y < 3; y++)
					vec_store(to + (size_t)(x * 3 + y) * in, tap[y]);
			}
		}
}

const struct winograd_kernels KERNEL(winograd) = {
	.vl = VL,
	.rows = WINOGRAD_ROWS,
	.input = input,
	.gradient = gradient,
	.output = output,
	.filter = filter,
	.filter_gradient = filter_gradient,
	.multiply = KERNEL(winograd_multiply),
	.multiply_transposed = KERNEL(winograd_multiply_transposed),
	.column_sums = KERNEL(winograd_column_sums),
};
