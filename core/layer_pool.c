/*
 * Max, average and global average pooling. A max pool remembers where in its window each maximum was, one byte an output, in
 * node->own; neither kind needs its input or output for backward.
 */
#include "layer.h"

enum { MAX_POOL_MOST = 16 };    /* 16 x 16 positions in a byte */

struct pool_node {
	struct node node;
	struct pool_desc desc;
};

static struct pool_desc *pool_desc(struct node *node) { return &((struct pool_node *)node)->desc; }

static void pool_forward(struct net *net, struct node *node, bool train)
{
	(void)train;
	net->device->ops->nn->pool_fwd(net->stream, pool_desc(node), node_in(net, node, 0)->data, node->out.data, node->own);
}

static void pool_backward(struct net *net, struct node *node)
{
	void *dx = node_in(net, node, 0)->grad;

	if (dx)
		net->device->ops->nn->pool_bwd(net->stream, pool_desc(node), node->out.grad, node->own, dx, node->add_grad[0]);
}

static int64_t index_bytes(const struct net *net, const struct node *node)
{
	(void)net;
	return shape_count(node->out.shape);
}

static const struct layer_ops layer_max_pool = {
	.name = "max pool",
	.forward = pool_forward,
	.backward = pool_backward,
	.private_bytes = index_bytes,
};

static const struct layer_ops layer_avg_pool = {
	.name = "avg pool",
	.forward = pool_forward,
	.backward = pool_backward,
};

static int append(struct net *net, int in, int kernel, int stride, int pad, bool max)
{
	const struct layer_ops *ops = max ? &layer_max_pool : &layer_avg_pool;
	struct shape s = net_shape(net, in), out;
	struct pool_node *pool;

	if (net->broken)
		return -1;
	if (kernel < 1 || stride < 1 || pad < 0 || 2 * pad > kernel || (max && kernel > MAX_POOL_MOST))
		return net_fail(net, "%s: kernel %d, stride %d, padding %d make no sense", ops->name, kernel, stride, pad);
	if (s.n && (s.h + 2 * pad < kernel || s.w + 2 * pad < kernel))
		return net_fail(net, "%s behind %s: nothing would be left of the image, which is %d x %d there", ops->name,
		                net->node[in]->name, s.h, s.w);
	out = (struct shape){ s.n, conv_out(s.h, kernel, stride, pad), conv_out(s.w, kernel, stride, pad), s.c };
	pool = net_append(net, ops, sizeof(*pool), NULL, &in, 1, out);
	if (!pool)
		return -1;
	pool->desc = (struct pool_desc){ .n = s.n, .h = s.h, .w = s.w, .c = s.c, .kernel = kernel, .stride = stride, .pad = pad, .max = max };
	return pool->node.id;
}

int net_max_pool(struct net *net, int in, int kernel, int stride, int pad) { return append(net, in, kernel, stride, pad, true); }
int net_avg_pool(struct net *net, int in, int kernel, int stride, int pad) { return append(net, in, kernel, stride, pad, false); }

int net_global_pool(struct net *net, int in)
{
	struct shape s = net_shape(net, in);

	if (s.h != s.w)
		return net_fail(net, "global pool behind %s: the image must be square, but is %d x %d", net->node[in]->name, s.h, s.w);
	return append(net, in, s.h, 1, 0, false);
}
