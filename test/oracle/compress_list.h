/*
 * What compressors share that send lists. In a chain each value is rounded to the nearest number of 11 (fp16) or 8 (bf16) binary digits,
 * and what rounding takes away stays in the residual.
 *
 * Rounding is as discontinuous as choosing: a value that lies 2e-6 of itself or less from the middle between two halves counts as a close
 * choice. Few values are sent, so that there are seeds without one.
 */
#ifndef ORACLE_COMPRESS_LIST_H
#define ORACLE_COMPRESS_LIST_H

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

/* Worker i sends v for the element at `at`. */
static inline void oracle_send(struct oracle *o, int i, int64_t at, double v, double *out)
{
	const struct oracle_compressor *c = o->set->compressor;
	double sent = c->digits ? oracle_half(o, v, c->digits, c->least) : v;

	out[at] += o->set->weight[i] * sent;
	o->residual[i][at] = v - sent;
}

/* Of v in [from, from + n): what reaches `bound` and is not 0, the k largest if more than k do. It goes to c, which has room for n; returns
 * how many. */
static inline int64_t oracle_choose_above(struct oracle *o, const double *v, int64_t from, int64_t n, int64_t k, double bound,
                                          struct candidate *c)
{
	int64_t count = 0;

	for (int64_t j = from; j < from + n; j++) {
		double gap = fabs(fabs(v[j]) - bound);

		if (v[j] != 0 && fabs(v[j]) >= bound)
			c[count++] = (struct candidate){ v[j], j };
		if (v[j] != 0 && bound > 0 && gap < o->gap)
			o->gap = gap;
	}
	if (count <= k)
		return count;
	choose(o, c, count, k);
	return k;
}

/* These of worker i's residual leave it and are added to out. */
static inline void send_above(struct oracle *o, int i, int64_t from, int64_t n, int64_t k, double bound, double *out)
{
	struct candidate *c = malloc((size_t)n * sizeof(*c));
	int64_t count = oracle_choose_above(o, o->residual[i], from, n, k, bound, c);

	for (int64_t j = 0; j < count; j++)
		oracle_send(o, i, c[j].index, c[j].v, out);
	free(c);
}

/* What a list of k pairs takes: indices of 4 bytes and values of 4, or of 2, an odd one filled up. */
static inline double oracle_pairs_bytes(const struct oracle_setup *p, int64_t k)
{
	return (double)(p->compressor && p->compressor->digits ? 4 * k + 2 * (k + k % 2) : 8 * k);
}

/* An all-gather of lists of k pairs, whatever is in them. */
static inline double oracle_list_bytes(const struct oracle_setup *p, int range)
{
	return (double)p->workers * (p->workers - 1) * oracle_pairs_bytes(p, oracle_k(p->density, p->length[range]));
}

#endif
