/* The layers in plain C: ReLU, addition, pooling, shortcut, dropout and the loss. Batch norm and convolution have their own files. */
#include <math.h>
#include <string.h>

#include "../die.h"
#include "../rng.h"
#include "cpu_conv.h"
#include "cpu_ops.h"

static void relu_fwd(struct stream *s, int64_t n, const void *in, void *out)
{
	const float *x = in;
	float *y = out;

	(void)s;
	for (int64_t i = 0; i < n; i++)
		y[i] = x[i] <= 0 ? 0 : x[i];
}

static void relu_bwd(struct stream *s, int64_t n, const void *out, const void *gradient, void *in_gradient, bool accumulate)
{
	const float *y = out, *dy = gradient;
	float *dx = in_gradient;

	(void)s;
	for (int64_t i = 0; i < n; i++)
		dx[i] = (accumulate ? dx[i] : 0) + (y[i] > 0 ? dy[i] : 0);
}

static void add_fwd(struct stream *s, int64_t n, const void *first, const void *second, bool relu, void *out)
{
	const float *a = first, *b = second;
	float *y = out;

	(void)s;
	for (int64_t i = 0; i < n; i++) {
		float v = a[i] + b[i];

		y[i] = relu && v <= 0 ? 0 : v;
	}
}

static void grad_add(struct stream *s, int64_t n, const void *gradient, void *in_gradient)
{
	const float *dy = gradient;
	float *dx = in_gradient;

	(void)s;
	for (int64_t i = 0; i < n; i++)
		dx[i] += dy[i];
}

/* The input pixel that position `at` of the window of output (n, oh, ow) looks at, times the channels; -1: padding. */
static int64_t window_at(const struct pool_desc *d, int64_t out, int at)
{
	int oh = conv_out(d->h, d->kernel, d->stride, d->pad), ow = conv_out(d->w, d->kernel, d->stride, d->pad);
	int64_t n = out / (oh * ow);
	int y = (int)(out / ow % oh) * d->stride - d->pad + at / d->kernel;
	int x = (int)(out % ow) * d->stride - d->pad + at % d->kernel;

	return y < 0 || y >= d->h || x < 0 || x >= d->w ? -1 : ((n * d->h + y) * d->w + x) * d->c;
}

static int64_t pool_outputs(const struct pool_desc *d)
{
	return (int64_t)d->n * conv_out(d->h, d->kernel, d->stride, d->pad) * conv_out(d->w, d->kernel, d->stride, d->pad);
}

static int window_count(const struct pool_desc *d, int64_t out)
{
	int count = 0;

	for (int at = 0; at < d->kernel * d->kernel; at++)
		count += window_at(d, out, at) >= 0;
	return count;
}

static void pool_fwd(struct stream *s, const struct pool_desc *d, const void *in, void *result, uint8_t *index)
{
	const float *x = in;
	float *y = result;

	(void)s;
	for (int64_t i = 0; i < pool_outputs(d) * d->c; i++) {
		int64_t out = i / d->c, c = i % d->c;
		double sum = 0;
		int best = -1;

		for (int at = 0; at < d->kernel * d->kernel; at++) {
			int64_t from = window_at(d, out, at);

			if (from < 0)
				continue;
			sum += x[from + c];
			if (best < 0 || x[from + c] > x[window_at(d, out, best) + c] || isnan(x[from + c]))
				best = at;
		}
		y[i] = d->max ? x[window_at(d, out, best) + c] : (float)(sum / window_count(d, out));
		if (d->max)
			index[i] = (uint8_t)best;
	}
}

static void pool_bwd(struct stream *s, const struct pool_desc *d, const void *gradient, const uint8_t *index, void *in_gradient, bool accumulate)
{
	const float *dy = gradient;
	float *dx = in_gradient;

	(void)s;
	if (!accumulate)
		memset(dx, 0, sizeof(*dx) * (size_t)d->n * (size_t)d->h * (size_t)d->w * (size_t)d->c);
	for (int64_t i = 0; i < pool_outputs(d) * d->c; i++) {
		int64_t out = i / d->c, c = i % d->c;

		for (int at = 0; at < d->kernel * d->kernel; at++) {
			int64_t to = window_at(d, out, at);

			if (to >= 0 && (!d->max || index[i] == at))
				dx[to + c] += d->max ? dy[i] : dy[i] / (float)window_count(d, out);
		}
	}
}

