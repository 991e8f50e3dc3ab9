/* Sparse vectors on the CPU. Lists are short and sorted by index: one thread merges them in one pass. */
#include "cpu_select.h"
#include "cpu_sparse.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

#define HOST_DEVICE static inline
#include "../draw.h"
#include "../formulas.h"

KERNEL_TABLES(struct sparse_kernels, sparse_kernels);

static size_t work_size(int64_t n, int64_t k)
{
	size_t topk = cpu_topk_work(n, k), merge = 2 * (size_t)k * sizeof(struct sparse);

	return topk > merge ? topk : merge;
}

static void sparse_topk(struct stream *s, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out, void *work)
{
	cpu_run(s, cpu_topk_run, &(struct topk_args){ stream_cpu(s), n, k, in, residual, out, work, NULL }, sizeof(struct topk_args));
}

static void sparse_select(struct stream *s, int64_t n, int64_t k, const float *least, const float *in, float *residual,
                          struct sparse *out, void *work)
{
	cpu_run(s, cpu_topk_run, &(struct topk_args){ stream_cpu(s), n, k, in, residual, out, work, least }, sizeof(struct topk_args));
}

struct bound_args {
	const struct sparse_kernels *kernel;
	int64_t n, k;
	const float *x, *y;
	float *least;
};

static void run_normal_bound(void *args, int team)
{
	const struct bound_args *a = args;
	float bound[BOUND_TRIES];
	int64_t reach[BOUND_TRIES];
	double sum[2];

	(void)team;
	a->kernel->moments(a->n, a->x, a->y, sum);
	bound[0] = normal_bound_of(a->n, sum[0], sum[1], normal_quantile((double)a->k / (double)a->n));
	for (int i = 1; i < BOUND_TRIES; i++)
		bound[i] = bound_try(bound[0], i);
	a->kernel->reach(a->n, a->x, a->y, bound, reach);
	*a->least = a->k < a->n ? bound_corrected(bound[0], reach, a->k) : 0;
}

static void sparse_normal_bound(struct stream *s, int64_t n, int64_t k, const float *x, const float *y, float *least)
{
	const struct sparse_kernels *kernel = sparse_kernels_tables[stream_cpu(s)->isa];

	cpu_run(s, run_normal_bound, &(struct bound_args){ kernel, n, k, x, y, least }, sizeof(struct bound_args));
}

struct list_args {
	int64_t k;
	float a;
	const struct sparse *in, *other;
	struct sparse *out, *work;
	float *y;
	uint8_t *alive;
	const uint8_t *survived;
	enum half_type half;
	void *wire;
};

#define QUEUE(stream, fn, ...) cpu_run(stream, fn, &(struct list_args){ __VA_ARGS__ }, sizeof(struct list_args))

static void run_scale(void *args, int team)
{
	const struct list_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k; j++) {
		a->out[j].index = a->in[j].index;
		a->out[j].value = a->a * a->in[j].value;
	}
}

static void sparse_scale(struct stream *s, int64_t k, float a, const struct sparse *in, struct sparse *out)
{
	QUEUE(s, run_scale, .k = k, .a = a, .in = in, .out = out);
}

static void run_scatter_add(void *args, int team)
{
	const struct list_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k && a->in[j].index != SPARSE_HOLE; j++)
		a->y[a->in[j].index] += a->a * a->in[j].value;
}

static void sparse_scatter_add(struct stream *s, int64_t k, float a, const struct sparse *in, float *y)
{
	QUEUE(s, run_scatter_add, .k = k, .a = a, .in = in, .y = y);
}

static void run_clear(void *args, int team)
{
	const struct list_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k && a->in[j].index != SPARSE_HOLE; j++)
		a->y[a->in[j].index] = 0;
}

static void sparse_clear(struct stream *s, int64_t k, const struct sparse *list, float *y)
{
	QUEUE(s, run_clear, .k = k, .in = list, .y = y);
}

/* The union of two lists of k, values added where both have the index. Returns its length, k to 2 k. */
static int64_t unite(int64_t k, const struct sparse *a, const struct sparse *b, struct sparse *out)
{
	int64_t i = 0, j = 0, n = 0;

	while (i < k && j < k) {
		uint32_t x = a[i].index, y = b[j].index;

		if (x == y)
			out[n++] = (struct sparse){ x, a[i++].value + b[j++].value };
		else
			out[n++] = x < y ? a[i++] : b[j++];
	}
	while (i < k)
		out[n++] = a[i++];
	while (j < k)
		out[n++] = b[j++];
	return n;
}

static void run_merge(void *args, int team)
{
	const struct list_args *a = args;
	int64_t n = unite(a->k, a->in, a->other, a->work), taken = 0;
	struct cut cut = cut_list(n, a->k, a->work);

	(void)team;
	for (int64_t i = 0; i < n; i++)
		if (cut_takes(&cut, a->work[i].value))
			a->out[taken++] = a->work[i];
}

static void sparse_merge(struct stream *s, int64_t k, const struct sparse *a, const struct sparse *b, struct sparse *out, void *work)
{
	QUEUE(s, run_merge, .k = k, .in = a, .other = b, .out = out, .work = work);
}

