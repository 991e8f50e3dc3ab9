/*
 * Winograd's matrix products: 36 independent ones of a few dozen tiles. A panel of the right matrix is one or two vectors wide, so
 * that its sums for all rows of a step stay in registers.
 */
#include "winograd_product.h"

/* Rows of the inner kernels: as many sums as registers hold beside the operands (32 of them under AVX-512, else 16). */
enum { MOST_ROWS = 13, ROWS_NARROW = VL == 16 ? 13 : 12 };
enum { GRADIENT_ROWS = VL == 16 ? 8 : 4, GRADIENT_ROWS_NARROW = VL == 4 ? 4 : 8 };

/* c (rows x vectors) = a b: the sums stay in registers; each element of a is broadcast. */
INLINE void product(int rows, int vectors, int k, const float *a, size_t a_block, const float *b, size_t b_block, bool add, float *c,
                    size_t c_block)
{
	vec sum[MOST_ROWS][2];

	UNROLL(16)
	for (int i = 0; i < rows; i++)
		UNROLL(2)
		for (int j = 0; j < vectors; j++)
			sum[i][j] = add ? vec_load(c + j * c_block + i * VL) : (vec){ 0 };
	for (; k > 0; k -= VL, a += a_block)
		UNROLL(4)
		for (int s = 0; s < VL; s++, b += VL) {
			vec b0 = vec_load(b), b1 = vectors > 1 ? vec_load(b + b_block) : b0;

			UNROLL(16)
			for (int i = 0; i < rows; i++) {
				vec factor = vec_all(a[i * VL + s]);

				sum[i][0] += factor * b0;
				if (vectors > 1)
					sum[i][1] += factor * b1;
			}
		}
	UNROLL(16)
	for (int i = 0; i < rows; i++)
		UNROLL(2)
		for (int j = 0; j < vectors; j++)
			vec_store(c + j * c_block + i * VL, sum[i][j]);
}

INLINE void product_of(int rows, int vectors, int k, const float *a, size_t a_block, const float *b, size_t b_block, bool add, float *c,
                       size_t c_block)
{
#define ROW_COUNT(r) case r: product(r, vectors, k, a, a_block, b, b_block, add, c, c_block); break;
	switch (rows) {
	ROW_COUNT(1) ROW_COUNT(2) ROW_COUNT(3) ROW_COUNT(4) ROW_COUNT(5) ROW_COUNT(6) ROW_COUNT(7)
	ROW_COUNT(8) ROW_COUNT(9) ROW_COUNT(10) ROW_COUNT(11) ROW_COUNT(12) ROW_COUNT(13)
	}
#undef ROW_COUNT
}

void KERNEL(winograd_multiply)(int n, int k, int cols, const struct winograd_stack *a, const struct winograd_stack *b, bool add,
                               const struct winograd_stack *c)
{
	for (int plane = 0; plane < WINOGRAD_PLANES; plane++)
		for (int j = 0; j < cols; j += 2 * VL) {
			bool narrow = cols - j == VL;
			int most = narrow ? ROWS_NARROW : WINOGRAD_ROWS, parts = (n + most - 1) / most;
			const float *pa = a->data + plane * a->plane_size, *pb = b->data + plane * b->plane_size + j / VL * b->block;
			float *pc = c->data + plane * c->plane_size + j / VL * c->block;

			for (int p = 0; p < parts; p++) {
				int from = n * p / parts, rows = n * (p + 1) / parts - from;

				if (narrow)
					product_of(rows, 1, k, pa + from * VL, a->block, pb, b->block, add, pc + from * VL, c->block);
				else
					product_of(rows, 2, k, pa + from * VL, a->block, pb, b->block, add, pc + from * VL, c->block);
			}
		}
}

/* c (rows x vectors) = a' b: the same with the sum running over the rows of both. */
INLINE void product_transposed(int rows, int vectors, int n, const float *a, const float *b, size_t b_block, bool add, float *c,
                               size_t c_block)
{
	vec sum[8][2];

	UNROLL(8)
	for (int i = 0; i < rows; i++)
		UNROLL(2)
		for (int j = 0; j < vectors; j++)
			sum[i][j] = add ? vec_load(c + j * c_block + i * VL) : (vec){ 0 };
	for (int t = 0; t < n; t++, a += VL, b += VL) {
		vec b0 = vec_load(b), b1 = vectors > 1 ? vec_load(b + b_block) : b0;

		UNROLL(8)
		for (int i = 0; i < rows; i++) {
			vec factor = vec_all(a[i]);

			sum[i][0] += factor * b0;
			if (vectors > 1)
				sum[i][1] += factor * b1;
		}
	}
	UNROLL(8)
	for (int i = 0; i < rows; i++)
		UNROLL(2)
		for (int j = 0; j < vectors; j++)
			vec_store(c + j * c_block + i * VL, sum[i][j]);
}

void KERNEL(winograd_multiply_transposed)(int n, int rows, int cols, const struct winograd_stack *a, const struct winograd_stack *b,
                                          bool add, const struct winograd_stack *c)
{
	for (int plane = 0; plane < WINOGRAD_PLANES; plane++)
		for (int j = 0; j < cols; j += 2 * VL) {
			bool narrow = cols - j == VL;
			int step = narrow ? GRADIENT_ROWS_NARROW : GRADIENT_ROWS;
			const float *pb = b->data + plane * b->plane_size + j / VL * b->block;
			float *pc = c->data + plane * c->plane_size + j / VL * c->block;

			for (int i = 0; i < rows; i += step) {
				const float *pa = a->data + plane * a->plane_size + i / VL * a->block + i % VL;

				if (narrow)
					product_transposed(GRADIENT_ROWS_NARROW, 1, n, pa, pb, b->block, add, pc + i * VL, c->block);
				else
					product_transposed(GRADIENT_ROWS, 2, n, pa, pb, b->block, add, pc + i * VL, c->block);
			}
		}
}

void KERNEL(winograd_column_sums)(int n, int cols, const struct winograd_stack *m, int plane, float *sum)
{
	for (int j = 0; j < cols; j += VL) {
		const float *from = m->data + plane * m->plane_size + j / VL * m->block;
		vec s = { 0 };

		for (int t = 0; t < n; t++)
			s += vec_load(from + (size_t)t * VL);
		vec_store(sum + j, vec_load(sum + j) + s);
	}
}
