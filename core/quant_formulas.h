/*
 * The arithmetic of quant.h, one element or one bucket at a time, written once and compiled for every device. The includer first
 * defines HOST_DEVICE, as for formulas.h.
 *
 * All ranks must draw the same conclusions from the same bits, and tests compare devices bit for bit. So nothing here depends on
 * whether a compiler contracts a * b + c: stochastic rounding adds integers, sums of a bucket are sums of exact products in double,
 * and they are added up in one order everywhere: element i to partial sum i % 32, these then in pairs 16, 8, 4, 2, 1 apart.
 */
#ifndef COCOD_QUANT_FORMULAS_H
#define COCOD_QUANT_FORMULAS_H

#include <math.h>
#include <string.h>

#include "quant.h"

HOST_DEVICE uint32_t quant_word(float x)
{
	uint32_t word;

	memcpy(&word, &x, sizeof(word));
	return word;
}

HOST_DEVICE float quant_float(uint32_t word)
{
	float x;

	memcpy(&x, &word, sizeof(x));
	return x;
}

HOST_DEVICE float quant_negate(float x, uint32_t minus) { return quant_float(quant_word(x) ^ minus << 31); }

/* ---- the record of a bucket ---- */

HOST_DEVICE int quant_scale_words(const struct quant *q) { return q->scale == QUANT_UNSCALED ? 0 : q->scale == QUANT_SIDES ? 2 : 1; }

/* Words of the record of a bucket of n elements. */
HOST_DEVICE int64_t quant_record(const struct quant *q, int64_t n)
{
	return quant_scale_words(q) + (n + QUANT_GROUP - 1) / QUANT_GROUP * q->bits;
}

/* Element i's random number: word i / 32 % 4 of this block, so that 32 lanes draw for four groups at once. */
HOST_DEVICE uint32_t quant_block(int64_t i) { return (uint32_t)(i / QUANT_TILE * QUANT_GROUP + i % QUANT_GROUP); }

/* ---- the scale of a bucket ---- */

struct quant_sums {
	uint32_t largest;               /* |x| as an integer: NaN is the largest */
	int minuses;                    /* how many are below 0 */
	double squares, plus, minus;    /* plus: sum of the others; NaN is among them */
};

/* unit[]: what goes in front of the codes, and what they are units of. n: elements of the bucket. */
HOST_DEVICE void quant_units(const struct quant *q, int64_t n, const struct quant_sums *s, float unit[2])
{
	float largest = quant_float(s->largest), norm = largest;

	unit[0] = 1;
	unit[1] = -1;
	switch (q->scale) {
	case QUANT_UNSCALED:
		return;
	case QUANT_SIDES:
		unit[0] = n > s->minuses ? (float)(s->plus / (double)(n - s->minuses)) : 0;
		unit[1] = s->minuses ? (float)(s->minus / s->minuses) : 0;
		return;
	case QUANT_MEAN:
		unit[0] = (float)((s->plus - s->minus) / (double)n);
		unit[1] = -unit[0];
		return;
	case QUANT_L2:
		norm = (float)sqrt(s->squares);
		break;
	case QUANT_CLIP:
		norm = q->clip * (float)sqrt(s->squares / (double)n);
		norm = norm < largest ? norm : largest;
		break;
	case QUANT_MAX:
		break;
	}
	unit[0] = norm / (float)q->levels;
}

/* ---- levels: |x| in units and 2^-24ths of one, plus 24 random bits, without the fraction ---- */

HOST_DEVICE float quant_inverse(float unit) { return unit >= 0x1p-100f ? 0x1p24f / unit : 0; }

HOST_DEVICE uint32_t quant_level(float x, float inverse, float most, int sign, uint32_t word)
{
	float fine = quant_float(quant_word(x) & 0x7fffffffu) * inverse;

	fine = fine < most ? fine : most;       /* a NaN as well */
	return ((uint32_t)(int32_t)fine + (word >> 8)) >> 24 | (quant_word(x) >> 31) << sign;
}

/* The value of the highest level, in the same units: levels 2^24. */
HOST_DEVICE float quant_most(const struct quant *q) { return (float)q->levels * 0x1p24f; }

