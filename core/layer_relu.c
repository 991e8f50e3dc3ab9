/* ReLU: y = max(0, x). It runs in place where nobody needs x, and backward masks by y, so that x need not be kept. */
#include "layer.h"

static void relu_forward(struct net *net, struct node *node, bool train)
{
	(void)train;
	net->device->ops->nn->relu_fwd(net->stream, shape_count(node->out.shape), node_in(net, node, 0)->data, node->out.data);
}

static void relu_backward(struct net *net, struct node *node)
{
	void *dx = node_in(net, node, 0)->grad;

	if (dx)
		net->device->ops->nn->relu_bwd(net->stream, shape_count(node->out.shape), node->out.data, node->out.grad, dx,
		                               node->add_grad[0]);
}

const struct layer_ops layer_relu = {
	.name = "relu",
	.forward = relu_forward,
	.backward = relu_backward,
};

int net_relu(struct net *net, int in)
{
	struct node *node = net_append(net, &layer_relu, sizeof(*node), NULL, &in, 1, net_shape(net, in));

	if (!node)
		return -1;
	node->traits = BACKWARD_READS_OUTPUT | FORWARD_IN_PLACE | GRAD_IN_PLACE_0;
	return node->id;
}
