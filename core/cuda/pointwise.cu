// ReLU, addition, dropout: element by element, one pass each (each.cuh).
#include "../die.h"
#include "../rng.h"
#include "each.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../formulas.h"
#include "../philox.h"

// "0 where v <= 0" and not "v where v > 0": a NaN must get through to the loss, where it stops the run.
__device__ static inline float relu(float v) { return v <= 0 ? 0 : v; }

// An operation on activations of type T: an access is 16 bytes.
template <class T> struct activation_op : each_op {
	enum { N = 16 / sizeof(T) };
};

template <class T> struct relu_op : activation_op<T> {
	const T *x;
	T *y;

	template <int N> __device__ void at(int64_t i) const
	{
		group<T, N> v = load<N>(x + i);

		for (int j = 0; j < N; j++)
			v.v[j] = from_float<T>(relu(to_float(v.v[j])));
		store(y + i, v);
	}
};

template <class T> static void relu_fwd(struct stream *s, int64_t n, const void *x, void *y)
{
	struct relu_op<T> f;

	f.x = (const T *)x;
	f.y = (T *)y;
	run_each(s, "relu_fwd", n, aligned(16, x, y), f);
}

void cuda_relu_fwd(struct stream *s, int64_t n, const void *x, void *y) { ACTIVATION(s, relu_fwd, n, x, y); }

template <class T> struct mask_op : activation_op<T> {
	const T *y, *dy;
	T *dx;
	bool accumulate;

	template <int N> __device__ void at(int64_t i) const
	{
		group<T, N> out = load<N>(y + i), g = load<N>(dy + i), sum;

		if (accumulate)
			sum = load<N>(dx + i);
		for (int j = 0; j < N; j++) {
			float v = to_float(out.v[j]) > 0 ? to_float(g.v[j]) : 0;

			g.v[j] = from_float<T>(accumulate ? to_float(sum.v[j]) + v : v);
		}
		store(dx + i, g);
	}
};

template <class T> static void relu_bwd(struct stream *s, int64_t n, const void *y, const void *dy, void *dx, bool accumulate)
{
	struct mask_op<T> f;

	f.y = (const T *)y;
	f.dy = (const T *)dy;
	f.dx = (T *)dx;
	f.accumulate = accumulate;
	run_each(s, "relu_bwd", n, aligned(16, y, dy, dx), f);
}

void cuda_relu_bwd(struct stream *s, int64_t n, const void *y, const void *dy, void *dx, bool accumulate)
{
	ACTIVATION(s, relu_bwd, n, y, dy, dx, accumulate);
}

template <class T> struct add_op : activation_op<T> {
	const T *a, *b;
	T *y;
	bool with_relu;

	template <int N> __device__ void at(int64_t i) const
	{
		group<T, N> v = load<N>(a + i), w = load<N>(b + i);

		for (int j = 0; j < N; j++) {
			float sum = to_float(v.v[j]) + to_float(w.v[j]);

			v.v[j] = from_float<T>(with_relu ? relu(sum) : sum);
		}
		store(y + i, v);
	}
};

template <class T> static void add(struct stream *s, int64_t n, const void *a, const void *b, bool with_relu, void *y)
{
	struct add_op<T> f;

	f.a = (const T *)a;
	f.b = (const T *)b;
	f.y = (T *)y;
	f.with_relu = with_relu;
	run_each(s, "add", n, aligned(16, a, b, y), f);
}

void cuda_add_fwd(struct stream *s, int64_t n, const void *a, const void *b, bool with_relu, void *y)
{
	ACTIVATION(s, add, n, a, b, with_relu, y);
}

void cuda_grad_add(struct stream *s, int64_t n, const void *dy, void *dx) { ACTIVATION(s, add, n, dx, dy, false, dx); }

// Element i has word i of the random stream (seed, dropout, step, layer), which is word i % 4 of Philox's block i / 4. The step is
// read from device memory, so that a captured pass draws a new mask each time.
template <class T> struct dropout_op : activation_op<T> {
	const T *x;
	T *y;
	const int64_t *step;
	uint32_t layer, limit, key[2], counter[4];
	float scale;

	__device__ void begin() { philox_counter((uint64_t)*step, layer, 0, counter); }

	template <int N> __device__ void at(int64_t i) const
	{
		group<T, N> v = load<N>(x + i);
		uint32_t at[4] = { 0, counter[1], counter[2], counter[3] }, word[4];

		for (int j = 0; j < N; j++) {
			if (j % 4 == 0) {
				at[0] = (uint32_t)((i + j) / 4);
				philox_block(at, key, word);
			}
			v.v[j] = from_float<T>(dropout_value(word[N > 1 ? j % 4 : i % 4], limit, scale, to_float(v.v[j])));
		}
		store(y + i, v);
	}
};

template <class T>
static void dropout(struct stream *s, int64_t n, float p, uint64_t seed, const int64_t *step, uint32_t layer, const void *x, void *y)
{
	struct dropout_op<T> f;

	CHECK(p >= 0 && p < 1);
	f.x = (const T *)x;
	f.y = (T *)y;
	f.step = step;
	f.layer = layer;
	f.limit = dropout_limit(p);
	f.scale = dropout_scale(p);
	philox_key(seed, RNG_DROPOUT, f.key);
	philox_counter(0, layer, 0, f.counter);
	run_each(s, "dropout", n, aligned(16, x, y), f);
}

void cuda_dropout(struct stream *s, int64_t n, float p, uint64_t seed, const int64_t *step, uint32_t layer, const void *x, void *y)
{
	ACTIVATION(s, dropout, n, p, seed, step, layer, x, y);
}
