/*
 * Pooling and ResNet's option A shortcut. Forward cuts the rows of the output, backward whole images: windows may overlap, so
 * an image's gradient belongs to one thread.
 */
#include <string.h>

#include "../die.h"
#include "cpu_ops.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

KERNEL_TABLES(struct layer_kernels, layer_kernels);

struct pool_args {
	const struct layer_kernels *kernel;
	const struct pool_desc *d;
	int oh, ow;
	const float *x, *dy;
	float *y, *dx;
	uint8_t *index;
	const uint8_t *from;
	bool accumulate;
};

static struct pool_args pool_args(struct stream *s, const struct pool_desc *d)
{
	CHECK(d->kernel >= 1 && d->stride >= 1 && d->pad <= d->kernel / 2);     /* every window sees a pixel of the image */
	CHECK(!d->max || d->kernel <= 16);                                      /* its positions fit a byte */
	return (struct pool_args){
		.kernel = layer_kernels_tables[stream_cpu(s)->isa],
		.d = d,
		.oh = conv_out(d->h, d->kernel, d->stride, d->pad),
		.ow = conv_out(d->w, d->kernel, d->stride, d->pad),
	};
}

/* The window of output pixel (oy, ox); returns the offset of its first pixel inside the image. */
static int64_t window_of(const struct pool_desc *d, int oy, int ox, struct window *w)
{
	int y0 = oy * d->stride - d->pad, x0 = ox * d->stride - d->pad;
	int top = y0 < 0 ? 0 : y0, left = x0 < 0 ? 0 : x0;
	int bottom = y0 + d->kernel < d->h ? y0 + d->kernel : d->h, right = x0 + d->kernel < d->w ? x0 + d->kernel : d->w;

	w->rows = bottom - top;
	w->cols = right - left;
	w->c = d->c;
	w->first = (top - y0) * d->kernel + left - x0;
	w->kernel = d->kernel;
	w->row = (int64_t)d->w * d->c;
	return ((int64_t)top * d->w + left) * d->c;
}

static void slice_fwd(const void *args, int64_t from, int64_t to)
{
	const struct pool_args *a = args;
	const struct pool_desc *d = a->d;
	struct window w;

	for (int64_t row = from; row < to; row++) {
		const float *image = a->x + row / a->oh * d->h * d->w * d->c;

		for (int ox = 0; ox < a->ow; ox++) {
			const float *x = image + window_of(d, (int)(row % a->oh), ox, &w);
			int64_t out = (row * a->ow + ox) * d->c;

			if (d->max)
				a->kernel->max_fwd(&w, x, a->y + out, a->index + out);
			else
				a->kernel->mean_fwd(&w, 1 / (float)(w.rows * w.cols), x, a->y + out);
		}
	}
}

void cpu_pool_fwd(struct stream *s, const struct pool_desc *d, const void *x, void *y, uint8_t *index)
{
	struct cpu_device *dev = stream_cpu(s);
	struct pool_args a = pool_args(s, d);

	a.x = x;
	a.y = y;
	a.index = index;
	cpu_for(dev, dev->threads, (int64_t)d->n * a.oh, 1, (int64_t)a.ow * d->c * d->kernel * d->kernel, slice_fwd, &a);
}

static void slice_bwd(const void *args, int64_t from, int64_t to)
{
	const struct pool_args *a = args;
	const struct pool_desc *d = a->d;
	int64_t pixels = (int64_t)d->h * d->w * d->c;
	struct window w;

	for (int64_t n = from; n < to; n++) {
		if (!a->accumulate)
			memset(a->dx + n * pixels, 0, sizeof(float) * (size_t)pixels);
		for (int i = 0; i < a->oh * a->ow; i++) {
			float *dx = a->dx + n * pixels + window_of(d, i / a->ow, i % a->ow, &w);
			int64_t out = (n * a->oh * a->ow + i) * d->c;

			if (d->max)
				a->kernel->max_bwd(&w, a->dy + out, a->from + out, dx);
			else
				a->kernel->mean_bwd(&w, 1 / (float)(w.rows * w.cols), a->dy + out, dx);
		}
	}
}

void cpu_pool_bwd(struct stream *s, const struct pool_desc *d, const void *dy, const uint8_t *index, void *dx, bool accumulate)
{
	struct cpu_device *dev = stream_cpu(s);
	struct pool_args a = pool_args(s, d);

	a.dy = dy;
	a.from = index;
	a.dx = dx;
	a.accumulate = accumulate;
	cpu_for(dev, dev->threads, d->n, 1, (int64_t)a.oh * a.ow * d->c * d->kernel * d->kernel, slice_bwd, &a);
}

struct shortcut_args {
	int h, w, c, out;
	const float *x, *dy;
	float *y, *dx;
	bool accumulate;
};

static void slice_shortcut_fwd(const void *args, int64_t from, int64_t to)
{
	const struct shortcut_args *a = args;
	int oh = (a->h + 1) / 2, ow = (a->w + 1) / 2, front = (a->out - a->c) / 2;

	for (int64_t row = from; row < to; row++) {
		const float *x = a->x + (row / oh * a->h + 2 * (row % oh)) * a->w * a->c;
		float *y = a->y + row * ow * a->out;

		memset(y, 0, sizeof(float) * (size_t)ow * (size_t)a->out);
		for (int i = 0; i < ow; i++)
			memcpy(y + (int64_t)i * a->out + front, x + 2 * (int64_t)i * a->c, sizeof(float) * (size_t)a->c);
	}
}

void cpu_shortcut_fwd(struct stream *s, int n, int h, int w, int c, int out, const void *x, void *y)
{
	struct cpu_device *dev = stream_cpu(s);
	struct shortcut_args a = { .h = h, .w = w, .c = c, .out = out, .x = x, .y = y };

	CHECK(out >= c);
	cpu_for(dev, dev->threads, (int64_t)n * ((h + 1) / 2), 1, (int64_t)w * out, slice_shortcut_fwd, &a);
}

/* By rows of the input: odd ones get nothing. */
static void slice_shortcut_bwd(const void *args, int64_t from, int64_t to)
{
	const struct shortcut_args *a = args;
	int oh = (a->h + 1) / 2, ow = (a->w + 1) / 2, front = (a->out - a->c) / 2;

	for (int64_t row = from; row < to; row++) {
		int64_t n = row / a->h, y = row % a->h;
		float *dx = a->dx + row * a->w * a->c;

		if (!a->accumulate)
			memset(dx, 0, sizeof(float) * (size_t)a->w * (size_t)a->c);
		if (y % 2)
			continue;
		for (int i = 0; i < ow; i++) {
			const float *dy = a->dy + ((n * oh + y / 2) * ow + i) * a->out + front;

			for (int c = 0; c < a->c; c++)
				dx[2 * (int64_t)i * a->c + c] += dy[c];
		}
	}
}

void cpu_shortcut_bwd(struct stream *s, int n, int h, int w, int c, int out, const void *dy, void *dx, bool accumulate)
{
	struct cpu_device *dev = stream_cpu(s);
	struct shortcut_args a = { .h = h, .w = w, .c = c, .out = out, .dy = dy, .dx = dx, .accumulate = accumulate };

	CHECK(out >= c);
	cpu_for(dev, dev->threads, (int64_t)n * h, 1, (int64_t)w * c, slice_shortcut_bwd, &a);
}
