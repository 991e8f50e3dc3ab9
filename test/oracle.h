/*
 * The trajectory oracle: all workers one after the other, in double precision, written from the papers and not from the code.
 *
 *   S-SGD       x, v <- optimizer(x, v, average of g_i)                                                    every step
 *   Local SGD   x_i, v_i <- optimizer(x_i, v_i, g_i); every k steps: z <- z + average(x_i - z), x_i <- z
 *   CoCoD-SGD   Shen et al., IJCAI 2019: every k steps: A <- what was launched k steps ago (at first x_0);
 *               x_i <- A + (x_i - snapshot_i); snapshot_i <- x_i; launch the average of the snapshots
 *   average     dense: sum_i w_i in_i.  top-k: each worker's k largest of residual + input.  gTop-k (Shi et al., ICDCS 2019):
 *               lists merged by recursive doubling, k largest of the sum survive each merge; a pick that is lost in any merge on
 *               its way returns to the residual of whoever picked it. Ranks beyond a power of two fold in first.
 *
 * Choosing the k largest is discontinuous: the oracle keeps the narrowest gap between a value that was taken and one that was not,
 * and a test takes another seed if float rounding could have chosen otherwise.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ORACLE_WORKERS = 8, ORACLE_RANGES = 8 };
enum oracle_algorithm { SSGD, LOCAL, COCOD };
enum oracle_method { DENSE, TOPK, GTOPK };

struct oracle_setup {
	int workers;
	int64_t n;
	const bool *real;               /* n: false where the arena is padding (no gradient) */
	uint64_t seed;
	enum oracle_algorithm algorithm;
	int64_t period;
	enum oracle_method method;
	double density, warmup[4];      /* warmup[e]: density of epoch e */
	int warmups;
	int ranges;                     /* the pieces that the compressor chooses in */
	int64_t offset[ORACLE_RANGES], length[ORACLE_RANGES];
	double weight[ORACLE_WORKERS];
	double lr, lr_decay;            /* lr of step t: lr (1 - lr_decay t) */
	double momentum, weight_decay;
	bool nesterov, adamw;
};

struct oracle {
	const struct oracle_setup *set;
	double *x[ORACLE_WORKERS], *m[ORACLE_WORKERS], *s[ORACLE_WORKERS], *g[ORACLE_WORKERS];
	double *snapshot[ORACLE_WORKERS], *send[ORACLE_WORKERS], *residual[ORACLE_WORKERS];
	double *z, *flight, *average;
	int64_t t, epoch, averages;
	double gap;                     /* the narrowest choice so far */
};

/* ---- the problem: a gradient that differs by worker and step and is not linear in x ---- */

static inline double noise(uint64_t a, uint64_t b, uint64_t c, uint64_t d)      /* in [-1, 1) */
{
	uint64_t z = a * 0x9E3779B97F4A7C15u + b * 0xBF58476D1CE4E5B9u + c * 0x94D049BB133111EBu + d * 0xD6E8FEB86659FD93u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return (double)((z ^ (z >> 31)) >> 11) / 4503599627370496.0 - 1;
}

static inline double problem_start(const struct oracle_setup *p, int64_t j) { return p->real[j] ? (float)noise(p->seed, 1, 2, (uint64_t)j) : 0; }

static inline double problem_gradient(const struct oracle_setup *p, int worker, int64_t t, int64_t j, const double *x)
{
	double slope, centre, push;

	if (!p->real[j])
		return 0;
	slope = 1 + 0.5 * noise(p->seed, 3, (uint64_t)worker, (uint64_t)j);
	centre = noise(p->seed, 4, (uint64_t)worker, (uint64_t)j);
	push = noise(p->seed, 5 + (uint64_t)t, (uint64_t)worker, (uint64_t)j);
	return slope * (x[j] - centre) + 0.4 * sin(2 * x[(j * 7 + 3) % p->n] + push) + push;
}

