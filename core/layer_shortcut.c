/* ResNet's option A shortcut (He et al. 2015, section 3.3): every second pixel, new channels are zero; no parameters. */
#include "layer.h"

static void shortcut_forward(struct net *net, struct node *node, bool train)
{
	struct tensor *in = node_in(net, node, 0);
	struct shape s = in->shape;

	(void)train;
	net->device->ops->nn->shortcut_fwd(net->stream, s.n, s.h, s.w, s.c, node->out.shape.c, in->data, node->out.data);
}

static void shortcut_backward(struct net *net, struct node *node)
{
	struct tensor *in = node_in(net, node, 0);
	struct shape s = in->shape;

	if (in->grad)
		net->device->ops->nn->shortcut_bwd(net->stream, s.n, s.h, s.w, s.c, node->out.shape.c, node->out.grad, in->grad,
		                                   node->add_grad[0]);
}

static const struct layer_ops layer_shortcut = {
	.name = "shortcut",
	.forward = shortcut_forward,
	.backward = shortcut_backward,
};

int net_shortcut(struct net *net, int in, int out)
{
	struct shape s = net_shape(net, in);
	struct node *node;

	if (net->broken)
		return -1;
	if (out < s.c)
		return net_fail(net, "shortcut behind %s: it has %d channels and cannot lead to %d", net->node[in]->name, s.c, out);
	node = net_append(net, &layer_shortcut, sizeof(*node), NULL, &in, 1, (struct shape){ s.n, (s.h + 1) / 2, (s.w + 1) / 2, out });
	return node ? node->id : -1;
}
