// Exact top-k with error feedback, in about one pass over memory (12 bytes an element, 45 µs for 11 million on an H100):
//
//   1. A sample of 65536 sums gives a magnitude that, almost surely, a little more than k elements reach.
//   2. One pass forms acc = residual + in, and lists the candidates that reach it.
//   3. The exact cut is sought among the candidates, of which there are hardly more than k (select.cuh).
//
// If luck or an odd distribution (all equal, everything large where nobody sampled) gives fewer than k candidates or more than
// there is room for, the cut is sought in acc itself: five more passes, always right. Short vectors, which the caches hold, and
// large k go that way from the start.
#include "each.cuh"
#include "select.cuh"
#include "topk.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../formulas.h"

enum {
	SAMPLES = TOPK_SAMPLES, SAMPLE_THREADS = 1024, SAMPLE_BATCH = 8,
	SHORTEST = 4 * SAMPLES,         // vectors below are not sampled
	FEWEST = 4,                     // nor are they if a larger part than 1/FEWEST is wanted: then a list is no saving
	UPPER_SHIFT = 18, LOWER_SHIFT = 5,      // the bound's 31 bits: 13 of the first round, 13 of the second, 5 left at 0
	FILTER_THREADS = 256, FILTER_BLOCKS = 32,       // blocks: at most so many for each SM
	ROWS = TILE / (4 * LANES),
};

static bool is_sampled(int64_t n, int64_t k) { return n >= SHORTEST && k <= n / FEWEST; }

// The rank in the sample of a magnitude that at least k elements reach, but for some four standard deviations of bad luck.
static double rank_for(int64_t n, int64_t k)
{
	double expected = (double)k * SAMPLES / (double)n;

	return floor(expected + 4 * sqrt(expected) + 2);
}

// Room for the candidates of that rank, and for six standard deviations more.
static int64_t room_for(int64_t n, int64_t k)
{
	double rank = rank_for(n, k), most = (rank + 6 * sqrt(rank) + 4) * (double)n / SAMPLES;

	return most < (double)n ? (int64_t)most : n;
}

static int64_t tiles_of(int64_t n) { return (n + TILE - 1) / TILE; }

size_t topk_bytes(int64_t n, int64_t k)
{
	size_t list = 0, sample = SAMPLES * sizeof(uint32_t);

	// The sample is taken and done with before the candidates come: they share the memory.
	if (n >= SHORTEST) {
		list = (size_t)room_for(n, k < n / FEWEST ? k : n / FEWEST) * sizeof(struct sparse);
		list = list > sample ? list : sample;
	}
	return select_bytes(tiles_of(n), list);
}

// ---- the sample ----

// The magnitude of this rank among `value`, of which count[] is the histogram by the upper 13 bits; but for its last 5 bits. For the
// one block that is left.
__device__ static uint32_t bound_of(const uint32_t *value, const uint32_t *upper, uint32_t *lower, uint32_t rank)
{
	uint32_t bits = find_bin<SAMPLE_BINS, SAMPLE_THREADS>(upper, &rank) << UPPER_SHIFT;

	for (int b = threadIdx.x; b < SAMPLE_BINS; b += SAMPLE_THREADS)
		lower[b] = 0;
	__syncthreads();
	for (int i = 0; i < SAMPLES; i += SAMPLE_BATCH * 4 * SAMPLE_THREADS) {
		group<uint32_t, 4> v[SAMPLE_BATCH];

		for (int b = 0; b < SAMPLE_BATCH; b++)
			v[b] = load<4>(value + i + 4 * (b * SAMPLE_THREADS + threadIdx.x));
		for (int b = 0; b < SAMPLE_BATCH; b++)
			for (int j = 0; j < 4; j++)
				if (v[b].v[j] - bits < 1u << UPPER_SHIFT)
					atomicAdd(&lower[(v[b].v[j] - bits) >> LOWER_SHIFT], 1u);
	}
	__syncthreads();
	return bits + (find_bin<SAMPLE_BINS, SAMPLE_THREADS>(lower, &rank) << LOWER_SHIFT);
}

