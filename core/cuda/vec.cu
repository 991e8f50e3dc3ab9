// Vector operations: each is bound by memory, so each is one pass, 16 bytes an access. Those that write parameters write the
// arena's bf16 copy in the same pass (cuda.h, struct shadow), or say that it is stale.
#include "../die.h"
#include "each.cuh"
#include "moments.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../formulas.h"

// The bf16 copy of what was just computed; half is NULL where there is none to keep.
template <int N> __device__ static inline void store_half(bf16 *half, int64_t i, const group<float, N> &x)
{
	group<bf16, N> h;

	if (!half)
		return;
	for (int j = 0; j < N; j++)
		h.v[j] = from_float<bf16>(x.v[j]);
	store(half + i, h);
}

static bf16 *half_out(struct stream *s, const float *x, int64_t n) { return (bf16 *)cuda_half_out(s->dev, x, n); }

struct scale_op : each_op {
	float a;
	const float *x;
	float *y;

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> v = load<N>(x + i);

		for (int j = 0; j < N; j++)
			v.v[j] *= a;
		store(y + i, v);
	}
};

static void vec_scale(struct stream *s, int64_t n, float a, const float *x, float *y)
{
	const struct scale_op f = { {}, a, x, y };

	cuda_written(s->dev, y);
	run_each(s, "scale", n, aligned(16, x, y), f);
}

struct axpby_op : each_op {
	float a, b;
	const float *x;
	float *y;

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> v = load<N>(x + i), w = load<N>(y + i);

		for (int j = 0; j < N; j++)
			w.v[j] = a * v.v[j] + b * w.v[j];
		store(y + i, w);
	}
};

static void vec_axpby(struct stream *s, int64_t n, float a, const float *x, float b, float *y)
{
	const struct axpby_op f = { {}, a, b, x, y };

	if (b == 0) {                   // as BLAS: whatever y held is not looked at
		vec_scale(s, n, a, x, y);
		return;
	}
	cuda_written(s->dev, y);
	run_each(s, "axpby", n, aligned(16, x, y), f);
}

struct diff_op : each_op {
	const float *x, *z;
	float *d;

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> v = load<N>(x + i), w = load<N>(z + i);

		for (int j = 0; j < N; j++)
			v.v[j] -= w.v[j];
		store(d + i, v);
	}
};

static void vec_diff(struct stream *s, int64_t n, const float *x, const float *z, float *d)
{
	const struct diff_op f = { {}, x, z, d };

	cuda_written(s->dev, d);
	run_each(s, "diff", n, aligned(16, x, z, d), f);
}

template <class T, enum reduce OP> struct reduce_op : each_op {
	enum { N = 16 / sizeof(T) };

	const T *src;
	T *dst;

	template <int M> __device__ void at(int64_t i) const
	{
		group<T, M> a = load<M>(src + i), b = load<M>(dst + i);

		for (int j = 0; j < M; j++)
			b.v[j] = OP == REDUCE_SUM ? b.v[j] + a.v[j] :
			         (OP == REDUCE_MAX ? a.v[j] > b.v[j] : a.v[j] < b.v[j]) ? a.v[j] : b.v[j];
		store(dst + i, b);
	}
};

template <class T, enum reduce OP> static void run_reduce(struct stream *s, int64_t n, const void *src, void *dst)
{
	const struct reduce_op<T, OP> f = { {}, (const T *)src, (T *)dst };

	run_each(s, "reduce", n, aligned(16, src, dst), f);
}

template <class T> static void reduce_type(struct stream *s, int64_t n, enum reduce op, const void *src, void *dst)
{
	switch (op) {
	case REDUCE_SUM: run_reduce<T, REDUCE_SUM>(s, n, src, dst); break;
	case REDUCE_MAX: run_reduce<T, REDUCE_MAX>(s, n, src, dst); break;
	case REDUCE_MIN: run_reduce<T, REDUCE_MIN>(s, n, src, dst); break;
	}
}

static void vec_reduce(struct stream *s, int64_t n, enum dtype dtype, enum reduce op, const void *src, void *dst)
{
	CHECK(dtype != DTYPE_BF16);
	cuda_written(s->dev, dst);
	switch (dtype) {
	case DTYPE_F32: reduce_type<float>(s, n, op, src, dst); break;
	case DTYPE_F64: reduce_type<double>(s, n, op, src, dst); break;
	case DTYPE_I64: reduce_type<int64_t>(s, n, op, src, dst); break;
	case DTYPE_BF16: break;
	}
}

struct adopt_op : each_op {
	const float *avg;
	float *z, *x;
	bf16 *half;

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> a = load<N>(avg + i), v = load<N>(z + i);

		for (int j = 0; j < N; j++)
			v.v[j] += a.v[j];
		store(z + i, v);
		store(x + i, v);
		store_half(half, i, v);
	}
};

