// Vectors in few bits: a warp takes a bucket. Its lanes are the 32 elements of a group, so word k of the group is one ballot over bit k
// of the codes; and one block of Philox a lane is the random numbers of four groups.
#include "../rng.h"
#include "launch.cuh"

#define HOST_DEVICE __host__ __device__ static inline
#include "../philox.h"
#include "../quant_formulas.h"

enum { THREADS = 128, WARPS = THREADS / 32, GROUP = QUANT_GROUP, TILE = QUANT_TILE };
enum { BLOCKS = 16 };           // at most so many for each SM

struct encoding {
	struct quant q;
	int64_t n, first;
	const float *in;
	float *residual;
	uint32_t *packed, key[2], counter[4];
};

__device__ static inline double in_pairs(double v)
{
	for (int apart = 16; apart; apart /= 2)
		v += __shfl_xor_sync(0xffffffff, v, apart);
	return v;
}

// All lanes get the sums of the bucket x … x + n.
__device__ static void sums_of(const struct quant *q, int64_t n, const float *x, int lane, struct quant_sums *s)
{
	double squares = 0, plus = 0, minus = 0;
	uint32_t largest = 0;
	int minuses = 0;

	for (int64_t i = lane; i < n; i += GROUP) {
		float v = x[i];

		largest = max(largest, quant_word(v) & 0x7fffffffu);
		squares += (double)v * v;
		(v < 0 ? minus : plus) += v;
		minuses += v < 0;
	}
	for (int apart = 16; apart; apart /= 2) {
		largest = max(largest, __shfl_xor_sync(0xffffffff, largest, apart));
		minuses += __shfl_xor_sync(0xffffffff, minuses, apart);
	}
	s->largest = largest;
	s->minuses = minuses;
	s->squares = q->scale == QUANT_L2 || q->scale == QUANT_CLIP ? in_pairs(squares) : 0;
	s->plus = q->scale >= QUANT_MEAN ? in_pairs(plus) : 0;
	s->minus = q->scale >= QUANT_MEAN ? in_pairs(minus) : 0;
}

// 32 codes, one a lane, become a group's words. All lanes take part.
__device__ static inline void put_codes(int bits, uint32_t code, int lane, uint32_t *group)
{
	if (bits == 16) {
		uint32_t other = __shfl_xor_sync(0xffffffff, code, 1);

		if (lane % 2 == 0)
			group[lane / 2] = code | other << 16;
		return;
	}
	for (int k = 0; k < bits; k++) {
		uint32_t word = __ballot_sync(0xffffffff, code >> k & 1);

		if (lane == k)
			group[k] = word;
	}
}

// x: what is encoded, in the residual's place if there is one. Every lane reads and writes its own elements only.
__device__ static void encode_bucket(const struct encoding &e, int64_t from, int64_t n, const float *x, float *residual, int lane,
                                     uint32_t *record)
{
	const struct quant *q = &e.q;
	struct quant_sums sums = {};
	float unit[2], inverse, most = quant_most(q);

	if (q->scale != QUANT_UNSCALED)
		sums_of(q, n, x, lane, &sums);
	quant_units(q, n, &sums, unit);
	inverse = quant_inverse(unit[0]);
	if (lane < quant_scale_words(q))
		record[lane] = quant_word(unit[lane]);
	record += quant_scale_words(q);
	for (int64_t i = 0; i < n; i += TILE) {
		uint32_t block = quant_block(e.first + from + i) + (uint32_t)lane, word[4] = { 0 };
		uint32_t at[4] = { block, e.counter[1], e.counter[2], e.counter[3] };

		if (quant_draws(q))
			philox_block(at, e.key, word);
		for (int g = 0; g < 4 && i + g * GROUP < n; g++, record += q->bits) {
			int64_t j = i + g * GROUP + lane;
			uint32_t code = j < n ? quant_encode(q, x[j], inverse, most, word[g]) : 0;

			put_codes(q->bits, code, lane, record);
			if (residual && j < n)
				residual[j] = x[j] - quant_decode(q, code, unit);
		}
	}
}

__global__ void __launch_bounds__(THREADS) encode_buckets(struct encoding e)
{
	int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, stride = (int64_t)gridDim.x * WARPS;
	int lane = threadIdx.x % 32;

	for (int64_t b = warp; b * e.q.bucket < e.n; b += stride) {
		int64_t from = b * e.q.bucket, n = min((int64_t)e.q.bucket, e.n - from);
		const float *x = e.in + from;

		if (e.residual) {
			for (int64_t i = from + lane; i < from + n; i += 32)
				e.residual[i] += e.in[i];
			x = e.residual + from;
		}
		encode_bucket(e, from, n, x, e.residual ? e.residual + from : NULL, lane, e.packed + b * quant_record(&e.q, e.q.bucket));
	}
}

static unsigned grid_for(struct stream *s, int64_t n, int64_t bucket)
{
	return blocks_for((n + bucket - 1) / bucket, WARPS, BLOCKS * s->dev->processors);
}

static void encode(struct stream *s, const struct quant *q, int64_t n, const float *in, float *residual, const struct quant_draw *draw,
                   void *packed)
{
	struct encoding e = { *q, n, draw->first, in, residual, (uint32_t *)packed, {}, {} };

	if (n == 0)
		return;
	philox_key(draw->seed, RNG_COMPRESS, e.key);
	philox_counter(draw->average, draw->stream, 0, e.counter);
	launch(s, "encode", grid_for(s, n, q->bucket), THREADS, encode_buckets, e);
}

struct decoding {
	struct quant q;
	int64_t n;
	const uint32_t *packed;
	float a, *out;
	bool add;
};

__device__ static inline uint32_t get_code(int bits, const uint32_t *group, int lane)
{
	uint32_t code = 0;

	if (bits == 16)
		return group[lane / 2] >> 16 * (lane % 2) & 0xffff;
	for (int k = 0; k < bits; k++)
		code |= (group[k] >> lane & 1) << k;
	return code;
}

// All lanes read the same words of a group.
__global__ void __launch_bounds__(THREADS) decode_buckets(struct decoding d)
{
	int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, stride = (int64_t)gridDim.x * WARPS;
	int lane = threadIdx.x % 32;

	for (int64_t b = warp; b * d.q.bucket < d.n; b += stride) {
		int64_t from = b * d.q.bucket, end = min(from + d.q.bucket, d.n);
		const uint32_t *record = d.packed + b * quant_record(&d.q, d.q.bucket);
		float unit[2];

		quant_read_units(&d.q, record, unit);
		record += quant_scale_words(&d.q);
		for (int64_t i = from + lane; i < end; i += GROUP, record += d.q.bits) {
			float value = quant_decode(&d.q, get_code(d.q.bits, record, lane), unit);

			d.out[i] = d.add ? d.out[i] + d.a * value : d.a * value;
		}
	}
}

static void decode(struct stream *s, const struct quant *q, int64_t n, const void *packed, float a, bool add, float *out)
{
	struct decoding d = { *q, n, (const uint32_t *)packed, a, out, add };

	if (n == 0)
		return;
	cuda_written(s->dev, out);
	launch(s, "decode", grid_for(s, n, q->bucket), THREADS, decode_buckets, d);
}

const struct quant_ops cuda_quant_ops = { encode, decode };
