/*
 * When does backward make which gradient final? Passes over a made-up batch tell, before the first step, and leave nothing behind.
 *
 * A device that runs behind the host is waited for behind every layer, which takes time of its own: other passes run through, and their
 * time shrinks the first ones' to what backward really takes. Where layers run inside their calls there is nothing to shrink.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "die.h"
#include "net.h"
#include "rng.h"

enum { PASSES = 3, PASSES_MOST = 50 };  /* of each kind; one before them warms up */

struct profile {
	struct net *net;
	double begin, *ready;           /* ready: of each tensor, in this pass */
	bool waits;
};

static bool profile_ready(void *context, const struct range *r)
{
	struct profile *p = context;
	int first = (int)(r->tensor - p->net->tensor);

	if (!p->waits)
		return false;
	p->net->device->ops->stream->sync(p->net->stream);
	for (int i = 0; i < r->tensors; i++)
		p->ready[first + i] = clock_now() - p->begin;
	return false;
}

static double time_backward(struct profile *p, bool waits)
{
	const struct stream_ops *stream = p->net->device->ops->stream;

	p->waits = waits;
	net_forward(p->net, true);
	net_loss(p->net, 1.0f / (float)p->net->node[0]->out.shape.n);
	stream->sync(p->net->stream);
	p->begin = clock_now();
	net_backward(p->net);
	stream->sync(p->net->stream);
	return clock_now() - p->begin;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of `count` numbers that lie `stride` apart. */
static double median(const double *v, int count, int stride)
{
	double sorted[PASSES_MOST];

	for (int i = 0; i < count; i++)
		sorted[i] = v[(size_t)i * (size_t)stride];
	qsort(sorted, (size_t)count, sizeof(*sorted), by_value);
	return sorted[count / 2];
}

/* Medians of times that never fall from one tensor to the next do not either. */
static double measure(struct net *net, double seconds, double *ready)
{
	int tensors = net->tensors, passes = 0;
	double *all = xcalloc((size_t)PASSES_MOST * (size_t)tensors, sizeof(*all)), waited[PASSES_MOST], whole[PASSES_MOST], total, shrink;
	struct profile p = { .net = net, .ready = all };
	double until;

	net->hooks = (struct net_hooks){ .context = &p, .grad_ready = profile_ready };
	time_backward(&p, true);
	for (until = clock_now() + seconds; passes < PASSES || (passes < PASSES_MOST && clock_now() < until); passes++) {
		whole[passes] = time_backward(&p, false);
		p.ready = all + (size_t)passes * (size_t)tensors;
		waited[passes] = time_backward(&p, true);
	}
	total = median(waited, passes, 1);
	shrink = fmin(1, median(whole, passes, 1) / total);
	for (int i = 0; i < tensors; i++)
		ready[i] = median(all + i, passes, tensors) * shrink;
	free(all);
	return total * shrink;
}

/* What a network has that passes change, and the time of its layers. */
struct rehearsal {
	float *buffer;
	struct net_hooks hooks;
	struct { double seconds[2][2]; int64_t calls[2][2]; } node[];
};

/* Random bits as images: a processor that multiplies zeros is cooler than one that works. */
static void load_noise(struct net *net)
{
	struct shape s = net->node[0]->out.shape;
	float *image = xcalloc((size_t)shape_count(s), sizeof(*image));
	int32_t *label = xcalloc((size_t)s.n, sizeof(*label));
	struct rng rng;

	rng_init(&rng, 0, RNG_NOISE, 0, 0);
	for (int64_t i = 0; i < shape_count(s); i++)
		image[i] = (float)rng_u32(&rng) * 0x1p-30f - 2;
	net_load(net, image, label);
	net->device->ops->stream->sync(net->stream);
	free(image);
	free(label);
}

struct rehearsal *net_rehearse(struct net *net)
{
	size_t bytes = (size_t)net->buffer_n * sizeof(float);
	struct rehearsal *r = xcalloc(1, sizeof(*r) + (size_t)net->nodes * sizeof(r->node[0]));

	CHECK(net->train);
	r->hooks = net->hooks;
	r->buffer = xcalloc(1, bytes + sizeof(float));
	net->device->ops->mem->copy(net->stream, r->buffer, net->buffer, bytes, COPY_TO_HOST);
	for (int i = 0; i < net->nodes; i++) {
		memcpy(r->node[i].seconds, net->node[i]->seconds, sizeof(r->node[i].seconds));
		memcpy(r->node[i].calls, net->node[i]->calls, sizeof(r->node[i].calls));
	}
	net->hooks = (struct net_hooks){ 0 };
	load_noise(net);
	return r;
}

void net_resume(struct net *net, struct rehearsal *r)
{
	const struct mem_ops *mem = net->device->ops->mem;

	net->hooks = r->hooks;
	net_take_stats(net);
	mem->zero(net->stream, net->g, (size_t)net->n * sizeof(float));
	mem->copy(net->stream, net->buffer, r->buffer, (size_t)net->buffer_n * sizeof(float), COPY_TO_DEVICE);
	net->device->ops->stream->sync(net->stream);
	for (int i = 0; i < net->nodes; i++) {
		memcpy(net->node[i]->seconds, r->node[i].seconds, sizeof(r->node[i].seconds));
		memcpy(net->node[i]->calls, r->node[i].calls, sizeof(r->node[i].calls));
	}
	free(r->buffer);
	free(r);
}

double net_profile(struct net *net, double seconds, double *ready)
{
	struct rehearsal *r = net_rehearse(net);
	double backward = measure(net, seconds, ready);

	net_resume(net, r);
	return backward;
}
