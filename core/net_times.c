/* What each layer takes: how such times are kept, guessed from FLOPs, and added up. */
#include <stdlib.h>

#include "die.h"
#include "net_times.h"

struct net_times *net_times_new(const struct net *net)
{
	struct net_times *t = xcalloc(1, sizeof(*t));

	t->nodes = net->nodes;
	t->forward = xcalloc(3 * (size_t)net->nodes, sizeof(*t->forward));
	t->backward = t->forward + net->nodes;
	t->ready = t->backward + net->nodes;
	return t;
}

void net_times_free(struct net_times *t)
{
	if (!t)
		return;
	free(t->forward);
	free(t);
}

static double flops(const struct net *net, const struct node *node)
{
	return node->ops->flops && !node->fused ? node->ops->flops(net, node) : 0;
}

/* Each of backward's two products has as many FLOPs as forward: the parameters' gradients, and the input's if anybody there learns. */
static int products(const struct net *net, const struct node *node)
{
	return node->learns ? 1 + net->node[node->input[0]]->learns : 0;
}

void net_times_spread(struct net_times *t, const struct net *net, double seconds)
{
	double once = net_flops(net), twice = 0;

	for (int i = 0; i < net->nodes; i++)
		twice += products(net, net->node[i]) * flops(net, net->node[i]);
	CHECK(once > 0 && twice > 0);
	for (int i = 0; i < net->nodes; i++) {
		double f = flops(net, net->node[i]), product = seconds * 2 / 3 * f / twice;

		t->forward[i] = seconds / 3 * f / once;
		t->backward[i] = product * products(net, net->node[i]);
		t->ready[i] = net->node[i]->learns ? product : 0;
	}
}

void net_times_scale(struct net_times *t, double by)
{
	for (int i = 0; i < 3 * t->nodes; i++)
		t->forward[i] *= by;
}

static double sum(const double *v, int n)
{
	double s = 0;

	for (int i = 0; i < n; i++)
		s += v[i];
	return s;
}

double net_times_forward(const struct net_times *t) { return sum(t->forward, t->nodes); }
double net_times_backward(const struct net_times *t) { return sum(t->backward, t->nodes); }

double net_times_profile(const struct net_times *t, const struct net *net, double *ready)
{
	double now = 0;

	for (int i = net->nodes - 1; i >= 0; i--) {
		const struct node *node = net->node[i];

		for (int p = 0; p < node->params; p++)
			ready[node->param[p]] = now + t->ready[i];
		now += t->backward[i];
	}
	return now;
}
