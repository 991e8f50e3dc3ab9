/* Where a network begins: the images. (It ends in net_loss, which is no layer: nobody reads an output of it.) */
#include "layer.h"

static void input_forward(struct net *net, struct node *node, bool train)
{
	(void)net;      /* net_load brought the data */
	(void)node;
	(void)train;
}

const struct layer_ops layer_input = {
	.name = "input",
	.forward = input_forward,
};

int net_input(struct net *net, int n, int h, int w, int c)
{
	struct node *node;

	if (net->nodes)
		return net_fail(net, "the input must be the first layer, and the only one");
	node = net_append(net, &layer_input, sizeof(*node), NULL, NULL, 0, (struct shape){ n, h, w, c });
	if (!node)
		return -1;
	node->traits = PINNED;  /* a batch may be run forward again */
	return node->id;
}
