// Exact selection of the k largest magnitudes, handed out in the order of their indices: what top-k and gTop-k's merge share.
//
// The cut is found as on the CPU (core/cpu/cpu_select.c): the 31 bits of the k-th largest magnitude come out from the top in three
// rounds of 11, 11 and 9, each with a histogram of what agrees so far. It is sought in a list of candidates, or, if the list turns
// out to be no good, in the vector itself; kernels see which from device memory, so the host need not. Of equal magnitudes the
// lowest indices are taken, and neither the order in which candidates were listed nor the number of SMs has any influence.
#ifndef COCOD_SELECT_CUH
#define COCOD_SELECT_CUH

#include "launch.cuh"

enum { LANES = 32, TILE = 1024, CHUNKS = 4096, ROUNDS = 3, BINS = 2048, SAMPLE_BINS = 8192 };
static const unsigned ALL_LANES = 0xffffffffu;
static const uint32_t HOLE = SPARSE_HOLE;       // an index that no element has: a place in the list that holds nothing

// Where a tile's items are in the list.
struct span {
	uint32_t at, count;
};

// What the kernels of one operation hand on; zero at its start.
struct select_state {
	uint32_t listed;                // items that belong in the list, even if there was no room for them
	uint32_t least;                 // the bound that was sampled, or given: smaller magnitudes are not listed
	uint32_t bits, rank;            // the cut's bits as far as known; its rank among those that agree. At the end: bits of the
	                                // k-th largest magnitude, and how many of exactly that magnitude are taken
	uint32_t ticket;                // blocks that are done with the kernel under way
	uint32_t count[ROUNDS][BINS];
	uint32_t sampled[SAMPLE_BINS];
};

// One operation. The elements come in tiles of TILE consecutive ones (of the vector) or places (of the list); tiles in `chunks`, one
// for each warp that walks them. In the list a tile's items lie together and in order, the tiles wherever they found room.
struct selection {
	int64_t n, k;
	float *vector;                  // n; those chosen are set to 0. NULL: there is only the list
	struct sparse *out;             // k
	struct select_state *state;
	struct span *chunk;             // CHUNKS; larger than the cut and equal to it, first in each, then before each
	struct span *tile;
	struct sparse *list;
	int64_t tiles, room;
	bool bounded;                   // only what reaches state->least: out may come out short
};

size_t select_bytes(int64_t tiles, size_t list_bytes);  // of scratch
// Lays a selection out in scratch (16-byte aligned) and queues that its state is zeroed.
struct selection select_begin(struct stream *, int64_t n, int64_t k, float *vector, struct sparse *out, int64_t tiles, int64_t room,
                              void *work);
// The list is there (or is known to be no good): finds the cut, state->bits and rank.
void select_cut(struct stream *, const struct selection *);
// The same, then writes out and zeroes what was chosen.
void select_run(struct stream *, const struct selection *);

// A float without its sign, as an integer: the order of magnitudes. All NaNs are the same, and the largest.
__device__ static inline uint32_t magnitude(float v)
{
	uint32_t bits = __float_as_uint(v) & 0x7fffffffu;

	return bits > 0x7f800000u ? 0x7fffffffu : bits;
}

// Is this block the last one to come here? If so it sees all that the others wrote before. For a whole block.
__device__ static inline bool last_block(uint32_t *ticket)
{
	__shared__ bool last;

	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence();
		last = atomicAdd(ticket, 1u) == gridDim.x - 1;
		if (last)
			*ticket = 0;
		__threadfence();
	}
	__syncthreads();
	return last;
}

// The sum of v over the threads before this one, for a block of full warps.
__device__ static inline uint32_t block_before(uint32_t v)
{
	__shared__ uint32_t of_warp[LANES];
	unsigned lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
	uint32_t sum = v, before = 0;

	for (unsigned d = 1; d < LANES; d *= 2) {
		uint32_t below = __shfl_up_sync(ALL_LANES, sum, d);

		sum += lane >= d ? below : 0;
	}
	__syncthreads();                // of_warp may still be read from the call before
	if (lane == LANES - 1)
		of_warp[warp] = sum;
	__syncthreads();
	for (unsigned w = 0; w < warp; w++)
		before += of_warp[w];
	return before + sum - v;
}

// The bin in which the element of this rank lies, counted from the largest bin down; the rank becomes the one inside the bin.
// For a block of THREADS. 1 <= rank <= sum of count.
template <int N, int THREADS> __device__ static inline uint32_t find_bin(const uint32_t *count, uint32_t *rank)
{
	enum { SPAN = N / THREADS };
	__shared__ uint32_t found, inside;
	uint32_t top = N - 1 - threadIdx.x * SPAN, sum = 0, before;

	for (uint32_t j = 0; j < SPAN; j++)
		sum += count[top - j];
	before = block_before(sum);
	if (before < *rank && *rank - before <= sum) {
		uint32_t rest = *rank - before;

		while (count[top] < rest)
			rest -= count[top--];
		found = top;
		inside = rest;
	}
	__syncthreads();
	*rank = inside;
	return found;
}

#endif
