/*
 * Batch normalisation, with the residual addition and the ReLU behind it if net_finish gave them to it:
 *
 *     y = relu?(gamma (x - mean) / sqrt(var + epsilon) + beta + residual?)
 *
 * In training mean and var are the batch's, and the running ones follow; otherwise the running ones are used. The sums that
 * backward needs again are in node->own: the mean and 1 / sqrt(var + epsilon), c floats each.
 */
#include "die.h"
#include "layer.h"

struct bn_node {
	struct node node;
	struct bn_desc desc;
};

static struct bn_desc *bn_desc(struct node *node) { return &((struct bn_node *)node)->desc; }
static float *saved_mean(struct node *node) { return node->own; }
static float *saved_invstd(struct node *node) { return (float *)node->own + node->out.shape.c; }

static void bn_forward(struct net *net, struct node *node, bool train)
{
	const struct nn_ops *nn = net->device->ops->nn;
	const void *x = node_in(net, node, 0)->data, *residual = node->inputs > 1 ? node_in(net, node, 1)->data : NULL;
	const float *gamma = node_param_x(net, node, 0), *beta = node_param_x(net, node, 1);
	float *mean = node_buffer(net, node, 0), *var = node_buffer(net, node, 1);

	if (train)
		nn->bn_train(net->stream, bn_desc(node), x, residual, gamma, beta, mean, var, saved_mean(node), saved_invstd(node),
		             node->out.data);
	else
		nn->bn_infer(net->stream, bn_desc(node), x, residual, gamma, beta, mean, var, node->out.data);
}

static void bn_backward(struct net *net, struct node *node)
{
	struct tensor *in = node_in(net, node, 0);
	void *dx = in->grad ? in->grad : node->out.grad;       /* unwanted (nothing before it learns): let it go somewhere */
	void *dresidual = node->inputs > 1 ? node_in(net, node, 1)->grad : NULL;

	net->device->ops->nn->bn_bwd(net->stream, bn_desc(node), in->data, node->out.data, node_param_x(net, node, 0),
	                             saved_mean(node), saved_invstd(node), node->out.grad, dx, node->add_grad[0], dresidual,
	                             node->add_grad[1], node_param_g(net, node, 0), node_param_g(net, node, 1));
}

static int64_t bn_private_bytes(const struct net *net, const struct node *node)
{
	(void)net;
	return 2 * (int64_t)node->out.shape.c * (int64_t)sizeof(float);
}

static const char *bn_detail(const struct node *node)
{
	bool relu = ((const struct bn_node *)node)->desc.relu;

	return node->inputs > 1 ? relu ? "with add, relu" : "with add" : relu ? "with relu" : "";
}

const struct layer_ops layer_bn = {
	.name = "batch norm",
	.forward = bn_forward,
	.backward = bn_backward,
	.detail = bn_detail,
	.private_bytes = bn_private_bytes,
};

bool bn_fuse_residual(struct net *net, struct node *node, int residual)
{
	/* Where the input wants no gradient, the one it gets anyway is thrown away in out.grad, which the residual may need. */
	if (bn_desc(node)->relu || node->inputs > 1 || !net->node[node->input[0]]->learns)
		return false;
	CHECK(residual < node->id);
	node->input[node->inputs++] = residual;
	node->traits |= GRAD_IN_PLACE_1;
	return true;
}

void bn_fuse_relu(struct node *node)
{
	bn_desc(node)->relu = true;
	node->traits |= BACKWARD_READS_OUTPUT;
}

int net_bn(struct net *net, const char *name, int in)
{
	struct shape s = net_shape(net, in);
	struct bn_node *bn = net_append(net, &layer_bn, sizeof(*bn), name, &in, 1, s);
	const int64_t dim[1] = { s.c };

	if (!bn)
		return -1;
	bn->desc = (struct bn_desc){ .pixels = (int64_t)s.n * s.h * s.w, .c = s.c, .epsilon = 1e-5f, .momentum = 0.1f };
	bn->node.traits = BACKWARD_READS_INPUT | GRAD_IN_PLACE_0;
	node_param(net, &bn->node, TENSOR_SCALE, "weight", 1, dim);
	node_param(net, &bn->node, TENSOR_SHIFT, "bias", 1, dim);
	node_param(net, &bn->node, TENSOR_MEAN, "running_mean", 1, dim);
	node_param(net, &bn->node, TENSOR_VAR, "running_var", 1, dim);
	return bn->node.id;
}
