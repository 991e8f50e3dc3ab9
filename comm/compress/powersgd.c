/*
 * PowerSGD: the gradient of each weight matrix as a product of two thin ones, by one step of power iteration.
 *
 * Paper: Vogels, Karimireddy, Jaggi: "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization", NeurIPS 2019
 * (arXiv 1905.13727), algorithms 1 and 2. In its symbols, for a tensor as a matrix of n rows (its first dimension) and m columns
 * (the rest), with Q (m x r) from the last average, at first random, the same on all workers:
 *
 *     M_i = e_i + in_i
 *     P   = sum_i w_i M_i Q                all-reduce of r n
 *     P   = orthonormalise(P)              Gram-Schmidt, on every worker
 *     Q_i = M_i^T P;  Q = sum_i w_i Q_i    all-reduce of r m; Q is kept: the next power iteration goes on from it
 *     out = P Q^T                          on every worker
 *     e_i = M_i - P Q_i^T                  what this worker itself has not got across
 *
 * All sums are linear, so that out is what one worker with M = sum_i w_i M_i would get: P P^T M, M projected on the r directions.
 *
 * Which residual: e_i could be M_i - out as well (some codes do that, algorithm 2 does not). The sum of w_i e_i, and with it every
 * later out, is the same. But then e_i would collect the sum of all M_i - M inside the span of P, which nobody ever takes out again:
 * with data that differ it grows with time, and cancels in the sum over the workers only up to rounding. With Q_i, e_i has nothing
 * in the span of P.
 *
 * Conservation: sum_i w_i P Q_i^T = P (sum_i w_i Q_i)^T = out whatever P is, so applied + residuals = inputs; that P is orthonormal
 * matters for how fast the residual drains, not for the sum. A column that depends on those before it (gradients of a dead layer
 * are zero) becomes a random direction, so that no column of Q stays zero for good.
 *
 * What is sent: a tensor is taken as a matrix if r (n + m) < n m; smaller ones and vectors go dense, with the P of their bucket.
 * All matrices of a bucket share one all-reduce for P and one for Q: two latencies a bucket, 2 (p-1)/p of 4 (sum r (n + m) + dense)
 * bytes a rank in a ring of p. A rank that no tensor is large enough for is a dense average, by one all-reduce: the start of a run says
 * how much of the model is factored, and warns if nothing is.
 *
 *     compute   | backward …       |                               wait |  update
 *     comm                           M Q  all-reduce  G-S  M^T P  all-reduce  P Q^T
 *
 * Cost: three passes over the matrix, 6 r n m operations; a residual like the model, two Q and one P. Tensors do not know of one
 * another, so buckets may go as they become final.
 *
 * Limits: a direction that is not among the first r waits in the residual, and with few steps some of it waits at the end. P Q^T is
 * computed by every rank for itself: for the same bits everywhere, ranks must compute on processors of one kind.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../../core/rng.h"
#include "../sync/sync.h"
#include "compress.h"

struct factor {
	int64_t offset;                 /* the matrix's, in the arena */
	int64_t q;                      /* of its part in `q` and `own` */
};

struct powersgd {
	int rank;
	struct factor *factor;          /* of all matrices, in the order of the arena */
	int factors;
	int64_t q_size;
	float *residual;                /* arena of n */
	float *q, *own;                 /* Q and Q_i */
	float *sum;                     /* of the range at hand: P of its matrices, then what goes dense */
};

/* ---- a range as matrices and what lies between them ---- */

struct piece {
	int64_t from, to;               /* in the arena; of a matrix with its padding, which stays zero and is not sent */
	const struct tensor_info *matrix;       /* NULL: dense */
	int64_t rows, cols;
	int next;                       /* tensor of the range that comes next */
};

static bool is_matrix(const struct tensor_info *t, int rank)
{
	return t->dims > 1 && (t->dim[0] + t->n / t->dim[0]) * rank < t->n;
}

static struct piece before(const struct range *range) { return (struct piece){ .to = range->offset }; }

/* A tensor that the range does not hold to its end goes dense. */
static bool walk(const struct powersgd *ps, const struct range *range, struct piece *p)
{
	int64_t end = range->offset + range->n;

	p->from = p->to;
	p->matrix = NULL;
	if (p->from >= end)
		return false;
	for (; p->next < range->tensors && !p->matrix; p->next++) {
		const struct tensor_info *t = &range->tensor[p->next];

		if (!is_matrix(t, ps->rank) || t->offset + t->n > end)
			continue;
		if (t->offset > p->from)
			break;
		p->matrix = t;
		p->rows = t->dim[0];
		p->cols = t->n / t->dim[0];
	}
	p->to = p->next < range->tensors ? range->tensor[p->next].offset : end;
	return true;
}

/* Floats in the two all-reduces of a range. */
static void sizes(const struct powersgd *ps, const struct range *range, int64_t *first, int64_t *second)
{
	*first = *second = 0;
	for (struct piece p = before(range); walk(ps, range, &p);) {
		*first += p.matrix ? ps->rank * p.rows : p.to - p.from;
		*second += p.matrix ? ps->rank * p.cols : 0;
	}
}

