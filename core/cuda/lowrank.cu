// Products of a large matrix with few vectors, bound by reading the matrix: each kernel takes four vectors in one pass over it. All
// sums are taken in an order that depends on the sizes alone.
#include "launch.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../formulas.h"

enum { WARP = 32, THREADS = 256, VECTORS = 4, STRIPS = 8, GRAM_THREADS = 512, MOST_Y = 65535 };

template <class T> __device__ static inline T warp_sum(T v)
{
	for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
		v += __shfl_xor_sync(0xffffffff, v, lanes);
	return v;
}

// Of all threads of a block of N; every thread gets it.
template <int N, class T> __device__ static inline T block_sum(T v)
{
	__shared__ T of_warp[N / WARP];
	T sum = 0;

	v = warp_sum(v);
	__syncthreads();                // of_warp may still be read from the call before
	if (threadIdx.x % WARP == 0)
		of_warp[threadIdx.x / WARP] = v;
	__syncthreads();
	for (int w = 0; w < N / WARP; w++)
		sum += of_warp[w];
	return sum;
}

// A block a row.
__global__ void __launch_bounds__(THREADS)
lowrank_dots(int64_t rows, int64_t cols, int rank, const float *in, float *m, const float *q, float *p)
{
	for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
		const float *add = in + row * cols;
		float *own = m + row * cols;

		for (int first = 0; first < rank; first += VECTORS) {
			float sum[VECTORS] = { 0 };

			for (int64_t j = threadIdx.x; j < cols; j += THREADS) {
				float v = own[j];

				if (first == 0)
					own[j] = v += add[j];
				for (int k = 0; k < VECTORS; k++)
					if (first + k < rank)
						sum[k] += v * q[(first + k) * cols + j];
			}
			for (int k = 0; k < VECTORS && first + k < rank; k++) {
				float total = block_sum<THREADS>(sum[k]);

				if (threadIdx.x == 0)
					p[(first + k) * rows + row] = total;
			}
		}
	}
}

static void lowrank_right(struct stream *s, int64_t rows, int64_t cols, int rank, const float *in, float *m, const float *q, float *p)
{
	launch(s, "lowrank right", blocks_for(rows, 1, INT32_MAX), THREADS, lowrank_dots, rows, cols, rank, in, m, q, p);
}

// A block a warp's width of columns and four vectors. Each of its warps takes every STRIPS-th row; then they are added up.
__global__ void __launch_bounds__(WARP * STRIPS)
lowrank_columns(int64_t rows, int64_t cols, int rank, const float *m, const float *p, float *q)
{
	__shared__ float part[VECTORS][STRIPS][WARP];
	int64_t j = (int64_t)blockIdx.x * WARP + threadIdx.x;
	int first = (int)blockIdx.y * VECTORS;
	float sum[VECTORS] = { 0 };

	for (int64_t i = threadIdx.y; i < rows && j < cols; i += STRIPS) {
		float v = m[i * cols + j];

		for (int k = 0; k < VECTORS; k++)
			if (first + k < rank)
				sum[k] += v * p[(first + k) * rows + i];
	}
	for (int k = 0; k < VECTORS; k++)
		part[k][threadIdx.y][threadIdx.x] = sum[k];
	__syncthreads();
	if (threadIdx.y < VECTORS && first + (int)threadIdx.y < rank && j < cols) {
		float total = 0;

		for (int strip = 0; strip < STRIPS; strip++)
			total += part[threadIdx.y][strip][threadIdx.x];
		q[(first + (int)threadIdx.y) * cols + j] = total;
	}
}

static void lowrank_left(struct stream *s, int64_t rows, int64_t cols, int rank, const float *m, const float *p, float *q)
{
	dim3 grid(blocks_for(cols, WARP, INT32_MAX), blocks_for(rank, VECTORS, MOST_Y));

	launch(s, "lowrank left", grid, dim3(WARP, STRIPS), lowrank_columns, rows, cols, rank, m, p, q);
}

// ---- Gram-Schmidt ----

__device__ static inline double dot(int64_t n, const float *x, const float *y)
{
	double sum = 0;

	for (int64_t i = threadIdx.x; i < n; i += GRAM_THREADS)
		sum += (double)x[i] * y[i];
	return block_sum<GRAM_THREADS>(sum);
}

// One block, as core/cpu/reference_lowrank.c has it. An element belongs to one thread throughout.
__global__ void __launch_bounds__(GRAM_THREADS) lowrank_gram(int64_t n, int rank, float *p)
{
	for (int k = 0; k < rank; k++) {
		float *v = p + k * n;
		double left;

		for (int attempt = 0;; attempt++) {
			double before = dot(n, v, v);

			for (int l = 0; l < 2 * k; l++) {
				const float *other = p + l % k * n;
				double along = dot(n, other, v);

				for (int64_t i = threadIdx.x; i < n; i += GRAM_THREADS)
					v[i] = (float)(v[i] - along * other[i]);
			}
			left = dot(n, v, v);
			if (!lowrank_depends(left, before))
				break;
			for (int64_t i = threadIdx.x; i < n; i += GRAM_THREADS)
				v[i] = lowrank_random(k, attempt, i);
		}
		left = 1 / sqrt(left);
		for (int64_t i = threadIdx.x; i < n; i += GRAM_THREADS)
			v[i] = (float)(v[i] * left);
	}
}

static void lowrank_orthonormalise(struct stream *s, int64_t rows, int rank, float *p)
{
	launch(s, "lowrank orthonormalise", 1, GRAM_THREADS, lowrank_gram, rows, rank, p);
}

// ---- and back ----

__global__ void __launch_bounds__(THREADS) lowrank_outer(int64_t rows, int64_t cols, int rank, const float *p, const float *q,
                                                         const float *own, float *m, float *out)
{
	int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;

	for (int64_t i = blockIdx.y; i < rows && j < cols; i += gridDim.y) {
		float sum = 0, sent = 0;

		for (int k = 0; k < rank; k++) {
			float left = p[k * rows + i];

			sum += left * q[k * cols + j];
			sent += left * own[k * cols + j];
		}
		out[i * cols + j] = sum;
		m[i * cols + j] -= sent;
	}
}

static void lowrank_expand(struct stream *s, int64_t rows, int64_t cols, int rank, const float *p, const float *q, const float *own,
                           float *m, float *out)
{
	dim3 grid(blocks_for(cols, THREADS, INT32_MAX), blocks_for(rows, 1, MOST_Y));

	cuda_written(s->dev, out);
	launch(s, "lowrank expand", grid, THREADS, lowrank_outer, rows, cols, rank, p, q, own, m, out);
}

const struct lowrank_ops cuda_lowrank_ops = { lowrank_right, lowrank_left, lowrank_orthonormalise, lowrank_expand };
