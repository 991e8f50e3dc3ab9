/*
 * Formulas of more than one operation, written once and compiled for every device: PyTorch's SGD and AdamW, CoCoD-SGD's merge,
 * dropout, when Gram-Schmidt gives a vector up, floats in half as many bits, where exact top-k looks for its sample, and Gaussian-k's
 * threshold. core/cpu/reference_vec.c has its own, in double: it is there to check these.
 *
 * The includer first defines HOST_DEVICE: `static inline` in C, `__host__ __device__ static inline` in CUDA. What does not change
 * from element to element is worked out once, by ..._factors_of().
 */
#ifndef COCOD_FORMULAS_H
#define COCOD_FORMULAS_H

#include <math.h>

#include "device.h"
#include "philox.h"

/* ---- SGD: g' = g + wd x; v' = first ? g' : mu v + g'; x' = x - lr (nesterov ? g' + mu v' : v') ---- */

/* Nesterov's step g' + mu v' and the plain v' are one formula with two weights. */
struct sgd_factors {
	float lr, momentum, weight_decay, of_gradient, of_velocity;
};

HOST_DEVICE struct sgd_factors sgd_factors_of(const struct hyper *h)
{
	struct sgd_factors f;

	f.lr = h->lr;
	f.momentum = h->momentum;
	f.weight_decay = h->weight_decay;
	f.of_gradient = h->nesterov ? 1.0f : 0.0f;
	f.of_velocity = h->nesterov ? h->momentum : 1.0f;
	return f;
}

/* g' */
HOST_DEVICE float sgd_gradient(const struct sgd_factors *f, float g, float x) { return g + f->weight_decay * x; }

/* v', on all steps but the first */
HOST_DEVICE float sgd_velocity(const struct sgd_factors *f, float v, float gradient) { return f->momentum * v + gradient; }

/* x' without momentum */
HOST_DEVICE float sgd_plain(const struct sgd_factors *f, float x, float gradient) { return x - f->lr * gradient; }

/* x' with momentum */
HOST_DEVICE float sgd_step(const struct sgd_factors *f, float x, float gradient, float velocity)
{
	return x - f->lr * (f->of_gradient * gradient + f->of_velocity * velocity);
}

/* ---- AdamW: m' = b1 m + (1 - b1) g; s' = b2 s + (1 - b2) g^2; x' = (1 - lr wd) x - lr (m'/c1) / (sqrt(s'/c2) + eps) ---- */

struct adamw_factors {
	float decay, rate, beta1, rest1, beta2, rest2, inverse, epsilon;
};

/* 1 - beta in double: at beta2 = 0.999 a float has lost four digits of it. */
HOST_DEVICE struct adamw_factors adamw_factors_of(const struct hyper *h)
{
	struct adamw_factors f;

	f.decay = (float)(1 - (double)h->lr * h->weight_decay);
	f.rate = h->lr / h->correct1;
	f.beta1 = h->beta1;
	f.rest1 = (float)(1 - (double)h->beta1);
	f.beta2 = h->beta2;
	f.rest2 = (float)(1 - (double)h->beta2);
	f.inverse = 1 / sqrtf(h->correct2);
	f.epsilon = h->epsilon;
	return f;
}

/* m' */
HOST_DEVICE float adamw_first(const struct adamw_factors *f, float m, float g) { return f->beta1 * m + f->rest1 * g; }

/* s' */
HOST_DEVICE float adamw_second(const struct adamw_factors *f, float s, float g) { return f->beta2 * s + f->rest2 * (g * g); }

/* x' */
HOST_DEVICE float adamw_step(const struct adamw_factors *f, float x, float first, float second)
{
	return f->decay * x - f->rate * first / (sqrtf(second) * f->inverse + f->epsilon);
}

/* ---- CoCoD-SGD's merge: z += avg; x += avg - d; d = x - z ---- */

HOST_DEVICE void merge_step(float avg, float *x, float *z, float *d)
{
	*z = *z + avg;
	*x = *x + (avg - *d);
	*d = *x - *z;
}

/* ---- dropout: an element is dropped if its random word is below the limit, p 2^32; what is kept is scaled up ---- */

HOST_DEVICE uint32_t dropout_limit(float p) { return (uint32_t)((double)p * 0x1p32); }
HOST_DEVICE float dropout_scale(float p) { return (float)(1 / (1 - (double)p)); }
HOST_DEVICE float dropout_value(uint32_t word, uint32_t limit, float scale, float x) { return word < limit ? 0 : scale * x; }

/* ---- Gram-Schmidt ---- */

/* A vector of which the projection has left less than 1e-5 is made of little but the rounding of its elements. In squares. */
HOST_DEVICE int lowrank_depends(double left, double before) { return !(left > 1e-10 * before); }

/* What takes its place: element i of the k-th vector, in [-1, 1), at each try another one. */
HOST_DEVICE float lowrank_random(int k, int attempt, int64_t i)
{
	const uint32_t key[2] = { 0x6c6f7772u, 0x616e6b00u };
	uint32_t counter[4], word[4];

	philox_counter((uint64_t)k, (uint32_t)attempt, (uint32_t)(i / 4), counter);
	philox_block(counter, key, word);
	return (float)(int32_t)word[i % 4] * 0x1p-31f;
}

