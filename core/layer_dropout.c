/*
 * Dropout (inverted: what is kept is scaled up, evaluation leaves everything as it is). The mask is a function of the net's seed,
 * its step counter and the layer, so backward computes it again instead of keeping it.
 */
#include "layer.h"

struct dropout_node {
	struct node node;
	float p;
};

static void apply(struct net *net, struct node *node, const void *x, void *y)
{
	net->device->ops->nn->dropout(net->stream, shape_count(node->out.shape), ((struct dropout_node *)node)->p, net->seed,
	                              net->step, (uint32_t)node->id, x, y);
}

static void dropout_forward(struct net *net, struct node *node, bool train)
{
	const void *x = node_in(net, node, 0)->data;

	if (train)
		apply(net, node, x, node->out.data);
	else if (x != node->out.data)
		net->device->ops->mem->copy(net->stream, node->out.data, x, (size_t)shape_count(node->out.shape) *
		                            dtype_size(net->device->activation), COPY_DEVICE);
}

static void dropout_backward(struct net *net, struct node *node)
{
	void *dx = node_in(net, node, 0)->grad, *dy = node->out.grad;

	if (!dx)
		return;
	if (node->add_grad[0]) {        /* dy is not read again: mask it there, then add */
		apply(net, node, dy, dy);
		net->device->ops->nn->grad_add(net->stream, shape_count(node->out.shape), dy, dx);
	} else {
		apply(net, node, dy, dx);
	}
}

static const struct layer_ops layer_dropout = {
	.name = "dropout",
	.forward = dropout_forward,
	.backward = dropout_backward,
};

int net_dropout(struct net *net, int in, double p)
{
	struct dropout_node *node;

	if (net->broken)
		return -1;
	if (!(p >= 0 && p < 1))
		return net_fail(net, "dropout: a probability of %g is not in [0, 1)", p);
	node = net_append(net, &layer_dropout, sizeof(*node), NULL, &in, 1, net_shape(net, in));
	if (!node)
		return -1;
	node->p = (float)p;
	node->node.traits = FORWARD_IN_PLACE | GRAD_IN_PLACE_0;
	return node->node.id;
}