static inline double problem_lr(const struct oracle_setup *p, int64_t t) { return p->lr * (1 - p->lr_decay * (double)t); }

/* ---- choosing ---- */

struct candidate { double v; int64_t index; };

static inline int by_size(const void *a, const void *b)
{
	const struct candidate *p = a, *q = b;

	if (fabs(p->v) != fabs(q->v))
		return fabs(p->v) > fabs(q->v) ? -1 : 1;
	return p->index < q->index ? -1 : 1;
}

/* Leaves the k largest of `count` candidates in front. */
static inline void choose(struct oracle *o, struct candidate *c, int64_t count, int64_t k)
{
	qsort(c, (size_t)count, sizeof(*c), by_size);
	if (k < count && c[k].v != 0 && fabs(c[k - 1].v) - fabs(c[k].v) < o->gap)
		o->gap = fabs(c[k - 1].v) - fabs(c[k].v);
}

static inline double oracle_density(const struct oracle *o)
{
	return o->epoch < o->set->warmups ? o->set->warmup[o->epoch] : o->set->density;
}

static inline int64_t oracle_k(double density, int64_t n)
{
	int64_t k = (int64_t)floor(density * (double)n);

	return k < 1 ? 1 : k > n ? n : k;
}

/* ---- averages ---- */

/* Each worker's picks go to value/picked (whole arenas); they leave its residual. */
static inline void pick(struct oracle *o, int64_t from, int64_t n, int64_t k, double *const in[], double *value[], bool *picked[])
{
	struct candidate *c = malloc((size_t)n * sizeof(*c));

	for (int i = 0; i < o->set->workers; i++) {
		for (int64_t j = 0; j < n; j++) {
			o->residual[i][from + j] += in[i][from + j];
			c[j] = (struct candidate){ o->residual[i][from + j], from + j };
			picked[i][from + j] = false;
		}
		choose(o, c, n, k);
		for (int64_t j = 0; j < k; j++) {
			picked[i][c[j].index] = true;
			value[i][c[j].index] = c[j].v;
			o->residual[i][c[j].index] = 0;
		}
	}
	free(c);
}

/* One list of the recursive doubling, as a whole arena; members: the workers whose picks are summed in it. */
struct merged {
	double *v;
	bool *in;
	unsigned members;
};

static inline void merge_lists(struct oracle *o, int64_t from, int64_t n, int64_t k, struct merged *a, const struct merged *b,
                               bool *picked[], bool *lost[])
{
	struct candidate *c = malloc((size_t)n * sizeof(*c));
	int64_t count = 0;

	for (int64_t j = from; j < from + n; j++)
		if (a->in[j] || b->in[j])
			c[count++] = (struct candidate){ (a->in[j] ? a->v[j] : 0) + (b->in[j] ? b->v[j] : 0), j };
	choose(o, c, count, k);
	memset(a->in + from, 0, (size_t)n * sizeof(bool));
	for (int64_t j = 0; j < k; j++) {
		a->in[c[j].index] = true;
		a->v[c[j].index] = c[j].v;
	}
	a->members |= b->members;
	for (int i = 0; i < o->set->workers; i++)
		for (int64_t j = from; j < from + n; j++)
			if (a->members >> i & 1 && picked[i][j] && !a->in[j])
				lost[i][j] = true;
	free(c);
}

