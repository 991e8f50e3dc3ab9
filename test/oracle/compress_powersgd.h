/*
 * PowerSGD (Vogels et al., NeurIPS 2019, algorithms 1 and 2), for all workers at once: the matrix that is compressed is the average of
 * theirs, M = sum_i w_i (e_i + in_i); P = orthonormalise(M Q), Q = M^T P, M^ = P Q^T, and e_i = M_i - P P^T M_i.
 *
 * Gram-Schmidt in float: an element of P is off by about 1e-7 of its column, and after the projection by 1e-7 / s, s being what is
 * left of the column's length. The oracle takes another seed if s < 0.03, and it happens a few times in a trajectory: hence the
 * bound, a hundred times the one for sums.
 *
 * A column of zeros becomes what core/formulas.h draws. One that depends on those before it as well: that is so where nothing new came in
 * and M = e has no more than n - r directions left. What stands there does not matter to M^, but Q is left with rounding there: if
 * something does come in later, another seed, please.
 */
#ifndef ORACLE_COMPRESS_POWERSGD_H
#define ORACLE_COMPRESS_POWERSGD_H

#define HOST_DEVICE __attribute__((unused)) static inline
#include "../../core/die.h"
#include "../../core/formulas.h"
#include "../../core/rng.h"
#include "base.h"

enum { POWERSGD_RANK };

static inline void oracle_powersgd_draw(struct oracle_setup *p, struct rng *rng) { p->compress_key[POWERSGD_RANK] = 1 + rng_below(rng, 4); }

static inline int oracle_powersgd_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("compress.rank=%d", (int)p->compress_key[POWERSGD_RANK]);
	return 1;
}

static inline bool oracle_powersgd_matrix(const struct oracle_setup *p, int t)
{
	int64_t n = p->tensor_rows[t], m = p->tensor_columns[t];

	return (double)(n + m) * p->compress_key[POWERSGD_RANK] < (double)(n * m);
}

static inline double oracle_length(int64_t n, const double *v)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += v[i] * v[i];
	return sqrt(sum);
}

/* Returns what is left of v's length, as a share of it, without the k columns p. */
static inline double oracle_project(int64_t n, int k, const double *p, double *v)
{
	double before = oracle_length(n, v);

	for (int l = 0; l < k; l++) {
		double along = 0;

		for (int64_t i = 0; i < n; i++)
			along += p[l * n + i] * v[i];
		for (int64_t i = 0; i < n; i++)
			v[i] -= along * p[l * n + i];
	}
	return before > 0 ? oracle_length(n, v) / before : 0;
}

/* p: r columns of n. Returns whether one of them, not zero, depended on others. */
static inline bool oracle_gram_schmidt(struct oracle *o, int64_t n, int r, double *p)
{
	bool depended = false;

	for (int k = 0; k < r; k++) {
		double *v = p + k * n, length = oracle_length(n, v), left = oracle_project(n, k, p, v);

		if (left < 1e-9) {
			depended = depended || length > 0;
			for (int64_t i = 0; i < n; i++)
				v[i] = lowrank_random(k, 0, i);
			oracle_project(n, k, p, v);
		} else if (left < 0.03) {
			o->gap = 0;
		}
		length = oracle_length(n, v);
		for (int64_t i = 0; i < n; i++)
			v[i] /= length;
	}
	return depended;
}

