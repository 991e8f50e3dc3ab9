/*
 * The residual addition, y = relu?(a + b). Its gradient is the same for both inputs: one of them may simply take the buffer
 * over (share_grad), the other gets a copy or a sum.
 */
#include "layer.h"

struct add_node {
	struct node node;
	bool relu;
};

static bool has_relu(const struct node *node) { return ((const struct add_node *)node)->relu; }

static void add_forward(struct net *net, struct node *node, bool train)
{
	(void)train;
	net->device->ops->nn->add_fwd(net->stream, shape_count(node->out.shape), node_in(net, node, 0)->data,
	                              node_in(net, node, 1)->data, has_relu(node), node->out.data);
}

static void add_backward(struct net *net, struct node *node)
{
	const struct device_ops *ops = net->device->ops;
	int64_t n = shape_count(node->out.shape);
	void *dy = node->out.grad;

	if (has_relu(node))
		ops->nn->relu_bwd(net->stream, n, node->out.data, dy, dy, false);
	for (int k = 0; k < 2; k++) {
		void *dx = node_in(net, node, k)->grad;

		if (!dx || node->share_grad[k])
			continue;
		if (node->add_grad[k])
			ops->nn->grad_add(net->stream, n, dy, dx);
		else
			ops->mem->copy(net->stream, dx, dy, (size_t)n * dtype_size(net->device->activation), COPY_DEVICE);
	}
}

static const char *add_detail(const struct node *node) { return has_relu(node) ? "with relu" : ""; }

const struct layer_ops layer_add = {
	.name = "add",
	.forward = add_forward,
	.backward = add_backward,
	.detail = add_detail,
};

void add_fuse_relu(struct node *node)
{
	((struct add_node *)node)->relu = true;
	node->traits |= BACKWARD_READS_OUTPUT;
}

int net_add(struct net *net, int a, int b)
{
	struct shape s = net_shape(net, a), t = net_shape(net, b);
	struct node *node;

	if (net->broken)
		return -1;
	if (a == b)
		return net_fail(net, "add: a layer cannot be added to itself");
	if (s.n && t.n && (s.h != t.h || s.w != t.w || s.c != t.c))
		return net_fail(net, "add: %s is %d x %d x %d, but %s is %d x %d x %d", net->node[a]->name, s.h, s.w, s.c,
		                net->node[b]->name, t.h, t.w, t.c);
	node = net_append(net, &layer_add, sizeof(struct add_node), NULL, (const int[]){ a, b }, 2, s);
	if (!node)
		return -1;
	node->traits = GRAD_IN_PLACE_0 | GRAD_IN_PLACE_1;
	return node->id;
}
