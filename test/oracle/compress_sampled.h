/*
 * Choosing by a threshold from a sample (Lin et al., ICLR 2018): of m of the n elements, one from each of m equal stretches, the r-th
 * largest, r = k m / n to the nearest; all that reach it are sent, the k largest if they are more than k. m = 64 n / k, at most 65536 and n / 4.
 * Which element of a stretch is the program's own choice: sample_place().
 */
#ifndef ORACLE_COMPRESS_SAMPLED_H
#define ORACLE_COMPRESS_SAMPLED_H

#define HOST_DEVICE __attribute__((unused)) static inline
#include "../../core/formulas.h"
#undef HOST_DEVICE

#include "../../core/die.h"
#include "compress_list.h"

/* The element whose magnitude is the threshold; -1: all are to be sent. */
static inline int64_t oracle_threshold_element(const double *v, int64_t from, int64_t n, int64_t k)
{
	int64_t m = (int64_t)fmax(1, fmin(floor(64.0 * (double)n / (double)k), fmin(65536, (double)(n / 4))));
	int64_t rank = (int64_t)fmin((double)m, fmax(1, floor((double)k * (double)m / (double)n + 0.5))), element;
	struct candidate *c = malloc((size_t)m * sizeof(*c));

	for (int64_t i = 0; i < m; i++)
		c[i] = (struct candidate){ v[from + sample_place(n, m, i)], from + sample_place(n, m, i) };
	qsort(c, (size_t)m, sizeof(*c), by_size);
	element = c[rank - 1].index;
	free(c);
	return k < n ? element : -1;
}

/* Of v in [from, from + n): what reaches the threshold and is not 0, the k largest if more than k do; goes to c, which has room for n. */
static inline int64_t oracle_choose_sampled(struct oracle *o, const double *v, int64_t from, int64_t n, int64_t k, struct candidate *c)
{
	int64_t count = 0, element = oracle_threshold_element(v, from, n, k);
	double bound = element < 0 ? 0 : fabs(v[element]);

	for (int64_t j = from; j < from + n; j++) {
		if (v[j] != 0 && fabs(v[j]) >= bound)
			c[count++] = (struct candidate){ v[j], j };
		if (v[j] != 0 && bound > 0 && j != element && fabs(fabs(v[j]) - bound) < o->gap)
			o->gap = fabs(fabs(v[j]) - bound);
	}
	if (count <= k)
		return count;
	choose(o, c, count, k);
	return k;
}

static inline void oracle_sampled_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);
	struct candidate *c = malloc((size_t)n * sizeof(*c));

	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		double *v = o->residual[i];
		int64_t count;

		for (int64_t j = from; j < from + n; j++)
			v[j] += in[i][j];
		count = oracle_choose_sampled(o, v, from, n, k, c);
		for (int64_t j = 0; j < count; j++)
			oracle_send(o, i, c[j].index, c[j].v, out);
	}
	free(c);
}

static inline int oracle_sampled_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xstrdup("compress.selection=sampled");
	return 1;
}

static const struct oracle_compressor oracle_topk_sampled = {
	.name = "topk, sampled", .method = "topk", .sparse = true, .keys = oracle_sampled_keys, .average = oracle_sampled_average,
	.bytes = oracle_list_bytes,
};

#endif
