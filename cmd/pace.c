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

/* ---- given ---- */

enum { RATES_MOST = 64 };

/* "resnet50=52.9"; *name ends at its '='. -1: it is not that. */
static int read_rate(const char *text, size_t *name, double *rate)
{
	const char *equals = strchr(text, '=');
	char *end = NULL;

	if (!equals)
		return -1;
	*name = (size_t)(equals - text);
	*rate = strtod(equals + 1, &end);
	return end > equals + 1 && !*end && *rate > 0 && *rate < INFINITY ? 0 : -1;
}

int pace_check(const struct config *config)
{
	const char *text[RATES_MOST], *key = "cluster.compute.rates";
	int count = config_is_text(config, key) ? config_strings(config, key, text, RATES_MOST) : 0, before = errors_count();

	if (count > RATES_MOST)
		return error("%s (%s) has %d rates, there can be %d", key, config_origin(config, key), count, RATES_MOST);
	for (int i = 0; i < count; i++) {       /* there is room for all of them */
		size_t length = 0;
		double rate;
		bool known = false;

		if (read_rate(text[i], &length, &rate)) {
			error("%s (%s): \"%s\" is not MODEL=IMAGES_PER_SECOND", key, config_origin(config, key), text[i]);
			hint("for example \"resnet50=52.9\"");
			continue;
		}
		for (int m = 0; model_list[m]; m++)
			known = known || (strlen(model_list[m]->name) == length && !strncmp(model_list[m]->name, text[i], length));
		if (!known) {
			error("%s (%s): \"%s\": there is no such model", key, config_origin(config, key), text[i]);
			hint("cocod-train --list names the models");
		}
	}
	return errors_count() > before ? -1 : 0;
}

double pace_rate(const struct config *config, const char **key)
{
	const char *model = config_string(config, "model.name"), *text[RATES_MOST];
	double images = config_float(config, "cluster.compute.images_per_s"), rate;
	int count = 0;
	size_t length;

	*key = "cluster.compute.images_per_s";
	if (images > 0)
		return images;
	*key = "cluster.compute.rates";
	if (config_is_text(config, *key) && config_float(config, "model.width") == 1)
		count = config_strings(config, *key, text, RATES_MOST);
	for (int i = 0; i < count && i < RATES_MOST; i++)
		if (!read_rate(text[i], &length, &rate) && strlen(model) == length && !strncmp(model, text[i], length))
			return rate;
	return 0;
}

bool pace_given(const struct run *run)
{
	const char *key;

	return pace_rate(run->config, &key) > 0;
}

/* ---- measured ---- */

bool pace_measured(const struct run *run) { return !run->net.times && !pace_given(run); }

void pace_source(const struct run *run, char *text, size_t size)
{
	const char *key;

	if (run->net.times)
		snprintf(text, size, "%s", run->net.times->from);
	else if (pace_rate(run->config, &key) > 0)
		snprintf(text, size, "from %s", key);
	else
		snprintf(text, size, "measured here");
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

/* Workers that share cores: as long as all are at it, each gets what it gets in a step. The best pass would be one that had a core for itself. */
static struct pace mean_layers(struct run *run)
{
	struct pace p = time_layers(run), sum = { 0 };
	double end = clock_now() + LONG;
	int passes = 0;

	do {
		p = time_layers(run);
		if (passes && clock_now() > end)        /* others have ended meanwhile */
			break;
		sum.forward += p.forward;
		sum.backward += p.backward;
		passes++;
	} while (clock_now() < end);
	return (struct pace){ .forward = sum.forward / passes, .backward = sum.backward / passes };
}

static bool shares_cores(const struct run *run) { return run->device == run->host && run->threads * run->world.sharing > run->world.cores; }

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
	pace = shares_cores(run) ? mean_layers(run) : best_layers(run);
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
	const char *key;
	double images = pace_rate(run->config, &key), batch = run->batch[run->world.rank];
	struct pace mine, *all = xcalloc((size_t)run->workers, sizeof(*all)), worst;

	if (run->net.times)
		mine = (struct pace){ net_times_forward(run->net.times), net_times_backward(run->net.times) + run->net.times->update, 0, NULL };
	else if (images > 0)
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
