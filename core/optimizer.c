/*
 * What all optimizers share: state arenas, the step counter, and the hyper block. The block is in device memory, so that a step
 * captured once can be replayed with another learning rate.
 */
#include <string.h>

#include "clock.h"
#include "die.h"
#include "optimizer.h"
#include "slowdown.h"
#include "timeline.h"
#include "trace.h"

void optimizer_init(struct optimizer *o, const struct optimizer_ops *ops, const struct config *config)
{
	memset(o, 0, sizeof(*o));
	o->ops = ops;
	ops->init(o, config);
}

void optimizer_bind(struct optimizer *o, struct device *device, int64_t n)
{
	CHECK(!o->device);
	o->device = device;
	o->n = n;
	for (int i = 0; i < o->ops->slots(o); i++)
		o->state[i] = device->ops->mem->alloc(device, (size_t)n * sizeof(float));
	o->block = device->ops->mem->alloc(device, sizeof(*o->block));
}

void optimizer_release(struct optimizer *o)
{
	if (o->device) {
		for (int i = 0; i < OPTIMIZER_SLOTS; i++)
			if (o->state[i])
				o->device->ops->mem->free(o->device, o->state[i]);
		o->device->ops->mem->free(o->device, o->block);
	}
	memset(o, 0, sizeof(*o));
}

void optimizer_begin(struct optimizer *o, struct stream *s, double lr)
{
	struct hyper h = o->base;

	o->t++;
	o->lr = lr;
	h.lr = (float)lr;
	o->ops->hyper(o, &h);
	o->device->ops->mem->set(s, o->block, &h, sizeof(h));
}

void optimizer_step(struct optimizer *o, struct stream *s, int64_t offset, int64_t n, const float *g, float *x)
{
	optimizer_step_to(o, s, offset, n, g, x, x, o->state);
}

void optimizer_step_to(struct optimizer *o, struct stream *s, int64_t offset, int64_t n, const float *g, const float *x,
                       float *x_out, float *const state_out[])
{
	double begin = clock_now();

	CHECK(offset >= 0 && n >= 0 && offset + n <= o->n);
	trace_begin(s, "update", "parameters", n);
	timeline_spend(s, o->seconds * (double)n / (double)o->n);
	o->ops->step(o, s, offset, n, g, x, x_out, o->state, state_out);
	if (o->sleeps)
		o->lent += slowdown_pause(o->device, s, NULL, begin + o->seconds * (double)n / (double)o->n);
	trace_end(s);
}
