/*
 * CHOCO-SGD, Koloskova, Stich, Jaggi, ICML 2019, algorithm 2, with every worker's copy of its model, and its news
 * Q(x_i - y_i) to all: x_i += gamma sum_j W_ij (y_j - y_i) with what the copies are after the news, or (the later paper's order, overlap)
 * before it. The copies begin as the model. W as for D-PSGD, on a graph that is the same in all rounds: ring; exponential with all its
 * jumps at once.
 *
 * Q: all; the k largest, rounded to halves or not, or those above a threshold that is given, or comes from a sample, or from mean and
 * deviation; k drawn ones; or a quantiser's first rounding, divided by its tau.
 */
#ifndef ORACLE_CHOCO_H
#define ORACLE_CHOCO_H

#include "compress_gaussian_k.h"
#include "compress_list.h"
#include "compress_sampled.h"
#include "compress_threshold.h"
#include "dpsgd.h"

enum { CHOCO_GRAPH, CHOCO_GAMMA, CHOCO_OVERLAP };

struct oracle_choco {
	double *y[ORACLE_WORKERS];
};

static inline void oracle_choco_draw(struct oracle_setup *p, struct rng *rng, int64_t steps)
{
	(void)steps;
	p->key[CHOCO_GRAPH] = rng_below(rng, 2) ? ORACLE_RING : ORACLE_EXPONENTIAL;
	p->key[CHOCO_GAMMA] = 0.25 * (1 + rng_below(rng, 4));
	p->key[CHOCO_OVERLAP] = rng_below(rng, 2);
}

static inline int oracle_choco_keys(const struct oracle_setup *p, const char **sets)
{
	int count = oracle_gossip_keys((enum oracle_graph)p->key[CHOCO_GRAPH], sets);

	sets[count++] = xasprintf("sync.gamma=%.17g", p->key[CHOCO_GAMMA]);
	sets[count++] = xasprintf("sync.overlap=%d", (int)p->key[CHOCO_OVERLAP]);
	return count;
}

static inline void oracle_choco_open(struct oracle *o)
{
	struct oracle_choco *own = o->own;

	for (int i = 0; i < o->set->workers; i++) {
		own->y[i] = oracle_vector(o);
		memcpy(own->y[i], o->x[i], (size_t)o->set->n * sizeof(double));
	}
}

/* Also returns how many there are on either side of all edges. */
static inline int oracle_choco_graph(const struct oracle_setup *p, bool near_by[ORACLE_WORKERS][ORACLE_WORKERS])
{
	bool now[ORACLE_WORKERS][ORACLE_WORKERS];
	int ends = 0;

	memset(near_by, 0, ORACLE_WORKERS * sizeof(*near_by));
	for (int64_t round = 0; round < 6; round++) {
		oracle_graph((enum oracle_graph)p->key[CHOCO_GRAPH], p->workers, round, now);
		for (int i = 0; i < p->workers; i++)
			for (int j = 0; j < p->workers; j++)
				near_by[i][j] = near_by[i][j] || now[i][j] || now[j][i];
	}
	for (int i = 0; i < p->workers; i++)
		for (int j = 0; j < p->workers; j++)
			ends += near_by[i][j];
	return ends;
}

static inline const struct oracle_quantizer *oracle_choco_quantizer(const struct oracle_setup *p)
{
	return p->compressor && p->compressor->bytes == oracle_quantize_bytes ? (const struct oracle_quantizer *)p->compressor : NULL;
}

/* tau = 1 + the variance at most, in units of |v|^2 */
static inline double oracle_choco_tau(const struct oracle_quantizer *q)
{
	double d = (double)q->bucket, s = q->levels;

	if (q->rounding == ROUND_POWERS)
		return 1.125;
	return q->rounding == ROUND_LEVELS ? 1 + fmin(d / (4 * s * s), sqrt(d) / s) : 1;
}

static inline bool oracle_choco_averages_by(const struct oracle_setup *p, void (*average)(struct oracle *, int, double *const [], double *))
{
	return p->compressor && p->compressor->average == average;
}

/* Is it a list of the own largest, in one way or another; and in how many binary digits are their values, 0: all? */
static inline bool oracle_choco_lists(const struct oracle_setup *p)
{
	return p->method == TOPK || (p->compressor && p->compressor->bytes == oracle_list_bytes);
}

static inline int oracle_choco_digits(const struct oracle_setup *p) { return p->compressor ? p->compressor->digits : 0; }

/* Of v in [from, from + n) what goes into a list of k; to c, returns how many. */
static inline int64_t oracle_choco_choose(struct oracle *o, const double *v, int64_t from, int64_t n, int64_t k, struct candidate *c)
{
	if (oracle_choco_averages_by(o->set, oracle_sampled_average))
		return oracle_choose_sampled(o, v, from, n, k, c);
	if (oracle_choco_averages_by(o->set, oracle_threshold_average))
		return oracle_choose_above(o, v, from, n, k, threshold_of(o->set), c);
	if (oracle_choco_averages_by(o->set, oracle_gaussian_k_average))
		return oracle_choose_above(o, v, from, n, k, gaussian_bound(o, v + from, n, k), c);
	for (int64_t j = 0; j < n; j++)
		c[j] = (struct candidate){ v[from + j], from + j };
	choose(o, c, n, k);
	return k;
}

