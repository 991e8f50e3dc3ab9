/*
 * gTop-k on the paper's binary tree (Shi et al., ICDCS 2019, algorithm 3): in round r the ranks that are multiples of 2^r still have a
 * list; every second one sends it to the one before, which keeps the k largest of the sum. A pick that is missing in a list which
 * its worker has a part in is lost and goes back. The lossy form, of the paper's code, looks into the last list alone.
 */
#ifndef ORACLE_COMPRESS_GTOPK_H
#define ORACLE_COMPRESS_GTOPK_H

#include "../../core/die.h"
#include "base.h"

static inline void oracle_gtopk_merge(struct oracle *o, int64_t from, int64_t n, int64_t k, double *value[], bool *picked[], bool lossy,
                                      double *out)
{
	struct merged list[ORACLE_WORKERS];
	bool *lost[ORACLE_WORKERS];
	int P = o->set->workers;

	for (int i = 0; i < P; i++) {
		lost[i] = calloc((size_t)o->set->n, sizeof(bool));
		list[i] = (struct merged){ calloc((size_t)o->set->n, sizeof(double)), calloc((size_t)o->set->n, sizeof(bool)), 1u << i };
		for (int64_t j = from; j < from + n; j++) {
			list[i].in[j] = picked[i][j];
			list[i].v[j] = o->set->weight[i] * value[i][j];
		}
	}
	for (int step = 1; step < P; step *= 2)
		for (int i = 0; i + step < P; i += 2 * step)
			merge_lists(o, from, n, k, &list[i], &list[i + step], picked, lost);
	for (int64_t j = from; j < from + n; j++)
		out[j] = list[0].in[j] ? list[0].v[j] : 0;
	for (int i = 0; i < P; i++) {
		for (int64_t j = from; j < from + n; j++)
			if (picked[i][j] && (lossy ? !list[0].in[j] : lost[i][j]))
				o->residual[i][j] += value[i][j];
		free(lost[i]);
	}
	for (int i = 0; i < P; i++) {
		free(list[i].v);
		free(list[i].in);
	}
}

static inline void oracle_gtopk_tree(struct oracle *o, int r, double *const in[], double *out, bool lossy)
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
	oracle_gtopk_merge(o, from, n, k, value, picked, lossy, out);
	for (int i = 0; i < set->workers; i++) {
		free(value[i]);
		free(picked[i]);
	}
}

static inline void oracle_tree_average(struct oracle *o, int r, double *const in[], double *out) { oracle_gtopk_tree(o, r, in, out, false); }
static inline void oracle_lossy_average(struct oracle *o, int r, double *const in[], double *out) { oracle_gtopk_tree(o, r, in, out, true); }

static inline int oracle_tree_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xstrdup("compress.variant=tree");
	return 1;
}

static inline int oracle_lossy_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xstrdup("compress.variant=tree-lossy");
	return 1;
}

/* P - 1 lists of pairs of 8 bytes go up, as many down, and with each of those a byte a pick. */
static inline double oracle_lossy_bytes(const struct oracle_setup *p, int range)
{
	return (p->workers - 1) * 2.0 * 8 * (double)oracle_k(p->density, p->length[range]);
}

static inline double oracle_tree_bytes(const struct oracle_setup *p, int range)
{
	return oracle_lossy_bytes(p, range) + (p->workers - 1) * (double)oracle_k(p->density, p->length[range]);
}

static const struct oracle_compressor oracle_gtopk_whole = {
	.name = "gtopk, tree", .method = "gtopk", .sparse = true, .keys = oracle_tree_keys, .average = oracle_tree_average,
	.bytes = oracle_tree_bytes,
};
static const struct oracle_compressor oracle_gtopk_lossy = {
	.name = "gtopk, lossy tree", .method = "gtopk", .sparse = true, .forgets = true, .keys = oracle_lossy_keys,
	.average = oracle_lossy_average, .bytes = oracle_lossy_bytes,
};

#endif