/* ---- floats in half as many bits ---- */

/* To the nearest, ties to even. What is finite stays finite; a NaN stays one. */
HOST_DEVICE uint16_t half_of(int fp16, float v)
{
	union { float f; uint32_t bits; } u = { v };
	uint32_t sign = u.bits >> 16 & 0x8000u, size = u.bits & 0x7fffffffu, shift, rest, half;

	if (size >= 0x7f800000u)        /* infinite, or no number */
		return (uint16_t)(sign | (fp16 ? 0x7c00u : 0x7f80u) | (size > 0x7f800000u ? 0x40u : 0));
	if (!fp16) {
		size = (size + 0x7fffu + (size >> 16 & 1)) >> 16;
		return (uint16_t)(sign | (size > 0x7f7fu ? 0x7f7fu : size));
	}
	if (size < 0x33000000u)         /* less than half of the smallest, 2^-24 */
		return (uint16_t)sign;
	/* 14 bits away from a normal half's mantissa; one more for each power of two below 2^-14 */
	shift = size < 0x38800000u ? 126u - (size >> 23) : 13u;
	half = shift > 13u ? (size & 0x7fffffu) | 0x800000u : size - 0x38000000u;
	rest = half & ((1u << shift) - 1);
	half >>= shift;
	half += rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && half & 1);
	return (uint16_t)(sign | (half > 0x7bffu ? 0x7bffu : half));
}

HOST_DEVICE float half_value(int fp16, uint16_t half)
{
	union { uint32_t bits; float f; } u;
	uint32_t sign = (uint32_t)(half & 0x8000u) << 16, size = half & 0x7fffu;

	if (!fp16)
		u.bits = sign | size << 16;
	else if (size >= 0x7c00u)
		u.bits = sign | 0x7f800000u | (size & 0x3ffu) << 13;
	else if (size >= 0x400u)
		u.bits = sign | ((size << 13) + 0x38000000u);
	else
		u.f = sign ? -(float)size * 0x1p-24f : (float)size * 0x1p-24f;
	return u.f;
}

/* ---- the sample of top-k ---- */

enum { TOPK_SAMPLES = 1 << 16 };

/* One element of each of m equal stretches of n, at a place in it that hashing picks: data has periods, the sample must not.
 * i < m <= 2^16, m <= n < 2^32. */
HOST_DEVICE int64_t sample_place(int64_t n, int64_t m, int64_t i)
{
	uint64_t from = (uint64_t)(i * n / m), to = (uint64_t)((i + 1) * n / m);
	uint64_t hash = (uint64_t)(i + 1) * 0x9E3779B97F4A7C15u >> 32;

	return (int64_t)(from + (hash * (to - from) >> 32));
}

/* A sample from which to estimate a threshold: of so many that about 64 of them reach it, within a fourth of n; and the rank that this
 * threshold has among them. 1 <= k <= n < 2^32. */
HOST_DEVICE int64_t sample_count(int64_t n, int64_t k)
{
	int64_t m = 64 * n / k, most = TOPK_SAMPLES;

	most = n / 4 < most ? n / 4 : most;
	m = m < most ? m : most;
	return m > 1 ? m : 1;
}

HOST_DEVICE int64_t sample_rank(int64_t n, int64_t k, int64_t m)
{
	int64_t rank = (k * m + n / 2) / n;

	return rank < 1 ? 1 : rank > m ? m : rank;
}

/* ---- the threshold of Gaussian-k ---- */

/* From the sum of n numbers and that of their squares; z >= 0. */
HOST_DEVICE float normal_bound_of(int64_t n, double sum, double squares, double z)
{
	double mean = sum / (double)n, variance = squares / (double)n - mean * mean;

	return (float)(fabs(mean) + z * sqrt(variance > 0 ? variance : 0));
}

/* What is multiplied to a bound that so many reach. */
HOST_DEVICE float bound_correction(int64_t reach, int64_t k) { return 3 * reach < 2 * k ? 0.5f : 3 * reach > 4 * k ? 1.5f : 1.0f; }

/* The bounds that have to be counted for two corrections: as it is, and after either of the first one. */
enum { BOUND_TRIES = 3 };
HOST_DEVICE float bound_try(float least, int i) { return i == 0 ? least : i == 1 ? 0.5f * least : 1.5f * least; }

HOST_DEVICE float bound_corrected(float least, const int64_t reach[BOUND_TRIES], int64_t k)
{
	float first = bound_correction(reach[0], k);

	if (first == 1.0f)
		return least;
	return bound_try(least, first < 1 ? 1 : 2) * bound_correction(reach[first < 1 ? 1 : 2], k);
}

/* z with P(|N(0, 1)| > z) = p, 0 < p <= 1: bisection, on the host. */
HOST_DEVICE double normal_quantile(double p)
{
	double from = 0, to = 40;

	for (int i = 0; i < 60; i++) {
		double z = (from + to) / 2;

		if (erfc(z / sqrt(2.0)) > p)
			from = z;
		else
			to = z;
	}
	return from;
}

#endif
