// Sparse vectors: lists of k pairs, sorted by index. One thread an element everywhere; what walks through two lists together on a
// CPU is a binary search here.
#include "../die.h"
#include "moments.cuh"
#include "select.cuh"
#include "topk.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../draw.h"
#include "../formulas.h"

enum { THREADS = 256, BLOCKS = 32 };            // blocks: at most so many for each SM

static unsigned grid_for(struct stream *s, int64_t n) { return blocks_for(n, THREADS, BLOCKS * s->dev->processors); }

// The loop over n elements of a one-dimensional grid.
#define FOR_EACH(i, n) \
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, stride = (int64_t)gridDim.x * blockDim.x; i < (n); i += stride)

// How many of the list's indices are smaller: where `index` is, or would be.
__device__ static int64_t lower_bound(const struct sparse *list, int64_t k, uint32_t index)
{
	int64_t from = 0;

	while (k > 0) {
		int64_t half = k / 2;

		if (list[from + half].index < index) {
			from += half + 1;
			k -= half + 1;
		} else {
			k = half;
		}
	}
	return from;
}

// ---- merge ----

static int64_t merge_tiles(int64_t k) { return (2 * k + TILE - 1) / TILE; }

static size_t work_size(int64_t n, int64_t k)
{
	size_t topk = topk_bytes(n, k), merge = select_bytes(merge_tiles(k), 2 * (size_t)k * sizeof(struct sparse));
	size_t sample = topk_sample_bytes(n), most = topk > merge ? topk : merge;

	return most > sample ? most : sample;
}

// Places both lists in one, by index: an element's place is its place in its own list plus how many of the other come before. Of
// twins the first takes the sum, and the second leaves a hole.
__global__ void __launch_bounds__(THREADS) unite(struct selection s, const struct sparse *a, const struct sparse *b)
{
	FOR_EACH(t, 2 * s.k) {
		bool second = t >= s.k;
		const struct sparse *own = second ? b : a, *other = second ? a : b;
		int64_t i = second ? t - s.k : t, j;
		struct sparse item = own[i];
		bool twin;

		j = lower_bound(other, s.k, item.index);
		twin = j < s.k && other[j].index == item.index;
		if (twin && second)
			s.list[i + j + 1] = { HOLE, 0 };
		else
			s.list[i + j] = { item.index, twin ? item.value + other[j].value : item.value };
		if (t % TILE == 0)
			s.tile[t / TILE] = { (uint32_t)t, (uint32_t)min((int64_t)TILE, 2 * s.k - t) };
		if (t == 0)
			s.state->listed = (uint32_t)(2 * s.k);
	}
}

static void sparse_merge(struct stream *s, int64_t k, const struct sparse *a, const struct sparse *b, struct sparse *out, void *work)
{
	struct selection sel = select_begin(s, 0, k, NULL, out, merge_tiles(k), 2 * k, work);

	launch(s, "merge", grid_for(s, 2 * k), THREADS, unite, sel, a, b);
	select_run(s, &sel);
}

// ---- the small ones ----

__global__ void __launch_bounds__(THREADS) scale_list(int64_t k, float a, const struct sparse *in, struct sparse *out)
{
	FOR_EACH(j, k) {
		struct sparse item = in[j];

		out[j] = { item.index, a * item.value };
	}
}

static void sparse_scale(struct stream *s, int64_t k, float a, const struct sparse *in, struct sparse *out)
{
	launch(s, "sparse scale", grid_for(s, k), THREADS, scale_list, k, a, in, out);
}

// No two threads meet: an index occurs once in a list.
__global__ void __launch_bounds__(THREADS) scatter(int64_t k, float a, const struct sparse *in, float *y)
{
	FOR_EACH(j, k)
		if (in[j].index != SPARSE_HOLE)
			y[in[j].index] += a * in[j].value;
}

static void sparse_scatter_add(struct stream *s, int64_t k, float a, const struct sparse *in, float *y)
{
	cuda_written(s->dev, y);
	launch(s, "scatter_add", grid_for(s, k), THREADS, scatter, k, a, in, y);
}