// One sample a thread; the last block finds the bound. It is at least 1: zeros are no candidates.
__global__ void __launch_bounds__(SAMPLE_THREADS) sample(struct selection s, const float *in, uint32_t *value, uint32_t rank)
{
	__shared__ uint32_t count[SAMPLE_BINS];
	int i = blockIdx.x * SAMPLE_THREADS + threadIdx.x;
	int64_t at = sample_place(s.n, SAMPLES, i);
	uint32_t bits = magnitude(in ? s.vector[at] + in[at] : s.vector[at]);

	for (int b = threadIdx.x; b < SAMPLE_BINS; b += SAMPLE_THREADS)
		count[b] = 0;
	__syncthreads();
	value[i] = bits;
	atomicAdd(&count[bits >> UPPER_SHIFT], 1u);
	__syncthreads();
	for (int b = threadIdx.x; b < SAMPLE_BINS; b += SAMPLE_THREADS)
		if (count[b])
			atomicAdd(&s.state->sampled[b], count[b]);
	if (!last_block(&s.state->ticket))
		return;
	bits = bound_of(value, s.state->sampled, count, rank);
	if (threadIdx.x == 0)
		s.state->least = bits > 0 ? bits : 1;
}

// ---- the pass ----

typedef group<float, 4> quad;

// acc for four elements from i on; 0 behind the end.
__device__ static inline quad add4(const struct selection &s, const float *in, int64_t i)
{
	quad acc;

	for (int j = 0; j < 4; j++) {
		acc.v[j] = 0;
		if (i + j < s.n)
			acc.v[j] = s.vector[i + j];
		if (i + j < s.n && in)
			s.vector[i + j] = acc.v[j] += in[i + j];
	}
	return acc;
}

__device__ static inline quad add4_wide(const struct selection &s, const float *in, int64_t i)
{
	quad acc = load<4>(s.vector + i);

	if (in) {
		quad more = load<4>(in + i);

		for (int j = 0; j < 4; j++)
			acc.v[j] += more.v[j];
	}
	return acc;
}

// Appends a tile's candidates in the order of their indices: rows from the first on, in each lane by lane. Bit 4 row + j of `hits`:
// element j of the lane's four in that row. For a warp.
__device__ static void append(const struct selection &s, int64_t tile, const quad acc[ROWS], uint32_t hits)
{
	uint32_t lane = threadIdx.x % LANES, lower = (1u << lane) - 1, total = __reduce_add_sync(ALL_LANES, (uint32_t)__popc(hits)), at = 0;

	if (lane == 0) {
		if (total)
			at = atomicAdd(&s.state->listed, total);
		s.tile[tile] = { at, total };
	}
	at = __shfl_sync(ALL_LANES, at, 0);
	if (total == 0 || (int64_t)at + total > s.room)
		return;
	for (int row = 0; row < ROWS; row++) {
		uint32_t mine = hits >> 4 * row & 15, before = 0, sum = 0;

		if (!__any_sync(ALL_LANES, mine))
			continue;
		for (int j = 0; j < 4; j++) {
			uint32_t lanes = __ballot_sync(ALL_LANES, mine >> j & 1);

			before += __popc(lanes & lower);
			sum += __popc(lanes);
		}
		for (int j = 0; j < 4; j++)
			if (mine >> j & 1)
				s.list[at + before++] = { (uint32_t)(tile * TILE + row * 4 * LANES + 4 * lane + j), acc[row].v[j] };
		at += sum;
	}
}

// A warp takes a tile at a time.
__global__ void __launch_bounds__(FILTER_THREADS) filter(struct selection s, const float *in, bool wide)
{
	int64_t warps = (int64_t)gridDim.x * (FILTER_THREADS / LANES);
	uint32_t lane = threadIdx.x % LANES, above = s.state->least - 1;        // nobody sampled: 0 - 1, which nothing exceeds

	for (int64_t tile = (blockIdx.x * FILTER_THREADS + threadIdx.x) / LANES; tile < s.tiles; tile += warps) {
		int64_t from = tile * TILE + 4 * lane;
		quad acc[ROWS];
		uint32_t hits = 0;

		if (wide && (tile + 1) * TILE <= s.n) {
			for (int row = 0; row < ROWS; row++)
				acc[row] = add4_wide(s, in, from + row * 4 * LANES);
			for (int row = 0; row < ROWS && in; row++)
				store(s.vector + from + row * 4 * LANES, acc[row]);
		} else {
			for (int row = 0; row < ROWS; row++)
				acc[row] = add4(s, in, from + row * 4 * LANES);
		}
		for (int row = 0; row < ROWS; row++)
			for (int j = 0; j < 4; j++)
				hits |= (uint32_t)(magnitude(acc[row].v[j]) > above) << (4 * row + j);
		append(s, tile, acc, hits);
	}
}

