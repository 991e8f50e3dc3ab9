/*
 * Vectors in few bits: tiles of 128 elements, four groups of 32, go through small arrays that stay in the first cache, each step a
 * loop that fills vectors. The last tile of a vector is filled up with zeros.
 */
#include <stdbool.h>

#include "kernels.h"
#include "philox_lanes.h"
#include "simd.h"

#define HOST_DEVICE INLINE
#include "../../philox.h"
#include "../../quant_formulas.h"

enum { GROUP = QUANT_GROUP, TILE = QUANT_TILE };

#define BIT4(i) 1u << (i), 1u << ((i) + 1), 1u << ((i) + 2), 1u << ((i) + 3)
static const uint32_t bit_of[GROUP] __attribute__((aligned(64))) = {
	BIT4(0), BIT4(4), BIT4(8), BIT4(12), BIT4(16), BIT4(20), BIT4(24), BIT4(28),
};

/* ---- the scale of a bucket ---- */

struct lanes {
	double squares[GROUP], plus[GROUP], minus[GROUP];
	uint32_t largest[GROUP];
	int32_t minuses[GROUP];
};

INLINE double in_pairs(double lane[GROUP])
{
	for (int apart = GROUP / 2; apart; apart /= 2)
		for (int i = 0; i < apart; i++)
			lane[i] += lane[i + apart];
	return lane[0];
}

INLINE void add_largest(struct lanes *l, const float *x, int n)
{
#pragma omp simd
	for (int i = 0; i < n; i++) {
		uint32_t size = quant_word(x[i]) & 0x7fffffffu;

		l->largest[i] = size > l->largest[i] ? size : l->largest[i];
	}
}

INLINE void add_squares(struct lanes *l, const float *x, int n)
{
#pragma omp simd
	for (int i = 0; i < n; i++)
		l->squares[i] += (double)x[i] * (double)x[i];
}

INLINE void add_sides(struct lanes *l, const float *x, int n)
{
#pragma omp simd
	for (int i = 0; i < n; i++) {
		l->plus[i] += x[i] < 0 ? 0.0f : x[i];
		l->minus[i] += x[i] < 0 ? x[i] : 0.0f;
		l->minuses[i] += x[i] < 0;
	}
}

static void sums_of(const struct quant *q, int64_t n, const float *x, struct quant_sums *s)
{
	struct lanes l = { .largest = { 0 } };

	for (int64_t i = 0; i < n; i += GROUP) {
		int count = n - i < GROUP ? (int)(n - i) : GROUP;

		if (q->scale == QUANT_MAX || q->scale == QUANT_CLIP)
			add_largest(&l, x + i, count);
		if (q->scale == QUANT_L2 || q->scale == QUANT_CLIP)
			add_squares(&l, x + i, count);
		if (q->scale == QUANT_MEAN || q->scale == QUANT_SIDES)
			add_sides(&l, x + i, count);
	}
	*s = (struct quant_sums){ .squares = in_pairs(l.squares), .plus = in_pairs(l.plus), .minus = in_pairs(l.minus) };
	for (int i = 0; i < GROUP; i++) {
		s->largest = l.largest[i] > s->largest ? l.largest[i] : s->largest;
		s->minuses += l.minuses[i];
	}
}

/* ---- codes of a tile ---- */

struct tile {
	float x[TILE], value[TILE];
	uint32_t code[TILE], word[4][GROUP];
} __attribute__((aligned(64)));

INLINE void draw(struct tile *t, const uint32_t key[2], const uint32_t counter[4], uint32_t block)
{
	uint32_t word[4][LANES];

	for (int half = 0; half < GROUP; half += LANES) {
		philox_lanes(block + (uint32_t)half, key, counter, word);
		for (int w = 0; w < 4; w++)
			memcpy(t->word[w] + half, word[w], sizeof(word[w]));
	}
}

#define TILE_LOOP(...) \
	do { \
		_Pragma("omp simd") \
		for (int i = 0; i < TILE; i++) \
			__VA_ARGS__; \
	} while (0)

/* One loop a code, so that each fills vectors. */
INLINE void codes(const struct quant *q, struct tile *t, float inverse)
{
	const uint32_t *word = t->word[0];
	float most = quant_most(q), tie = q->tie;
	int sign = q->bits - 1;

	switch (q->code) {
	case QUANT_BF16: TILE_LOOP(t->code[i] = quant_bf16(t->x[i])); break;
	case QUANT_FP16: TILE_LOOP(t->code[i] = quant_fp16(t->x[i])); break;
	case QUANT_LEVELS: TILE_LOOP(t->code[i] = quant_level(t->x[i], inverse, most, sign, word[i])); break;
	case QUANT_POWERS: TILE_LOOP(t->code[i] = quant_power(t->x[i], word[i])); break;
	case QUANT_SIGN: TILE_LOOP(t->code[i] = quant_sign(t->x[i], tie, word[i])); break;
	}
}

