/* Who owns which training sample (partition.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/config.h"
#include "../core/die.h"
#include "../core/rng.h"
#include "loader.h"
#include "partition.h"

/* ---- keys ---- */

const struct option partition_options[] = {
	{ "partition", OPTION_STRING, "\"iid\"", 0, 0, "iid|dirichlet|sorted", "who owns which training image: anybody, or by its label" },
	{ "alpha", OPTION_FLOAT, "0.3", 1e-3, 1e9, NULL, "partition dirichlet: the smaller, the fewer labels a worker has" },
	{ 0 },
};

static const char *const kind_name[] = { "iid", "sorted", "dirichlet" };

const char *partition_name(enum partition_kind kind) { return kind_name[kind]; }

struct partition_rule partition_rule(const struct config *config, uint64_t seed)
{
	const char *name = config_string(config, "data.partition");
	struct partition_rule rule = { .alpha = config_float(config, "data.alpha"), .seed = seed };

	while (strcmp(kind_name[rule.kind], name))
		rule.kind++;
	return rule;
}

/* ---- drawing the proportions ---- */

/* Logarithm of a gamma variate of shape a (Marsaglia & Tsang, 2000): with a small shape the number itself is often below the
 * smallest double. */
static double log_gamma_variate(struct rng *rng, double a)
{
	double shape = a < 1 ? a + 1 : a, d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

	for (;;) {
		double x = rng_normal(rng), v = 1 + c * x, u = 1 - rng_uniform(rng);

		if (v <= 0)
			continue;
		v = v * v * v;
		if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
			return log(d * v) + (a < 1 ? log(1 - rng_uniform(rng)) / a : 0);
	}
}

/* One row: how the workers share a class. Its mean is the share of the shard sizes, which keeps large alpha near iid. A share that
 * is nothing to speak of stays positive, or the balance might not exist. */
static void draw_row(struct rng *rng, double alpha, int workers, const int64_t *size, int64_t total, double *row)
{
	double most = -INFINITY;

	for (int w = 0; w < workers; w++) {
		row[w] = log_gamma_variate(rng, alpha * workers * (double)size[w] / (double)total);
		most = row[w] > most ? row[w] : most;
	}
	for (int w = 0; w < workers; w++)
		row[w] = exp(row[w] - most > -30 ? row[w] - most : -30);
}

/* ---- balancing: iterative proportional fitting (Deming & Stephan, 1940) ---- */

static double scale_to(double *value, int n, int stride, double want)
{
	double sum = 0, factor;

	for (int i = 0; i < n; i++)
		sum += value[(int64_t)i * stride];
	factor = sum > 0 ? want / sum : 0;
	for (int i = 0; i < n; i++)
		value[(int64_t)i * stride] *= factor;
	return fabs(sum - want);
}

static void balance(double *table, int classes, int workers, const int64_t *images, const int64_t *size)
{
	enum { MOST_ROUNDS = 2000 };

	for (int round = 0; round < MOST_ROUNDS; round++) {
		double off = 0;

		for (int c = 0; c < classes; c++)
			scale_to(table + (int64_t)c * workers, workers, 1, (double)images[c]);
		for (int w = 0; w < workers; w++)
			off = fmax(off, scale_to(table + w, classes, workers, (double)size[w]));
		if (off < 0.01)         /* of an image; whatever is left, rounding ends with exact sums */
			return;
	}
}

/* The worker to whom the table owes most of this class, among those with room. */
static int most_owed(const double *row, const int64_t *given, int stride, const int64_t *room, int workers)
{
	int best = -1;

	for (int w = 0; w < workers; w++)
		if (room[w] > 0 && (best < 0 || row[w] - (double)given[(int64_t)w * stride] > row[best] - (double)given[(int64_t)best * stride]))
			best = w;
	return best;
}

/* count[w][c]: whole parts first, then what is left of each class to whom most is owed. Sums are exact: the room that is left is as
 * much as the images that are. */
static void round_table(const double *table, int classes, int workers, const int64_t *images, const int64_t *size, int64_t *count)
{
	int64_t *room = xcalloc((size_t)workers, sizeof(*room)), *left = xcalloc((size_t)classes, sizeof(*left));

	memcpy(room, size, (size_t)workers * sizeof(*room));
	for (int c = 0; c < classes; c++) {
		left[c] = images[c];
		for (int w = 0; w < workers; w++) {
			int64_t whole = (int64_t)floor(table[(int64_t)c * workers + w]);

			whole = whole < room[w] ? whole : room[w];
			whole = whole < left[c] ? whole : left[c];
			count[(int64_t)w * classes + c] = whole;
			room[w] -= whole;
			left[c] -= whole;
		}
	}
	for (int c = 0; c < classes; c++)
		while (left[c] > 0) {
			const double *row = table + (int64_t)c * workers;
			int w = most_owed(row, count + c, classes, room, workers);
			double owed = row[w] - (double)count[(int64_t)w * classes + c];
			int64_t take = owed > 1 ? (int64_t)owed : 1;

			take = take < room[w] ? take : room[w];
			take = take < left[c] ? take : left[c];
			count[(int64_t)w * classes + c] += take;
			room[w] -= take;
			left[c] -= take;
		}
	free(left);
	free(room);
}