static void filter_run(struct stream *s, const struct selection &sel, const float *in)
{
	unsigned blocks = blocks_for(sel.tiles, FILTER_THREADS / LANES, FILTER_BLOCKS * s->dev->processors);

	launch(s, "top-k: filter", blocks, FILTER_THREADS, filter, sel, in, aligned(16, in, sel.vector));
}

void topk_run(struct stream *s, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out, void *work)
{
	bool sampled = is_sampled(n, k);
	int64_t tiles = tiles_of(n);
	struct selection sel = select_begin(s, n, k, residual, out, tiles, sampled ? room_for(n, k) : 0, work);

	if (sampled)
		launch(s, "top-k: sample", SAMPLES / SAMPLE_THREADS, SAMPLE_THREADS, sample, sel, in, (uint32_t *)sel.list,
		       (uint32_t)rank_for(n, k));
	filter_run(s, sel, in);
	select_run(s, &sel);
}

// Zeros are no candidates; and all of the list is holes until somebody fills it.
__global__ void __launch_bounds__(FILTER_THREADS) take_bound(struct selection s, const float *least)
{
	int64_t first = (int64_t)blockIdx.x * FILTER_THREADS + threadIdx.x;

	for (int64_t j = first; j < s.k; j += (int64_t)gridDim.x * FILTER_THREADS)
		s.out[j] = { HOLE, 0 };
	if (first == 0)
		s.state->least = max(magnitude(*least), 1u);
}

// With a given bound in place of the sample.
void topk_select(struct stream *s, int64_t n, int64_t k, const float *least, const float *in, float *residual, struct sparse *out,
                 void *work)
{
	struct selection sel = select_begin(s, n, k, residual, out, tiles_of(n), is_sampled(n, k) ? room_for(n, k) : 0, work);

	sel.bounded = true;
	launch(s, "select: bound", blocks_for(k, FILTER_THREADS, FILTER_BLOCKS * s->dev->processors), FILTER_THREADS, take_bound, sel, least);
	filter_run(s, sel, in);
	select_run(s, &sel);
}

// ---- the bound alone, estimated ----

__global__ void __launch_bounds__(FILTER_THREADS) look(struct selection s, int64_t n, const float *x, const float *y)
{
	int64_t i = (int64_t)blockIdx.x * FILTER_THREADS + threadIdx.x;

	if (i == 0)
		s.state->listed = (uint32_t)s.room;
	for (; i < s.room; i += (int64_t)gridDim.x * FILTER_THREADS) {
		int64_t at = sample_place(n, s.room, i);

		s.list[i] = { (uint32_t)at, y ? x[at] + y[at] : x[at] };
	}
}

__global__ void give_bound(struct selection s, bool all, float *least) { *least = all ? 0 : __uint_as_float(s.state->bits); }

size_t topk_sample_bytes(int64_t n) { return select_bytes(0, (size_t)sample_count(n, 1) * sizeof(struct sparse)); }

void topk_sample_bound(struct stream *s, int64_t n, int64_t k, const float *x, const float *y, float *least, void *work)
{
	int64_t m = sample_count(n, k);
	struct selection sel = select_begin(s, 0, sample_rank(n, k, m), NULL, NULL, 0, m, work);

	launch(s, "sample: look", blocks_for(m, FILTER_THREADS, FILTER_BLOCKS * s->dev->processors), FILTER_THREADS, look, sel, n, x, y);
	select_cut(s, &sel);
	launch(s, "sample: bound", 1, 1, give_bound, sel, k == n, least);
}
