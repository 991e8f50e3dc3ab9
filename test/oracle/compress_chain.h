/*
 * Top-k whose values are sent in two bytes: each worker's k largest of residual + input, each rounded to the nearest number of 11 (fp16)
 * or 8 (bf16) binary digits; what rounding takes away stays in the residual.
 *
 * Rounding is as discontinuous as choosing: a value that lies 2e-6 of itself or less from the middle between two halves counts as a close
 * choice. Few values are sent, so that there are seeds without one.
 */
#ifndef ORACLE_COMPRESS_CHAIN_H
#define ORACLE_COMPRESS_CHAIN_H

#include "base.h"

static inline double oracle_half(struct oracle *o, double v, int digits, int least)
{
	double unit, rest;
	int power;

	frexp(v, &power);
	unit = ldexp(1, (power < least ? least : power) - digits);
	rest = fabs(fmod(v, unit)) / unit;
	if (v != 0 && fabs(rest - 0.5) * unit < 2e-6 * fabs(v))
		o->gap = 0;
	return unit * nearbyint(v / unit);
}

static inline void oracle_chain_average(struct oracle *o, int r, double *const in[], double *out, int digits, int least)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);
	double *value[ORACLE_WORKERS];
	bool *picked[ORACLE_WORKERS];

	for (int i = 0; i < set->workers; i++) {
		value[i] = calloc((size_t)set->n, sizeof(double));
		picked[i] = calloc((size_t)set->n, sizeof(bool));
	}
	pick(o, from, n, k, in, value, picked);
	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		for (int64_t j = from; j < from + n; j++)
			if (picked[i][j]) {
				double sent = oracle_half(o, value[i][j], digits, least);

				o->residual[i][j] = value[i][j] - sent;
				out[j] += set->weight[i] * sent;
			}
		free(value[i]);
		free(picked[i]);
	}
}

static inline void oracle_fp16_average(struct oracle *o, int r, double *const in[], double *out)
{
	oracle_chain_average(o, r, in, out, 11, -13);
}

static inline void oracle_bf16_average(struct oracle *o, int r, double *const in[], double *out)
{
	oracle_chain_average(o, r, in, out, 8, -125);
}

static inline void oracle_chain_draw(struct oracle_setup *p, struct rng *rng) { (void)rng, p->density = 0.02; }

/* All-gather: everybody's k indices of 4 bytes and k values of 2, an odd one filled up, to all others. */
static inline double oracle_chain_bytes(const struct oracle_setup *p, int range)
{
	int64_t k = oracle_k(p->density, p->length[range]);

	return (double)p->workers * (p->workers - 1) * (double)(4 * k + 2 * (k + k % 2));
}

static const struct oracle_compressor oracle_topk_fp16 = {
	.name = "(\"topk\", \"fp16\")",
	.few = true,
	.draw = oracle_chain_draw,
	.average = oracle_fp16_average,
	.bytes = oracle_chain_bytes,
};

static const struct oracle_compressor oracle_topk_bf16 = {
	.name = "(\"topk\", \"bf16\")",
	.few = true,
	.draw = oracle_chain_draw,
	.average = oracle_bf16_average,
	.bytes = oracle_chain_bytes,
};

#endif
