/*
 * Fusion: batch norm takes over the residual addition and the ReLU behind it, an addition takes over its ReLU. Each such step
 * saves a pass over the activations forward and another backward, which is what these layers cost.
 *
 * A layer may be taken over only if nobody else reads what lies between. An addition goes to whichever of its inputs is
 * computed later, since the other one must be there by then; in ResNet's downsampling blocks that is the shortcut's batch norm.
 */
#include <stdlib.h>

#include "die.h"
#include "layer.h"

struct fusion {
	struct net *net;
	int *home;              /* the node that computes this node's output now */
	int *readers;           /* how many nodes read it */
};

static void take_over(struct fusion *f, int host, int guest)
{
	f->net->node[guest]->fused = true;
	f->home[guest] = host;
	f->readers[host] = f->readers[guest];
}

static void fuse_add(struct fusion *f, struct node *add)
{
	int later = add->input[0] > add->input[1] ? add->input[0] : add->input[1];
	int earlier = add->input[0] + add->input[1] - later;
	struct node *bn = f->net->node[later];

	if (bn->ops == &layer_bn && f->readers[later] == 1 && bn_fuse_residual(f->net, bn, earlier))
		take_over(f, later, add->id);
}

static void fuse_relu(struct fusion *f, struct node *relu)
{
	struct node *host = f->net->node[relu->input[0]];

	if (f->readers[host->id] != 1)
		return;
	if (host->ops == &layer_bn)
		bn_fuse_relu(host);
	else if (host->ops == &layer_add)
		add_fuse_relu(host);
	else
		return;
	take_over(f, host->id, relu->id);
}

void net_fuse(struct net *net)
{
	struct fusion f = {
		.net = net,
		.home = xcalloc((size_t)net->nodes, sizeof(int)),
		.readers = xcalloc((size_t)net->nodes, sizeof(int)),
	};

	for (int i = 0; i < net->nodes; i++)
		for (int k = 0; k < net->node[i]->inputs; k++)
			f.readers[net->node[i]->input[k]]++;
	for (int i = 0; i < net->nodes; i++) {
		struct node *node = net->node[i];

		f.home[i] = i;
		for (int k = 0; k < node->inputs; k++)
			node->input[k] = f.home[node->input[k]];
		if (node->ops == &layer_add)
			fuse_add(&f, node);
		else if (node->ops == &layer_relu)
			fuse_relu(&f, node);
	}
	net->output = f.home[net->output];
	free(f.home);
	free(f.readers);
}
