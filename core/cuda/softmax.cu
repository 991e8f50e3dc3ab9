// Softmax cross-entropy: a warp a row. Everything is relative to the row's largest value, so that no exp overflows. Each row's
// loss goes to scratch; a second kernel, one block, adds them in a fixed order to the statistics.
#include <math.h>

#include "launch.cuh"

enum { WARP = 32, ROWS = 8, ADD_THREADS = 256 };        // rows: of a block

// What a row adds to struct loss_stats; a row that is padding has count 0.
struct row_stats {
	double loss;
	int correct, count;
};

// The largest value and where it is, of equals the first, over the lanes.
__device__ static inline void warp_largest(float *most, int *best)
{
	for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
		float other = __shfl_xor_sync(0xffffffff, *most, lanes);
		int place = __shfl_xor_sync(0xffffffff, *best, lanes);

		if (other > *most || (other == *most && place < *best)) {
			*most = other;
			*best = place;
		}
	}
}

__device__ static inline float warp_sum(float v)
{
	for (int lanes = WARP / 2; lanes > 0; lanes /= 2)
		v += __shfl_xor_sync(0xffffffff, v, lanes);
	return v;
}

// A label that is no class makes the loss a NaN, which stops the run.
template <class T> __device__ static inline double row_loss(const T *x, int classes, int label, float most, float sum)
{
	return label < classes ? log((double)sum) + ((double)most - (double)to_float(x[label])) : NAN;
}

template <class T> __global__ void __launch_bounds__(WARP * ROWS)
softmax_rows(int n, int classes, const T *x, const int32_t *label, float scale, T *dx, struct row_stats *row)
{
	int lane = (int)threadIdx.x, r = (int)(blockIdx.x * ROWS + threadIdx.y), best = 0;
	float most, sum = 0;

	if (r >= n)
		return;                 // the whole warp does
	x += (int64_t)r * classes;
	dx += dx ? (int64_t)r * classes : 0;
	if (label[r] < 0) {
		for (int c = lane; dx && c < classes; c += WARP)
			dx[c] = from_float<T>(0);
		if (lane == 0)
			row[r] = { 0, 0, 0 };
		return;
	}
	most = to_float(x[0]);          // every lane begins here: if it is a NaN, it stays
	for (int c = lane; c < classes; c += WARP) {
		float v = to_float(x[c]);

		if (v > most) {
			most = v;
			best = c;
		}
	}
	warp_largest(&most, &best);
	for (int c = lane; c < classes; c += WARP)
		sum += expf(to_float(x[c]) - most);
	sum = warp_sum(sum);
	for (int c = lane; dx && c < classes; c += WARP)
		dx[c] = from_float<T>(scale * (expf(to_float(x[c]) - most) / sum - (c == label[r] ? 1.0f : 0.0f)));
	if (lane == 0)
		row[r] = { row_loss(x, classes, label[r], most, sum), best == label[r], 1 };
}

__global__ static void __launch_bounds__(ADD_THREADS) softmax_add(int n, const struct row_stats *row, struct loss_stats *stats)
{
	__shared__ struct row_stats shared[ADD_THREADS];
	struct row_stats sum = { 0, 0, 0 };

	for (int r = (int)threadIdx.x; r < n; r += ADD_THREADS) {
		sum.loss += row[r].loss;
		sum.correct += row[r].correct;
		sum.count += row[r].count;
	}
	shared[threadIdx.x] = sum;
	for (unsigned half = ADD_THREADS / 2; half > 0; half /= 2) {
		__syncthreads();
		if (threadIdx.x < half) {
			shared[threadIdx.x].loss += shared[threadIdx.x + half].loss;
			shared[threadIdx.x].correct += shared[threadIdx.x + half].correct;
			shared[threadIdx.x].count += shared[threadIdx.x + half].count;
		}
	}
	if (threadIdx.x == 0) {
		stats->loss += shared[0].loss;
		stats->correct += shared[0].correct;
		stats->count += shared[0].count;
	}
}

template <class T>
static void softmax(struct stream *s, int n, int classes, const void *x, const int32_t *label, float scale, void *dx,
                    struct loss_stats *stats)
{
	struct row_stats *row = (struct row_stats *)cuda_scratch(s, sizeof(*row) * (size_t)n);

	launch(s, "softmax_xent", blocks_for(n, ROWS, INT32_MAX), dim3(WARP, ROWS), softmax_rows<T>, n, classes, (const T *)x, label,
	       scale, (T *)dx, row);
	launch(s, "softmax_xent: add rows", 1, ADD_THREADS, softmax_add, n, row, stats);
}

void cuda_softmax_xent(struct stream *s, int n, int classes, const void *x, const int32_t *label, float scale, void *dx,
                       struct loss_stats *stats)
{
	ACTIVATION(s, softmax, n, classes, x, label, scale, dx, stats);
}
