/*
 * Measures a step's computing: see pace.h. Training must not notice: batch norm's statistics are put back, sums taken, what the optimizer
 * writes goes to scratch memory.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/layer.h"
#include "../core/net_times.h"
#include "pace.h"

enum { PASSES = 3, UPDATED = 4 << 20 };
static const double LONG = 0.5, VERY_LONG = 1;  /* seconds after which there is no further pass; of a first pass that must do */

bool pace_given(const struct run *run) { return config_float(run->config, "cluster.compute.images_per_s") > 0; }

bool pace_measured(const struct run *run) { return !run->net.times && !pace_given(run); }

const char *pace_source(const struct run *run)
{
	return run->net.times ? run->net.times->from : pace_given(run) ? "from cluster.compute.images_per_s" : "measured here";
}

/* Forward, and all together, kernel by kernel. */
static struct pace time_layers(struct run *run)
{
	double start = clock_now(), middle;

	net_forward(&run->net, true);
	net_loss(&run->net, 1.0f / (float)run->batch[run->world.rank]);
	run->device->ops->stream->sync(run->compute);
	middle = clock_now();
	net_backward(&run->net);
	run->device->ops->stream->sync(run->compute);
	return (struct pace){ .forward = middle - start, .backward = clock_now() - middle };
}

/* The best of a few, after one that warms up; that one too where it takes long and a CPU computes, which needs no warming. */
static struct pace best_layers(struct run *run)
{
	double begin = clock_now();
	struct pace best = time_layers(run);
	bool enough = run->device == run->host && clock_now() - begin > VERY_LONG;

	if (!enough)
		best.forward = best.backward = INFINITY;
	for (int i = 0; i < PASSES && !enough; i++) {
		struct pace p = time_layers(run);

		best.forward = fmin(best.forward, p.forward);
		best.backward = fmin(best.backward, p.backward);
		enough = clock_now() - begin > LONG;
	}
	return best;
}

/* A device that replays recorded passes is faster than kernel by kernel; both parts by the same factor, since we see only their sum. */
static void speed_up(struct run *run, struct pace *pace)
{
	double best = INFINITY;

	if (!config_bool(run->config, "device.graphs") || !run->device->ops->stream->capture_begin)
		return;
	run->net.graphs = true;
	for (int i = -2; i < PASSES; i++) {             /* plain, recorded, then replayed */
		double start = clock_now();

		net_pass(&run->net, 1.0f / (float)run->batch[run->world.rank]);
		run->device->ops->stream->sync(run->compute);
		if (i >= 0)
			best = fmin(best, clock_now() - start);
	}
	net_pass_release(&run->net);                    /* training records its own, between its hooks */
	best = fmin(best / (pace->forward + pace->backward), 1);
	pace->forward *= best;
	pace->backward *= best;
}

/* On the first part of a long model: what it takes is in proportion, and scratch memory stays small. */
double pace_update(struct run *run)
{
	const struct mem_ops *mem = run->device->ops->mem;
	int64_t n = run->net.n < UPDATED ? run->net.n : UPDATED;
	struct optimizer *o = &run->optimizer;
	float *state[OPTIMIZER_SLOTS] = { 0 }, *x = mem->alloc(run->device, (size_t)n * sizeof(float));
	double best = INFINITY;
	int64_t t = o->t;

	for (int i = 0; i < o->ops->slots(o); i++)
		state[i] = mem->alloc(run->device, (size_t)n * sizeof(float));
	for (int i = 0; i < PASSES; i++) {
		double start = clock_now();

		optimizer_begin(o, run->compute, 0);
		optimizer_step_to(o, run->compute, 0, n, run->net.g, run->net.x, x, state);
		run->device->ops->stream->sync(run->compute);
		best = fmin(best, clock_now() - start);
	}
	o->t = t;
	mem->free(run->device, x);
	for (int i = 0; i < OPTIMIZER_SLOTS; i++)
		mem->free(run->device, state[i]);
	return best * (double)run->net.n / (double)n;
}

/* The time of layers in the end report is training's. */
static void forget_layers(struct net *net)
{
	for (int i = 0; i < net->nodes; i++) {
		memset(net->node[i]->seconds, 0, sizeof(net->node[i]->seconds));
		memset(net->node[i]->calls, 0, sizeof(net->node[i]->calls));
	}
}

struct pace pace_measure(struct run *run)
{
	const struct mem_ops *mem = run->device->ops->mem;
	size_t bytes = (size_t)run->net.buffer_n * sizeof(float);
	struct batch batch;
	struct pace pace;

	loader_start(run->train, 0, 0);
	CHECK(loader_next(run->train, &batch));
	comm_barrier(run->team);
	if (bytes)
		mem->copy(run->compute, run->mean_buffer, run->net.buffer, bytes, COPY_DEVICE);
	run_load(run, &batch);
	pace = best_layers(run);
	speed_up(run, &pace);
	pace.backward += pace_update(run);
	if (bytes)
		mem->copy(run->compute, run->net.buffer, run->mean_buffer, bytes, COPY_DEVICE);
	net_take_stats(&run->net);
	forget_layers(&run->net);
	return pace;
}

/* Which share of backward lies in front of each gradient; where nobody has timed the layers, by their FLOPs. */
static double *find_ready(struct run *run)
{
	double *ready = xcalloc((size_t)run->net.tensors, sizeof(*ready)), backward;
	const struct net_times *times = run->net.times;
	struct net_times *guess = NULL;

	if (!times) {
		times = guess = net_times_new(&run->net);
		net_times_spread(guess, &run->net, 1);
	}
	backward = net_times_profile(times, &run->net, ready) + times->update;
	for (int i = 0; i < run->net.tensors; i++)
		ready[i] /= backward;
	net_times_free(guess);
	return ready;
}

void pace_release(struct pace *pace) { free(pace->ready); }

struct pace pace_find(struct run *run)
{
	double images = config_float(run->config, "cluster.compute.images_per_s"), batch = run->batch[run->world.rank];
	struct pace mine, *all = xcalloc((size_t)run->workers, sizeof(*all)), worst;

	if (run->net.times)
		mine = (struct pace){ net_times_forward(run->net.times), net_times_backward(run->net.times) + run->net.times->update, 0, NULL };
	else if (pace_given(run))
		mine = (struct pace){ .forward = batch / images / 3, .backward = batch / images * 2 / 3 };
	else
		mine = pace_measure(run);
	mine.forward *= slowdown_mean(&run->slowdown);
	mine.backward *= slowdown_mean(&run->slowdown);
	comm_host_gather(run->team, &mine, all, sizeof(mine));
	worst = all[0];
	for (int r = 1; r < run->workers; r++)
		if (all[r].forward + all[r].backward > worst.forward + worst.backward) {
			worst = all[r];
			worst.slowest = r;
		}
	free(all);
	worst.ready = find_ready(run);
	return worst;
}
