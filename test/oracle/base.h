/*
 * What the trajectory oracle is made of: the problem, choosing the k largest, the averages and the optimizers, for all workers one after
 * the other and in double precision. One file beside this one for each algorithm, and a line in oracle.h.
 *
 * Choosing the k largest is discontinuous: the oracle keeps the narrowest gap between a value that was taken and one that was not,
 * and a test takes another seed if float rounding could have chosen otherwise.
 */
#ifndef ORACLE_BASE_H
#define ORACLE_BASE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ORACLE_WORKERS = 16, ORACLE_RANGES = 8, ORACLE_KEYS = 8, ORACLE_VECTORS = 320 };
enum oracle_method { DENSE, TOPK, GTOPK };
enum oracle_merged { KEEP, SHARE, FORGET };     /* what each optimizer does with its state where models have been averaged */

struct oracle_algorithm;
struct oracle_compressor;

struct oracle_setup {
	int workers;
	int64_t n;
	const bool *real;               /* n: false where the arena is padding (no gradient) */
	uint64_t seed;
	const struct oracle_algorithm *algorithm;
	int64_t period;
	double key[ORACLE_KEYS];        /* the algorithm's own keys, by an enum of its file */
	enum oracle_method method;
	const struct oracle_compressor *compressor;     /* instead of a method, if not NULL */
	double compress_key[ORACLE_KEYS];       /* the compressor's own keys, by an enum of its file */
	bool exact;                     /* inputs of averages are floats, the same as the program's */
	double density, warmup[4];      /* warmup[e]: density of epoch e */
	int warmups;
	int ranges;                     /* the pieces that the compressor chooses in */
	int64_t offset[ORACLE_RANGES], length[ORACLE_RANGES];
	int tensors;                    /* of which the arena is made */
	int64_t tensor_end[ORACLE_RANGES];      /* padding included */
	int64_t tensor_rows[ORACLE_RANGES], tensor_columns[ORACLE_RANGES];      /* 0: not a matrix */
	double weight[ORACLE_WORKERS];
	double lr, lr_decay;            /* lr of step t: lr (1 - lr_decay t) */
	int64_t rise, end;              /* end > 0: instead it rises from 0 for `rise` steps and falls as a cosine, to 0 at `end` */
	double momentum, weight_decay;
	bool nesterov, adamw;
	enum oracle_merged merged;
	double merged_bytes;            /* that all ranks send to share the state once */
};

struct oracle {
	const struct oracle_setup *set;
	double *x[ORACLE_WORKERS];      /* what the workers' arenas hold */
	double *m[ORACLE_WORKERS], *s[ORACLE_WORKERS];          /* the optimizers' */
	double *g[ORACLE_WORKERS];      /* gradients of this step */
	double *send[ORACLE_WORKERS], *residual[ORACLE_WORKERS];
	/* A compressor's own, NULL until it needs them (oracle_need): a momentum, all that has entered the residual if not inputs do,
	 * and what else it keeps. */
	double *velocity[ORACLE_WORKERS], *entered[ORACLE_WORKERS], *kept[2];
	double *z, *average;            /* z: the model that all workers hold, at first x_0 */
	void *own;                      /* what the algorithm needs beyond that */
	double *vector[ORACLE_VECTORS]; /* all of oracle_vector() */
	int vectors;
	double lr;                      /* of this step */
	bool shared;                    /* step() sets it: all workers hold one model now, to the bit */
	int64_t t, epoch, averages;     /* averages: of whole arenas, so far */
	int64_t range_averages[ORACLE_RANGES];  /* and of each range */
	int64_t born, shared_states;    /* born: the step before which the optimizers' state was 0 for the last time */
	double gap;                     /* the narrowest choice so far */
};

struct course;
struct rng;

/* One compressor, in a file of its own, compress_NAME.h, written from its paper. */
struct oracle_compressor {
	const char *name, *method;      /* for titles; of compress.method, NULL: the same */
	bool sparse;                    /* it is tried at several densities, and choosing over all or in buckets */
	bool forgets;                   /* what is not sent gets lost */
	bool gradients;                 /* it works under algorithms that average gradients only, and has the momentum itself */
	bool never_all;                 /* even at density 1 it does not send all of its input; */
	double momentum;                /* else: what it is then is SGD with this momentum (of those that have it themselves), */
	bool nesterov;                  /* and by Nesterov */
	bool few;                       /* finding seeds takes time: only under those algorithms that stand for all */
	double bound;                   /* how far a trajectory in float may be from the one in double; 0: as for sums */
	bool fine;                      /* so fine that some decision is always close: the bound is a few steps of the rounding */
	int digits, least;              /* values of lists have so many binary digits, down to the exponent `least`; 0: all */
	void (*draw)(struct oracle_setup *, struct rng *);      /* (optional) the keys, at random */
	int (*keys)(const struct oracle_setup *, const char **sets);    /* (optional) writes "compress.KEY=VALUE" (xasprintf), returns how many */
	void (*average)(struct oracle *, int range, double *const in[], double *out);   /* of that range alone; residuals */
	double (*bytes)(const struct oracle_setup *, int range);        /* that all ranks send for it */
};

