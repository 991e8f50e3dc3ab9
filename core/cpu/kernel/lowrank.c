/*
 * Products of a large matrix with few vectors: bound by reading the matrix, so each kernel passes over it once for every four
 * vectors, which stay in the cache.
 */
#include "kernels.h"
#include "simd.h"

enum { VECTORS = 4, ROWS = 4 };

INLINE float add_up(vec v)
{
	float lane[VL], sum = 0;

	memcpy(lane, &v, sizeof(lane));
	for (int i = 0; i < VL; i++)
		sum += lane[i];
	return sum;
}

/* One row with `count` vectors; in may be NULL. */
INLINE void dots(const struct lowrank_slice *s, int count, const float *in, float *m, const float *q, float *p)
{
	vec sum[VECTORS] = { { 0 } };
	float rest[VECTORS] = { 0 };
	int64_t j = 0;

	for (; j + VL <= s->cols; j += VL) {
		vec v = vec_load(m + j);

		if (in) {
			v += vec_load(in + j);
			vec_store(m + j, v);
		}
		UNROLL(4)
		for (int k = 0; k < count; k++)
			sum[k] += v * vec_load(q + k * s->q_step + j);
	}
	for (; j < s->cols; j++) {
		if (in)
			m[j] += in[j];
		for (int k = 0; k < count; k++)
			rest[k] += m[j] * q[k * s->q_step + j];
	}
	for (int k = 0; k < count; k++)
		p[k * s->p_step] = add_up(sum[k]) + rest[k];
}

static void right(const struct lowrank_slice *s, const float *in, float *m, const float *q, float *p)
{
	for (int64_t i = 0; i < s->rows; i++)
		for (int k = 0; k < s->rank; k += VECTORS) {
			const float *add = k ? NULL : in + i * s->stride, *qk = q + k * s->q_step;
			float *row = m + i * s->stride, *pk = p + k * s->p_step + i;

			switch (s->rank - k) {
			case 1: dots(s, 1, add, row, qk, pk); break;
			case 2: dots(s, 2, add, row, qk, pk); break;
			case 3: dots(s, 3, add, row, qk, pk); break;
			default: dots(s, VECTORS, add, row, qk, pk);
			}
		}
}

/* q += the sum of `rows` rows of m, each times its element of p. */
INLINE void add_rows(const struct lowrank_slice *s, int rows, const float *m, const float *p, float *q)
{
	int64_t j = 0;

	for (; j + VL <= s->cols; j += VL) {
		vec sum = vec_load(q + j);

		UNROLL(4)
		for (int i = 0; i < rows; i++)
			sum += p[i] * vec_load(m + i * s->stride + j);
		vec_store(q + j, sum);
	}
	for (; j < s->cols; j++)
		for (int i = 0; i < rows; i++)
			q[j] += p[i] * m[i * s->stride + j];
}

static void left(const struct lowrank_slice *s, const float *m, const float *p, float *q)
{
	for (int k = 0; k < s->rank; k++)
		memset(q + k * s->q_step, 0, (size_t)s->cols * sizeof(*q));
	for (int64_t i = 0; i < s->rows; i += ROWS)
		for (int k = 0; k < s->rank; k++) {
			const float *rows = m + i * s->stride, *pk = p + k * s->p_step + i;
			float *qk = q + k * s->q_step;

			if (i + ROWS <= s->rows)
				add_rows(s, ROWS, rows, pk, qk);
			else
				add_rows(s, (int)(s->rows - i), rows, pk, qk);
		}
}

/* One row: out (+)= sum of `count` vectors q, m -= that of own. */
INLINE void add_vectors(const struct lowrank_slice *s, int count, const float *p, const float *q, const float *own, float *m,
                        float *out, int first)
{
	int64_t j = 0;

	for (; j + VL <= s->cols; j += VL) {
		vec sum = first ? (vec){ 0 } : vec_load(out + j), left_over = vec_load(m + j);

		UNROLL(4)
		for (int k = 0; k < count; k++) {
			sum += p[k * s->p_step] * vec_load(q + k * s->q_step + j);
			left_over -= p[k * s->p_step] * vec_load(own + k * s->q_step + j);
		}
		vec_store(out + j, sum);
		vec_store(m + j, left_over);
	}
	for (; j < s->cols; j++) {
		float sum = first ? 0 : out[j];

		for (int k = 0; k < count; k++) {
			sum += p[k * s->p_step] * q[k * s->q_step + j];
			m[j] -= p[k * s->p_step] * own[k * s->q_step + j];
		}
		out[j] = sum;
	}
}

static void expand(const struct lowrank_slice *s, const float *p, const float *q, const float *own, float *m, float *out)
{
	for (int64_t i = 0; i < s->rows; i++)
		for (int k = 0; k < s->rank; k += VECTORS) {
			const float *pk = p + k * s->p_step + i, *qk = q + k * s->q_step, *ok = own + k * s->q_step;
			float *row = m + i * s->stride, *to = out + i * s->stride;

			switch (s->rank - k) {
			case 1: add_vectors(s, 1, pk, qk, ok, row, to, k == 0); break;
			case 2: add_vectors(s, 2, pk, qk, ok, row, to, k == 0); break;
			case 3: add_vectors(s, 3, pk, qk, ok, row, to, k == 0); break;
			default: add_vectors(s, VECTORS, pk, qk, ok, row, to, k == 0);
			}
		}
}

extern const struct lowrank_kernels KERNEL(lowrank_kernels);
const struct lowrank_kernels KERNEL(lowrank_kernels) = {
	.right = right,
	.left = left,
	.expand = expand,
};
