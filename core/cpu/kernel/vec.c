/* Loops over vectors. `omp simd` promises what device.h does: outputs are inputs, or do not overlap them. */
#include <math.h>

#include "kernels.h"
#include "simd.h"

static void scale(int64_t n, float a, const float *x, float *y)
{
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		y[i] = a * x[i];
}

static void axpby(int64_t n, float a, const float *x, float b, float *y)
{
	if (b == 0) {                   /* as BLAS: whatever y held is not looked at */
		scale(n, a, x, y);
		return;
	}
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		y[i] = a * x[i] + b * y[i];
}

static void diff(int64_t n, const float *x, const float *z, float *d)
{
#pragma omp simd
	for (int64_t i = 0; i < n; i++)
		d[i] = x[i] - z[i];
}

#define REDUCE(name, type) \
static void name(int64_t n, enum reduce op, const type *src, type *dst) \
{ \
	if (op == REDUCE_SUM) { \
		_Pragma("omp simd") \
		for (int64_t i = 0; i < n; i++) \
			dst[i] = dst[i] + src[i]; \
	} else if (op == REDUCE_MAX) { \
		_Pragma("omp simd") \
		for (int64_t i = 0; i < n; i++) \
			dst[i] = src[i] > dst[i] ? src[i] : dst[i]; \
	} else { \
		_Pragma("omp simd") \
		for (int64_t i = 0; i < n; i++) \
			dst[i] = src[i] < dst[i] ? src[i] : dst[i]; \
	} \
}
REDUCE(reduce_f32, float)
REDUCE(reduce_f64, double)
REDUCE(reduce_i64, int64_t)

static void reduce(int64_t n, enum dtype dtype, enum reduce op, const void *src, void *dst)
{
	switch (dtype) {
	case DTYPE_F32: reduce_f32(n, op, src, dst); break;
	case DTYPE_F64: reduce_f64(n, op, src, dst); break;
	case DTYPE_I64: reduce_i64(n, op, src, dst); break;
	}
}

static void adopt(int64_t n, const float *avg, float *z, float *x)
{
#pragma omp simd
	for (int64_t i = 0; i < n; i++) {
		float sum = z[i] + avg[i];

		z[i] = sum;
		x[i] = sum;
	}
}

static void merge(int64_t n, const float *avg, float *x, float *z, float *d)
{
#pragma omp simd
	for (int64_t i = 0; i < n; i++) {
		float mean = z[i] + avg[i];
		float here = x[i] + (avg[i] - d[i]);

		z[i] = mean;
		x[i] = here;
		d[i] = here - mean;
	}
}

/* Nesterov's step g' + mu v' and the plain v' are one formula with two weights. */
static void sgd(int64_t n, const struct hyper *h, const float *g, const float *v, const float *x, float *v_out, float *x_out)
{
	float lr = h->lr, mu = h->momentum, wd = h->weight_decay, of_g = h->nesterov ? 1 : 0, of_v = h->nesterov ? mu : 1;

	if (mu == 0) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			x_out[i] = x[i] - lr * (g[i] + wd * x[i]);
	} else if (h->first) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++) {
			float step = g[i] + wd * x[i];

			v_out[i] = step;
			x_out[i] = x[i] - lr * (of_g * step + of_v * step);
		}
	} else {
#pragma omp simd
		for (int64_t i = 0; i < n; i++) {
			float step = g[i] + wd * x[i];
			float velocity = mu * v[i] + step;

			v_out[i] = velocity;
			x_out[i] = x[i] - lr * (of_g * step + of_v * velocity);
		}
	}
}

static void adamw(int64_t n, const struct hyper *h, const float *g, const float *m, const float *s, const float *x, float *m_out,
                  float *s_out, float *x_out)
{
	float decay = (float)(1 - (double)h->lr * h->weight_decay), rate = h->lr / h->correct1, epsilon = h->epsilon;
	float beta1 = h->beta1, beta2 = h->beta2, rest1 = (float)(1 - (double)beta1), rest2 = (float)(1 - (double)beta2);
	float inverse = 1 / sqrtf(h->correct2);

#pragma omp simd
	for (int64_t i = 0; i < n; i++) {
		float first = beta1 * m[i] + rest1 * g[i];
		float second = beta2 * s[i] + rest2 * (g[i] * g[i]);
		float here = decay * x[i] - rate * first / (sqrtf(second) * inverse + epsilon);

		m_out[i] = first;
		s_out[i] = second;
		x_out[i] = here;
	}
}

extern const struct vec_kernels KERNEL(vec_kernels);
const struct vec_kernels KERNEL(vec_kernels) = {
	.scale = scale,
	.axpby = axpby,
	.diff = diff,
	.reduce = reduce,
	.adopt = adopt,
	.merge = merge,
	.sgd = sgd,
	.adamw = adamw,
};
