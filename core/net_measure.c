/* What each layer takes, measured: passes over a made-up batch, with a look at the clock behind every layer. */
#include <math.h>
#include <stdlib.h>

#include "clock.h"
#include "die.h"
#include "layer.h"
#include "net_times.h"

enum { PASSES = 3, PASSES_MOST = 50 };

struct measure {
	struct net *net;
	struct net_times *pass[PASSES_MOST];    /* what each pass found */
	double whole[PASSES_MOST];              /* passes in one piece */
	double last;                            /* when the clock was looked at */
};

static bool runs_behind(const struct net *net) { return !net->device->ops->stream->progress; }

/* Seconds since the last look; all that is queued has run. */
static double lap(struct measure *m)
{
	double before = m->last;

	m->net->device->ops->stream->sync(m->net->stream);
	m->last = clock_now();
	return m->last - before;
}

static void pass_apart(struct measure *m, struct net_times *t)
{
	struct net *net = m->net;

	lap(m);
	for (int i = 0; i < net->nodes; i++) {
		if (net->node[i]->fused)
			continue;
		net->node[i]->ops->forward(net, net->node[i], true);
		t->forward[i] = lap(m);
	}
	net_loss(net, 1.0f / (float)net->node[0]->out.shape.n);
	t->forward[net->output] += lap(m);
	for (int i = net->nodes - 1; i >= 0; i--) {
		struct node *node = net->node[i];

		if (node->fused || !node->learns)
			continue;
		if (node->ops->backward_params) {
			node->ops->backward_params(net, node);
			t->ready[i] = lap(m);
		}
		node->ops->backward(net, node);
		t->backward[i] = t->ready[i] + lap(m);
		if (!node->ops->backward_params)
			t->ready[i] = t->backward[i];
	}
}

static double pass_whole(struct measure *m)
{
	lap(m);
	net_pass(m->net, 1.0f / (float)m->net->node[0]->out.shape.n);
	return lap(m);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Whatever else a machine does makes a layer slower, never faster: a low one, but not the luckiest of many. */
static double quartile(double *v, int count)
{
	qsort(v, (size_t)count, sizeof(*v), by_value);
	return v[count / 4];
}

/* Of each number by itself: a pass that was disturbed was so in a few layers. A part stays within its whole. */
static void quartiles(const struct measure *m, int passes, struct net_times *t)
{
	double value[PASSES_MOST];

	for (int i = 0; i < 3 * t->nodes; i++) {
		for (int p = 0; p < passes; p++)
			value[p] = m->pass[p]->forward[i];
		t->forward[i] = quartile(value, passes);
	}
	for (int i = 0; i < t->nodes; i++)
		t->ready[i] = fmin(t->ready[i], t->backward[i]);
}

void net_times_measure(struct net_times *t, struct net *net, double seconds)
{
	struct measure m = { .net = net };
	int passes = 0;
	double until;

	CHECK(net->train && !net->hooks.param_needed && !net->hooks.grad_ready);
	net_prepare(net);
	for (int i = 0; i < (runs_behind(net) ? 3 : 1); i++)    /* warm up; recorded passes are there from the third on */
		pass_whole(&m);
	for (until = clock_now() + seconds; passes < PASSES || (passes < PASSES_MOST && clock_now() < until); passes++) {
		m.pass[passes] = net_times_new(net);
		pass_apart(&m, m.pass[passes]);
		if (runs_behind(net))
			m.whole[passes] = pass_whole(&m);
	}
	quartiles(&m, passes, t);
	if (runs_behind(net))
		net_times_scale(t, fmin(1, quartile(m.whole, passes) / (net_times_forward(t) + net_times_backward(t))));
	t->passes = passes;
	net_pass_release(net);
	for (int p = 0; p < passes; p++)
		net_times_free(m.pass[p]);
}
