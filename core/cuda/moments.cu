// Gaussian-k's threshold, and clipping by the norm. Sums are in double and in an order that depends on n alone, not on the GPU: each
// thread adds every so many elements, each block its threads, the last block all blocks.
#include "each.cuh"
#include "moments.cuh"
#include "select.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../formulas.h"

enum { SUM_THREADS = 256, SUM_BLOCKS = 2 * SUM_THREADS };

// In the stream's scratch; the first three are zero at the start.
struct moments_state {
	uint32_t ticket;
	uint32_t reach[BOUND_TRIES];
	float bound;
	double sum, squares;
	double part[SUM_BLOCKS][2];
};

static struct moments_state *moments_begin(struct stream *s)
{
	struct moments_state *state = (struct moments_state *)cuda_scratch(s, sizeof(*state));

	cuda_mem_ops.zero(s, state, offsetof(struct moments_state, bound));
	return state;
}

// The sums of a and of b over the block, for its thread 0.
__device__ static void block_sums(double *a, double *b)
{
	__shared__ double sum[2][SUM_THREADS];

	__syncthreads();
	sum[0][threadIdx.x] = *a;
	sum[1][threadIdx.x] = *b;
	for (unsigned half = SUM_THREADS / 2; half > 0; half /= 2) {
		__syncthreads();
		if (threadIdx.x < half) {
			sum[0][threadIdx.x] += sum[0][threadIdx.x + half];
			sum[1][threadIdx.x] += sum[1][threadIdx.x + half];
		}
	}
	*a = sum[0][0];
	*b = sum[1][0];
}

__device__ static inline float sum_at(const float *x, const float *y, int64_t i) { return y ? x[i] + y[i] : x[i]; }

// z is for normal_bound() alone.
__global__ void __launch_bounds__(SUM_THREADS) moments(struct moments_state *state, int64_t n, const float *x, const float *y, double z)
{
	int64_t stride = (int64_t)gridDim.x * SUM_THREADS;
	double sum = 0, squares = 0;

	for (int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x; i < n; i += stride) {
		double v = sum_at(x, y, i);

		sum += v;
		squares += v * v;
	}
	block_sums(&sum, &squares);
	if (threadIdx.x == 0) {
		state->part[blockIdx.x][0] = sum;
		state->part[blockIdx.x][1] = squares;
	}
	if (!last_block(&state->ticket))
		return;
	sum = squares = 0;
	for (unsigned b = threadIdx.x; b < gridDim.x; b += SUM_THREADS) {
		sum += state->part[b][0];
		squares += state->part[b][1];
	}
	block_sums(&sum, &squares);
	if (threadIdx.x == 0) {
		state->sum = sum;
		state->squares = squares;
		state->bound = normal_bound_of(n, sum, squares, z);
	}
}

static void moments_run(struct stream *s, struct moments_state *state, int64_t n, const float *x, const float *y, double z)
{
	launch(s, "moments", blocks_for(n, SUM_THREADS, SUM_BLOCKS), SUM_THREADS, moments, state, n, x, y, z);
}

// ---- the threshold ----

__global__ void __launch_bounds__(SUM_THREADS) reach(struct moments_state *state, int64_t n, int64_t k, const float *x, const float *y,
                                                     float *least)
{
	int64_t stride = (int64_t)gridDim.x * SUM_THREADS;
	float bound[BOUND_TRIES];
	uint32_t count[BOUND_TRIES] = {};

	for (int t = 0; t < BOUND_TRIES; t++)
		bound[t] = bound_try(state->bound, t);
	for (int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x; i < n; i += stride) {
		float m = fabsf(sum_at(x, y, i));

		for (int t = 0; t < BOUND_TRIES; t++)
			count[t] += m >= bound[t];
	}
	for (int t = 0; t < BOUND_TRIES; t++) {
		uint32_t all = __reduce_add_sync(ALL_LANES, count[t]);

		if (threadIdx.x % LANES == 0 && all)
			atomicAdd(&state->reach[t], all);
	}
	if (last_block(&state->ticket) && threadIdx.x == 0) {
		int64_t reached[BOUND_TRIES];

		for (int t = 0; t < BOUND_TRIES; t++)
			reached[t] = state->reach[t];
		*least = bound_corrected(bound[0], reached, k);
	}
}

void normal_bound_run(struct stream *s, int64_t n, int64_t k, const float *x, const float *y, float *least)
{
	struct moments_state *state;

	if (k == n) {
		cuda_mem_ops.zero(s, least, sizeof(*least));
		return;
	}
	state = moments_begin(s);
	moments_run(s, state, n, x, y, normal_quantile((double)k / (double)n));
	launch(s, "reach", blocks_for(n, SUM_THREADS, 8 * s->dev->processors), SUM_THREADS, reach, state, n, k, x, y, least);
}

// ---- clipping ----

struct clip_op : each_op {
	const struct moments_state *state;
	float most;
	const float *x;
	float *y;
	float factor;

	__device__ void begin()
	{
		double norm = sqrt(state->squares);

		factor = norm > most ? (float)(most / norm) : 1;
	}

	template <int N> __device__ void at(int64_t i) const
	{
		group<float, N> v = load<N>(x + i);

		for (int j = 0; j < N; j++)
			v.v[j] *= factor;
		store(y + i, v);
	}
};

void clip_run(struct stream *s, int64_t n, float most, const float *x, float *y)
{
	struct moments_state *state = moments_begin(s);
	const struct clip_op f = { {}, state, most, x, y, 1 };

	moments_run(s, state, n, x, NULL, 0);
	cuda_written(s->dev, y);
	run_each(s, "clip", n, aligned(16, x, y), f);
}
