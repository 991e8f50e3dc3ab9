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

/* The queued form: what to do and the arguments of all three directions. */
struct conv_args {
	struct cpu_device *dev;
	struct conv_plan *plan;
	const float *x, *w, *b, *dy;
	float *y, *dx, *dw, *db;
	bool accumulate;
};

static void run_fwd(void *args, int team)
{
	struct conv_args *a = args;

	(void)team;
	a->plan->impl->fwd(a->dev, a->plan, a->x, a->w, a->b, a->y);
}

static void run_bwd_data(void *args, int team)
{
	struct conv_args *a = args;

	(void)team;
	a->plan->impl->bwd_data(a->dev, a->plan, a->dy, a->w, a->dx, a->accumulate);
}

static void run_bwd_filter(void *args, int team)
{
	struct conv_args *a = args;

	(void)team;
	a->plan->impl->bwd_filter(a->dev, a->plan, a->x, a->dy, a->dw, a->db);
}

void cpu_conv_fwd(struct stream *stream, struct conv_plan *plan, const float *x, const float *w, const float *b, float *y)
{
	struct conv_args args = { .dev = stream_cpu(stream), .plan = plan, .x = x, .w = w, .b = plan->desc.bias ? b : NULL, .y = y };

	CHECK(!plan->desc.bias || b);
	cpu_run(stream, run_fwd, &args, sizeof(args));
}

void cpu_conv_bwd_data(struct stream *stream, struct conv_plan *plan, const float *dy, const float *w, float *dx, bool accumulate)
{
	struct conv_args args = { .dev = stream_cpu(stream), .plan = plan, .dy = dy, .w = w, .dx = dx, .accumulate = accumulate };

	cpu_run(stream, run_bwd_data, &args, sizeof(args));
}

void cpu_conv_bwd_filter(struct stream *stream, struct conv_plan *plan, const float *x, const float *dy, float *dw, float *db)
{
	struct conv_args args = { .dev = stream_cpu(stream), .plan = plan, .x = x, .dy = dy, .dw = dw, .db = plan->desc.bias ? db : NULL };

	cpu_run(stream, run_bwd_filter, &args, sizeof(args));
}
