/*
 * The step path: walk the nodes forward and backward, tell the hooks what is needed and what is final, let the communication
 * queues advance between layers, and keep the time that each layer took. Nothing here allocates or waits.
 */
#include "clock.h"
#include "die.h"
#include "layer.h"
#include "net_times.h"
#include "timeline.h"
#include "trace.h"

static void copy_in(struct net *net, void *dst, const void *src, size_t bytes)
{
	net->device->ops->mem->copy(net->stream, dst, src, bytes, COPY_TO_DEVICE);
}

void net_load(struct net *net, const float *image, const int32_t *label)
{
	struct tensor *in = &net->node[0]->out;
	struct shape s = in->shape;
	int64_t pixels = (int64_t)s.n * s.h * s.w;
	size_t bytes = (size_t)shape_count(s) * sizeof(*image);

	if (net->staging) {
		copy_in(net, net->staging, image, bytes);
		net->device->ops->nn->from_f32(net->stream, pixels, s.c, net->input_pitch, net->staging, in->data);
	} else {
		copy_in(net, in->data, image, bytes);
	}
	copy_in(net, net->label, label, (size_t)in->shape.n * sizeof(*label));
}

void net_load_resident(struct net *net, const struct images *images, const struct image_draw *draw, const int32_t *label)
{
	struct shape s = net->node[0]->out.shape;
	struct augment_desc d = { s.n, s.h, s.w, s.c, net->input_pitch, images->pad };

	copy_in(net, net->draw, draw, (size_t)s.n * sizeof(*draw));
	copy_in(net, net->label, label, (size_t)s.n * sizeof(*label));
	net->device->ops->nn->augment(net->stream, &d, images->image, images->table, net->draw, net->node[0]->out.data);
}

void net_prepare(struct net *net)
{
	const struct nn_ops *nn = net->device->ops->nn;

	if (nn->prepare)
		nn->prepare(net->stream, net->n, net->x);
}

void net_set_step(struct net *net, int64_t step)
{
	net->device->ops->mem->set(net->stream, net->step, &step, sizeof(step));
}

/* A layer's time counts as overlapped if the communication stream was at work when it began and when it ended. */
struct stopwatch {
	double start;
	bool active;
};

static bool comm_active(const struct net *net)
{
	return net->hooks.watch && net->device->ops->stream->active(net->hooks.watch);
}

static struct stopwatch watch_start(const struct net *net)
{
	return (struct stopwatch){ clock_now(), comm_active(net) };
}

static void watch_stop(const struct net *net, struct node *node, bool backward, struct stopwatch w)
{
	int overlapped = w.active && comm_active(net);

	node->seconds[backward][overlapped] += clock_now() - w.start;
	node->calls[backward][overlapped]++;
}

/* By the virtual clock: a layer's forward, its backward up to where the gradients of its parameters are final, and what is left of it. */
enum part { FORWARD, READY, REST };

static void spend(struct net *net, int i, enum part part)
{
	const struct net_times *t = net->times;

	if (t)
		timeline_spend(net->stream, net->slowness * (part == FORWARD ? t->forward[i] : part == READY ? t->ready[i] : t->backward[i] - t->ready[i]));
}

static void let_progress(struct net *net)
{
	if (net->device->ops->stream->progress)
		net->device->ops->stream->progress(net->device);
}

bool net_needs(struct net *net, struct node *node)
{
	return node->range.n && net->hooks.param_needed && net->hooks.param_needed(net->hooks.context, &node->range);
}

bool net_grads_final(struct net *net, struct node *node)
{
	return node->range.n && net->hooks.grad_ready && net->hooks.grad_ready(net->hooks.context, &node->range);
}

void net_forward(struct net *net, bool train)
{
	trace_begin(net->stream, "forward", NULL, -1);
	net_prepare(net);
	for (int i = 0; i < net->nodes; i++) {
		struct node *node = net->node[i];
		struct stopwatch w;
		bool needed;

		if (node->fused)
			continue;
		needed = net_needs(net, node);
		if (net->hooks.param_needed)    /* evaluation has none, and must not forget what training found */
			node->cut_forward = needed;
		trace_begin(net->stream, node->name, NULL, -1);
		w = watch_start(net);
		node->ops->forward(net, node, train);
		watch_stop(net, node, false, w);
		spend(net, i, FORWARD);
		trace_end(net->stream);
		let_progress(net);
	}
	trace_end(net->stream);
}

void net_backward(struct net *net)
{
	CHECK(net->train);
	trace_begin(net->stream, "backward", NULL, -1);
	for (int i = net->nodes - 1; i >= 0; i--) {
		struct node *node = net->node[i];
		struct stopwatch w;

		if (node->fused || !node->learns)
			continue;
		trace_begin(net->stream, node->name, NULL, -1);
		w = watch_start(net);
		if (node->ops->backward_params) {
			node->ops->backward_params(net, node);
			spend(net, i, READY);
			node->cut_backward = net_grads_final(net, node);
			node->ops->backward(net, node);
			spend(net, i, REST);
		} else {
			node->ops->backward(net, node);
			spend(net, i, READY);
			spend(net, i, REST);
			node->cut_backward = net_grads_final(net, node);
		}
		watch_stop(net, node, true, w);
		trace_end(net->stream);
		let_progress(net);
	}
	trace_end(net->stream);
}

void net_loss(struct net *net, float scale)
{
	struct tensor *logits = &net->node[net->output]->out;

	CHECK(scale == 0 || net->train);
	net->device->ops->nn->softmax_xent(net->stream, logits->shape.n, net->classes, logits->data, net->label, scale,
	                                   scale != 0 ? logits->grad : NULL, net->stats);
}

struct loss_stats net_take_stats(struct net *net)
{
	const struct device_ops *ops = net->device->ops;
	struct loss_stats stats;

	ops->mem->copy(net->stream, &stats, net->stats, sizeof(stats), COPY_TO_HOST);
	ops->mem->zero(net->stream, net->stats, sizeof(stats));
	ops->stream->sync(net->stream);
	return stats;
}
