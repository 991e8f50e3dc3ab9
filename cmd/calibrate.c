/*
 * What each layer takes (core/net_times.h): found before the first step for whoever needs to know it, and measured once for later runs
 * by --calibrate.
 *
 * A machine of a cluster has its cores for itself. So rank 0 measures alone, and everybody takes its numbers; the others sleep as long as
 * that is going to take. (cmd/pace.c's forecast is of the machine that is here, where all compute at the same time.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/net_sleep.h"
#include "../core/net_times.h"
#include "calibrate.h"

static const double MEASURE_SECONDS = 1;

/* ---- for a run ---- */

static bool profile_given(const struct run *run) { return config_has(run->config, "cluster.compute.profile"); }

static bool sleeps(const struct run *run) { return config_bool(run->config, "cluster.compute.sleep"); }

/* Layers that sleep, the virtual clock, and predictions where there is a profile. */
static bool wanted(const struct run *run) { return !run->calibrates && (run->virtual || sleeps(run) || profile_given(run)); }

/* A file is read by rank 0 alone: nobody needs to carry it to every host. */
int run_read_times(struct run *run)
{
	const struct config *c = run->config;
	const char *key;
	double images = pace_rate(c, &key);

	if (!wanted(run))
		return 0;
	if (sleeps(run) && run->device != run->host) {
		error("cluster.compute.sleep = true (%s) lets layers sleep on the host, but device \"%s\" computes",
		      config_origin(c, "cluster.compute.sleep"), run->device->ops->name);
		return hint("set device.kind = \"cpu\"");
	}
	run->times = net_times_new(&run->net);
	if (profile_given(run))
		return run->world.rank ? 0 : net_times_read(run->times, &run->net, config_string(c, "cluster.compute.profile"),
		                                            config_origin(c, "cluster.compute.profile"));
	if (images > 0) {
		net_times_spread(run->times, &run->net, run->batch[0] / images);
		snprintf(run->times->from, sizeof(run->times->from), "from %s, by FLOPs", key);
	}
	return 0;
}

static void measure(struct run *run, struct net_times *t)
{
	run->net.graphs = config_bool(run->config, "device.graphs");
	net_times_measure(t, &run->net, MEASURE_SECONDS);
	run->net.graphs = false;
	t->update = pace_update(run);
}

/* Others hear how long it is going to take, and are not there meanwhile: a rank that waits for a message looks for it all the time. */
static void measure_alone(struct run *run, struct net_times *t)
{
	double planned = 0;

	if (run->world.rank == 0) {
		struct rehearsal *r = net_rehearse(&run->net);
		double begin = clock_now();

		net_pass(&run->net, 1.0f / (float)run->batch[0]);
		run->device->ops->stream->sync(run->compute);
		planned = 4 * (clock_now() - begin) + MEASURE_SECONDS;
		comm_host_reduce(run->team, &planned, 1, REDUCE_MAX);
		measure(run, t);
		net_resume(&run->net, r);
		snprintf(t->from, sizeof(t->from), "measured by rank 0 alone, batch %d", run->batch[0]);
	} else {
		comm_host_reduce(run->team, &planned, 1, REDUCE_MAX);
		clock_sleep(clock_now() + planned);
	}
}

void run_find_times(struct run *run)
{
	struct net_times *t = run->times;

	if (!t)
		return;
	if (!profile_given(run) && !pace_given(run))
		measure_alone(run, t);
	comm_host_reduce(run->team, t->forward, 3 * t->nodes, REDUCE_MAX);      /* rank 0's, where it alone has any */
	comm_host_reduce(run->team, &t->update, 1, REDUCE_MAX);
	net_times_scale(t, (double)run->batch[run->world.rank] / run->batch[0]);
	run->net.times = t;
	run->optimizer.seconds = t->update;
	if (!sleeps(run) || run->formulas)
		return;
	run->sleep = net_sleep_open(&run->net, (uint64_t)config_int(run->config, "train.seed"), run->world.rank);
	run->optimizer.sleeps = true;
}

