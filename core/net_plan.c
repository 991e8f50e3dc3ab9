/*
 * The memory plan: every output and gradient gets its place in one arena before the first step, from the time at which it is
 * written first to the time at which it is read last. Two buffers may share a place if their lives do not meet.
 *
 * Time runs over one step: node i's forward is at time i, the loss at N (the number of nodes), node i's backward at 2 N - i.
 * Without training it ends at the loss, and outputs die as soon as their last reader has run.
 *
 * In training nearly every output lives until backward; the gradients share. Moreover a gradient often needs no buffer of its
 * own: an addition passes its gradient on, and ReLU and batch norm may turn theirs into the input's in place. That is allowed
 * for the reader that backward meets first (later ones add to it), and for one input of a node only: whoever owns a buffer may
 * write to it.
 */
#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "layer.h"

enum { SPAN_ALIGN = 256 };      /* what GPUs like; more than any vector needs */

struct span {
	int64_t n, offset;      /* bytes */
	int from, to;           /* alive at these times, both included */
};

struct plan {
	const struct net *net;
	bool train;
	int64_t element;        /* bytes of an activation */
	int pitch;              /* channels of an input pixel in memory */
	struct span *span;
	int spans;
	int *data, *grad, *own; /* per node: which span; -1: none */
	bool (*add)[NODE_INPUTS], (*share)[NODE_INPUTS];
	int64_t n;              /* bytes of all */
};

static int time_loss(const struct plan *p) { return p->net->nodes; }
static int time_backward(const struct plan *p, int id) { return 2 * p->net->nodes - id; }
static int time_end(const struct plan *p) { return p->train ? 2 * p->net->nodes : p->net->nodes; }

static int new_span(struct plan *p, int64_t bytes, int from, int to)
{
	p->span[p->spans] = (struct span){ (bytes + SPAN_ALIGN - 1) / SPAN_ALIGN * SPAN_ALIGN, 0, from, to };
	return p->spans++;
}

static int64_t output_bytes(const struct plan *p, int id)
{
	struct shape s = p->net->node[id]->out.shape;

	if (id == 0)
		s.c = p->pitch;
	return shape_count(s) * p->element;
}

/* What the device wants for images, if nobody but convolutions, who can skip what is behind the channels, reads them. */
static int choose_pitch(const struct net *net, struct device *device)
{
	int c = net->node[0]->out.shape.c;

	for (int i = 0; i < net->nodes; i++)
		for (int k = 0; k < net->node[i]->inputs && !net->node[i]->fused; k++)
			if (net->node[i]->input[k] == 0 && net->node[i]->ops != &layer_conv)
				return c;
	return device && device->ops->nn->input_pitch ? device->ops->nn->input_pitch(device, c) : c;
}

static void live_until(struct span *s, int t)
{
	if (s->to < t)
		s->to = t;
}

static void plan_outputs(struct plan *p)
{
	const struct net *net = p->net;
	int *readers = xcalloc((size_t)net->nodes, sizeof(int));

	for (int i = 0; i < net->nodes; i++)
		for (int k = 0; k < net->node[i]->inputs && !net->node[i]->fused; k++)
			readers[net->node[i]->input[k]]++;
	for (int i = 0; i < net->nodes; i++) {
		const struct node *node = net->node[i], *in = node->inputs ? net->node[node->input[0]] : NULL;
		bool trained = p->train && node->learns;

		if (node->fused)
			continue;
		if (in && (node->traits & FORWARD_IN_PLACE) && readers[in->id] == 1 && !(in->traits & (BACKWARD_READS_OUTPUT | PINNED)))
			p->data[i] = p->data[in->id];
		else
			p->data[i] = new_span(p, output_bytes(p, i), i, i);
		for (int k = 0; k < node->inputs; k++)
			live_until(&p->span[p->data[node->input[k]]], i);
		live_until(&p->span[p->data[i]], i);
		if (trained && (node->traits & BACKWARD_READS_INPUT))
			live_until(&p->span[p->data[in->id]], time_backward(p, i));
		if (trained && (node->traits & BACKWARD_READS_OUTPUT))
			live_until(&p->span[p->data[i]], time_backward(p, i));
		if (node->traits & PINNED) {
			p->span[p->data[i]].from = 0;
			live_until(&p->span[p->data[i]], time_end(p));
		}
		if (node->ops->private_bytes)
			p->own[i] = new_span(p, node->ops->private_bytes(net, node), 0, time_end(p));
	}
	free(readers);
}

/* Node i's backward brings the gradient of its input k. */
static bool plan_gradient(struct plan *p, int i, int k, bool may_share)
{
	const struct node *node = p->net->node[i];
	int in = node->input[k];

	if (!p->net->node[in]->learns)
		return false;
	if (p->grad[in] >= 0) {
		p->add[i][k] = true;
		return false;
	}
	if (may_share && (node->traits & (k ? GRAD_IN_PLACE_1 : GRAD_IN_PLACE_0))) {
		p->share[i][k] = true;
		p->grad[in] = p->grad[i];
		return true;
	}
	p->grad[in] = new_span(p, output_bytes(p, in), time_backward(p, i), time_backward(p, i));
	return false;
}

static void plan_gradients(struct plan *p)
{
	const struct net *net = p->net;

	p->grad[net->output] = new_span(p, output_bytes(p, net->output), time_loss(p), time_loss(p));
	for (int i = net->nodes - 1; i >= 0; i--) {
		const struct node *node = net->node[i];
		bool shared = false;

		if (node->fused || !node->learns)
			continue;
		CHECK(p->grad[i] >= 0);
		for (int k = node->inputs - 1; k >= 0; k--)     /* the residual first: there it saves a copy */
			shared |= plan_gradient(p, i, k, !shared);
		live_until(&p->span[p->grad[i]], time_backward(p, i));
	}
}