static int by_offset(const void *a, const void *b)
{
	const struct factor *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int64_t q_of(const struct powersgd *ps, const struct piece *p)
{
	const struct factor key = { p->from, 0 }, *f = bsearch(&key, ps->factor, (size_t)ps->factors, sizeof(key), by_offset);

	CHECK(f);
	return f->q;
}

/* ---- life ---- */

static const struct option powersgd_options[] = {
	{ "rank", OPTION_INT, "2", 1, 64, NULL, "r: vectors that a matrix is a product of; more are more exact" },
	{ 0 },
};

static int powersgd_init(struct compress *c, const struct config *config)
{
	struct powersgd *ps = c->state;

	ps->rank = (int)config_int(config, "compress.rank");
	return 0;
}

/* Q of all matrices, the same on every worker, whatever the buckets. */
static void draw(struct compress *c, const struct range *ranges, int count)
{
	struct powersgd *ps = c->state;
	struct device *dev = c->comm->device;
	size_t bytes = (size_t)ps->q_size * sizeof(float);
	float *host;

	if (!bytes)
		return;
	host = dev->ops->mem->alloc_host(dev, bytes);
	for (int i = 0; i < count; i++)
		for (struct piece p = before(&ranges[i]); walk(ps, &ranges[i], &p);) {
			struct rng rng;

			rng_init(&rng, 0, RNG_COMPRESS, (uint64_t)p.from, 0);
			for (int64_t j = 0; p.matrix && j < ps->rank * p.cols; j++)
				host[q_of(ps, &p) + j] = (float)rng_normal(&rng);
		}
	dev->ops->mem->copy(c->comm->stream, ps->q, host, bytes, COPY_TO_DEVICE);
	dev->ops->stream->sync(c->comm->stream);
	dev->ops->mem->free_host(dev, host);
}

static void powersgd_bind(struct compress *c, const struct range *ranges, int count)
{
	struct powersgd *ps = c->state;
	struct device *dev = c->comm->device;
	int64_t most = 0, first, second;
	int tensors = 0;

	for (int i = 0; i < count; i++)
		tensors += ranges[i].tensors;
	ps->factor = xcalloc((size_t)tensors + 1, sizeof(*ps->factor));
	for (int i = 0; i < count; i++) {
		for (struct piece p = before(&ranges[i]); walk(ps, &ranges[i], &p);)
			if (p.matrix) {
				ps->factor[ps->factors++] = (struct factor){ p.from, ps->q_size };
				ps->q_size += ps->rank * p.cols;
			}
		sizes(ps, &ranges[i], &first, &second);
		most = first > most ? first : most;
		comm_expect_allreduce(c->comm, second, DTYPE_F32);
	}
	comm_expect_allreduce(c->comm, most, DTYPE_F32);
	ps->residual = dev->ops->mem->alloc(dev, (size_t)c->n * sizeof(float));
	ps->sum = dev->ops->mem->alloc(dev, (size_t)most * sizeof(float));
	ps->q = dev->ops->mem->alloc(dev, (size_t)ps->q_size * sizeof(float));
	ps->own = dev->ops->mem->alloc(dev, (size_t)ps->q_size * sizeof(float));
	draw(c, ranges, count);
}

/* ---- the average ---- */

/* P of all matrices into `sum`, behind it what goes dense, and their averages over the workers. Returns where the dense begins. */
static int64_t average_left(struct compress *c, const struct range *range, const float *in)
{
	struct powersgd *ps = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;
	float weight = (float)c->weight[c->comm->rank];
	int64_t at = 0, dense;

	trace_begin(s, "factor P", NULL, -1);
	for (struct piece p = before(range); walk(ps, range, &p);)
		if (p.matrix) {
			dev->lowrank->right(s, p.rows, p.cols, ps->rank, in + p.from, ps->residual + p.from, ps->q + q_of(ps, &p),
			                    ps->sum + at);
			at += ps->rank * p.rows;
		}
	dense = at;
	dev->vec->scale(s, dense, weight, ps->sum, ps->sum);
	for (struct piece p = before(range); walk(ps, range, &p);)
		if (!p.matrix) {
			dev->vec->scale(s, p.to - p.from, weight, in + p.from, ps->sum + at);
			at += p.to - p.from;
		}
	trace_end(s);
	comm_allreduce(c->comm, ps->sum, at, DTYPE_F32, REDUCE_SUM);
	return dense;
}

/* Q_i of all matrices, and Q, their average. Those of neighbouring matrices are neighbours. */
static void average_right(struct compress *c, const struct range *range)
{
	struct powersgd *ps = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;
	int64_t at = 0, first = -1, count = 0;

	trace_begin(s, "factor Q", NULL, -1);
	for (struct piece p = before(range); walk(ps, range, &p);)
		if (p.matrix) {
			int64_t q = q_of(ps, &p);

			dev->lowrank->orthonormalise(s, p.rows, ps->rank, ps->sum + at);
			dev->lowrank->left(s, p.rows, p.cols, ps->rank, ps->residual + p.from, ps->sum + at, ps->own + q);
			at += ps->rank * p.rows;
			first = first < 0 ? q : first;
			count += ps->rank * p.cols;
		}
	trace_end(s);
	if (!count)
		return;
	dev->vec->scale(s, count, (float)c->weight[c->comm->rank], ps->own + first, ps->q + first);
	comm_allreduce(c->comm, ps->q + first, count, DTYPE_F32, REDUCE_SUM);
}

static void powersgd_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct powersgd *ps = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;
	int64_t dense = average_left(c, range, in), at = 0;

	average_right(c, range);
	trace_begin(s, "expand", NULL, -1);
	for (struct piece p = before(range); walk(ps, range, &p);) {
		int64_t end = p.from + p.rows * p.cols;

		if (!p.matrix) {
			dev->mem->copy(s, out + p.from, ps->sum + dense, (size_t)(p.to - p.from) * sizeof(float), COPY_DEVICE);
			dense += p.to - p.from;
			continue;
		}
		dev->lowrank->expand(s, p.rows, p.cols, ps->rank, ps->sum + at, ps->q + q_of(ps, &p), ps->own + q_of(ps, &p),
		                     ps->residual + p.from, out + p.from);
		at += ps->rank * p.rows;
		if (end < p.to)
			dev->mem->zero(s, out + end, (size_t)(p.to - end) * sizeof(float));
	}
	trace_end(s);
}

