/*
 * Hierarchical top-k (Shi et al., MLSys 2021): nodes of two or three ranks if that divides the world; in each the sum of every shard, and of
 * it the k largest with what was left there. Shards are whole units of 16. A residual is in units of the shard's owner.
 */
#ifndef ORACLE_COMPRESS_HIERARCHICAL_H
#define ORACLE_COMPRESS_HIERARCHICAL_H

#include "../../core/die.h"
#include "compress_list.h"

static inline int hierarchical_wish(const struct oracle_setup *p) { return p->density < 0.1 ? 2 : 3; }

static inline int hierarchical_members(const struct oracle_setup *p)
{
	int best = 1;

	for (int g = 1; g <= hierarchical_wish(p); g++)
		if (p->workers % g == 0)
			best = g;
	return best;
}

static inline int64_t hierarchical_begin(int64_t n, int g, int m)
{
	int64_t units = (n + 15) / 16, begin = units * m / g * 16;

	return begin < n ? begin : n;
}

static inline void oracle_hierarchical_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r];
	int g = hierarchical_members(set);
	struct candidate *c = malloc((size_t)n * sizeof(*c));

	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {        /* i owns shard i % g of the node that begins at i - i % g */
		int64_t begin = from + hierarchical_begin(n, g, i % g), end = from + hierarchical_begin(n, g, i % g + 1), k;

		if (begin == end)
			continue;
		k = oracle_k(oracle_density(o), end - begin);
		for (int64_t j = begin; j < end; j++) {
			for (int member = i - i % g; member < i - i % g + g; member++)
				o->residual[i][j] += set->weight[member] * in[member][j] / set->weight[i];
			c[j - begin] = (struct candidate){ o->residual[i][j], j };
		}
		choose(o, c, end - begin, k);
		for (int64_t j = 0; j < k; j++)
			oracle_send(o, i, c[j].index, c[j].v, out);
	}
	free(c);
}

static inline int oracle_hierarchical_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("compress.group=%d", hierarchical_wish(p));
	return 1;
}

/* Message by message: each rank sends the shards that are not its own, its list to its like in the other nodes, and all lists of its shard
 * to the others of its node. */
static inline double oracle_hierarchical_bytes(const struct oracle_setup *p, int range)
{
	int64_t n = p->length[range];
	int g = hierarchical_members(p), nodes = p->workers / g;
	double bytes = 0;

	for (int i = 0; i < p->workers; i++) {
		int64_t length = hierarchical_begin(n, g, i % g + 1) - hierarchical_begin(n, g, i % g);
		double list = length ? oracle_pairs_bytes(p, oracle_k(p->density, length)) : 0;

		bytes += 4.0 * (double)(n - length) + list * (nodes - 1) + list * nodes * (g - 1);
	}
	return bytes;
}

static const struct oracle_compressor oracle_hierarchical = {
	.name = "hierarchical",
	.sparse = true,
	.keys = oracle_hierarchical_keys,
	.average = oracle_hierarchical_average,
	.bytes = oracle_hierarchical_bytes,
};

#endif
