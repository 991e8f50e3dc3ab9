/*
 * Convolutions of the CPU device: which implementation serves a shape is decided once, while planning. From the fastest to the
 * one that takes everything: our Winograd kernels (3x3, stride 1), oneDNN (the rest), plain C.
 */
#include "cpu_conv.h"

#include <string.h>

#include "../die.h"

static const struct conv_impl *const impls[] = { &conv_winograd, &conv_dnnl, &conv_reference };

/* device_config.conv: "auto" and "winograd" allow all, "direct" leaves out Winograd, "reference" all but plain C. */
static bool allowed(const struct cpu_device *dev, const struct conv_impl *impl)
{
	const char *conv = dev->base.config.conv ? dev->base.config.conv : "auto";

	if (impl == &conv_reference)
		return true;
	if (dev->reference || !strcmp(conv, "reference"))
		return false;
	return impl != &conv_winograd || strcmp(conv, "direct");
}

struct conv_plan *cpu_conv_plan(struct device *device, const struct conv_desc *desc)
{
	struct conv_plan *plan = NULL;

	CHECK(desc->n > 0 && desc->c > 0 && desc->out > 0 && desc->stride > 0 && desc->pad >= 0);
	CHECK(desc->h + 2 * desc->pad >= desc->kh && desc->w + 2 * desc->pad >= desc->kw);
	for (size_t i = 0; !plan && i < sizeof(impls) / sizeof(impls[0]); i++)
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

void cpu_conv_fwd(struct stream *stream, struct conv_plan *plan, const float *x, const float *w, const float *b, float *y)
{
	CHECK(!plan->desc.bias || b);
	plan->impl->fwd(stream_cpu(stream), plan, x, w, plan->desc.bias ? b : NULL, y);
}

void cpu_conv_bwd_data(struct stream *stream, struct conv_plan *plan, const float *dy, const float *w, float *dx, bool accumulate)
{
	plan->impl->bwd_data(stream_cpu(stream), plan, dy, w, dx, accumulate);
}

void cpu_conv_bwd_filter(struct stream *stream, struct conv_plan *plan, const float *x, const float *dy, float *dw, float *db)
{
	plan->impl->bwd_filter(stream_cpu(stream), plan, x, dy, dw, plan->desc.bias ? db : NULL);
}