/* Largest first, each at the lowest place that is free during its life. */
struct placed {
	int64_t from, to;
};

static int by_place(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static int64_t lowest_free(const struct plan *p, const int *order, int placed, struct placed *busy)
{
	const struct span *s = &p->span[order[placed]];
	int64_t at = 0;
	int n = 0;

	for (int i = 0; i < placed; i++) {
		const struct span *other = &p->span[order[i]];

		if (other->from <= s->to && s->from <= other->to)
			busy[n++] = (struct placed){ other->offset, other->offset + other->n };
	}
	qsort(busy, (size_t)n, sizeof(*busy), by_place);
	for (int i = 0; i < n && busy[i].from < at + s->n; i++)
		if (at < busy[i].to)
			at = busy[i].to;
	return at;
}

static void plan_places(struct plan *p)
{
	int *order = xcalloc((size_t)p->spans + 1, sizeof(int));
	struct placed *busy = xcalloc((size_t)p->spans + 1, sizeof(*busy));

	for (int i = 0; i < p->spans; i++) {            /* insertion sort: a few hundred, once */
		int j = i;

		for (; j > 0 && p->span[order[j - 1]].n < p->span[i].n; j--)
			order[j] = order[j - 1];
		order[j] = i;
	}
	for (int i = 0; i < p->spans; i++) {
		struct span *s = &p->span[order[i]];

		s->offset = lowest_free(p, order, i, busy);
		if (p->n < s->offset + s->n)
			p->n = s->offset + s->n;
	}
	free(order);
	free(busy);
}

static void plan_init(struct plan *p, const struct net *net, struct device *device, bool train)
{
	size_t nodes = (size_t)net->nodes;

	*p = (struct plan){ .net = net, .train = train, .pitch = choose_pitch(net, device) };
	p->element = (int64_t)dtype_size(device ? device->activation : DTYPE_F32);
	p->span = xcalloc(3 * nodes, sizeof(*p->span));
	p->data = xcalloc(nodes, sizeof(int));
	p->grad = xcalloc(nodes, sizeof(int));
	p->own = xcalloc(nodes, sizeof(int));
	p->add = xcalloc(nodes, sizeof(*p->add));
	p->share = xcalloc(nodes, sizeof(*p->share));
	for (size_t i = 0; i < nodes; i++)
		p->data[i] = p->grad[i] = p->own[i] = -1;
	plan_outputs(p);
	if (train)
		plan_gradients(p);
	plan_places(p);
}

static void plan_release(struct plan *p)
{
	free(p->span);
	free(p->data);
	free(p->grad);
	free(p->own);
	free(p->add);
	free(p->share);
}

/* Only devices of another activation type turn floats into it, and only those augment. */
static size_t staging_bytes(const struct net *net, const struct device *device)
{
	return device && device->ops->nn->from_f32 ? (size_t)shape_count(net->node[0]->out.shape) * sizeof(float) : 0;
}

static size_t draw_bytes(const struct net *net, const struct device *device)
{
	return device && device->ops->nn->augment ? (size_t)net->node[0]->out.shape.n * sizeof(struct image_draw) : 0;
}

static size_t label_bytes(const struct net *net) { return (size_t)net->node[0]->out.shape.n * sizeof(int32_t); }

int64_t net_memory(const struct net *net, struct device *device, bool train)
{
	struct plan plan;
	int64_t arenas = net->n * (train ? 2 : 1) + net->buffer_n, bytes;

	plan_init(&plan, net, device, train);
	bytes = plan.n + 4 * arenas;
	plan_release(&plan);
	return bytes + (int64_t)(staging_bytes(net, device) + draw_bytes(net, device) + label_bytes(net) + sizeof(struct loss_stats) + sizeof(int64_t));
}

static void *view(struct net *net, const struct plan *p, int span)
{
	return span < 0 ? NULL : net->activation + p->span[span].offset;
}

static void *take(struct net *net, size_t bytes)
{
	return bytes ? net->device->ops->mem->alloc(net->device, bytes) : NULL;
}

void net_bind(struct net *net, struct device *device, struct stream *compute, bool train)
{
	struct plan plan;

	CHECK(net->output >= 0 && !net->device);
	net->device = device;
	net->stream = compute;
	net->train = train;
	plan_init(&plan, net, device, train);
	net->activation_bytes = plan.n;
	net->input_pitch = plan.pitch;
	net->x = take(net, (size_t)net->n * 4);
	net->g = train ? take(net, (size_t)net->n * 4) : NULL;
	net->buffer = take(net, (size_t)net->buffer_n * 4);
	net->activation = take(net, (size_t)net->activation_bytes);
	net->staging = take(net, staging_bytes(net, device));
	net->draw = take(net, draw_bytes(net, device));
	net->label = take(net, label_bytes(net));
	net->stats = take(net, sizeof(*net->stats));
	net->step = take(net, sizeof(*net->step));
	for (int i = 0; i < net->nodes; i++) {
		struct node *node = net->node[i];

		node->out.data = view(net, &plan, plan.data[i]);
		node->out.grad = view(net, &plan, plan.grad[i]);
		node->own = view(net, &plan, plan.own[i]);
		memcpy(node->add_grad, plan.add[i], sizeof(node->add_grad));
		memcpy(node->share_grad, plan.share[i], sizeof(node->share_grad));
	}
	plan_release(&plan);
	net_prepare(net);
	for (int i = 0; i < net->nodes; i++)
		if (!net->node[i]->fused && net->node[i]->ops->bind)
			net->node[i]->ops->bind(net, net->node[i]);
}