static void run_survive(void *args, int team)
{
	const struct list_args *a = args;
	int64_t j = 0;

	(void)team;
	for (int64_t i = 0; i < a->k; i++) {
		while (j < a->k && a->other[j].index < a->in[i].index)
			j++;
		a->alive[i] = a->alive[i] && j < a->k && a->other[j].index == a->in[i].index && (!a->survived || a->survived[j]);
	}
}

static void sparse_survive(struct stream *s, int64_t k, const struct sparse *own, const struct sparse *list, const uint8_t *kept,
                           uint8_t *alive)
{
	QUEUE(s, run_survive, .k = k, .in = own, .other = list, .survived = kept, .alive = alive);
}

static void run_put_back(void *args, int team)
{
	const struct list_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k; j++)
		if (!a->survived[j])
			a->y[a->in[j].index] += a->in[j].value;
}

static void sparse_put_back(struct stream *s, int64_t k, const struct sparse *own, const uint8_t *alive, float *residual)
{
	QUEUE(s, run_put_back, .k = k, .in = own, .survived = alive, .y = residual);
}

static void run_pack(void *args, int team)
{
	const struct list_args *a = args;
	uint32_t *index = a->wire;
	uint16_t *value = (uint16_t *)(index + a->k);

	(void)team;
	for (int64_t j = 0; j < a->k; j++) {
		index[j] = a->in[j].index;
		value[j] = half_of(a->half == HALF_FP16, a->in[j].value);
		if (index[j] != SPARSE_HOLE)
			a->y[index[j]] += a->in[j].value - half_value(a->half == HALF_FP16, value[j]);
	}
	if (a->k % 2)
		value[a->k] = 0;
}

static void sparse_pack(struct stream *s, int64_t k, enum half_type half, const struct sparse *in, float *residual, void *wire)
{
	QUEUE(s, run_pack, .k = k, .half = half, .in = in, .y = residual, .wire = wire);
}

static void run_unpack(void *args, int team)
{
	const struct list_args *a = args;
	const uint32_t *index = a->wire;
	const uint16_t *value = (const uint16_t *)(index + a->k);

	(void)team;
	for (int64_t j = 0; j < a->k; j++)
		a->out[j] = (struct sparse){ index[j], half_value(a->half == HALF_FP16, value[j]) };
}

static void sparse_unpack(struct stream *s, int64_t k, enum half_type half, const void *wire, struct sparse *out)
{
	QUEUE(s, run_unpack, .k = k, .half = half, .wire = (void *)wire, .out = out);
}

/* ---- drawn places: a block of random numbers at a time ---- */

struct draw_args {
	struct draw_plan plan;
	float a;
	const float *in;
	float *x, *out;
};

/* The places of one block; returns how many there are. */
static int places(const struct draw_plan *p, int64_t first, int64_t place[DRAW_BLOCK])
{
	int64_t left = (int64_t)p->k - first;
	int count = left < DRAW_BLOCK ? (int)left : DRAW_BLOCK;
	uint32_t word[DRAW_BLOCK];

	draw_words(p, first / DRAW_BLOCK, word);
	for (int i = 0; i < count; i++)
		place[i] = draw_place(p, first + i, word[i]);
	return count;
}

static void run_take_drawn(void *args, int team)
{
	const struct draw_args *a = args;
	int64_t place[DRAW_BLOCK];

	(void)team;
	for (int64_t j = 0; j < (int64_t)a->plan.k; j += DRAW_BLOCK) {
		int count = places(&a->plan, j, place);

		for (int i = 0; i < count; i++) {
			a->out[j + i] = a->a * a->x[place[i]];
			a->x[place[i]] = 0;
		}
	}
}

static void sparse_take_drawn(struct stream *s, int64_t n, int64_t k, const struct draw *draw, float a, float *x, float *value)
{
	cpu_run(s, run_take_drawn, &(struct draw_args){ draw_plan_of(draw, n, k), a, NULL, x, value }, sizeof(struct draw_args));
}

static void run_add_drawn(void *args, int team)
{
	const struct draw_args *a = args;
	int64_t place[DRAW_BLOCK];

	(void)team;
	for (int64_t j = 0; j < (int64_t)a->plan.k; j += DRAW_BLOCK) {
		int count = places(&a->plan, j, place);

		for (int i = 0; i < count; i++)
			a->x[place[i]] += a->a * a->in[j + i];
	}
}

static void sparse_add_drawn(struct stream *s, int64_t n, int64_t k, const struct draw *draw, float a, const float *value, float *y)
{
	cpu_run(s, run_add_drawn, &(struct draw_args){ draw_plan_of(draw, n, k), a, value, y, NULL }, sizeof(struct draw_args));
}

const struct sparse_ops cpu_sparse_ops = {
	.work_size = work_size,
	.topk = sparse_topk,
	.select = sparse_select,
	.normal_bound = sparse_normal_bound,
	.sample_bound = cpu_sample_bound,
	.scale = sparse_scale,
	.scatter_add = sparse_scatter_add,
	.clear = sparse_clear,
	.merge = sparse_merge,
	.survive = sparse_survive,
	.put_back = sparse_put_back,
	.pack = sparse_pack,
	.unpack = sparse_unpack,
	.quantiles = cpu_quantiles,
	.split = cpu_split,
	.put_back_zero = cpu_put_back_zero,
	.take_drawn = sparse_take_drawn,
	.add_drawn = sparse_add_drawn,
};
