/*
 * Building a network: nodes are appended in topological order, shapes are known at once, mistakes are recorded and break the
 * net, so that a model file can be written as a straight list of layers and ask only once, in net_finish, whether all was well.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "layer.h"

void net_init(struct net *net, const char *name, uint64_t seed)
{
	memset(net, 0, sizeof(*net));
	snprintf(net->name, sizeof(net->name), "%s", name);
	net->seed = seed;
	net->output = -1;
}

static void free_device_memory(struct net *net)
{
	const struct mem_ops *mem = net->device->ops->mem;

	mem->free(net->device, net->x);
	mem->free(net->device, net->g);
	mem->free(net->device, net->buffer);
	mem->free(net->device, net->activation);
	mem->free(net->device, net->staging);
	mem->free(net->device, net->draw);
	mem->free(net->device, net->label);
	mem->free(net->device, net->stats);
	mem->free(net->device, net->step);
}

void net_free(struct net *net)
{
	for (int i = 0; i < net->nodes; i++) {
		if (net->node[i]->ops->release)
			net->node[i]->ops->release(net, net->node[i]);
		free(net->node[i]);
	}
	net_pass_release(net);
	if (net->device)
		free_device_memory(net);
	free(net->node);
	free(net->tensor);
	free(net->buffer_tensor);
	memset(net, 0, sizeof(*net));
}

int net_fail(struct net *net, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	net->broken = true;
	return error("model %s: %s", net->name, text);
}

static bool inputs_exist(struct net *net, const int *input, int inputs)
{
	CHECK(inputs <= NODE_INPUTS);
	for (int i = 0; i < inputs; i++)
		if (input[i] < 0 || input[i] >= net->nodes)
			return false;
	return true;
}

void *net_append(struct net *net, const struct layer_ops *ops, size_t size, const char *name, const int *input, int inputs,
                 struct shape out)
{
	struct node *node;

	if (net->broken)
		return NULL;
	if (!inputs_exist(net, input, inputs)) {
		net_fail(net, "layer %s (%s): its input is not a layer of this net", name ? name : "without name", ops->name);
		return NULL;
	}
	if (out.n < 1 || out.h < 1 || out.w < 1 || out.c < 1) {
		net_fail(net, "layer %s (%s): its output would be %d x %d x %d for a batch of %d", name ? name : "without name",
		         ops->name, out.h, out.w, out.c, out.n);
		return NULL;
	}
	node = xcalloc(1, size);
	node->ops = ops;
	node->id = net->nodes;
	node->inputs = inputs;
	node->out.shape = out;
	for (int i = 0; i < inputs; i++) {
		node->input[i] = input[i];
		node->learns |= net->node[input[i]]->learns;
	}
	if (name)
		snprintf(node->name, sizeof(node->name), "%s", name);
	else
		snprintf(node->name, sizeof(node->name), "%s%d", ops->name, node->id);
	net->node = xrealloc(net->node, (size_t)(net->nodes + 1) * sizeof(*net->node));
	net->node[net->nodes++] = node;
	return node;
}

struct shape net_shape(const struct net *net, int node)
{
	if (net->broken || node < 0 || node >= net->nodes)
		return (struct shape){ 0 };
	return net->node[node]->out.shape;
}

/* A layer that nobody reads never receives a gradient; that is always a slip in the model file. */
static void check_all_used(struct net *net)
{
	bool *used = xcalloc((size_t)net->nodes, sizeof(*used));

	for (int i = 0; i < net->nodes; i++)
		for (int k = 0; k < net->node[i]->inputs; k++)
			used[net->node[i]->input[k]] = true;
	for (int i = 0; i < net->nodes - 1; i++)
		if (!used[i])
			net_fail(net, "layer %s (%s): no other layer reads its output", net->node[i]->name, net->node[i]->ops->name);
	free(used);
}

int net_finish(struct net *net)
{
	struct shape out;

	if (!net->broken && net->nodes < 2)
		net_fail(net, "it has no layers");
	if (net->broken)
		return -1;
	check_all_used(net);
	out = net_shape(net, net->nodes - 1);
	if (!net->broken && (out.h != 1 || out.w != 1))
		net_fail(net, "the last layer, %s, must give one number a class, but gives an image of %d x %d x %d",
		         net->node[net->nodes - 1]->name, out.h, out.w, out.c);
	if (net->broken)
		return -1;
	net->output = net->nodes - 1;
	net->classes = out.c;
	if (!net->no_fuse)
		net_fuse(net);
	net->node[net->output]->traits |= PINNED;
	net_layout(net);
	return 0;
}
