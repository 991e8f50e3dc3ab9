/*
 * SGD with momentum on the model that all workers hold: the kernel of the local optimizer, with hyperparameters of its own and
 * without weight decay. (The gradient is the workers' movement, which has the decay in it already.)
 */
#include "outer.h"

static void write_block(struct outer *o, struct sync *s)
{
	s->device->ops->mem->set(s->compute, o->block, &o->hyper, sizeof(o->hyper));
}

void outer_bind(struct outer *o, struct sync *s, double lr, double momentum, bool nesterov)
{
	const struct device_ops *dev = s->device->ops;

	o->z = sync_vector(s);
	o->d = sync_vector(s);
	o->v = momentum != 0 ? sync_vector(s) : NULL;
	o->done = dev->stream->event_open(s->device);
	o->block = dev->mem->alloc(s->device, sizeof(*o->block));
	o->hyper = (struct hyper){ .lr = (float)lr, .momentum = (float)momentum, .nesterov = nesterov };
	write_block(o, s);
	dev->mem->copy(s->compute, o->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

void outer_set_momentum(struct outer *o, struct sync *s, double momentum)
{
	o->hyper.momentum = (float)momentum;
	write_block(o, s);
}

void outer_step(struct outer *o, struct sync *s, int64_t offset, int64_t n)
{
	float *v = o->v ? o->v + offset : NULL;

	s->device->ops->vec->sgd(s->compute, n, o->block, o->d + offset, v, o->z + offset, v, o->z + offset);
}

void outer_round(struct outer *o, struct sync *s)
{
	const struct device_ops *dev = s->device->ops;

	sync_phase(s, "average");
	dev->vec->diff(s->compute, s->n, o->z, s->x, o->d);
	sync_average(s, o->d, o->d, o->done);
	dev->stream->wait(s->compute, o->done);
	sync_phase(s, "outer step");
	outer_step(o, s, 0, s->n);
	dev->mem->copy(s->compute, s->x, o->z, (size_t)s->n * sizeof(float), COPY_DEVICE);
	sync_merged(s);
}

void outer_state(struct outer *o, struct sync *s, struct state_visitor *v)
{
	v->vector(v, "reference", s->device, o->z, s->n);
	if (o->v)
		v->vector(v, "outer_momentum", s->device, o->v, s->n);
}

void outer_release(struct outer *o, struct sync *s)
{
	const struct mem_ops *mem = s->device->ops->mem;

	mem->free(s->device, o->z);
	mem->free(s->device, o->d);
	if (o->v)
		mem->free(s->device, o->v);
	mem->free(s->device, o->block);
	s->device->ops->stream->event_close(o->done);
}