static inline void average_gtopk(struct oracle *o, int64_t from, int64_t n, int64_t k, double *value[], bool *picked[], double *out)
{
	int P = o->set->workers, power = 1;
	struct merged list[ORACLE_WORKERS];
	bool *lost[ORACLE_WORKERS];

	while (2 * power <= P)
		power *= 2;
	for (int i = 0; i < P; i++) {
		lost[i] = calloc((size_t)o->set->n, sizeof(bool));
		list[i] = (struct merged){ calloc((size_t)o->set->n, sizeof(double)), calloc((size_t)o->set->n, sizeof(bool)), 1u << i };
		for (int64_t j = from; j < from + n; j++) {
			list[i].in[j] = picked[i][j];
			list[i].v[j] = o->set->weight[i] * value[i][j];
		}
	}
	for (int i = power; i < P; i++)
		merge_lists(o, from, n, k, &list[i - power], &list[i], picked, lost);
	/* What the two partners of a round compute is the same list: one computation a pair, in the lowest of the group. */
	for (int step = 1; step < power; step *= 2)
		for (int i = 0; i < power; i += 2 * step)
			merge_lists(o, from, n, k, &list[i], &list[i + step], picked, lost);
	for (int64_t j = from; j < from + n; j++)
		out[j] = list[0].in[j] ? list[0].v[j] : 0;
	for (int i = 0; i < P; i++) {
		for (int64_t j = from; j < from + n; j++)
			if (lost[i][j])
				o->residual[i][j] += value[i][j];
		free(lost[i]);
		free(list[i].v);
		free(list[i].in);
	}
}

static inline void oracle_average(struct oracle *o, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	double *value[ORACLE_WORKERS];
	bool *picked[ORACLE_WORKERS];

	o->averages++;
	for (int i = 0; i < set->workers; i++) {
		value[i] = calloc((size_t)set->n, sizeof(double));
		picked[i] = calloc((size_t)set->n, sizeof(bool));
	}
	for (int r = 0; r < set->ranges; r++) {
		int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);

		if (set->method != DENSE)
			pick(o, from, n, k, in, value, picked);
		if (set->method == GTOPK) {
			average_gtopk(o, from, n, k, value, picked, out);
			continue;
		}
		for (int64_t j = from; j < from + n; j++) {
			out[j] = 0;
			for (int i = 0; i < set->workers; i++)
				if (set->method == DENSE)
					out[j] += set->weight[i] * in[i][j];
				else if (picked[i][j])
					out[j] += set->weight[i] * value[i][j];
		}
	}
	for (int i = 0; i < set->workers; i++) {
		free(value[i]);
		free(picked[i]);
	}
}

/* ---- the optimizers, from PyTorch's documentation ---- */

static inline void oracle_optimize(struct oracle *o, int i, const double *gradient)
{
	const struct oracle_setup *p = o->set;
	double lr = problem_lr(p, o->t), steps = (double)o->t + 1, *x = o->x[i], *m = o->m[i], *s = o->s[i];

	for (int64_t j = 0; j < p->n; j++) {
		double g = gradient[j];

		if (p->adamw) {
			x[j] -= lr * p->weight_decay * x[j];
			m[j] = 0.9 * m[j] + 0.1 * g;
			s[j] = 0.999 * s[j] + 0.001 * g * g;
			x[j] -= lr * (m[j] / (1 - pow(0.9, steps))) / (sqrt(s[j] / (1 - pow(0.999, steps))) + 1e-8);
			continue;
		}
		g += p->weight_decay * x[j];
		if (p->momentum != 0) {
			m[j] = o->t == 0 ? g : p->momentum * m[j] + g;
			g = p->nesterov ? g + p->momentum * m[j] : m[j];
		}
		x[j] -= lr * g;
	}
}

/* ---- the algorithms ---- */

static inline void oracle_step(struct oracle *o)
{
	const struct oracle_setup *p = o->set;
	bool round = (o->t + 1) % p->period == 0;

	for (int i = 0; i < p->workers; i++)
		for (int64_t j = 0; j < p->n; j++)
			o->g[i][j] = problem_gradient(p, i, o->t, j, o->x[i]);
	if (p->algorithm == SSGD)
		oracle_average(o, o->g, o->average);
	for (int i = 0; i < p->workers; i++)
		oracle_optimize(o, i, p->algorithm == SSGD ? o->average : o->g[i]);
	o->t++;
	if (p->algorithm == SSGD || !round)
		return;
	if (p->algorithm == COCOD) {
		for (int64_t j = 0; j < p->n; j++)
			o->z[j] += o->flight[j];
		for (int i = 0; i < p->workers; i++)
			for (int64_t j = 0; j < p->n; j++) {
				o->x[i][j] = o->z[j] + (o->x[i][j] - o->snapshot[i][j]);
				o->snapshot[i][j] = o->x[i][j];
			}
	}
	for (int i = 0; i < p->workers; i++)
		for (int64_t j = 0; j < p->n; j++)
			o->send[i][j] = o->x[i][j] - o->z[j];
	oracle_average(o, o->send, o->flight);
	if (p->algorithm == LOCAL)
		for (int64_t j = 0; j < p->n; j++) {
			o->z[j] += o->flight[j];
			for (int i = 0; i < p->workers; i++)
				o->x[i][j] = o->z[j];
		}
}