__global__ void __launch_bounds__(THREADS) clear(int64_t k, const struct sparse *list, float *y)
{
	FOR_EACH(j, k)
		if (list[j].index != SPARSE_HOLE)
			y[list[j].index] = 0;
}

static void sparse_clear(struct stream *s, int64_t k, const struct sparse *list, float *y)
{
	cuda_written(s->dev, y);
	launch(s, "clear", grid_for(s, k), THREADS, clear, k, list, y);
}

__global__ void __launch_bounds__(THREADS) mark(int64_t k, const struct sparse *own, const struct sparse *list, const uint8_t *kept, uint8_t *alive)
{
	FOR_EACH(j, k) {
		if (alive[j]) {
			int64_t at = lower_bound(list, k, own[j].index);

			alive[j] = at < k && list[at].index == own[j].index && (!kept || kept[at]);
		}
	}
}

static void sparse_survive(struct stream *s, int64_t k, const struct sparse *own, const struct sparse *list, const uint8_t *kept,
                           uint8_t *alive)
{
	launch(s, "survive", grid_for(s, k), THREADS, mark, k, own, list, kept, alive);
}

__global__ void __launch_bounds__(THREADS) return_lost(int64_t k, const struct sparse *own, const uint8_t *alive, float *residual)
{
	FOR_EACH(j, k)
		if (!alive[j])
			residual[own[j].index] += own[j].value;
}

static void sparse_put_back(struct stream *s, int64_t k, const struct sparse *own, const uint8_t *alive, float *residual)
{
	launch(s, "put_back", grid_for(s, k), THREADS, return_lost, k, own, alive, residual);
}

// The last thread writes the padding.
__global__ void __launch_bounds__(THREADS)
pack_halves(int64_t k, int fp16, const struct sparse *in, float *residual, uint32_t *index, uint16_t *value)
{
	FOR_EACH(j, k + k % 2) {
		struct sparse item = { 0, 0 };
		uint16_t half;

		if (j == k) {
			value[j] = 0;
			continue;
		}
		item = in[j];
		half = half_of(fp16, item.value);
		index[j] = item.index;
		value[j] = half;
		if (item.index != SPARSE_HOLE)
			residual[item.index] += item.value - half_value(fp16, half);
	}
}

static void sparse_pack(struct stream *s, int64_t k, enum half_type half, const struct sparse *in, float *residual, void *wire)
{
	uint32_t *index = (uint32_t *)wire;

	launch(s, "sparse pack", grid_for(s, k), THREADS, pack_halves, k, half == HALF_FP16, in, residual, index, (uint16_t *)(index + k));
}

__global__ void __launch_bounds__(THREADS)
unpack_halves(int64_t k, int fp16, const uint32_t *index, const uint16_t *value, struct sparse *out)
{
	FOR_EACH(j, k)
		out[j] = { index[j], half_value(fp16, value[j]) };
}

static void sparse_unpack(struct stream *s, int64_t k, enum half_type half, const void *wire, struct sparse *out)
{
	const uint32_t *index = (const uint32_t *)wire;

	launch(s, "sparse unpack", grid_for(s, k), THREADS, unpack_halves, k, half == HALF_FP16, index, (const uint16_t *)(index + k), out);
}

// ---- Ok-Topk's regions ----

// One block. Magnitudes are ordered as their bits are.
__global__ void __launch_bounds__(THREADS) quantiles(int64_t k, const struct sparse *list, int parts, float *least, uint32_t *bound)
{
	__shared__ uint32_t smallest;
	uint32_t mine = 0x7fffffffu;

	if (threadIdx.x == 0)
		smallest = mine;
	__syncthreads();
	for (int64_t j = threadIdx.x; j < k; j += THREADS)
		mine = min(mine, __float_as_uint(list[j].value) & 0x7fffffffu);
	atomicMin(&smallest, mine);
	for (int p = threadIdx.x; p <= parts; p += THREADS)
		bound[p] = p == 0 ? 0 : p == parts ? SPARSE_HOLE : list[p * k / parts].index;
	__syncthreads();
	if (threadIdx.x == 0)
		*least = __uint_as_float(smallest);
}

static void sparse_quantiles(struct stream *s, int64_t k, const struct sparse *list, int parts, float *least, uint32_t *bound)
{
	launch(s, "quantiles", 1, THREADS, quantiles, k, list, parts, least, bound);
}

