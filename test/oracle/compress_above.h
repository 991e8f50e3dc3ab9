/* What compressors share that choose by a threshold. */
#ifndef ORACLE_COMPRESS_ABOVE_H
#define ORACLE_COMPRESS_ABOVE_H

#include "base.h"

/* Of worker i's residual in [from, from + n): what reaches `bound` and is not 0, the k largest if more than k do, leaves it and is added
 * to out. */
static inline void send_above(struct oracle *o, int i, int64_t from, int64_t n, int64_t k, double bound, double *out)
{
	struct candidate *c = malloc((size_t)n * sizeof(*c));
	int64_t count = 0;

	for (int64_t j = from; j < from + n; j++) {
		double v = o->residual[i][j], gap = fabs(fabs(v) - bound);

		if (v != 0 && fabs(v) >= bound)
			c[count++] = (struct candidate){ v, j };
		if (v != 0 && bound > 0 && gap < o->gap)
			o->gap = gap;
	}
	if (count > k) {
		choose(o, c, count, k);
		count = k;
	}
	for (int64_t j = 0; j < count; j++) {
		out[c[j].index] += o->set->weight[i] * c[j].v;
		o->residual[i][c[j].index] = 0;
	}
	free(c);
}

/* An all-gather of lists of k pairs, whatever is in them. */
static inline double oracle_list_bytes(const struct oracle_setup *p, int64_t n)
{
	return (double)p->workers * (p->workers - 1) * 8 * (double)oracle_k(p->density, n);
}

#endif
