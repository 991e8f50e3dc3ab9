/*
 * Hierarchical top-k (Shi et al., MLSys 2021): in each node the sum of every shard, and of it the k largest with what was left there. Shards
 * are whole units of 16. A residual is in units of the shard's owner. Nodes are two or three neighbours as far as that divides the world,
 * or two hosts that have every other rank each (kit_two_hosts() in sync_kit.h); if these are of unequal size, they have no common one but 1.
 */
#ifndef ORACLE_COMPRESS_HIERARCHICAL_H
#define ORACLE_COMPRESS_HIERARCHICAL_H

#include "../../core/die.h"
#include "compress_list.h"

static inline bool hierarchical_on_hosts(const struct oracle_setup *p) { return strstr(p->compressor->name, "hosts") != NULL; }

static inline int hierarchical_members(const struct oracle_setup *p)
{
	int best = 1, wish = p->density < 0.1 ? 2 : 3;

	if (hierarchical_on_hosts(p))
		return p->workers % 2 ? 1 : p->workers / 2;
	for (int g = 1; g <= wish; g++)
		if (p->workers % g == 0)
			best = g;
	return best;
}

/* Of worker i. */
struct hierarchical_seat {
	int node, member;
};

static inline struct hierarchical_seat hierarchical_seat(const struct oracle_setup *p, int i)
{
	int g = hierarchical_members(p);

	if (hierarchical_on_hosts(p) && g > 1)
		return (struct hierarchical_seat){ i % 2, i / 2 };
	return (struct hierarchical_seat){ i / g, i % g };
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
	for (int i = 0; i < set->workers; i++) {        /* i owns its node's shard of its own number */
		struct hierarchical_seat seat = hierarchical_seat(set, i);
		int64_t begin = from + hierarchical_begin(n, g, seat.member), end = from + hierarchical_begin(n, g, seat.member + 1), k;

		if (begin == end)
			continue;
		k = oracle_k(oracle_density(o), end - begin);
		for (int64_t j = begin; j < end; j++) {
			for (int w = 0; w < set->workers; w++)
				if (hierarchical_seat(set, w).node == seat.node)
					o->residual[i][j] += set->weight[w] * in[w][j] / set->weight[i];
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
	sets[0] = xasprintf("compress.group=%d", hierarchical_on_hosts(p) ? 0 : hierarchical_members(p));
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
		int member = hierarchical_seat(p, i).member;
		int64_t length = hierarchical_begin(n, g, member + 1) - hierarchical_begin(n, g, member);
		double list = length ? oracle_pairs_bytes(p, oracle_k(p->density, length)) : 0;

		bytes += 4.0 * (double)(n - length) + list * (nodes - 1) + list * nodes * (g - 1);
	}
	return bytes;
}

#define HIERARCHICAL(...) \
	{ .sparse = true, .method = "hierarchical", .keys = oracle_hierarchical_keys, .average = oracle_hierarchical_average, \
	  .bytes = oracle_hierarchical_bytes, __VA_ARGS__ }
static const struct oracle_compressor oracle_hierarchical = HIERARCHICAL(.name = "hierarchical, groups");
static const struct oracle_compressor oracle_hierarchical_hosts = HIERARCHICAL(.name = "hierarchical, hosts");

#endif
