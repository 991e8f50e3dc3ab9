/* Hard threshold with error feedback (Strom 2015; Sahu et al., 2021), at most k values a worker. */
#ifndef ORACLE_COMPRESS_THRESHOLD_H
#define ORACLE_COMPRESS_THRESHOLD_H

#include "../../core/die.h"
#include "compress_list.h"

/* In the units of what is averaged; so that messages are now too short, now not full. All of it at density 1. */
static inline double threshold_of(const struct oracle_setup *p)
{
	double unit = !strcmp(p->algorithm->name, "ssgd") ? 1 : p->lr, d = p->density;

	return d == 1 ? 0 : unit * (d < 0.03 ? 4 : d < 0.1 ? 0.8 : d < 0.2 ? 3 : 1.2);
}

static inline void oracle_threshold_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);

	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		for (int64_t j = from; j < from + n; j++)
			o->residual[i][j] += in[i][j];
		send_above(o, i, from, n, k, threshold_of(set), out);
	}
}

static inline int oracle_threshold_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("compress.threshold=%.17g", threshold_of(p));
	return 1;
}

static const struct oracle_compressor oracle_threshold = {
	.name = "threshold",
	.sparse = true,
	.keys = oracle_threshold_keys,
	.average = oracle_threshold_average,
	.bytes = oracle_list_bytes,
};

#endif
