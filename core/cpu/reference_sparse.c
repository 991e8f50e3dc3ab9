/* Sparse vectors in plain C: selection by sorting everything. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#define HOST_DEVICE static inline
#include "../draw.h"
#include "../formulas.h"

/* Larger |value| first, of equals the lower index. A NaN counts as larger than any number. */
static int by_magnitude(const void *pa, const void *pb)
{
	const struct sparse *a = pa, *b = pb;
	float x = fabsf(a->value), y = fabsf(b->value);

	if (isnan(x) != isnan(y))
		return isnan(x) ? -1 : 1;
	if (x != y && !isnan(x))
		return x > y ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

static int by_index(const void *pa, const void *pb)
{
	const struct sparse *a = pa, *b = pb;

	return a->index < b->index ? -1 : a->index > b->index;
}

static size_t work_size(int64_t n, int64_t k) { return (size_t)(n > 2 * k ? n : 2 * k) * sizeof(struct sparse); }

/* Sorts list[n] by magnitude and hands out its first k, sorted by index. */
static void select_sorted(int64_t n, int64_t k, struct sparse *list, struct sparse *out)
{
	qsort(list, (size_t)n, sizeof(*list), by_magnitude);
	for (int64_t j = 0; j < k; j++)
		out[j] = list[j];
	qsort(out, (size_t)k, sizeof(*out), by_index);
}

struct topk_args {
	int64_t n, k;
	const float *in;
	float *residual;
	struct sparse *out, *work;
};

static void run_topk(void *args, int team)
{
	const struct topk_args *a = args;

	(void)team;
	for (int64_t i = 0; i < a->n; i++) {
		if (a->in)
			a->residual[i] += a->in[i];
		a->work[i] = (struct sparse){ (uint32_t)i, a->residual[i] };
	}
	select_sorted(a->n, a->k, a->work, a->out);
	for (int64_t j = 0; j < a->k; j++)
		a->residual[a->out[j].index] = 0;
}

static void sparse_topk(struct stream *s, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out, void *work)
{
	cpu_run(s, run_topk, &(struct topk_args){ n, k, in, residual, out, work }, sizeof(struct topk_args));
}

struct select_args {
	struct topk_args topk;
	const float *least;
};

static void run_select(void *args, int team)
{
	const struct select_args *s = args;
	const struct topk_args *a = &s->topk;
	int64_t count = 0;

	(void)team;
	for (int64_t i = 0; i < a->n; i++) {
		if (a->in)
			a->residual[i] += a->in[i];
		if (isnan(a->residual[i]) || (a->residual[i] != 0 && fabsf(a->residual[i]) >= *s->least))
			a->work[count++] = (struct sparse){ (uint32_t)i, a->residual[i] };
	}
	if (count > a->k) {
		select_sorted(count, a->k, a->work, a->out);
		count = a->k;
	} else {
		memcpy(a->out, a->work, (size_t)count * sizeof(*a->out));
	}
	for (int64_t j = 0; j < count; j++)
		a->residual[a->out[j].index] = 0;
	for (int64_t j = count; j < a->k; j++)
		a->out[j] = (struct sparse){ SPARSE_HOLE, 0 };
}

static void sparse_select(struct stream *s, int64_t n, int64_t k, const float *least, const float *in, float *residual,
                          struct sparse *out, void *work)
{
	cpu_run(s, run_select, &(struct select_args){ { n, k, in, residual, out, work }, least }, sizeof(struct select_args));
}

struct bound_args {
	int64_t n, k;
	const float *x, *y;
	float *least;
	struct sparse *work;
};

static float sum_at(const struct bound_args *a, int64_t i) { return a->y ? a->x[i] + a->y[i] : a->x[i]; }

static void run_normal_bound(void *args, int team)
{
	const struct bound_args *a = args;
	double sum = 0, squares = 0;
	float least;

	(void)team;
	for (int64_t i = 0; i < a->n; i++) {
		double v = sum_at(a, i);

		sum += v;
		squares += v * v;
	}
	least = normal_bound_of(a->n, sum, squares, normal_quantile((double)a->k / (double)a->n));
	for (int round = 0; round < 2 && a->k < a->n; round++) {
		int64_t reach = 0;

		for (int64_t i = 0; i < a->n; i++)
			reach += fabsf(sum_at(a, i)) >= least;
		least *= bound_correction(reach, a->k);
	}
	*a->least = a->k < a->n ? least : 0;
}

static void sparse_normal_bound(struct stream *s, int64_t n, int64_t k, const float *x, const float *y, float *least)
{
	cpu_run(s, run_normal_bound, &(struct bound_args){ n, k, x, y, least, NULL }, sizeof(struct bound_args));
}

static void run_sample_bound(void *args, int team)
{
	const struct bound_args *a = args;
	int64_t m = sample_count(a->n, a->k);

	(void)team;
	for (int64_t i = 0; i < m; i++) {
		int64_t at = sample_place(a->n, m, i);

		a->work[i] = (struct sparse){ (uint32_t)i, sum_at(a, at) };
	}
	qsort(a->work, (size_t)m, sizeof(*a->work), by_magnitude);
	*a->least = a->k < a->n ? fabsf(a->work[sample_rank(a->n, a->k, m) - 1].value) : 0;
}

static void sparse_sample_bound(struct stream *s, int64_t n, int64_t k, const float *x, const float *y, float *least, void *work)
{
	cpu_run(s, run_sample_bound, &(struct bound_args){ n, k, x, y, least, work }, sizeof(struct bound_args));
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
	for (int64_t j = 0; j < a->k; j++)
		a->out[j] = (struct sparse){ a->in[j].index, a->a * a->in[j].value };
}

static void sparse_scale(struct stream *s, int64_t k, float a, const struct sparse *in, struct sparse *out)
{
	QUEUE(s, run_scale, .k = k, .a = a, .in = in, .out = out);
}

static void run_scatter(void *args, int team)
{
	const struct list_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k && a->in[j].index != SPARSE_HOLE; j++)
		a->y[a->in[j].index] = (float)(a->y[a->in[j].index] + (double)a->a * a->in[j].value);
}

