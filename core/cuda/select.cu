// See select.cuh. Five kernels: three rounds that narrow the cut, one that counts what each chunk will hand out, one that does it.
#include "../die.h"
#include "select.cuh"

enum { NARROW_THREADS = 512, NARROW_UNROLL = 8, WALK_THREADS = 256, WALK_ROWS = 8 };

static size_t padded(size_t bytes) { return (bytes + 255) / 256 * 256; }

size_t select_bytes(int64_t tiles, size_t list_bytes)
{
	return padded(sizeof(struct select_state)) + padded(CHUNKS * sizeof(struct span)) + padded((size_t)tiles * sizeof(struct span)) +
	       list_bytes;
}

struct selection select_begin(struct stream *s, int64_t n, int64_t k, float *vector, struct sparse *out, int64_t tiles, int64_t room,
                              void *work)
{
	struct selection sel;
	char *p = (char *)work;

	CHECK(n <= UINT32_MAX && room <= UINT32_MAX && (uintptr_t)work % 16 == 0);
	sel.n = n;
	sel.k = k;
	sel.vector = vector;
	sel.out = out;
	sel.tiles = tiles;
	sel.room = room;
	sel.bounded = false;
	sel.state = (struct select_state *)p;
	p += padded(sizeof(struct select_state));
	sel.chunk = (struct span *)p;
	p += padded(CHUNKS * sizeof(struct span));
	sel.tile = (struct span *)p;
	p += padded((size_t)tiles * sizeof(struct span));
	sel.list = (struct sparse *)p;
	cuda_mem_ops.zero(s, sel.state, sizeof(struct select_state));
	return sel;
}

// Does the list hold the k largest? If fewer than k reached the sampled bound, or more than fit: no. If the bound was given, fewer are
// all that is wanted.
__device__ static inline bool from_list(const struct selection &s)
{
	return (s.bounded || s.state->listed >= s.k) && s.state->listed <= s.room;
}

// All that reach the bound, which exceeds 0, and nothing else.
__device__ static inline void cut_at_bound(const struct selection &s)
{
	s.state->bits = s.state->least - 1;
	s.state->rank = 0;
}

// ---- the cut ----

// Counts the next digit of those magnitudes that agree with the cut so far: bits to bits + width - 1.
struct digits {
	uint32_t bits, width;
	int shift;
	uint32_t *count;

	__device__ void see(uint32_t m) const
	{
		if (m - bits < width)
			atomicAdd(&count[(m - bits) >> shift], 1u);
	}
};

// A hole is a zero here: more of the smallest change no cut.
__device__ static void see_list(const struct selection &s, const struct digits &d)
{
	uint32_t n = s.state->listed, stride = gridDim.x * blockDim.x;

	for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride)
		d.see(magnitude(s.list[i].value));
}

__device__ static void see_vector(const struct selection &s, const struct digits &d)
{
	int64_t stride = (int64_t)gridDim.x * blockDim.x, i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	for (; i + (NARROW_UNROLL - 1) * stride < s.n; i += NARROW_UNROLL * stride) {
		float v[NARROW_UNROLL];

		for (int j = 0; j < NARROW_UNROLL; j++)
			v[j] = s.vector[i + j * stride];
		for (int j = 0; j < NARROW_UNROLL; j++)
			d.see(magnitude(v[j]));
	}
	for (; i < s.n; i += stride)
		d.see(magnitude(s.vector[i]));
}

__global__ void __launch_bounds__(NARROW_THREADS) narrow(struct selection s, int round, uint32_t width, int shift)
{
	__shared__ uint32_t count[BINS];
	uint32_t *sum = s.state->count[round];
	struct digits d;
	uint32_t rank = round == 0 ? (uint32_t)s.k : s.state->rank;

	if (s.bounded && s.state->listed < s.k) {
		if (round == 0 && blockIdx.x == 0 && threadIdx.x == 0)
			cut_at_bound(s);
		return;
	}
	d.bits = s.state->bits;
	d.width = width;
	d.shift = shift;
	d.count = count;
	for (int b = threadIdx.x; b < BINS; b += NARROW_THREADS)
		count[b] = 0;
	__syncthreads();
	if (from_list(s))
		see_list(s, d);
	else
		see_vector(s, d);
	__syncthreads();
	for (int b = threadIdx.x; b < BINS; b += NARROW_THREADS)
		if (count[b])
			atomicAdd(&sum[b], count[b]);
	if (!last_block(&s.state->ticket))
		return;
	d.bits += find_bin<BINS, NARROW_THREADS>(sum, &rank) << shift;
	if (threadIdx.x == 0) {
		s.state->bits = d.bits;
		s.state->rank = rank;
	}
}

// ---- handing out ----

// A warp walks through its chunk in the order of the indices, a row of LANES elements at a time: visit(is there one, index, value).
template <class V> __device__ static void walk_list(const struct selection &s, int64_t from, int64_t to, V &visit)
{
	uint32_t lane = threadIdx.x % LANES;

	for (int64_t t = from; t < to; t += LANES) {
		struct span mine = { 0, 0 };

		if (t + lane < to)
			mine = s.tile[t + lane];
		for (uint32_t todo = __ballot_sync(ALL_LANES, mine.count > 0); todo; todo &= todo - 1) {
			int source = __ffs(todo) - 1;
			uint32_t at = __shfl_sync(ALL_LANES, mine.at, source), count = __shfl_sync(ALL_LANES, mine.count, source);

			for (uint32_t row = 0; row < count; row += LANES) {
				struct sparse item = { HOLE, 0 };

				if (row + lane < count)
					item = s.list[at + row + lane];
				visit(item.index != HOLE, item.index, item.value);
			}
		}
	}
}

