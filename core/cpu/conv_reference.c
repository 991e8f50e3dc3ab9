/*
 * The convolution as it is written in books: plain C, one thread, sums in double. It takes every shape. The other
 * implementations are tested against it, and it serves what they refuse.
 *
 *     y[n, oy, ox, o] = b[o] + sum over ky, kx, c of x[n, oy s + ky - p, ox s + kx - p, c] w[o, ky, kx, c]
 *
 * All three directions walk the same taps; a tap that falls into the padding is left out.
 */
#include "cpu.h"

#include <stdlib.h>

#include "../die.h"

struct reference_plan {
	struct conv_plan base;
	int oh, ow;
	double *sum;                    /* c of them */
};

static struct conv_plan *reference_plan(struct cpu_device *dev, const struct conv_desc *d)
{
	struct reference_plan *p = xcalloc(1, sizeof(*p));

	(void)dev;
	p->base = (struct conv_plan){ .impl = &conv_reference, .desc = *d, .name = "plain C" };
	p->oh = conv_out(d->h, d->kh, d->stride, d->pad);
	p->ow = conv_out(d->w, d->kw, d->stride, d->pad);
	p->sum = xcalloc(d->c, sizeof(double));
	return &p->base;
}

static void reference_release(struct conv_plan *plan)
{
	free(((struct reference_plan *)plan)->sum);
	free(plan);
}

/* Where a pixel (y, x) of image n begins, in an image of h by w pixels of c channels. */
static inline size_t at(int h, int w, int c, int n, int y, int x) { return (((size_t)n * h + y) * w + x) * c; }

static double dot(int n, const float *a, const float *b)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double)a[i] * b[i];
	return sum;
}

static void reference_fwd(struct cpu_device *dev, struct conv_plan *plan, const float *x, const float *w, const float *b, float *y)
{
	const struct reference_plan *p = (struct reference_plan *)plan;
	const struct conv_desc *d = &plan->desc;

	for (int n = 0; n < d->n; n++)
		for (int oy = 0; oy < p->oh; oy++, cpu_poll(dev))
			for (int ox = 0; ox < p->ow; ox++)
				for (int o = 0; o < d->out; o++) {
					double sum = b ? b[o] : 0;

					for (int ky = 0; ky < d->kh; ky++) {
						int iy = oy * d->stride + ky - d->pad;

						for (int kx = 0; kx < d->kw && iy >= 0 && iy < d->h; kx++) {
							int ix = ox * d->stride + kx - d->pad;

							if (ix >= 0 && ix < d->w)
								sum += dot(d->c, x + at(d->h, d->w, d->c, n, iy, ix), w + at(d->kh, d->kw, d->c, o, ky, kx));
						}
					}
					y[at(p->oh, p->ow, d->out, n, oy, ox) + o] = (float)sum;
				}
}

/* The output row (or column) that sees input position i through tap k, or -1. */
static int output_of(int i, int k, int stride, int pad, int outputs)
{
	int o = i + pad - k;

	return o >= 0 && o % stride == 0 && o / stride < outputs ? o / stride : -1;
}

static void reference_bwd_data(struct cpu_device *dev, struct conv_plan *plan, const float *dy, const float *w, float *dx, bool accumulate)
{
	const struct reference_plan *p = (struct reference_plan *)plan;
	const struct conv_desc *d = &plan->desc;

	for (int n = 0; n < d->n; n++)
		for (int iy = 0; iy < d->h; iy++, cpu_poll(dev))
			for (int ix = 0; ix < d->w; ix++) {
				float *to = dx + at(d->h, d->w, d->c, n, iy, ix);

				for (int c = 0; c < d->c; c++)
					p->sum[c] = accumulate ? to[c] : 0;
				for (int ky = 0; ky < d->kh; ky++)
					for (int kx = 0; kx < d->kw; kx++) {
						int oy = output_of(iy, ky, d->stride, d->pad, p->oh), ox = output_of(ix, kx, d->stride, d->pad, p->ow);

						for (int o = 0; o < d->out && oy >= 0 && ox >= 0; o++) {
							double g = dy[at(p->oh, p->ow, d->out, n, oy, ox) + o];
							const float *wo = w + at(d->kh, d->kw, d->c, o, ky, kx);

							for (int c = 0; c < d->c; c++)
								p->sum[c] += g * wo[c];
						}
					}
				for (int c = 0; c < d->c; c++)
					to[c] = (float)p->sum[c];
			}
}

/* One tap's gradient for one output channel: p->sum[c] = sum over the pixels of dy x. */
static void tap_gradient(const struct reference_plan *p, const float *x, const float *dy, int o, int ky, int kx)
{
	const struct conv_desc *d = &p->base.desc;

	for (int c = 0; c < d->c; c++)
		p->sum[c] = 0;
	for (int n = 0; n < d->n; n++)
		for (int oy = 0; oy < p->oh; oy++) {
			int iy = oy * d->stride + ky - d->pad;

			for (int ox = 0; ox < p->ow && iy >= 0 && iy < d->h; ox++) {
				int ix = ox * d->stride + kx - d->pad;
				double g = dy[at(p->oh, p->ow, d->out, n, oy, ox) + o];

				for (int c = 0; c < d->c && ix >= 0 && ix < d->w; c++)
					p->sum[c] += g * x[at(d->h, d->w, d->c, n, iy, ix) + c];
			}
		}
}

static void reference_bwd_filter(struct cpu_device *dev, struct conv_plan *plan, const float *x, const float *dy, float *dw, float *db)
{
	const struct reference_plan *p = (struct reference_plan *)plan;
	const struct conv_desc *d = &plan->desc;
	size_t pixels = (size_t)d->n * p->oh * p->ow;

	for (int o = 0; o < d->out; o++) {
		for (int ky = 0; ky < d->kh; ky++)
			for (int kx = 0; kx < d->kw; kx++, cpu_poll(dev)) {
				tap_gradient(p, x, dy, o, ky, kx);
				for (int c = 0; c < d->c; c++)
					dw[at(d->kh, d->kw, d->c, o, ky, kx) + c] = (float)p->sum[c];
			}
		if (db) {
			double sum = 0;

			for (size_t i = 0; i < pixels; i++)
				sum += dy[i * d->out + o];
			db[o] = (float)sum;
		}
	}
}

const struct conv_impl conv_reference = {
	.name = "reference",
	.plan = reference_plan,
	.release = reference_release,
	.fwd = reference_fwd,
	.bwd_data = reference_bwd_data,
	.bwd_filter = reference_bwd_filter,
};