HOST_DEVICE float quant_of_level(uint32_t code, float unit, int sign)
{
	return quant_negate((float)(int32_t)(code & ((1u << sign) - 1)) * unit, code >> sign);
}

/* ---- powers of two: what is drawn carries into the exponent as often as the mantissa is large ---- */

HOST_DEVICE uint32_t quant_power(float x, uint32_t word)
{
	uint32_t exponent = ((quant_word(x) & 0x7fffffffu) + (word >> 9)) >> 23;

	return (exponent < 255 ? exponent : 255) | quant_word(x) >> 31 << 8;
}

HOST_DEVICE float quant_of_power(uint32_t code) { return quant_float((code & 255) << 23 | code >> 8 << 31); }

/* ---- signs: 1 is minus ---- */

HOST_DEVICE uint32_t quant_sign(float x, float tie, uint32_t word)
{
	return quant_float(quant_word(x) & 0x7fffffffu) <= tie ? word >> 31 : x < 0;
}

/* ---- 16 bits ---- */

HOST_DEVICE uint32_t quant_bf16(float x)
{
	uint32_t word = quant_word(x);

	return (word & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (word + 0x7fff + (word >> 16 & 1)) >> 16;
}

HOST_DEVICE float quant_of_bf16(uint32_t code) { return quant_float(code << 16); }

/*
 * A float keeps 23 bits of mantissa, a half 10, and its exponent is smaller by 112: a normal number is rounded by adding just less
 * than half of what is cut off, or exactly half where what is kept is odd. Below 2^-14 halves are multiples of 2^-24, which is what
 * the last bit of a float in [0.5, 1) stands for: adding 0.5 rounds there.
 */
HOST_DEVICE uint32_t quant_fp16(float x)
{
	uint32_t word = quant_word(x) & 0x7fffffffu, sign = quant_word(x) >> 31 << 15;
	uint32_t small = quant_word(quant_float(word) + 0.5f) - 0x3f000000u;
	uint32_t normal = (word - (112u << 23) + 0xfff + (word >> 13 & 1)) >> 13;
	uint32_t large = word > 0x7f800000u ? 0x7e00 : 0x7c00;

	return sign | (word < 113u << 23 ? small : word < 143u << 23 ? normal : large);
}

HOST_DEVICE float quant_of_fp16(uint32_t code)
{
	uint32_t size = code & 0x7fff;
	float normal = quant_float((size << 13) + ((size < 0x7c00 ? 112u : 224u) << 23)), small = (float)(int32_t)size * 0x1p-24f;

	return quant_negate(size < 0x400 ? small : normal, code >> 15);
}

/* ---- any of them; inverse and most are quant_inverse(unit[0]) and quant_most() ---- */

HOST_DEVICE uint32_t quant_encode(const struct quant *q, float x, float inverse, float most, uint32_t word)
{
	switch (q->code) {
	case QUANT_BF16: return quant_bf16(x);
	case QUANT_FP16: return quant_fp16(x);
	case QUANT_LEVELS: return quant_level(x, inverse, most, q->bits - 1, word);
	case QUANT_POWERS: return quant_power(x, word);
	case QUANT_SIGN: return quant_sign(x, q->tie, word);
	}
	return 0;
}

HOST_DEVICE float quant_decode(const struct quant *q, uint32_t code, const float unit[2])
{
	switch (q->code) {
	case QUANT_BF16: return quant_of_bf16(code);
	case QUANT_FP16: return quant_of_fp16(code);
	case QUANT_LEVELS: return quant_of_level(code, unit[0], q->bits - 1);
	case QUANT_POWERS: return quant_of_power(code);
	case QUANT_SIGN: return code ? unit[1] : unit[0];
	}
	return 0;
}

/* The units from what stands in front of a record. */
HOST_DEVICE void quant_read_units(const struct quant *q, const uint32_t *record, float unit[2])
{
	unit[0] = q->scale == QUANT_UNSCALED ? 1 : quant_float(record[0]);
	unit[1] = q->scale == QUANT_SIDES ? quant_float(record[1]) : -unit[0];
}

/* Does encoding look at random numbers? */
HOST_DEVICE int quant_draws(const struct quant *q)
{
	return q->code == QUANT_LEVELS || q->code == QUANT_POWERS || (q->code == QUANT_SIGN && q->tie >= 0);
}

#endif