/* For each element of the larger, padded side: where it comes from in x, or -1. */
static int64_t shortcut_source(int h, int w, int c, int out, int64_t i)
{
	int oh = (h + 1) / 2, ow = (w + 1) / 2, front = (out - c) / 2;
	int64_t pixel = i / out, channel = i % out - front;
	int64_t n = pixel / (oh * ow), y = pixel / ow % oh, x = pixel % ow;

	return channel < 0 || channel >= c ? -1 : ((n * h + 2 * y) * w + 2 * x) * c + channel;
}

static void shortcut_fwd(struct stream *s, int n, int h, int w, int c, int out, const void *in, void *padded)
{
	const float *x = in;
	float *y = padded;

	(void)s;
	for (int64_t i = 0; i < (int64_t)n * ((h + 1) / 2) * ((w + 1) / 2) * out; i++) {
		int64_t from = shortcut_source(h, w, c, out, i);

		y[i] = from < 0 ? 0 : x[from];
	}
}

static void shortcut_bwd(struct stream *s, int n, int h, int w, int c, int out, const void *gradient, void *in_gradient, bool accumulate)
{
	const float *dy = gradient;
	float *dx = in_gradient;

	(void)s;
	if (!accumulate)
		memset(dx, 0, sizeof(*dx) * (size_t)n * (size_t)h * (size_t)w * (size_t)c);
	for (int64_t i = 0; i < (int64_t)n * ((h + 1) / 2) * ((w + 1) / 2) * out; i++) {
		int64_t to = shortcut_source(h, w, c, out, i);

		if (to >= 0)
			dx[to] += dy[i];
	}
}

/* Element i is dropped if word i of the stream (seed, dropout, step, layer) is below p 2^32. */
static void dropout(struct stream *s, int64_t n, float p, uint64_t seed, const int64_t *step, uint32_t layer, const void *in, void *out)
{
	const float *x = in;
	float *y = out;
	uint32_t limit = (uint32_t)((double)p * 0x1p32);
	float scale = (float)(1 / (1 - (double)p));
	struct rng rng;

	(void)s;
	rng_init(&rng, seed, RNG_DROPOUT, (uint64_t)*step, layer);
	for (int64_t i = 0; i < n; i++)
		y[i] = rng_u32(&rng) < limit ? 0 : scale * x[i];
}

static void softmax_row(int classes, const float *x, int label, float scale, float *dx, struct loss_stats *stats)
{
	double most = x[0], sum = 0;
	int best = 0;

	CHECK(label < classes);
	for (int c = 1; c < classes; c++)
		if (x[c] > most)
			most = x[best = c];
	for (int c = 0; c < classes; c++)
		sum += exp(x[c] - most);
	for (int c = 0; dx && c < classes; c++)
		dx[c] = (float)(scale * (exp(x[c] - most) / sum - (c == label)));
	stats->loss += log(sum) + most - x[label];
	stats->correct += best == label;
	stats->count++;
}

static void softmax_xent(struct stream *s, int n, int classes, const void *in, const int32_t *label, float scale, void *in_gradient,
                         struct loss_stats *stats)
{
	const float *x = in;
	float *dx = in_gradient;

	(void)s;
	for (int64_t i = 0; i < n; i++) {
		if (label[i] >= 0)
			softmax_row(classes, x + i * classes, label[i], scale, dx ? dx + i * classes : NULL, stats);
		else if (dx)
			memset(dx + i * classes, 0, sizeof(*dx) * (size_t)classes);
	}
}

const struct nn_ops reference_nn_ops = {
	.augment = reference_augment,
	.conv_plan = cpu_conv_plan,
	.conv_name = cpu_conv_name,
	.conv_release = cpu_conv_release,
	.conv_fwd = cpu_conv_fwd,
	.conv_bwd_data = cpu_conv_bwd_data,
	.conv_bwd_filter = cpu_conv_bwd_filter,
	.bn_train = reference_bn_train,
	.bn_infer = reference_bn_infer,
	.bn_bwd = reference_bn_bwd,
	.relu_fwd = relu_fwd,
	.relu_bwd = relu_bwd,
	.add_fwd = add_fwd,
	.grad_add = grad_add,
	.pool_fwd = pool_fwd,
	.pool_bwd = pool_bwd,
	.shortcut_fwd = shortcut_fwd,
	.shortcut_bwd = shortcut_bwd,
	.dropout = dropout,
	.softmax_xent = softmax_xent,
};
