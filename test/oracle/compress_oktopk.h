/*
 * Ok-Topk (Li & Hoefler, PPoPP 2022): sparse all-reduce by regions, in blocks of 1.5 k / P picks. Exact choices in every third round, so
 * that short runs see several; between them the thresholds and regions of the last.
 */
#ifndef ORACLE_COMPRESS_OKTOPK_H
#define ORACLE_COMPRESS_OKTOPK_H

#include "../../core/die.h"
#include "compress_list.h"

enum { OKTOPK_EVERY = 3, OKTOPK_KEPT = 32 };

/* What is kept of a range, in o->kept. */
struct oktopk_kept {
	double global, k, since, local[ORACLE_WORKERS], bound[ORACLE_WORKERS + 1];
};

static inline int64_t oktopk_room(int64_t k, int workers)
{
	int64_t room = (int64_t)floor(1.5 * (double)k / workers);

	return room < 1 ? 1 : room < k ? room : k;
}

static inline int by_place(const void *a, const void *b)
{
	const struct candidate *p = a, *q = b;

	return p->index < q->index ? -1 : p->index > q->index;
}

/*
 * Those of v in [from, to) that are not 0 and reach the bound, at most k, the largest; sorted by place. Returns how many. What equals the
 * bound is the element that gave it, back from where it went, with nothing added to it (learning rate 0): floats see that as well.
 */
static inline int64_t oktopk_choose(struct oracle *o, const double *v, int64_t from, int64_t to, int64_t k, double bound, struct candidate *c)
{
	int64_t count = 0;

	for (int64_t j = from; j < to; j++) {
		double gap = fabs(fabs(v[j]) - bound);

		if (v[j] != 0 && fabs(v[j]) >= bound)
			c[count++] = (struct candidate){ v[j], j };
		if (v[j] != 0 && bound > 0 && gap > 0 && gap < o->gap)
			o->gap = gap;
	}
	if (count > k) {
		choose(o, c, count, k);
		count = k;
	}
	qsort(c, (size_t)count, sizeof(*c), by_place);
	return count;
}

/* The k largest of v, zeros too if need be, sorted by place; returns the smallest magnitude. */
static inline double oktopk_exact(struct oracle *o, const double *v, int64_t from, int64_t n, int64_t k, struct candidate *c)
{
	double least;

	for (int64_t j = 0; j < n; j++)
		c[j] = (struct candidate){ v[from + j], from + j };
	choose(o, c, n, k);
	least = fabs(c[k - 1].v);
	qsort(c, (size_t)k, sizeof(*c), by_place);
	return least;
}

static inline void oracle_oktopk_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	struct oktopk_kept *kept = (struct oktopk_kept *)(oracle_need(o, &o->kept[0]) + OKTOPK_KEPT * r);
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n), room = oktopk_room(k, set->workers);
	struct candidate *c = malloc((size_t)n * sizeof(*c));
	double *picked[ORACLE_WORKERS], *sum = calloc((size_t)(from + n), sizeof(double));
	bool exact;

	if ((double)k != kept->k) {
		for (int p = 0; p <= set->workers && kept->k == 0; p++)
			kept->bound[p] = (double)(p * n / set->workers);
		kept->k = (double)k;
		kept->since = 0;
	}
	exact = (int64_t)kept->since++ % OKTOPK_EVERY == 0 || k == n;
	for (int i = 0; i < set->workers; i++) {
		int64_t count = k, in_region[ORACLE_WORKERS] = { 0 };

		picked[i] = calloc((size_t)(from + n), sizeof(double));
		for (int64_t j = from; j < from + n; j++)
			o->residual[i][j] += in[i][j];
		if (exact)
			kept->local[i] = oktopk_exact(o, o->residual[i], from, n, k, c);
		else
			count = oktopk_choose(o, o->residual[i], from, from + n, k, kept->local[i], c);
		for (int64_t j = 0; j < count; j++) {
			int p = 0;

			while (p + 1 < set->workers && (double)(c[j].index - from) >= kept->bound[p + 1])
				p++;
			if (in_region[p]++ >= room)
				continue;       /* it stays where it is */
			picked[i][c[j].index] = c[j].v;
			o->residual[i][c[j].index] = 0;
			sum[c[j].index] += set->weight[i] * c[j].v;
		}
	}
	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int p = 0; p < set->workers; p++) {
		int64_t begin = from + (int64_t)kept->bound[p], end = p + 1 < set->workers ? from + (int64_t)kept->bound[p + 1] : from + n;
		int64_t count = oktopk_choose(o, sum, begin, end, room, exact ? 0 : kept->global, c);

		for (int64_t j = 0; j < count; j++)
			out[c[j].index] = c[j].v;
	}
	if (exact) {
		kept->global = oktopk_exact(o, out, from, n, k, c);
		memset(out + from, 0, (size_t)n * sizeof(double));
		for (int64_t j = 0; j < k; j++)
			out[c[j].index] = c[j].v;
		for (int p = 1; p < set->workers; p++)
			kept->bound[p] = (double)(c[p * k / set->workers].index - from);
	}
	for (int i = 0; i < set->workers; i++) {
		for (int64_t j = from; j < from + n; j++)
			if (out[j] == 0)
				o->residual[i][j] += picked[i][j];
		free(picked[i]);
	}
	free(sum);
	free(c);
}

static inline int oracle_oktopk_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xasprintf("compress.every=%d", OKTOPK_EVERY);
	sets[1] = xasprintf("compress.dense_steps=0");
	return 2;
}

/* Blocks of pairs of 8 bytes: one to each other owner, and one more to all that are gathered. */
static inline double oracle_oktopk_bytes(const struct oracle_setup *p, int range)
{
	int64_t n = p->length[range];

	return 2.0 * p->workers * (p->workers - 1) * 8 * (double)oktopk_room(oracle_k(p->density, n), p->workers);
}

static const struct oracle_compressor oracle_oktopk = {
	.name = "oktopk",
	.sparse = true,
	.keys = oracle_oktopk_keys,
	.average = oracle_oktopk_average,
	.bytes = oracle_oktopk_bytes,
};

#endif