static void vec_adopt(struct stream *s, int64_t n, const float *avg, float *z, float *x)
{
	const struct adopt_op f = { {}, avg, z, x, half_out(s, x, n) };

	cuda_written(s->dev, z);
	run_each(s, "adopt", n, aligned(16, avg, z, x) && aligned(8, f.half), f);
}

struct merge_op : each_op {
	const float *avg;
	float *x, *z, *d;
	bf16 *half;

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> a = load<N>(avg + i), here = load<N>(x + i), mean = load<N>(z + i), apart = load<N>(d + i);

		for (int j = 0; j < N; j++)
			merge_step(a.v[j], &here.v[j], &mean.v[j], &apart.v[j]);
		store(x + i, here);
		store(z + i, mean);
		store(d + i, apart);
		store_half(half, i, here);
	}
};

static void vec_merge(struct stream *s, int64_t n, const float *avg, float *x, float *z, float *d)
{
	const struct merge_op f = { {}, avg, x, z, d, half_out(s, x, n) };

	cuda_written(s->dev, z);
	cuda_written(s->dev, d);
	run_each(s, "merge", n, aligned(16, avg, x, z, d) && aligned(8, f.half), f);
}

// The hyper block is read by every thread, where the kernel runs: a captured step sees each step's own.
struct sgd_op : each_op {
	const struct hyper *hyper;
	const float *g, *v, *x;
	float *v_out, *x_out;
	bf16 *half;
	struct sgd_factors factors = {};
	bool first = false;

	__device__ void begin()
	{
		factors = sgd_factors_of(hyper);
		first = hyper->first;
	}

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> gradient = load<N>(g + i), here = load<N>(x + i), velocity;

		for (int j = 0; j < N; j++)
			gradient.v[j] = sgd_gradient(&factors, gradient.v[j], here.v[j]);
		if (factors.momentum == 0) {
			for (int j = 0; j < N; j++)
				here.v[j] = sgd_plain(&factors, here.v[j], gradient.v[j]);
		} else {
			velocity = gradient;
			if (!first) {
				velocity = load<N>(v + i);
				for (int j = 0; j < N; j++)
					velocity.v[j] = sgd_velocity(&factors, velocity.v[j], gradient.v[j]);
			}
			for (int j = 0; j < N; j++)
				here.v[j] = sgd_step(&factors, here.v[j], gradient.v[j], velocity.v[j]);
			store(v_out + i, velocity);
		}
		store(x_out + i, here);
		store_half(half, i, here);
	}
};

static void vec_sgd(struct stream *s, int64_t n, const struct hyper *h, const float *g, const float *v, const float *x, float *v_out,
                    float *x_out)
{
	const struct sgd_op f = { {}, h, g, v, x, v_out, x_out, half_out(s, x_out, n) };

	run_each(s, "sgd", n, aligned(16, g, v, x, v_out, x_out) && aligned(8, f.half), f);
}

struct adamw_op : each_op {
	const struct hyper *hyper;
	const float *g, *m, *s, *x;
	float *m_out, *s_out, *x_out;
	bf16 *half;
	struct adamw_factors factors = {};

	__device__ void begin() { factors = adamw_factors_of(hyper); }

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> gradient = load<N>(g + i), first = load<N>(m + i), second = load<N>(s + i), here = load<N>(x + i);

		for (int j = 0; j < N; j++) {
			first.v[j] = adamw_first(&factors, first.v[j], gradient.v[j]);
			second.v[j] = adamw_second(&factors, second.v[j], gradient.v[j]);
			here.v[j] = adamw_step(&factors, here.v[j], first.v[j], second.v[j]);
		}
		store(m_out + i, first);
		store(s_out + i, second);
		store(x_out + i, here);
		store_half(half, i, here);
	}
};

static void vec_adamw(struct stream *s, int64_t n, const struct hyper *h, const float *g, const float *m, const float *v,
                      const float *x, float *m_out, float *v_out, float *x_out)
{
	const struct adamw_op f = { {}, h, g, m, v, x, m_out, v_out, x_out, half_out(s, x_out, n) };

	run_each(s, "adamw", n, aligned(16, g, m, v, x, m_out, v_out, x_out) && aligned(8, f.half), f);
}

struct half_op : each_op {
	const float *x;
	bf16 *half;

	template <int N> __device__ void at(int64_t i) const { store_half(half, i, load<N>(x + i)); }
};

void cuda_to_half(struct stream *s, int64_t n, const float *x, void *half)
{
	const struct half_op f = { {}, x, (bf16 *)half };

	run_each(s, "to_half", n, aligned(16, x) && aligned(8, half), f);
}

const struct vec_ops cuda_vec_ops = {
	vec_scale, vec_axpby, vec_diff, vec_reduce, vec_adopt, vec_merge, vec_sgd, vec_adamw, clip_run,
};