/* ---- what the user is told ---- */

/* The highest rank that leaves something of this tensor to gain; 0: it is none, or no matrix. */
static int highest_rank(const struct tensor_info *t)
{
	int64_t rows = t->dim[0], cols = rows ? t->n / rows : 0;

	return t->dims > 1 && rows + cols > 0 ? (int)((t->n - 1) / (rows + cols)) : 0;
}

static void warn_dense(const struct powersgd *ps, int highest)
{
	char remedy[80] = "";

	if (highest)
		snprintf(remedy, sizeof(remedy), "compress.rank = %d at most, better 1 to 4, or ", highest);
	warn("compress.method = \"powersgd\" compresses nothing: factors of rank %d (compress.rank) are longer than each of this model's tensors, "
	     "so all go dense. Set %scompress.method = \"none\"", ps->rank, remedy);
}

static void powersgd_describe(const struct compress *c, const struct range *whole, char *text, size_t size)
{
	const struct powersgd *ps = c->state;
	int64_t factored = 0, all = 0, first, second;
	int matrices = 0, highest = 0;

	for (int i = 0; i < whole->tensors; i++) {
		const struct tensor_info *t = &whole->tensor[i];
		int most = highest_rank(t);

		highest = most > highest ? most : highest;
		all += t->n;
		if (is_matrix(t, ps->rank)) {
			factored += t->n;
			matrices++;
		}
	}
	sizes(ps, whole, &first, &second);
	snprintf(text, size, "%d of %d tensors as factors of rank %d, %.1f %% of the elements; 1/%.3g of the floats are sent", matrices,
	         whole->tensors, ps->rank, 100 * (double)factored / (double)all, (double)whole->n / (double)(first + second));
	if (!matrices && c->comm->size > 1)
		warn_dense(ps, highest);
}

static void powersgd_state(struct compress *c, struct state_visitor *v)
{
	struct powersgd *ps = c->state;

	v->vector(v, "residual", c->comm->device, ps->residual, c->n);
	if (ps->q_size)
		v->vector(v, "powersgd.q", c->comm->device, ps->q, ps->q_size);
}

static double powersgd_range_bytes(const struct compress *c, const struct range *range, int workers)
{
	int64_t first, second;

	sizes(c->state, range, &first, &second);
	return comm_allreduce_bytes(c->comm, (double)first, workers) + (second ? comm_allreduce_bytes(c->comm, (double)second, workers) : 0);
}

static double powersgd_range_cost(const struct compress *c, const struct range *range, const struct cost_model *m)
{
	int64_t first, second;

	sizes(c->state, range, &first, &second);
	return comm_allreduce_cost(c->comm, m, 4.0 * (double)first) + (second ? comm_allreduce_cost(c->comm, m, 4.0 * (double)second) : 0);
}

static void powersgd_release(struct compress *c)
{
	struct powersgd *ps = c->state;
	struct device *dev = c->comm->device;

	dev->ops->mem->free(dev, ps->residual);
	dev->ops->mem->free(dev, ps->sum);
	dev->ops->mem->free(dev, ps->q);
	dev->ops->mem->free(dev, ps->own);
	free(ps->factor);
}

extern const struct compress_ops compress_powersgd;
const struct compress_ops compress_powersgd = {
	.name = "powersgd",
	.paper = "matrices of low rank by power iteration, error feedback: Vogels et al., NeurIPS 2019, arXiv 1905.13727",
	.options = powersgd_options,
	.only_sums = true,
	.any_cut = true,
	.state_size = sizeof(struct powersgd),
	.init = powersgd_init,
	.bind = powersgd_bind,
	.average = powersgd_average,
	.describe = powersgd_describe,
	.exchanges = 2,
	.state = powersgd_state,
	.range_bytes = powersgd_range_bytes,
	.range_cost = powersgd_range_cost,
	.release = powersgd_release,
};
