/*
 * Convolutions of the CPU device: which implementation serves a shape is decided once, while planning. From the fastest to the
 * one that takes everything: our Winograd kernels (3x3, stride 1), oneDNN (the rest), plain C.
 *
 * There is one exception. Winograd computes whole tiles of 4x4; on an image of 2x2 the plain sum, which leaves out the taps that
 * fall into the padding, has fewer products, and oneDNN is a tenth faster.
 */
#include "cpu_conv.h"

#include <string.h>

#include "../die.h"

enum { IMPLS = 3 };
static const struct conv_impl *const usual[IMPLS] = { &conv_winograd, &conv_dnnl, &conv_reference };
static const struct conv_impl *const for_small_images[IMPLS] = { &conv_dnnl, &conv_winograd, &conv_reference };

/* device_config.conv: "auto" and "winograd" allow all, "direct" leaves out Winograd, "reference" all but plain C. */
static bool allowed(const struct cpu_device *dev, const struct conv_impl *impl)
{
	const char *conv = dev->base.config.conv;

	if (impl == &conv_reference)
		return true;
	if (dev->reference || !strcmp(conv, "reference"))
		return false;
	return impl != &conv_winograd || strcmp(conv, "direct");
}

/* Taps that fall into the image, summed over the outputs along one axis. */
static int64_t taps_inside(int size, int kernel, int stride, int pad)
{
	int64_t taps = 0;

	for (int o = 0; o < conv_out(size, kernel, stride, pad); o++)
		for (int k = 0; k < kernel; k++)
			taps += o * stride + k - pad >= 0 && o * stride + k - pad < size;
	return taps;
}

/* Has the plain sum of a 3x3 convolution fewer products than Winograd, which needs 36 a tile? */
static bool is_small_image(const struct conv_desc *d)
{
	int64_t tiles = (int64_t)((conv_out(d->h, d->kh, d->stride, d->pad) + 3) / 4) * ((conv_out(d->w, d->kw, d->stride, d->pad) + 3) / 4);

	return taps_inside(d->h, d->kh, d->stride, d->pad) * taps_inside(d->w, d->kw, d->stride, d->pad) < 36 * tiles;
}

struct conv_plan *cpu_conv_plan(struct device *device, const struct conv_desc *desc)
{
	const struct conv_impl *const *impls = usual;
	struct conv_plan *plan = NULL;

	CHECK(device->config.conv);
	CHECK(conv_pitch(desc) == desc->c);        /* this device asks for no other */
	CHECK(desc->n > 0 && desc->c > 0 && desc->out > 0 && desc->stride > 0 && desc->pad >= 0);
	CHECK(desc->h + 2 * desc->pad >= desc->kh && desc->w + 2 * desc->pad >= desc->kw);
	if (strcmp(device->config.conv, "winograd") && is_small_image(desc))
		impls = for_small_images;
	for (int i = 0; i < IMPLS && !plan; i++)
		if (allowed(cpu(device), impls[i]))
			plan = impls[i]->plan(cpu(device), desc);
	CHECK(plan);
	return plan;
}

const char *cpu_conv_name(const struct conv_plan *plan) { return plan->name; }

void cpu_conv_release(struct device *device, struct conv_plan *plan)
{
	(void)device;
	if (plan)
		plan->impl->release(plan);
}

void cpu_conv_fwd(struct stream *stream, struct conv_plan *plan, const void *x, const float *w, const float *b, void *y)
{
	CHECK(!plan->desc.bias || b);
	plan->impl->fwd(stream_cpu(stream), plan, x, w, plan->desc.bias ? b : NULL, y);
}

void cpu_conv_bwd_data(struct stream *stream, struct conv_plan *plan, const void *dy, const float *w, void *dx, bool accumulate)
{
	plan->impl->bwd_data(stream_cpu(stream), plan, dy, w, dx, accumulate);
}

void cpu_conv_bwd_filter(struct stream *stream, struct conv_plan *plan, const void *x, const void *dy, float *dw, float *db)
{
	plan->impl->bwd_filter(stream_cpu(stream), plan, x, dy, dw, plan->desc.bias ? db : NULL);
}
