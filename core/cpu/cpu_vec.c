/* Vector operations: queued with their arguments, cut into slices, done by the kernels of the CPU's instruction set. */
#include <math.h>

#include "../die.h"
#include "cpu_ops.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

KERNEL_TABLES(struct vec_kernels, vec_kernels);
KERNEL_TABLES(struct sparse_kernels, sparse_kernels);

struct vec_args {
	struct cpu_device *dev;
	cpu_slice_fn *slice;
	int64_t n;
	float a, b;
	enum dtype dtype;
	enum reduce reduce;
	const struct hyper *hyper;
	const void *in[4];
	void *out[3];
};

static const struct vec_kernels *kernels(const struct vec_args *a) { return vec_kernels_tables[a->dev->isa]; }
/* Where the slice begins in the i-th operand. NULL stays NULL. */
static const float *in(const struct vec_args *a, int i, int64_t from) { return a->in[i] ? (const float *)a->in[i] + from : NULL; }
static float *out(const struct vec_args *a, int i, int64_t from) { return a->out[i] ? (float *)a->out[i] + from : NULL; }

static void run(void *args, int team)
{
	const struct vec_args *a = args;

	cpu_for(a->dev, team, a->n, 16, 1, a->slice, a);
}

#define QUEUE(stream, fn, ...) \
	cpu_run(stream, run, &(struct vec_args){ .dev = stream_cpu(stream), .slice = fn, __VA_ARGS__ }, sizeof(struct vec_args))

static void slice_scale(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->scale(to - from, a->a, in(a, 0, from), out(a, 0, from));
}

static void vec_scale(struct stream *s, int64_t n, float a, const float *x, float *y)
{
	QUEUE(s, slice_scale, .n = n, .a = a, .in = { x }, .out = { y });
}

static void slice_axpby(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->axpby(to - from, a->a, in(a, 0, from), a->b, out(a, 0, from));
}

static void vec_axpby(struct stream *s, int64_t n, float a, const float *x, float b, float *y)
{
	QUEUE(s, slice_axpby, .n = n, .a = a, .b = b, .in = { x }, .out = { y });
}

static void slice_diff(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->diff(to - from, in(a, 0, from), in(a, 1, from), out(a, 0, from));
}

static void vec_diff(struct stream *s, int64_t n, const float *x, const float *z, float *d)
{
	QUEUE(s, slice_diff, .n = n, .in = { x, z }, .out = { d });
}

static void slice_reduce(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;
	size_t size = dtype_size(a->dtype);

	kernels(a)->reduce(to - from, a->dtype, a->reduce, (const char *)a->in[0] + (size_t)from * size,
	                   (char *)a->out[0] + (size_t)from * size);
}

static void vec_reduce(struct stream *s, int64_t n, enum dtype dtype, enum reduce op, const void *src, void *dst)
{
	CHECK(dtype != DTYPE_BF16);     /* no sums in bf16 */
	QUEUE(s, slice_reduce, .n = n, .dtype = dtype, .reduce = op, .in = { src }, .out = { dst });
}

static void slice_adopt(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->adopt(to - from, in(a, 0, from), out(a, 0, from), out(a, 1, from));
}

static void vec_adopt(struct stream *s, int64_t n, const float *avg, float *z, float *x)
{
	QUEUE(s, slice_adopt, .n = n, .in = { avg }, .out = { z, x });
}

static void slice_merge(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->merge(to - from, in(a, 0, from), out(a, 0, from), out(a, 1, from), out(a, 2, from));
}

static void vec_merge(struct stream *s, int64_t n, const float *avg, float *x, float *z, float *d)
{
	QUEUE(s, slice_merge, .n = n, .in = { avg }, .out = { x, z, d });
}

static void slice_sgd(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->sgd(to - from, a->hyper, in(a, 0, from), in(a, 1, from), in(a, 2, from), out(a, 0, from), out(a, 1, from));
}

static void vec_sgd(struct stream *s, int64_t n, const struct hyper *h, const float *g, const float *v, const float *x,
                    float *v_out, float *x_out)
{
	QUEUE(s, slice_sgd, .n = n, .hyper = h, .in = { g, v, x }, .out = { v_out, x_out });
}

static void slice_adamw(const void *args, int64_t from, int64_t to)
{
	const struct vec_args *a = args;

	kernels(a)->adamw(to - from, a->hyper, in(a, 0, from), in(a, 1, from), in(a, 2, from), in(a, 3, from), out(a, 0, from),
	                  out(a, 1, from), out(a, 2, from));
}

static void vec_adamw(struct stream *s, int64_t n, const struct hyper *h, const float *g, const float *m, const float *v,
                      const float *x, float *m_out, float *v_out, float *x_out)
{
	QUEUE(s, slice_adamw, .n = n, .hyper = h, .in = { g, m, v, x }, .out = { m_out, v_out, x_out });
}

/* The norm in one order, whatever the team; then the slices. */
static void run_clip(void *args, int team)
{
	struct vec_args *a = args;
	double sum[2], norm;

	sparse_kernels_tables[a->dev->isa]->moments(a->n, in(a, 0, 0), NULL, sum);
	norm = sqrt(sum[1]);
	a->a = norm > a->b ? (float)(a->b / norm) : 1;
	cpu_for(a->dev, team, a->n, 16, 1, slice_scale, a);
}

static void vec_clip(struct stream *s, int64_t n, float most, const float *x, float *y)
{
	cpu_run(s, run_clip, &(struct vec_args){ .dev = stream_cpu(s), .n = n, .b = most, .in = { x }, .out = { y } }, sizeof(struct vec_args));
}

const struct vec_ops cpu_vec_ops = {
	.scale = vec_scale,
	.axpby = vec_axpby,
	.diff = vec_diff,
	.reduce = vec_reduce,
	.adopt = vec_adopt,
	.merge = vec_merge,
	.sgd = vec_sgd,
	.adamw = vec_adamw,
	.clip = vec_clip,
};
