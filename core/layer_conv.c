/*
 * Convolution and the fully connected layer, which is the convolution whose kernel covers the whole image. The device plans
 * the kernel once, while binding.
 */
#include "layer.h"

struct conv_node {
	struct node node;
	struct conv_desc desc;
	struct conv_plan *plan;
	const char *kernel;     /* the device's word for what it chose */
};

static struct conv_node *conv(struct node *node) { return (struct conv_node *)node; }

static void conv_bind(struct net *net, struct node *node)
{
	const struct nn_ops *nn = net->device->ops->nn;

	conv(node)->desc.pitch = node->input[0] == 0 ? net->input_pitch : conv(node)->desc.c;
	conv(node)->plan = nn->conv_plan(net->device, &conv(node)->desc);
	conv(node)->kernel = nn->conv_name(conv(node)->plan);
}

static void conv_forward(struct net *net, struct node *node, bool train)
{
	const float *bias = conv(node)->desc.bias ? node_param_x(net, node, 1) : NULL;

	(void)train;
	net->device->ops->nn->conv_fwd(net->stream, conv(node)->plan, node_in(net, node, 0)->data, node_param_x(net, node, 0), bias,
	                               node->out.data);
}

static void conv_backward_params(struct net *net, struct node *node)
{
	float *bias = conv(node)->desc.bias ? node_param_g(net, node, 1) : NULL;

	net->device->ops->nn->conv_bwd_filter(net->stream, conv(node)->plan, node_in(net, node, 0)->data, node->out.grad,
	                                      node_param_g(net, node, 0), bias);
}

static void conv_backward(struct net *net, struct node *node)
{
	void *dx = node_in(net, node, 0)->grad;

	if (dx)
		net->device->ops->nn->conv_bwd_data(net->stream, conv(node)->plan, node->out.grad, node_param_x(net, node, 0), dx,
		                                    node->add_grad[0]);
}

static void conv_release(struct net *net, struct node *node)
{
	if (conv(node)->plan)
		net->device->ops->nn->conv_release(net->device, conv(node)->plan);
}

static double conv_flops(const struct net *net, const struct node *node)
{
	const struct conv_desc *d = &((const struct conv_node *)node)->desc;

	(void)net;
	return 2.0 * (double)shape_count(node->out.shape) * d->kh * d->kw * d->c;
}

static const char *conv_detail(const struct node *node)
{
	const char *kernel = ((const struct conv_node *)node)->kernel;

	return kernel ? kernel : "";
}

/* A linear layer differs from a convolution in its name and its initial values only. */
#define CONV_LAYER(word) {                              \
	.name = word,                                   \
	.bind = conv_bind,                              \
	.forward = conv_forward,                        \
	.backward = conv_backward,                      \
	.backward_params = conv_backward_params,        \
	.release = conv_release,                        \
	.flops = conv_flops,                            \
	.detail = conv_detail,                          \
}

const struct layer_ops layer_conv = CONV_LAYER("conv"), layer_linear = CONV_LAYER("linear");

static int append(struct net *net, const struct layer_ops *ops, const char *name, int in, struct conv_desc desc, int dims)
{
	struct shape out = { desc.n, conv_out(desc.h, desc.kh, desc.stride, desc.pad),
	                     conv_out(desc.w, desc.kw, desc.stride, desc.pad), desc.out };
	const int64_t image[4] = { desc.out, desc.kh, desc.kw, desc.c }, vector[2] = { desc.out, desc.c }, bias[1] = { desc.out };
	struct conv_node *c = net_append(net, ops, sizeof(*c), name, &in, 1, out);

	if (!c)
		return -1;
	c->desc = desc;
	c->node.traits = BACKWARD_READS_INPUT;
	node_param(net, &c->node, TENSOR_WEIGHT, "weight", dims, dims == 4 ? image : vector);
	if (desc.bias)
		node_param(net, &c->node, TENSOR_BIAS, "bias", 1, bias);
	return c->node.id;
}

int net_conv(struct net *net, const char *name, int in, int out, int kernel, int stride, int pad, bool bias)
{
	struct shape s = net_shape(net, in);

	if (net->broken)
		return -1;
	if (kernel < 1 || stride < 1 || pad < 0 || out < 1)
		return net_fail(net, "convolution %s: kernel %d, stride %d, padding %d, %d channels make no sense", name, kernel, stride,
		                pad, out);
	if (s.n && (s.h + 2 * pad < kernel || s.w + 2 * pad < kernel))
		return net_fail(net, "convolution %s: its image is %d x %d, smaller than the kernel of %d x %d", name, s.h, s.w,
		                kernel, kernel);
	return append(net, &layer_conv, name, in, (struct conv_desc){
		.n = s.n, .h = s.h, .w = s.w, .c = s.c, .out = out, .kh = kernel, .kw = kernel,
		.stride = stride, .pad = pad, .bias = bias }, 4);
}

int net_linear(struct net *net, const char *name, int in, int out)
{
	struct shape s = net_shape(net, in);

	if (net->broken)
		return -1;
	if (out < 1)
		return net_fail(net, "linear layer %s: it needs at least one output", name);
	return append(net, &layer_linear, name, in, (struct conv_desc){
		.n = s.n, .h = s.h, .w = s.w, .c = s.c, .out = out, .kh = s.h, .kw = s.w, .stride = 1, .bias = true },
	              s.h == 1 && s.w == 1 ? 2 : 4);
}
