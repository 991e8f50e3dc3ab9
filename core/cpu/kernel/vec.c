/* Loops over vectors. `omp simd` promises what device.h does: outputs are inputs, or do not overlap them. */
#include "kernels.h"
#include "simd.h"

#define HOST_DEVICE INLINE
#include "../../formulas.h"

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
	case DTYPE_BF16: break;         /* the caller does not let it through */
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
		float here = x[i], mean = z[i], apart = d[i];

		merge_step(avg[i], &here, &mean, &apart);
		z[i] = mean;
		x[i] = here;
		d[i] = apart;
	}
}

static void sgd(int64_t n, const struct hyper *h, const float *g, const float *v, const float *x, float *v_out, float *x_out)
{
	const struct sgd_factors f = sgd_factors_of(h);

	if (f.momentum == 0) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++)
			x_out[i] = sgd_plain(&f, x[i], sgd_gradient(&f, g[i], x[i]));
	} else if (h->first) {
#pragma omp simd
		for (int64_t i = 0; i < n; i++) {
			float gradient = sgd_gradient(&f, g[i], x[i]);

			v_out[i] = gradient;
			x_out[i] = sgd_step(&f, x[i], gradient, gradient);
		}
	} else {
#pragma omp simd
		for (int64_t i = 0; i < n; i++) {
			float gradient = sgd_gradient(&f, g[i], x[i]), velocity = sgd_velocity(&f, v[i], gradient);

			v_out[i] = velocity;
			x_out[i] = sgd_step(&f, x[i], gradient, velocity);
		}
	}
}

static void adamw(int64_t n, const struct hyper *h, const float *g, const float *m, const float *s, const float *x, float *m_out,
                  float *s_out, float *x_out)
{
	const struct adamw_factors f = adamw_factors_of(h);

#pragma omp simd
	for (int64_t i = 0; i < n; i++) {
		float first = adamw_first(&f, m[i], g[i]), second = adamw_second(&f, s[i], g[i]);
		float here = adamw_step(&f, x[i], first, second);

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