static void draw_counts(struct partition *p, const int64_t *images, const int64_t *size, int64_t total)
{
	double *table = xcalloc((size_t)p->classes * (size_t)p->workers, sizeof(*table));

	for (int c = 0; c < p->classes; c++) {
		struct rng rng;

		rng_init(&rng, p->rule.seed, RNG_PARTITION, (uint64_t)c, 0);
		draw_row(&rng, p->rule.alpha, p->workers, size, total, table + (int64_t)c * p->workers);
	}
	balance(table, p->classes, p->workers, images, size);
	round_table(table, p->classes, p->workers, images, size, p->count);
	free(table);
}

/* ---- the partition ---- */

/* Samples by label, in their order; start[c]: where a class begins. */
static uint32_t *sort_by_label(const struct split *split, int classes, const int64_t *images, int64_t *start)
{
	uint32_t *order = xcalloc((size_t)split->count, sizeof(*order));
	int64_t *at = xcalloc((size_t)classes + 1, sizeof(*at));

	for (int c = 0; c < classes; c++)
		at[c + 1] = at[c] + images[c];
	memcpy(start, at, (size_t)classes * sizeof(*start));
	for (int64_t i = 0; i < split->count; i++)
		order[at[split->label[i]]++] = (uint32_t)i;
	free(at);
	return order;
}

static void shuffle(struct rng *rng, uint32_t *list, int64_t n)
{
	for (int64_t i = n - 1; i > 0; i--) {
		uint32_t j = rng_below(rng, (uint32_t)i + 1), swap = list[i];

		list[i] = list[j];
		list[j] = swap;
	}
}

/* Deals out each class, shuffled, by the counts. */
static void deal(struct partition *p, const struct split *split, const int64_t *images)
{
	int64_t *start = xcalloc((size_t)p->classes, sizeof(*start));
	uint32_t *by_label = sort_by_label(split, p->classes, images, start);

	p->sample = xcalloc((size_t)split->count, sizeof(*p->sample));
	for (int c = 0; c < p->classes; c++) {
		struct rng rng;

		rng_init(&rng, p->rule.seed, RNG_PARTITION, (uint64_t)c, 1);
		shuffle(&rng, by_label + start[c], images[c]);
	}
	for (int w = 0; w < p->workers; w++) {
		int64_t to = p->from[w];

		for (int c = 0; c < p->classes; c++) {
			int64_t n = p->count[(int64_t)w * p->classes + c];

			memcpy(p->sample + to, by_label + start[c], (size_t)n * sizeof(*by_label));
			start[c] += n;
			to += n;
		}
		CHECK(to == p->from[w + 1]);
	}
	free(by_label);
	free(start);
}

/* In the order of the labels, shard after shard. */
static void cut_sorted(struct partition *p, const struct split *split, const int64_t *images)
{
	int64_t *start = xcalloc((size_t)p->classes, sizeof(*start));

	p->sample = sort_by_label(split, p->classes, images, start);
	for (int w = 0; w < p->workers; w++)
		for (int64_t i = p->from[w]; i < p->from[w + 1]; i++)
			p->count[(int64_t)w * p->classes + split->label[p->sample[i]]]++;
	free(start);
}

void partition_open(struct partition *p, const struct partition_rule *rule, const struct split *split, int classes, int workers, const int *batch)
{
	int64_t *images = xcalloc((size_t)classes, sizeof(*images)), *size = xcalloc((size_t)workers, sizeof(*size));

	*p = (struct partition){ .rule = *rule, .workers = workers, .classes = classes };
	p->from = xcalloc((size_t)workers + 1, sizeof(*p->from));
	for (int w = 0; w < workers; w++) {
		loader_shard(split->count, workers, batch, w, &p->from[w], &p->from[w + 1]);
		size[w] = p->from[w + 1] - p->from[w];
	}
	for (int64_t i = 0; i < split->count; i++) {
		CHECK(split->label[i] < classes);
		images[split->label[i]]++;
	}
	if (rule->kind != PARTITION_IID)
		p->count = xcalloc((size_t)workers * (size_t)classes, sizeof(*p->count));
	if (rule->kind == PARTITION_SORTED) {
		cut_sorted(p, split, images);
	} else if (rule->kind == PARTITION_DIRICHLET) {
		draw_counts(p, images, size, split->count);
		deal(p, split, images);
	}
	free(size);
	free(images);
}

void partition_close(struct partition *p)
{
	free(p->from);
	free(p->sample);
	free(p->count);
	*p = (struct partition){ 0 };
}

double partition_skew(const struct partition *p)
{
	double misplaced = 0, total = 0;

	if (!p->count)
		return 0;
	for (int c = 0; c < p->classes; c++) {
		double images = 0, all = (double)p->from[p->workers];

		for (int w = 0; w < p->workers; w++)
			images += (double)p->count[(int64_t)w * p->classes + c];
		for (int w = 0; w < p->workers; w++) {
			double fair = images * (double)(p->from[w + 1] - p->from[w]) / all;

			misplaced += fabs((double)p->count[(int64_t)w * p->classes + c] - fair) / 2;
		}
		total += images;
	}
	return misplaced / total;
}