INLINE void values(const struct quant *q, struct tile *t, const float unit[2])
{
	float plus = unit[0], minus = unit[1];
	int sign = q->bits - 1;

	switch (q->code) {
	case QUANT_BF16: TILE_LOOP(t->value[i] = quant_of_bf16(t->code[i])); break;
	case QUANT_FP16: TILE_LOOP(t->value[i] = quant_of_fp16(t->code[i])); break;
	case QUANT_LEVELS: TILE_LOOP(t->value[i] = quant_of_level(t->code[i], plus, sign)); break;
	case QUANT_POWERS: TILE_LOOP(t->value[i] = quant_of_power(t->code[i])); break;
	case QUANT_SIGN: TILE_LOOP(t->value[i] = t->code[i] ? minus : plus); break;
	}
}

/* Word k gathers bit k of 32 codes: a mask of each code's bit, and the place's own bit of it. */
INLINE void pack(int bits, const uint32_t *code, uint32_t *to)
{
	if (bits == 16) {
		for (int i = 0; i < 16; i++)
			to[i] = code[2 * i] | code[2 * i + 1] << 16;
		return;
	}
	for (int k = 0; k < bits; k++) {
		uint32_t all = 0;

#pragma omp simd reduction(|:all)
		for (int i = 0; i < GROUP; i++)
			all |= (code[i] & 1u << k ? ~0u : 0) & bit_of[i];
		to[k] = all;
	}
}

INLINE void unpack(int bits, const uint32_t *from, uint32_t *code)
{
	if (bits == 16) {
		for (int i = 0; i < 16; i++) {
			code[2 * i] = from[i] & 0xffff;
			code[2 * i + 1] = from[i] >> 16;
		}
		return;
	}
	memset(code, 0, GROUP * sizeof(*code));
	for (int k = 0; k < bits; k++) {
		uint32_t all = from[k];

#pragma omp simd
		for (int i = 0; i < GROUP; i++)
			code[i] |= (all & bit_of[i] ? ~0u : 0) & 1u << k;
	}
}

/* ---- buckets ---- */

static void encode_bucket(const struct quant *q, int64_t first, int64_t n, const float *x, float *residual, const struct quant_draw *draws,
                          const uint32_t key[2], uint32_t *record)
{
	struct quant_sums sums;
	uint32_t counter[4];
	struct tile t;
	float unit[2];

	sums_of(q, n, x, &sums);
	quant_units(q, n, &sums, unit);
	for (int i = 0; i < quant_scale_words(q); i++)
		*record++ = quant_word(unit[i]);
	philox_counter(draws->average, draws->stream, 0, counter);
	for (int64_t i = 0; i < n; i += TILE) {
		int count = n - i < TILE ? (int)(n - i) : TILE;

		memcpy(t.x, x + i, (size_t)count * sizeof(float));
		if (count < TILE)
			memset(t.x + count, 0, (size_t)(TILE - count) * sizeof(float));
		if (quant_draws(q))
			draw(&t, key, counter, quant_block(first + i));
		codes(q, &t, quant_inverse(unit[0]));
		if (count < TILE)
			memset(t.code + count, 0, (size_t)(TILE - count) * sizeof(*t.code));
		for (int g = 0; g < count; g += GROUP, record += q->bits)
			pack(q->bits, t.code + g, record);
		if (!residual)
			continue;
		values(q, &t, unit);
		for (int j = 0; j < count; j++)
			residual[i + j] = t.x[j] - t.value[j];
	}
}

static void encode(const struct quant *q, int64_t n, const float *in, float *residual, const struct quant_draw *draws,
                   const uint32_t key[2], uint32_t *packed)
{
	for (int64_t i = 0; i < n; i += q->bucket) {
		int64_t count = n - i < q->bucket ? n - i : q->bucket;
		const float *x = in + i;

		if (residual) {
#pragma omp simd
			for (int64_t j = i; j < i + count; j++)
				residual[j] = residual[j] + in[j];
			x = residual + i;
		}
		encode_bucket(q, draws->first + i, count, x, residual ? residual + i : NULL, draws, key, packed);
		packed += quant_record(q, count);
	}
}

static void give(int n, const float *value, float a, bool add, float *out)
{
	if (add) {
#pragma omp simd
		for (int i = 0; i < n; i++)
			out[i] = out[i] + a * value[i];
	} else {
#pragma omp simd
		for (int i = 0; i < n; i++)
			out[i] = a * value[i];
	}
}

static void decode(const struct quant *q, int64_t n, const uint32_t *packed, float a, bool add, float *out)
{
	struct tile t;

	for (int64_t i = 0; i < n;) {
		int64_t end = n - i < q->bucket ? n : i + q->bucket;
		float unit[2];

		quant_read_units(q, packed, unit);
		for (packed += quant_scale_words(q); i < end; i += TILE) {
			int count = end - i < TILE ? (int)(end - i) : TILE;

			for (int g = 0; g < count; g += GROUP, packed += q->bits)
				unpack(q->bits, packed, t.code + g);
			for (int g = (count + GROUP - 1) / GROUP * GROUP; g < TILE; g++)
				t.code[g] = 0;
			values(q, &t, unit);
			give(count, t.value, a, add, out + i);
		}
		i = end;
	}
}

extern const struct quant_kernels KERNEL(quant_kernels);
const struct quant_kernels KERNEL(quant_kernels) = {
	.encode = encode,
	.decode = decode,
};
