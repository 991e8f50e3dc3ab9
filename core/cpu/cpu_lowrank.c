/* Matrices of low rank on the CPU: cut by rows, or for the product from the left by columns; a slice reads its matrix once. */
#include "cpu_ops.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

KERNEL_TABLES(struct lowrank_kernels, lowrank_kernels);

/* Columns that go together, so that a row's piece is worth fetching. */
enum { COLUMNS = 256 };

struct lowrank_args {
	struct cpu_device *dev;
	int64_t rows, cols;
	int rank;
	const float *in, *p, *q, *own;
	float *m, *out;
};

#define QUEUE(stream, fn, ...) \
	cpu_run(stream, fn, &(struct lowrank_args){ .dev = stream_cpu(stream), __VA_ARGS__ }, sizeof(struct lowrank_args))

static const struct lowrank_kernels *kernels(const struct lowrank_args *a) { return lowrank_kernels_tables[a->dev->isa]; }

static struct lowrank_slice slice_of(const struct lowrank_args *a, int64_t rows, int64_t cols)
{
	return (struct lowrank_slice){ rows, cols, a->cols, a->rank, a->rows, a->cols };
}

static void slice_right(const void *args, int64_t from, int64_t to)
{
	const struct lowrank_args *a = args;
	struct lowrank_slice s = slice_of(a, to - from, a->cols);

	kernels(a)->right(&s, a->in + from * a->cols, a->m + from * a->cols, a->q, a->out + from);
}

static void run_right(void *args, int team)
{
	const struct lowrank_args *a = args;

	cpu_for(a->dev, team, a->rows, 1, a->cols, slice_right, a);
}

static void lowrank_right(struct stream *s, int64_t rows, int64_t cols, int rank, const float *in, float *m, const float *q, float *p)
{
	QUEUE(s, run_right, .rows = rows, .cols = cols, .rank = rank, .in = in, .m = m, .q = q, .out = p);
}

static void slice_left(const void *args, int64_t from, int64_t to)
{
	const struct lowrank_args *a = args;
	struct lowrank_slice s = slice_of(a, a->rows, to - from);

	kernels(a)->left(&s, a->in + from, a->p, a->out + from);
}

static void run_left(void *args, int team)
{
	const struct lowrank_args *a = args;

	cpu_for(a->dev, team, a->cols, COLUMNS, a->rows, slice_left, a);
}

static void lowrank_left(struct stream *s, int64_t rows, int64_t cols, int rank, const float *m, const float *p, float *q)
{
	QUEUE(s, run_left, .rows = rows, .cols = cols, .rank = rank, .in = m, .p = p, .out = q);
}

static void slice_expand(const void *args, int64_t from, int64_t to)
{
	const struct lowrank_args *a = args;
	struct lowrank_slice s = slice_of(a, to - from, a->cols);

	kernels(a)->expand(&s, a->p + from, a->q, a->own, a->m + from * a->cols, a->out + from * a->cols);
}

static void run_expand(void *args, int team)
{
	const struct lowrank_args *a = args;

	cpu_for(a->dev, team, a->rows, 1, a->cols, slice_expand, a);
}

static void lowrank_expand(struct stream *s, int64_t rows, int64_t cols, int rank, const float *p, const float *q, const float *own,
                           float *m, float *out)
{
	QUEUE(s, run_expand, .rows = rows, .cols = cols, .rank = rank, .p = p, .q = q, .own = own, .m = m, .out = out);
}

const struct lowrank_ops cpu_lowrank_ops = {
	.right = lowrank_right,
	.left = lowrank_left,
	.orthonormalise = reference_orthonormalise,
	.expand = lowrank_expand,
};
