/*
 * Matrices of low rank in plain C, sums in double. Gram-Schmidt is the CPU device's as well: its vectors are short, and written like
 * this it gives the same bits under every instruction set, so that ranks on different machines agree.
 */
#include <math.h>

#include "cpu.h"
#include "cpu_ops.h"

#define HOST_DEVICE static inline
#include "../formulas.h"

struct lowrank_args {
	int64_t rows, cols;
	int rank;
	const float *in, *p, *q, *own;
	float *m, *out;
};

#define QUEUE(stream, fn, ...) cpu_run(stream, fn, &(struct lowrank_args){ __VA_ARGS__ }, sizeof(struct lowrank_args))

static void run_right(void *args, int team)
{
	const struct lowrank_args *a = args;

	(void)team;
	for (int64_t i = 0; i < a->rows * a->cols; i++)
		a->m[i] += a->in[i];
	for (int k = 0; k < a->rank; k++)
		for (int64_t i = 0; i < a->rows; i++) {
			double sum = 0;

			for (int64_t j = 0; j < a->cols; j++)
				sum += (double)a->m[i * a->cols + j] * a->q[k * a->cols + j];
			a->out[k * a->rows + i] = (float)sum;
		}
}

static void lowrank_right(struct stream *s, int64_t rows, int64_t cols, int rank, const float *in, float *m, const float *q, float *p)
{
	QUEUE(s, run_right, .rows = rows, .cols = cols, .rank = rank, .in = in, .m = m, .q = q, .out = p);
}

static void run_left(void *args, int team)
{
	const struct lowrank_args *a = args;

	(void)team;
	for (int k = 0; k < a->rank; k++)
		for (int64_t j = 0; j < a->cols; j++) {
			double sum = 0;

			for (int64_t i = 0; i < a->rows; i++)
				sum += (double)a->in[i * a->cols + j] * a->p[k * a->rows + i];
			a->out[k * a->cols + j] = (float)sum;
		}
}

static void lowrank_left(struct stream *s, int64_t rows, int64_t cols, int rank, const float *m, const float *p, float *q)
{
	QUEUE(s, run_left, .rows = rows, .cols = cols, .rank = rank, .in = m, .p = p, .out = q);
}

/* ---- Gram-Schmidt ---- */

static double dot(int64_t n, const float *x, const float *y)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += (double)x[i] * y[i];
	return sum;
}

/* Takes from v what lies in the span of the `count` vectors before it. Twice: what rounding leaves of a vector that nearly lies in
 * it need not be orthogonal at all, but the second time nothing much is taken away any more. */
static void project(int64_t n, int count, const float *p, float *v)
{
	for (int pass = 0; pass < 2; pass++)
		for (int k = 0; k < count; k++) {
			double along = dot(n, p + k * n, v);

			for (int64_t i = 0; i < n; i++)
				v[i] = (float)(v[i] - along * p[k * n + i]);
		}
}

static void run_orthonormalise(void *args, int team)
{
	const struct lowrank_args *a = args;
	int64_t n = a->rows;

	(void)team;
	for (int k = 0; k < a->rank; k++) {
		float *v = a->out + k * n;
		double before, left;

		for (int attempt = 0;; attempt++) {
			before = dot(n, v, v);
			project(n, k, a->out, v);
			left = dot(n, v, v);
			if (!lowrank_depends(left, before))
				break;
			for (int64_t i = 0; i < n; i++)
				v[i] = lowrank_random(k, attempt, i);
		}
		left = 1 / sqrt(left);
		for (int64_t i = 0; i < n; i++)
			v[i] = (float)(v[i] * left);
	}
}

void reference_orthonormalise(struct stream *s, int64_t rows, int rank, float *p)
{
	QUEUE(s, run_orthonormalise, .rows = rows, .rank = rank, .out = p);
}

/* ---- and back ---- */

static void run_expand(void *args, int team)
{
	const struct lowrank_args *a = args;

	(void)team;
	for (int64_t i = 0; i < a->rows; i++)
		for (int64_t j = 0; j < a->cols; j++) {
			double sum = 0, own = 0;

			for (int k = 0; k < a->rank; k++) {
				sum += (double)a->p[k * a->rows + i] * a->q[k * a->cols + j];
				own += (double)a->p[k * a->rows + i] * a->own[k * a->cols + j];
			}
			a->out[i * a->cols + j] = (float)sum;
			a->m[i * a->cols + j] = (float)(a->m[i * a->cols + j] - own);
		}
}

static void lowrank_expand(struct stream *s, int64_t rows, int64_t cols, int rank, const float *p, const float *q, const float *own,
                           float *m, float *out)
{
	QUEUE(s, run_expand, .rows = rows, .cols = cols, .rank = rank, .p = p, .q = q, .own = own, .m = m, .out = out);
}

const struct lowrank_ops reference_lowrank_ops = {
	.right = lowrank_right,
	.left = lowrank_left,
	.orthonormalise = reference_orthonormalise,
	.expand = lowrank_expand,
};