/* One matrix, at `from`; q: its Q; *spoilt: something in it is rounding. */
static inline void oracle_powersgd_average(struct oracle *o, int64_t from, int64_t n, int64_t m, double *q, double *spoilt,
                                           double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int r = (int)set->compress_key[POWERSGD_RANK];
	double *p = calloc((size_t)(r * n), sizeof(double)), *mean = calloc((size_t)(n * m), sizeof(double)), *own = malloc((size_t)m * sizeof(double));

	for (int w = 0; w < set->workers; w++)
		for (int64_t j = 0; j < n * m; j++) {
			o->residual[w][from + j] += in[w][from + j];
			mean[j] += set->weight[w] * o->residual[w][from + j];
			if (*spoilt && in[w][from + j] != 0)
				o->gap = 0;
		}
	for (int k = 0; k < r; k++)
		for (int64_t i = 0; i < n; i++)
			for (int64_t j = 0; j < m; j++)
				p[k * n + i] += mean[i * m + j] * q[k * m + j];
	if (oracle_gram_schmidt(o, n, r, p))
		*spoilt = 1;
	memset(out + from, 0, (size_t)(n * m) * sizeof(double));
	for (int k = 0; k < r; k++) {
		for (int64_t j = 0; j < m; j++) {
			q[k * m + j] = 0;
			for (int64_t i = 0; i < n; i++)
				q[k * m + j] += mean[i * m + j] * p[k * n + i];
			for (int64_t i = 0; i < n; i++)
				out[from + i * m + j] += p[k * n + i] * q[k * m + j];
		}
		/* Column by column is the same as all at once: they are orthogonal. */
		for (int w = 0; w < set->workers; w++) {
			double *e = o->residual[w] + from;

			memset(own, 0, (size_t)m * sizeof(double));
			for (int64_t i = 0; i < n; i++)
				for (int64_t j = 0; j < m; j++)
					own[j] += e[i * m + j] * p[k * n + i];
			for (int64_t i = 0; i < n; i++)
				for (int64_t j = 0; j < m; j++)
					e[i * m + j] -= p[k * n + i] * own[j];
		}
	}
	free(p);
	free(mean);
	free(own);
}

static inline void oracle_powersgd_range(struct oracle *o, int range, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t begin = set->offset[range], end = begin + set->length[range];

	double *factor = oracle_need(o, &o->kept[0]);   /* q, at the place of its matrix: it is shorter */
	double *spoilt = oracle_need(o, &o->kept[1]);   /* at the matrix's first element */

	for (int t = 0; t < set->tensors; t++) {
		int64_t from = t ? set->tensor_end[t - 1] : 0, size = set->tensor_rows[t] * set->tensor_columns[t];
		double *q = factor + from;

		if (from < begin || from >= end)
			continue;
		memset(out + from, 0, (size_t)(set->tensor_end[t] - from) * sizeof(double));
		if (oracle_powersgd_matrix(set, t)) {
			struct rng rng;

			rng_init(&rng, 0, RNG_COMPRESS, (uint64_t)from, 0);
			for (int64_t j = 0; o->range_averages[range] == 1 && j < (int64_t)set->compress_key[POWERSGD_RANK] * size / set->tensor_rows[t]; j++)
				q[j] = (float)rng_normal(&rng);
			oracle_powersgd_average(o, from, set->tensor_rows[t], set->tensor_columns[t], q, &spoilt[from], in, out);
			continue;
		}
		for (int w = 0; w < set->workers; w++)
			for (int64_t j = from; j < set->tensor_end[t]; j++)
				out[j] += set->weight[w] * in[w][j];
	}
}

/* Ring all-reduces of r (n + m) floats for each matrix, and of what goes dense. */
static inline double oracle_powersgd_bytes(const struct oracle_setup *p, int range)
{
	double floats = 0;

	for (int t = 0; t < p->tensors; t++) {
		int64_t from = t ? p->tensor_end[t - 1] : 0;

		if (from < p->offset[range] || from >= p->offset[range] + p->length[range])
			continue;
		floats += oracle_powersgd_matrix(p, t) ? p->compress_key[POWERSGD_RANK] * (double)(p->tensor_rows[t] + p->tensor_columns[t]) :
		          (double)(p->tensor_end[t] - from);
	}
	return 2.0 * (p->workers - 1) * 4 * floats;
}

static const struct oracle_compressor oracle_powersgd = {
	.name = "powersgd",
	.bound = 5e-4,
	.draw = oracle_powersgd_draw,
	.keys = oracle_powersgd_keys,
	.average = oracle_powersgd_range,
	.bytes = oracle_powersgd_bytes,
};

#endif
