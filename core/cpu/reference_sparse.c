/* Sparse vectors in plain C: selection by sorting everything. */
#include <math.h>
#include <stdlib.h>

#include "cpu.h"

#define HOST_DEVICE static inline
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
	for (int64_t j = 0; j < a->k; j++)
		a->y[a->in[j].index] = (float)(a->y[a->in[j].index] + (double)a->a * a->in[j].value);
}

static void sparse_scatter_add(struct stream *s, int64_t k, float a, const struct sparse *in, float *y)
{
	QUEUE(s, run_scatter, .k = k, .a = a, .in = in, .y = y);
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
	for (int64_t j = 0; j < a->k; j++)
		a->alive[j] = a->alive[j] && lookup(a->other, a->k, a->in[j].index);
}

static void sparse_survive(struct stream *s, int64_t k, const struct sparse *own, const struct sparse *list, uint8_t *alive)
{
	QUEUE(s, run_survive, .k = k, .in = own, .other = list, .alive = alive);
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

const struct sparse_ops reference_sparse_ops = {
	.work_size = work_size,
	.topk = sparse_topk,
	.scale = sparse_scale,
	.scatter_add = sparse_scatter_add,
	.merge = sparse_merge,
	.survive = sparse_survive,
	.put_back = sparse_put_back,
	.pack = sparse_pack,
	.unpack = sparse_unpack,
};