static inline double oracle_mean(const struct oracle *o, int64_t j)
{
	double mean = 0;

	for (int i = 0; i < o->set->workers; i++)
		mean += o->set->weight[i] * o->x[i][j];
	return mean;
}

static inline void oracle_open(struct oracle *o, const struct oracle_setup *set)
{
	memset(o, 0, sizeof(*o));
	o->set = set;
	o->gap = INFINITY;
	o->z = calloc((size_t)set->n, sizeof(double));
	o->flight = calloc((size_t)set->n, sizeof(double));
	o->average = calloc((size_t)set->n, sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		double **vector[] = { &o->x[i], &o->m[i], &o->s[i], &o->g[i], &o->snapshot[i], &o->send[i], &o->residual[i] };

		for (size_t v = 0; v < sizeof(vector) / sizeof(*vector); v++)
			*vector[v] = calloc((size_t)set->n, sizeof(double));
		for (int64_t j = 0; j < set->n; j++)
			o->x[i][j] = o->snapshot[i][j] = o->z[j] = problem_start(set, j);
	}
}

static inline void oracle_close(struct oracle *o)
{
	for (int i = 0; i < o->set->workers; i++) {
		double *vector[] = { o->x[i], o->m[i], o->s[i], o->g[i], o->snapshot[i], o->send[i], o->residual[i] };

		for (size_t v = 0; v < sizeof(vector) / sizeof(*vector); v++)
			free(vector[v]);
	}
	free(o->z);
	free(o->flight);
	free(o->average);
}

/*
 * The second oracle of CoCoD-SGD: the closed form of the proof (supplement, eq. 9), plain SGD and dense averages only:
 *     x_t^i = xhat_{(floor(t/k)-1) k} - sum over tau from (floor(t/k)-1) k to t-1 of lr G_tau^i,   xhat_0 before the first
 * x: (steps + 1) × workers × n, filled in for t = 0 … steps.
 */
static inline void oracle_closed_form(const struct oracle_setup *p, int64_t steps, double *x)
{
	int64_t n = p->n, row = p->workers * n;
	double *moved = calloc((size_t)((steps + 1) * row), sizeof(double));      /* sum of lr G up to t */

	for (int64_t j = 0; j < row; j++)
		x[j] = problem_start(p, j % n);
	for (int64_t t = 0; t < steps; t++) {
		int64_t base = ((t + 1) / p->period - 1) * p->period;

		if (base < 0)
			base = 0;
		for (int i = 0; i < p->workers; i++) {
			const double *now = x + t * row + i * n;

			for (int64_t j = 0; j < n; j++)
				moved[(t + 1) * row + i * n + j] = moved[t * row + i * n + j] + problem_lr(p, t) * problem_gradient(p, i, t, j, now);
		}
		for (int i = 0; i < p->workers; i++)
			for (int64_t j = 0; j < n; j++) {
				double mean = 0;

				for (int w = 0; w < p->workers; w++)
					mean += p->weight[w] * x[base * row + w * n + j];
				x[(t + 1) * row + i * n + j] = mean - (moved[(t + 1) * row + i * n + j] - moved[base * row + i * n + j]);
			}
	}
	free(moved);
}

#endif