__global__ void __launch_bounds__(THREADS) fill_holes(int64_t k, struct sparse *list)
{
	FOR_EACH(j, k)
		list[j] = { SPARSE_HOLE, 0 };
}

// A pick's place in its block is its place in the list less that of the region's first.
__global__ void __launch_bounds__(THREADS) deal(int64_t k, const struct sparse *list, const uint32_t *bound, int64_t room,
                                                struct sparse *block, float *residual)
{
	FOR_EACH(j, k) {
		struct sparse item = list[j];
		int64_t place;
		int p = 0;

		if (item.index == SPARSE_HOLE)
			continue;
		while (item.index >= bound[p + 1])
			p++;
		place = j - lower_bound(list, k, bound[p]);
		if (place < room)
			block[p * room + place] = item;
		else
			residual[item.index] += item.value;
	}
}

static void sparse_split(struct stream *s, int64_t k, const struct sparse *list, int parts, const uint32_t *bound, int64_t room,
                         struct sparse *block, float *residual)
{
	launch(s, "split: holes", grid_for(s, parts * room), THREADS, fill_holes, parts * room, block);
	launch(s, "split", grid_for(s, k), THREADS, deal, k, list, bound, room, block, residual);
}

__global__ void __launch_bounds__(THREADS) return_zero(int64_t k, const struct sparse *own, const float *result, float *residual)
{
	FOR_EACH(j, k)
		if (own[j].index != SPARSE_HOLE && result[own[j].index] == 0)
			residual[own[j].index] += own[j].value;
}

static void sparse_put_back_zero(struct stream *s, int64_t k, const struct sparse *own, const float *result, float *residual)
{
	launch(s, "put_back_zero", grid_for(s, k), THREADS, return_zero, k, own, result, residual);
}

// ---- drawn places: a thread has a block of random numbers, and its four places ----

template <class F> __device__ static inline void each_drawn(const struct draw_plan &p, const F &visit)
{
	int64_t k = (int64_t)p.k;

	FOR_EACH(block, (k + DRAW_BLOCK - 1) / DRAW_BLOCK) {
		uint32_t word[DRAW_BLOCK];

		draw_words(&p, block, word);
		for (int i = 0; i < DRAW_BLOCK; i++)
			if (DRAW_BLOCK * block + i < k)
				visit(DRAW_BLOCK * block + i, draw_place(&p, DRAW_BLOCK * block + i, word[i]));
	}
}

__global__ void __launch_bounds__(THREADS) take_drawn(struct draw_plan p, float a, float *x, float *value)
{
	each_drawn(p, [=](int64_t j, int64_t at) {
		value[j] = a * x[at];
		x[at] = 0;
	});
}

static void sparse_take_drawn(struct stream *s, int64_t n, int64_t k, const struct draw *draw, float a, float *x, float *value)
{
	launch(s, "take_drawn", grid_for(s, (k + DRAW_BLOCK - 1) / DRAW_BLOCK), THREADS, take_drawn, draw_plan_of(draw, n, k), a, x, value);
}

__global__ void __launch_bounds__(THREADS) add_drawn(struct draw_plan p, float a, const float *value, float *y)
{
	each_drawn(p, [=](int64_t j, int64_t at) { y[at] += a * value[j]; });
}

static void sparse_add_drawn(struct stream *s, int64_t n, int64_t k, const struct draw *draw, float a, const float *value, float *y)
{
	cuda_written(s->dev, y);
	launch(s, "add_drawn", grid_for(s, (k + DRAW_BLOCK - 1) / DRAW_BLOCK), THREADS, add_drawn, draw_plan_of(draw, n, k), a, value, y);
}

const struct sparse_ops cuda_sparse_ops = {
	work_size, topk_run, topk_select, normal_bound_run, topk_sample_bound, sparse_scale, sparse_scatter_add, sparse_clear, sparse_merge, sparse_survive,
	sparse_put_back, sparse_pack, sparse_unpack, sparse_quantiles, sparse_split, sparse_put_back_zero, sparse_take_drawn, sparse_add_drawn,
};
