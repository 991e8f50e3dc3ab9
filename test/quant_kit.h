/* Formats of quant.h and nasty vectors, for the tests of every device's encode and decode. */
#ifndef QUANT_KIT_H
#define QUANT_KIT_H

#include <math.h>
#include <string.h>

#include "../core/quant.h"
#include "../core/rng.h"

static const struct { const char *name; struct quant q; } quant_formats[] = {
	{ "bf16", { QUANT_BF16, QUANT_UNSCALED, 16, 0, 128, 0, -1 } },
	{ "fp16", { QUANT_FP16, QUANT_UNSCALED, 16, 0, 512, 0, -1 } },
	{ "127 levels of the largest", { QUANT_LEVELS, QUANT_MAX, 8, 127, 256, 0, -1 } },
	{ "7 levels of the norm", { QUANT_LEVELS, QUANT_L2, 4, 7, 512, 0, -1 } },
	{ "4 levels of the largest", { QUANT_LEVELS, QUANT_MAX, 4, 4, 128, 0, -1 } },
	{ "1 level of the largest", { QUANT_LEVELS, QUANT_MAX, 2, 1, 512, 0, -1 } },
	{ "1 level, clipped", { QUANT_LEVELS, QUANT_CLIP, 2, 1, 1024, 2.5f, -1 } },
	{ "powers of two", { QUANT_POWERS, QUANT_UNSCALED, 9, 0, 512, 0, -1 } },
	{ "signs", { QUANT_SIGN, QUANT_UNSCALED, 1, 0, 128, 0, -1 } },
	{ "signs and coins", { QUANT_SIGN, QUANT_UNSCALED, 1, 0, 512, 0, 0.25f } },
	{ "signs with a mean", { QUANT_SIGN, QUANT_MEAN, 1, 0, 384, 0, -1 } },
	{ "signs with two means", { QUANT_SIGN, QUANT_SIDES, 1, 0, 512, 0, -1 } },
};
enum { QUANT_FORMATS = sizeof(quant_formats) / sizeof(quant_formats[0]) };

static float quant_normal(struct rng *r, int64_t i) { (void)i; return (float)rng_normal(r); }
static float quant_zero(struct rng *r, int64_t i) { (void)r; return i % 3 ? 0.0f : -0.0f; }
static float quant_denormal(struct rng *r, int64_t i) { (void)i; return (float)((int)rng_below(r, 2001) - 1000) * 1e-45f; }
static float quant_ties(struct rng *r, int64_t i) { (void)i; return (float)((int)rng_below(r, 9) - 4) * 0.25f; }
/* a few of them for every exponent there is */
static float quant_every(struct rng *r, int64_t i) { return (float)ldexp(rng_normal(r), (int)(i * 7 % 280) - 150); }
/* halfway between two halves of either kind, and just beside it */
static float quant_halfway(struct rng *r, int64_t i)
{
	uint32_t word = rng_u32(r) % 0x70000000u, places = i % 2 ? 16 : 13;
	float x;

	word = (word >> places << places | 1u << (places - 1)) + (uint32_t)(i % 3) - 1;
	word |= (uint32_t)i << 31;
	memcpy(&x, &word, sizeof(x));
	return x;
}
static float quant_nan(struct rng *r, int64_t i)
{
	return i % 1000 == 17 ? NAN : i % 1000 == 518 ? -INFINITY : (float)rng_normal(r);
}

static const struct { const char *name; float (*at)(struct rng *, int64_t i); } quant_data[] = {
	{ "normal", quant_normal }, { "all zero", quant_zero }, { "denormals", quant_denormal }, { "ties", quant_ties },
	{ "every exponent", quant_every }, { "halfway", quant_halfway }, { "NaN and infinity", quant_nan },
};
enum { QUANT_DATA = sizeof(quant_data) / sizeof(quant_data[0]) };

__attribute__((unused)) static void quant_fill(float *x, int64_t n, int data, uint32_t which)
{
	struct rng rng;

	rng_init(&rng, 21, RNG_TEST, (uint64_t)data, which);
	for (int64_t i = 0; i < n; i++)
		x[i] = quant_data[data].at(&rng, i);
}

/* The same bits, or NaN both. */
__attribute__((unused)) static int64_t quant_differ(const float *a, const float *b, int64_t n)
{
	int64_t count = 0;

	for (int64_t i = 0; i < n; i++)
		count += memcmp(a + i, b + i, sizeof(float)) && !(isnan(a[i]) && isnan(b[i]));
	return count;
}

/* The same but for the rounding of one addition. */
__attribute__((unused)) static int64_t quant_apart(const float *a, const float *b, int64_t n)
{
	int64_t count = 0;

	for (int64_t i = 0; i < n; i++)
		count += !(fabsf(a[i] - b[i]) <= 2.5e-7f * fabsf(b[i]) + 2e-7f) && a[i] != b[i] && !(isnan(a[i]) && isnan(b[i]));
	return count;
}

#endif