/* Worker i's Q of v in range r, before which there were `rounds` of them. */
static inline void oracle_choco_news(struct oracle *o, int i, int r, int64_t rounds, const double *v, double *news)
{
	const struct oracle_setup *p = o->set;
	const struct oracle_quantizer *q = oracle_choco_quantizer(p);
	int64_t from = p->offset[r], n = p->length[r], k = oracle_k(oracle_density(o), n);

	memset(news + from, 0, (size_t)n * sizeof(double));
	if (q) {
		struct oracle_place at = { .average = (uint64_t)rounds, .stream = 2 * (uint32_t)i };

		oracle_quantize_range(o, q, at, from, from + n, v, NULL, news);
		for (int64_t j = from; j < from + n; j++)
			news[j] /= oracle_choco_tau(q);
	} else if (p->compressor == &oracle_randomk) {
		int64_t *place = calloc((size_t)k, sizeof(*place));

		randomk_places((uint64_t)rounds + 1, n, k, place);
		for (int64_t j = 0; j < k; j++)
			news[from + place[j]] = v[from + place[j]];
		free(place);
	} else if (oracle_choco_lists(p)) {
		struct candidate *c = malloc((size_t)n * sizeof(*c));

		k = oracle_choco_choose(o, v, from, n, k, c);
		for (int64_t j = 0; j < k; j++)
			news[c[j].index] = oracle_choco_digits(p) ? oracle_half(o, c[j].v, p->compressor->digits, p->compressor->least) : c[j].v;
		free(c);
	} else {
		memcpy(news + from, v + from, (size_t)n * sizeof(double));
	}
}

static inline void oracle_choco_mix(struct oracle *o)
{
	const struct oracle_setup *p = o->set;
	const struct oracle_choco *own = o->own;
	bool near_by[ORACLE_WORKERS][ORACLE_WORKERS];
	int degree = oracle_choco_graph(p, near_by) / p->workers;

	for (int i = 0; i < p->workers; i++)
		for (int l = 0; l < p->workers; l++)
			for (int64_t j = 0; near_by[i][l] && j < p->n; j++)
				o->x[i][j] += p->key[CHOCO_GAMMA] * fmin(1, p->weight[l] / p->weight[i]) / (degree + 1) *
				              (own->y[l][j] - own->y[i][j]);
}

static inline void oracle_choco_step(struct oracle *o)
{
	const struct oracle_setup *p = o->set;
	struct oracle_choco *own = o->own;
	double *v = calloc((size_t)p->n, sizeof(double)), *news = calloc((size_t)p->n, sizeof(double));
	bool overlap = p->key[CHOCO_OVERLAP] != 0;

	for (int i = 0; i < p->workers; i++)
		oracle_optimize(o, i, o->g[i]);
	if (overlap)
		oracle_choco_mix(o);
	for (int i = 0; i < p->workers && p->workers > 1; i++) {
		for (int64_t j = 0; j < p->n; j++)
			v[j] = o->x[i][j] - own->y[i][j];
		for (int r = 0; r < p->ranges; r++)
			oracle_choco_news(o, i, r, o->t * p->ranges + r, v, news);
		for (int64_t j = 0; j < p->n; j++)
			own->y[i][j] += news[j];
	}
	if (!overlap)
		oracle_choco_mix(o);
	free(v);
	free(news);
}

/* One message. */
static inline double oracle_choco_wire(const struct oracle_setup *p)
{
	const struct oracle_quantizer *q = oracle_choco_quantizer(p);
	double bytes = 0;

	for (int r = 0; r < p->ranges; r++) {
		int64_t n = p->length[r], k = oracle_k(p->density, n);

		for (int64_t b = 0; q && b < n; b += q->bucket)
			bytes += 4.0 * q->floats + 4 * q->bits * ceil((double)(n - b < q->bucket ? n - b : q->bucket) / 32);
		if (!q)
			bytes += p->compressor == &oracle_randomk ? 4.0 * (double)k : oracle_choco_lists(p) ? oracle_pairs_bytes(p, k) :
			         4.0 * (double)n;
	}
	return bytes;
}

static inline double oracle_choco_bytes_per_step(const struct oracle_setup *p, double unit)
{
	bool near_by[ORACLE_WORKERS][ORACLE_WORKERS];

	(void)unit;
	return oracle_choco_graph(p, near_by) * oracle_choco_wire(p);
}

static inline double oracle_choco_bytes(const struct oracle *o) { return (double)o->t * oracle_choco_bytes_per_step(o->set, 0); }

static const struct oracle_algorithm oracle_choco = {
	.name = "choco",
	.every_step = true,
	.dense_only = true,             /* here; test_mpi_choco has the others */
	.own = sizeof(struct oracle_choco),
	.draw = oracle_choco_draw,
	.keys = oracle_choco_keys,
	.open = oracle_choco_open,
	.step = oracle_choco_step,
	.bytes = oracle_choco_bytes,
	.bytes_per_step = oracle_choco_bytes_per_step,
	.worth = oracle_dpsgd_worth,
};

#endif
