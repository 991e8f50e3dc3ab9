/*
 * Gaussian-k (Shi et al., 2019): the threshold of a normal distribution with the data's mean and deviation, tried three times. At density 1
 * everything is sent. A count that a float's rounding of the threshold could change into another decision counts as a close choice.
 */
#ifndef ORACLE_COMPRESS_GAUSSIAN_K_H
#define ORACLE_COMPRESS_GAUSSIAN_K_H

#include "compress_list.h"

static inline int64_t reaching(const double *v, int64_t n, double bound)
{
	int64_t count = 0;

	for (int64_t j = 0; j < n; j++)
		count += fabs(v[j]) >= bound;
	return count;
}

static inline double correction(int64_t count, int64_t k) { return (double)count < 2.0 * (double)k / 3 ? 0.5 : (double)count > 4.0 * (double)k / 3 ? 1.5 : 1; }

/* z beyond which, on both sides together, lies the share p of a normal distribution: Newton's method on erfc. */
static inline double two_sided_quantile(double p)
{
	double z = 0;

	for (int i = 0; i < 100; i++)
		z += (erfc(z / sqrt(2)) - p) / (sqrt(2 / acos(-1)) * exp(-z * z / 2));
	return z;
}

static inline double gaussian_bound(struct oracle *o, const double *v, int64_t n, int64_t k)
{
	double mean = 0, variance = 0, bound;

	if (k == n)
		return 0;
	for (int64_t j = 0; j < n; j++)
		mean += v[j] / (double)n;
	for (int64_t j = 0; j < n; j++)
		variance += (v[j] - mean) * (v[j] - mean) / (double)n;
	bound = fabs(mean) + two_sided_quantile((double)k / (double)n) * sqrt(variance);
	for (int i = 0; i < 2; i++) {
		double factor = correction(reaching(v, n, bound), k), margin = 1e-5;

		if (correction(reaching(v, n, bound * (1 + margin)), k) != factor || correction(reaching(v, n, bound * (1 - margin)), k) != factor)
			o->gap = 0;
		bound *= factor;
	}
	return bound;
}

static inline void oracle_gaussian_k_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);

	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		for (int64_t j = from; j < from + n; j++)
			o->residual[i][j] += in[i][j];
		send_above(o, i, from, n, k, gaussian_bound(o, o->residual[i] + from, n, k), out);
	}
}

static const struct oracle_compressor oracle_gaussian_k = {
	.name = "gaussian-k",
	.sparse = true,
	.average = oracle_gaussian_k_average,
	.bytes = oracle_list_bytes,
};

#endif
