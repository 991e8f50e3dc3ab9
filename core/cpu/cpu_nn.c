/* The small layers on the CPU: ReLU, addition, dropout, the loss; and the table of all layer operations. */
#include <math.h>
#include <string.h>

#include "../die.h"
#include "../rng.h"
#include "cpu_conv.h"
#include "cpu_ops.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

#define HOST_DEVICE static inline
#include "../formulas.h"

KERNEL_TABLES(struct layer_kernels, layer_kernels);

struct relu_args {
	const struct layer_kernels *kernel;
	const float *a, *b;
	float *out;
	bool flag;              /* forward of add: with ReLU; backward of ReLU: accumulate */
};

static void run(struct stream *s, int64_t n, cpu_slice_fn *fn, struct relu_args a)
{
	struct cpu_device *dev = stream_cpu(s);

	a.kernel = layer_kernels_tables[dev->isa];
	cpu_for(dev, dev->threads, n, 16, 1, fn, &a);
}

static void slice_relu_fwd(const void *args, int64_t from, int64_t to)
{
	const struct relu_args *a = args;

	a->kernel->relu_fwd(to - from, a->a + from, a->out + from);
}

static void relu_fwd(struct stream *s, int64_t n, const void *x, void *y)
{
	run(s, n, slice_relu_fwd, (struct relu_args){ .a = x, .out = y });
}

static void slice_relu_bwd(const void *args, int64_t from, int64_t to)
{
	const struct relu_args *a = args;

	a->kernel->relu_bwd(to - from, a->a + from, a->b + from, a->out + from, a->flag);
}

static void relu_bwd(struct stream *s, int64_t n, const void *y, const void *dy, void *dx, bool accumulate)
{
	run(s, n, slice_relu_bwd, (struct relu_args){ .a = y, .b = dy, .out = dx, .flag = accumulate });
}

static void slice_add_fwd(const void *args, int64_t from, int64_t to)
{
	const struct relu_args *a = args;

	a->kernel->add_fwd(to - from, a->a + from, a->b + from, a->flag, a->out + from);
}

static void add_fwd(struct stream *s, int64_t n, const void *a, const void *b, bool relu, void *y)
{
	run(s, n, slice_add_fwd, (struct relu_args){ .a = a, .b = b, .out = y, .flag = relu });
}

static void grad_add(struct stream *s, int64_t n, const void *dy, void *dx)
{
	run(s, n, slice_add_fwd, (struct relu_args){ .a = dy, .b = dx, .out = dx });
}

struct dropout_args {
	const struct layer_kernels *kernel;
	uint32_t limit;
	float scale;
	struct rng rng;
	const float *x;
	float *y;
};

static void slice_dropout(const void *args, int64_t from, int64_t to)
{
	const struct dropout_args *a = args;

	a->kernel->dropout(from, to - from, a->limit, a->scale, a->rng.key, a->rng.counter, a->x + from, a->y + from);
}

/* Element i is dropped if word i of the stream (seed, dropout, step, layer) is below p 2^32: any thread can begin anywhere. */
static void dropout(struct stream *s, int64_t n, float p, uint64_t seed, const int64_t *step, uint32_t layer, const void *x, void *y)
{
	struct cpu_device *dev = stream_cpu(s);
	struct dropout_args a = {
		.kernel = layer_kernels_tables[dev->isa],
		.limit = dropout_limit(p),
		.scale = dropout_scale(p),
		.x = x,
		.y = y,
	};

	CHECK(p >= 0 && p < 1);
	rng_init(&a.rng, seed, RNG_DROPOUT, (uint64_t)*step, layer);
	cpu_for(dev, dev->threads, n, 64, 8, slice_dropout, &a);
}

/* One sample: the loss is log(sum of exp) - x[label], everything relative to the largest, so that no exp overflows. */
static void softmax_row(int classes, const float *x, int label, float scale, float *dx, struct loss_stats *stats)
{
	float most = x[0], sum = 0;
	int best = 0;

	CHECK(label < classes);
	for (int c = 1; c < classes; c++) {
		if (x[c] > most) {
			most = x[c];
			best = c;
		}
	}
	for (int c = 0; c < classes; c++) {
		float e = expf(x[c] - most);

		sum += e;
		if (dx)
			dx[c] = e;
	}
	stats->loss += log((double)sum) + ((double)most - x[label]);
	stats->correct += best == label;
	stats->count++;
	if (!dx)
		return;
	for (int c = 0; c < classes; c++)
		dx[c] *= scale / sum;
	dx[label] -= scale;
}

static void softmax_rows(int64_t from, int64_t to, int classes, const float *x, const int32_t *label, float scale, float *dx,
                         struct loss_stats *stats)
{
	for (int64_t i = from; i < to; i++) {
		if (label[i] >= 0)
			softmax_row(classes, x + i * classes, label[i], scale, dx ? dx + i * classes : NULL, stats);
		else if (dx)
			memset(dx + i * classes, 0, sizeof(*dx) * (size_t)classes);
	}
}

/* Each thread sums its own rows; the parts are added in the threads' order. */
static void softmax_xent(struct stream *s, int n, int classes, const void *in, const int32_t *label, float scale, void *in_gradient,
                         struct loss_stats *stats)
{
	const float *x = in;
	float *dx = in_gradient;
	struct cpu_device *dev = stream_cpu(s);
	struct loss_stats *part = dev->scratch;
	int team = cpu_team(dev, 16 * (int64_t)n * classes);

#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
	for (int t = 0; t < team; t++) {
		int64_t from, to;

		cpu_slice(n, team, t, 1, &from, &to);
		part[t] = (struct loss_stats){ 0 };
		softmax_rows(from, to, classes, x, label, scale, dx, &part[t]);
	}
	for (int t = 0; t < team; t++) {
		stats->loss += part[t].loss;
		stats->correct += part[t].correct;
		stats->count += part[t].count;
	}
}

const struct nn_ops cpu_nn_ops = {
	.conv_plan = cpu_conv_plan,
	.conv_name = cpu_conv_name,
	.conv_release = cpu_conv_release,
	.conv_fwd = cpu_conv_fwd,
	.conv_bwd_data = cpu_conv_bwd_data,
	.conv_bwd_filter = cpu_conv_bwd_filter,
	.bn_train = cpu_bn_train,
	.bn_infer = cpu_bn_infer,
	.bn_bwd = cpu_bn_bwd,
	.relu_fwd = relu_fwd,
	.relu_bwd = relu_bwd,
	.add_fwd = add_fwd,
	.grad_add = grad_add,
	.pool_fwd = cpu_pool_fwd,
	.pool_bwd = cpu_pool_bwd,
	.shortcut_fwd = cpu_shortcut_fwd,
	.shortcut_bwd = cpu_shortcut_bwd,
	.dropout = dropout,
	.softmax_xent = softmax_xent,
};
