// Element-wise operations: a struct with the operands and `at<N>(i)`, which does elements i … i + N - 1, is run over a vector by
// run_each(). Four floats move in one 16-byte access where all operands are aligned for it, else one by one.
#ifndef COCOD_EACH_CUH
#define COCOD_EACH_CUH

#include "launch.cuh"

// N elements that move in one access.
template <class T, int N> struct alignas(N * sizeof(T)) group {
	T v[N];
};

template <int N, class T> __device__ static inline group<T, N> load(const T *p) { return *(const group<T, N> *)p; }
template <int N, class T> __device__ static inline void store(T *p, const group<T, N> &g) { *(group<T, N> *)p = g; }

// What an operation may define again: how many elements go in one step, and what is worked out once, before the first.
struct each_op {
	enum { N = 4 };

	__device__ void begin() { }
};

enum { EACH_THREADS = 256, EACH_BLOCKS = 32 };          // blocks: at most so many for each SM

template <class F> __global__ void __launch_bounds__(EACH_THREADS) each(int64_t n, bool wide, F f)
{
	int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, stride = (int64_t)gridDim.x * blockDim.x;
	int64_t groups = wide ? n / F::N : 0;

	f.begin();
	for (int64_t i = first; i < groups; i += stride)
		f.template at<F::N>(F::N * i);
	for (int64_t i = F::N * groups + first; i < n; i += stride)
		f.template at<1>(i);
}

// Are all these addresses multiples of `bytes`? NULL is.
template <class... P> static inline bool aligned(uintptr_t bytes, P... p) { return (((uintptr_t)p | ...) & (bytes - 1)) == 0; }

// wide: every operand is aligned for N elements.
template <class F> static void run_each(struct stream *s, const char *what, int64_t n, bool wide, const F &f)
{
	if (n > 0)
		launch(s, what, blocks_for(wide ? n / F::N + 1 : n, EACH_THREADS, EACH_BLOCKS * s->dev->processors), EACH_THREADS, each<F>,
		       n, wide, f);
}

#endif