/* ---- --calibrate ---- */

enum { SHOWN = 12 };

static const struct net_times *sorted_by;

static double of_node(const struct net_times *t, int i) { return t->forward[i] + t->backward[i]; }

static int by_time(const void *a, const void *b)
{
	double x = of_node(sorted_by, *(const int *)a), y = of_node(sorted_by, *(const int *)b);

	return (x < y) - (x > y);
}

static void print_row(const char *name, const char *kind, const char *output, double forward, double backward, double step)
{
	note("  %-20s %-11s %-13s %10.3f %11.3f %7.1f %%", name, kind, output, 1e3 * forward, 1e3 * backward, 100 * (forward + backward) / step);
}

/* The slowest first; the others are one line. */
static void print_layers(const struct net *net, const struct net_times *t, const char *optimizer)
{
	double step = net_times_forward(t) + net_times_backward(t) + t->update, forward = 0, backward = 0;
	int *order = xcalloc((size_t)net->nodes, sizeof(*order)), layers = 0;
	char words[64];

	for (int i = 0; i < net->nodes; i++)
		if (!net->node[i]->fused)
			order[layers++] = i;
	sorted_by = t;
	qsort(order, (size_t)layers, sizeof(*order), by_time);
	note("  %-20s %-11s %-13s %10s %11s %9s", "layer", "kind", "output", "forward ms", "backward ms", "of a step");
	for (int i = 0; i < layers; i++) {
		const struct node *node = net->node[order[i]];

		if (i < SHOWN) {
			snprintf(words, sizeof(words), "%dx%dx%d", node->out.shape.h, node->out.shape.w, node->out.shape.c);
			print_row(node->name, node->ops->name, words, t->forward[order[i]], t->backward[order[i]], step);
		} else {
			forward += t->forward[order[i]];
			backward += t->backward[order[i]];
		}
	}
	snprintf(words, sizeof(words), "%d others", layers - SHOWN);
	if (layers > SHOWN)
		print_row(words, "", "", forward, backward, step);
	print_row("update", optimizer, "", 0, t->update, step);
	print_row("total", "", "", net_times_forward(t), net_times_backward(t) + t->update, step);
	free(order);
}

/* Before anything is measured: a path that cannot be written is told at once. */
static FILE *open_profile(const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f) {
		error("--calibrate=%s: %s", path, strerror(errno));
		hint("name a file that this user may write");
	}
	return f;
}

int run_calibrate(struct run *run, const char *path)
{
	FILE *file = path ? open_profile(path) : NULL;
	int status = run_agree(run, path && !file ? STATUS_FAILURE : 0);
	const char *machine = run->device->ops->describe(run->device);
	struct net_times *t;
	struct rehearsal *r;
	struct pace pace;
	double step;

	if (status)
		return status;
	t = net_times_new(&run->net);
	r = net_rehearse(&run->net);
	measure(run, t);
	net_resume(&run->net, r);
	pace = pace_measure(run);
	step = net_times_forward(t) + net_times_backward(t) + t->update;
	note("calibrate  %s, batch %d, lower quartiles of %d passes on %s", run->net.name, run->batch[0], t->passes, machine);
	print_layers(&run->net, t, run->optimizer.ops->name);
	note("step       %.3f ms layer by layer, %.6g images/s; in one piece %.3f ms (%+.1f %%): the best of a few", 1e3 * step,
	     run->batch[0] / step, 1e3 * (pace.forward + pace.backward), 100 * (step / (pace.forward + pace.backward) - 1));
	if (file) {
		net_times_write(file, t, &run->net, machine);
		rundir_flush(file, path);
		fclose(file);
		note("profile    %s; runs take it with --set 'cluster.compute.profile=\"%s\"'", path, path);
	} else {
		note("profile    not kept; --calibrate=FILE writes it, for cluster.compute.profile");
	}
	net_times_free(t);
	return STATUS_DONE;
}