template <class V> __device__ static void walk_vector(const struct selection &s, int64_t from, int64_t to, V &visit)
{
	int64_t end = to * TILE < s.n ? to * TILE : s.n;

	for (int64_t i = from * TILE + threadIdx.x % LANES; i - threadIdx.x % LANES < end; i += WALK_ROWS * LANES) {
		float v[WALK_ROWS];

		for (int row = 0; row < WALK_ROWS; row++)
			v[row] = i + row * LANES < end ? s.vector[i + row * LANES] : 0;
		for (int row = 0; row < WALK_ROWS; row++)
			visit(i + row * LANES < end, (uint32_t)(i + row * LANES), v[row]);
	}
}

static __host__ __device__ inline int64_t tiles_per_chunk(int64_t tiles) { return (tiles + CHUNKS - 1) / CHUNKS; }

template <class V> __device__ static void walk(const struct selection &s, int64_t chunk, V &visit)
{
	int64_t each = tiles_per_chunk(s.tiles), from = chunk * each, to = from + each < s.tiles ? from + each : s.tiles;

	if (from_list(s))
		walk_list(s, from, to, visit);
	else
		walk_vector(s, from, to, visit);
}

struct counter {
	uint32_t cut, larger, equal;

	__device__ void operator()(bool there, uint32_t, float value)
	{
		uint32_t m = magnitude(value);

		larger += there && m > cut;
		equal += there && m == cut;
	}
};

// Sums of what lies before each chunk, for one block.
__device__ static void sum_chunks(const struct selection &s, int chunks)
{
	enum { SPAN = CHUNKS / WALK_THREADS };
	struct span sum = { 0, 0 };
	int first = threadIdx.x * SPAN;

	for (int c = 0; c < SPAN; c++) {
		if (first + c < chunks) {
			sum.at += s.chunk[first + c].at;
			sum.count += s.chunk[first + c].count;
		}
	}
	sum.at = block_before(sum.at);
	sum.count = block_before(sum.count);
	for (int c = first; c < first + SPAN && c < chunks; c++) {
		struct span here = s.chunk[c];

		s.chunk[c] = sum;
		sum.at += here.at;
		sum.count += here.count;
	}
}

__global__ void __launch_bounds__(WALK_THREADS) count(struct selection s, int chunks)
{
	int chunk = (blockIdx.x * WALK_THREADS + threadIdx.x) / LANES;
	struct counter seen = { s.state->bits, 0, 0 };

	if (chunk < chunks) {
		walk(s, chunk, seen);
		seen.larger = __reduce_add_sync(ALL_LANES, seen.larger);
		seen.equal = __reduce_add_sync(ALL_LANES, seen.equal);
		if (threadIdx.x % LANES == 0)
			s.chunk[chunk] = { seen.larger, seen.equal };
	}
	if (last_block(&s.state->ticket))
		sum_chunks(s, chunks);
}

struct giver {
	const struct selection &s;
	uint32_t cut, ties, larger, equal;      // larger, equal: before this row

	__device__ void operator()(bool there, uint32_t index, float value)
	{
		uint32_t m = magnitude(value), lower = (1u << threadIdx.x % LANES) - 1;
		uint32_t above = __ballot_sync(ALL_LANES, there && m > cut), same = __ballot_sync(ALL_LANES, there && m == cut);
		uint32_t turn = equal + __popc(same & lower);   // of equals, how many came before

		if (there && (m > cut || (m == cut && turn < ties))) {
			int64_t place = (int64_t)larger + __popc(above & lower) + (turn < ties ? turn : ties);

			s.out[place] = { index, value };
			if (s.vector)
				s.vector[index] = 0;
		}
		larger += __popc(above);
		equal += __popc(same);
	}
};

__global__ void __launch_bounds__(WALK_THREADS) hand_out(struct selection s, int chunks)
{
	int chunk = (blockIdx.x * WALK_THREADS + threadIdx.x) / LANES;

	if (chunk < chunks) {
		struct giver give = { s, s.state->bits, s.state->rank, s.chunk[chunk].at, s.chunk[chunk].count };

		walk(s, chunk, give);
	}
}

void select_cut(struct stream *s, const struct selection *sel)
{
	static const int shift[ROUNDS] = { 20, 9, 0 };
	int64_t elements = sel->room > sel->n ? sel->room : sel->n;
	unsigned blocks = blocks_for(elements, NARROW_THREADS, 2 * s->dev->processors);

	for (int round = 0; round < ROUNDS; round++)
		launch(s, "top-k: cut", blocks, NARROW_THREADS, narrow, *sel, round, 1u << (round == 0 ? 31 : shift[round - 1]), shift[round]);
}

void select_run(struct stream *s, const struct selection *sel)
{
	int64_t each = tiles_per_chunk(sel->tiles);
	int chunks = (int)((sel->tiles + each - 1) / each), warps = WALK_THREADS / LANES;

	select_cut(s, sel);
	launch(s, "top-k: count", (chunks + warps - 1) / warps, WALK_THREADS, count, *sel, chunks);
	launch(s, "top-k: hand out", (chunks + warps - 1) / warps, WALK_THREADS, hand_out, *sel, chunks);
}