static void sparse_scatter_add(struct stream *s, int64_t k, float a, const struct sparse *in, float *y)
{
	QUEUE(s, run_scatter, .k = k, .a = a, .in = in, .y = y);
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

/* Is the index in the list of k? */
static const struct sparse *lookup(const struct sparse *list, int64_t k, uint32_t index)
{
	return bsearch(&(struct sparse){ index, 0 }, list, (size_t)k, sizeof(*list), by_index);
}

static void run_merge(void *args, int team)
{
	const struct list_args *a = args;
	int64_t n = 0;

	(void)team;
	for (int64_t j = 0; j < a->k; j++) {
		const struct sparse *twin = lookup(a->other, a->k, a->in[j].index);

		a->work[n++] = (struct sparse){ a->in[j].index, a->in[j].value + (twin ? twin->value : 0) };
		if (!lookup(a->in, a->k, a->other[j].index))
			a->work[n++] = a->other[j];
	}
	select_sorted(n, a->k, a->work, a->out);
}

static void sparse_merge(struct stream *s, int64_t k, const struct sparse *a, const struct sparse *b, struct sparse *out, void *work)
{
	QUEUE(s, run_merge, .k = k, .in = a, .other = b, .out = out, .work = work);
}

static void run_survive(void *args, int team)
{
	const struct list_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k; j++) {
		const struct sparse *twin = lookup(a->other, a->k, a->in[j].index);

		a->alive[j] = a->alive[j] && twin && (!a->survived || a->survived[twin - a->other]);
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

/* The nearest half, found by its size: an even multiple of the spacing there. */
static double to_half(enum half_type half, double v)
{
	int digits = half == HALF_FP16 ? 11 : 8, least = half == HALF_FP16 ? -13 : -125, power;
	double most = half == HALF_FP16 ? 65504 : 0x1.fep127, rounded;

	if (!isfinite(v) || v == 0)
		return v;
	frexp(v, &power);
	power = power < least ? least : power;
	rounded = ldexp(nearbyint(ldexp(v, digits - power)), power - digits);
	return fabs(rounded) > most ? copysign(most, v) : rounded;
}

static void run_pack(void *args, int team)
{
	const struct list_args *a = args;
	uint32_t *index = a->wire;
	uint16_t *value = (uint16_t *)(index + a->k);

	(void)team;
	for (int64_t j = 0; j < a->k; j++) {
		double rounded = to_half(a->half, a->in[j].value);

		index[j] = a->in[j].index;
		value[j] = half_of(a->half == HALF_FP16, (float)rounded);       /* is one: nothing more is rounded */
		if (index[j] != SPARSE_HOLE)
			a->y[index[j]] += (float)(a->in[j].value - rounded);
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

struct draw_args {
	struct draw_plan plan;
	float a;
	const float *in;
	float *x, *out;
};

static int64_t place_of(const struct draw_plan *p, int64_t j)
{
	uint32_t word[DRAW_BLOCK];

	draw_words(p, j / DRAW_BLOCK, word);
	return draw_place(p, j, word[j % DRAW_BLOCK]);
}

static void run_take_drawn(void *args, int team)
{
	const struct draw_args *a = args;

	(void)team;
	for (int64_t j = 0; j < (int64_t)a->plan.k; j++) {
		int64_t at = place_of(&a->plan, j);

		a->out[j] = a->a * a->x[at];
		a->x[at] = 0;
	}
}

static void sparse_take_drawn(struct stream *s, int64_t n, int64_t k, const struct draw *draw, float a, float *x, float *value)
{
	cpu_run(s, run_take_drawn, &(struct draw_args){ draw_plan_of(draw, n, k), a, NULL, x, value }, sizeof(struct draw_args));
}

static void run_add_drawn(void *args, int team)
{
	const struct draw_args *a = args;

	(void)team;
	for (int64_t j = 0; j < (int64_t)a->plan.k; j++)
		a->x[place_of(&a->plan, j)] += a->a * a->in[j];
}

static void sparse_add_drawn(struct stream *s, int64_t n, int64_t k, const struct draw *draw, float a, const float *value, float *y)
{
	cpu_run(s, run_add_drawn, &(struct draw_args){ draw_plan_of(draw, n, k), a, value, y, NULL }, sizeof(struct draw_args));
}

const struct sparse_ops reference_sparse_ops = {
	.work_size = work_size,
	.topk = sparse_topk,
	.select = sparse_select,
	.normal_bound = sparse_normal_bound,
	.sample_bound = sparse_sample_bound,
	.scale = sparse_scale,
	.scatter_add = sparse_scatter_add,
	.clear = sparse_clear,
	.merge = sparse_merge,
	.survive = sparse_survive,
	.put_back = sparse_put_back,
	.pack = sparse_pack,
	.unpack = sparse_unpack,
	.quantiles = reference_quantiles,
	.split = reference_split,
	.put_back_zero = reference_put_back_zero,
	.take_drawn = sparse_take_drawn,
	.add_drawn = sparse_add_drawn,
};