/* One algorithm, in a file of its own, written from its paper. */
struct oracle_algorithm {
	const char *name;               /* of sync.algorithm */
	bool every_step;                /* it has no period */
	bool dense_only;                /* it takes no compressor */
	bool merges;                    /* it calls oracle_merged() */
	size_t own;                     /* bytes of oracle->own */
	void (*draw)(struct oracle_setup *, struct rng *, int64_t steps);       /* (optional) the keys, at random */
	int (*keys)(const struct oracle_setup *, const char **sets);    /* (optional) writes "sync.KEY=VALUE" (xasprintf), returns how many */
	void (*open)(struct oracle *);  /* (optional) its vectors */
	void (*begin)(struct oracle *); /* (optional) before the gradients: x[i] becomes what they are taken at */
	void (*step)(struct oracle *);  /* g[i] are there: all that happens until the next begin() */
	double (*consensus)(const struct oracle *, int64_t j);  /* (optional) default: sum_i w_i x_i */
	/* Bytes that all ranks send in so many steps; (optional) default: those of all averages of all ranges. */
	double (*bytes)(const struct oracle *);
	/* Bytes that all ranks send in a step, on average, as the paper has it: unit is what one average of an arena takes. (optional)
	 * default: unit, divided by the period unless every_step. */
	double (*bytes_per_step)(const struct oracle_setup *, double unit);
	/* What nothing may get lost of, at j, of this rank: sum_i w_i worth_i = x_0 for plain SGD, `moved` being sum_t lr g. (optional);
	 * worth_holds(), if given, says for which settings. */
	double (*worth)(const struct oracle_setup *, const struct course *, int64_t j);
	bool (*worth_holds)(const struct oracle_setup *, int64_t steps);
};

/* A vector of n zeros that lives as long as the oracle. */
static inline double *oracle_vector(struct oracle *o)
{
	if (o->vectors == ORACLE_VECTORS)
		abort();
	return o->vector[o->vectors++] = calloc((size_t)o->set->n, sizeof(double));
}

/* The same, once it is asked for. */
static inline double *oracle_need(struct oracle *o, double **vector)
{
	if (!*vector)
		*vector = oracle_vector(o);
	return *vector;
}

/* How many averages of a range there have been before the one under way. */
static inline int64_t oracle_compressions(const struct oracle *o)
{
	int64_t rounds = -1;

	for (int r = 0; r < o->set->ranges; r++)
		rounds += o->range_averages[r];
	return rounds;
}

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

static inline double problem_lr(const struct oracle_setup *p, int64_t t)
{
	if (!p->end)
		return p->lr * (1 - p->lr_decay * (double)t);
	if (t < p->rise)
		return p->lr * (double)t / (double)p->rise;
	return t < p->end ? p->lr * 0.5 * (1 + cos(acos(-1) * (double)(t - p->rise) / (double)(p->end - p->rise))) : 0;
}

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

/* Of range r alone. */
static inline void oracle_average_range(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);
	double *value[ORACLE_WORKERS];
	bool *picked[ORACLE_WORKERS];

	o->range_averages[r]++;
	if (set->compressor) {
		set->compressor->average(o, r, in, out);
		return;
	}
	for (int i = 0; i < set->workers; i++) {
		value[i] = calloc((size_t)set->n, sizeof(double));
		picked[i] = calloc((size_t)set->n, sizeof(bool));
	}
	if (set->method != DENSE)
		pick(o, from, n, k, in, value, picked);
	if (set->method == GTOPK)
		average_gtopk(o, from, n, k, value, picked, out);
	for (int64_t j = from; j < from + n && set->method != GTOPK; j++) {
		out[j] = 0;
		for (int i = 0; i < set->workers; i++)
			if (set->method == DENSE)
				out[j] += set->weight[i] * in[i][j];
			else if (picked[i][j])
				out[j] += set->weight[i] * value[i][j];
	}
	for (int i = 0; i < set->workers; i++) {
		free(value[i]);
		free(picked[i]);
	}
}

static inline void oracle_average(struct oracle *o, double *const in[], double *out)
{
	o->averages++;
	for (int r = 0; r < o->set->ranges; r++)
		oracle_average_range(o, r, in, out);
}

/* ---- the optimizers, from PyTorch's documentation ---- */

static inline void oracle_optimize(struct oracle *o, int i, const double *gradient)
{
	const struct oracle_setup *p = o->set;
	double lr = o->lr, steps = (double)(o->t - o->born) + 1, *x = o->x[i], *m = o->m[i], *s = o->s[i];

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
			m[j] = o->t == o->born ? g : p->momentum * m[j] + g;
			g = p->nesterov ? g + p->momentum * m[j] : m[j];
		}
		x[j] -= lr * g;
	}
}

static inline void share(const struct oracle_setup *p, double *const state[])
{
	for (int64_t j = 0; j < p->n; j++) {
		double mean = 0;

		for (int i = 0; i < p->workers; i++)
			mean += p->weight[i] * state[i][j];
		for (int i = 0; i < p->workers; i++)
			state[i][j] = mean;
	}
}

/* Models have been averaged in step t. */
static inline void oracle_merged(struct oracle *o)
{
	if (o->set->merged == SHARE) {
		share(o->set, o->m);
		share(o->set, o->s);
		o->shared_states++;
	} else if (o->set->merged == FORGET) {
		for (int i = 0; i < o->set->workers; i++) {
			memset(o->m[i], 0, (size_t)o->set->n * sizeof(double));
			memset(o->s[i], 0, (size_t)o->set->n * sizeof(double));
		}
		o->born = o->t + 1;
	}
}

#endif
