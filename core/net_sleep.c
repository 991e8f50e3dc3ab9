/* A pass in which layers sleep: see net_sleep.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "die.h"
#include "layer.h"
#include "net_sleep.h"
#include "net_times.h"
#include "rng.h"
#include "slowdown.h"
#include "trace.h"

/* Gradients are cut out of one piece of noise that stays in the cache, at another place in each step. A prime: what lies side by side in
 * the arena, such as the rows of a matrix, is not the same. */
enum { NOISE = 65521, STRIDE = 40503 };
static const double DEVIATION = 0.01;   /* of a gradient's elements: models stay finite for any number of steps */

struct net_sleep {
	struct net *net;
	float noise[NOISE];
	double until;                   /* when the layers so far are over */
	double stood;                   /* seconds of this pass that hooks have waited */
};

struct net_sleep *net_sleep_open(struct net *net, uint64_t seed, int rank)
{
	struct net_sleep *s = xcalloc(1, sizeof(*s));
	struct rng rng;

	CHECK(net->times && net->train && net->device->host_memory);
	s->net = net;
	rng_init(&rng, seed, RNG_NOISE, 1, (uint32_t)rank);
	for (int i = 0; i < NOISE; i++)
		s->noise[i] = (float)(DEVIATION * rng_normal(&rng));
	return s;
}

void net_sleep_close(struct net_sleep *s) { free(s); }

static double waited(const struct net_sleep *s) { return s->net->device->ops->stream->waited(s->net->stream); }

static void take(struct net_sleep *s, double seconds)
{
	s->until += seconds;
	slowdown_pause(s->net->device, s->net->stream, s->net->hooks.watch, s->until);
}

/* Where a hook makes the compute stream wait, later layers begin when it has waited. */
static void call(struct net_sleep *s, bool (*hook)(struct net *, struct node *), struct node *node)
{
	double before = waited(s), stood;

	hook(s->net, node);
	stood = waited(s) - before;
	if (stood > 0)
		s->until = fmax(s->until, clock_now());
	s->stood += stood;
}

/* A layer's backward writes its gradients; the time that takes is part of its sleep. What an algorithm has made of the step's before is
 * gone, as always. */
static void write_gradients(struct net_sleep *s, const struct node *node, int64_t step)
{
	for (int i = 0; i < node->range.tensors; i++) {
		const struct tensor_info *t = &node->range.tensor[i];
		int64_t at = (step % NOISE * STRIDE + t->offset) % NOISE;

		for (int64_t done = 0, n; done < t->n; done += n, at = 0) {
			n = t->n - done < NOISE - at ? t->n - done : NOISE - at;
			memcpy(s->net->g + t->offset + done, s->noise + at, (size_t)n * sizeof(float));
		}
	}
}

static void guess(struct net *net)
{
	int batch = net->node[0]->out.shape.n;

	net->stats->loss += batch * log(net->classes);
	net->stats->count += batch;
}

double net_sleep_pass(struct net_sleep *s, int64_t step, double factor)
{
	struct net *net = s->net;
	const struct net_times *t = net->times;
	double before = waited(s), late;

	s->until = clock_now();
	s->stood = 0;
	trace_begin(net->stream, "forward", NULL, -1);
	for (int i = 0; i < net->nodes; i++) {
		if (net->node[i]->fused)
			continue;
		call(s, net_needs, net->node[i]);
		trace_begin(net->stream, net->node[i]->name, NULL, -1);
		take(s, factor * t->forward[i]);
		trace_end(net->stream);
	}
	trace_end(net->stream);
	guess(net);
	trace_begin(net->stream, "backward", NULL, -1);
	for (int i = net->nodes - 1; i >= 0; i--) {
		struct node *node = net->node[i];

		if (node->fused || !node->learns)
			continue;
		trace_begin(net->stream, node->name, NULL, -1);
		write_gradients(s, node, step);
		take(s, factor * t->ready[i]);
		call(s, net_grads_final, node);
		take(s, factor * (t->backward[i] - t->ready[i]));
		trace_end(net->stream);
	}
	trace_end(net->stream);
	late = fmax(0, clock_now() - s->until);
	return fmax(0, waited(s) - before - s->stood - late);
}
