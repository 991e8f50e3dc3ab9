/*
 * output.trace: which steps are traced, on whose clock, and how the ranks' traces become one file. What is traced, everybody says who queues
 * something (core/trace.h); what the file is like, trace_events.c.
 */
#include <math.h>
#include <stdlib.h>

#include "../comm/offset.h"
#include "../core/clock.h"
#include "../core/die.h"
#include "../core/timeline.h"
#include "../core/trace.h"
#include "trace.h"

enum { WARM = 10 };             /* steps that touch pages and choose kernels: a count of steps begins behind them */

/* Only training is traced. */
static bool wanted(const struct run *run) { return config_bool(run->config, "output.trace") && !run->dry; }

/* Alike on all ranks. */
int run_check_trace(const struct run *run)
{
	const struct config *c = run->config;
	double step[3] = { 0 };
	int count = config_list(c, "output.trace_steps", step, 3);

	if (!config_bool(c, "output.trace"))
		return 0;
	if (config_type(c, "output.trace_steps") != OPTION_LIST && step[0] >= 1)
		return 0;
	if (config_type(c, "output.trace_steps") == OPTION_LIST && count == 2 && step[0] <= step[1])
		return 0;
	error("output.trace_steps (%s) is neither a number of steps nor the first and the last one", config_origin(c, "output.trace_steps"));
	return hint("set output.trace_steps = 20, or [100, 119]; steps count from 0");
}

void run_open_trace(struct run *run)
{
	if (!wanted(run))
		return;
	if (config_bool(run->config, "device.graphs") && run->device->ops->stream->capture_begin)
		note("output.trace: training passes are not recorded and replayed (device.graphs), so that each layer can be seen");
	if (!run->device->timeline)
		timeline_open(run->device);
}

/* A number of steps begins behind the first ones; in a short run, earlier. */
static void choose_steps(struct run *run)
{
	double step[2] = { 0 };

	if (config_list(run->config, "output.trace_steps", step, 2) == 2 && config_type(run->config, "output.trace_steps") == OPTION_LIST) {
		run->trace.first = (int64_t)step[0];
		run->trace.last = (int64_t)step[1];
	} else {
		int64_t spare = run->steps - (int64_t)step[0];

		run->trace.first = spare < 0 ? 0 : spare < WARM ? spare : WARM;
		run->trace.last = run->trace.first + (int64_t)step[0] - 1;
	}
	if (run->trace.last >= run->steps && !run->sync.ops->claim)    /* else some take more steps than others */
		run->trace.last = run->steps - 1;
	if (run->trace.first >= run->steps)
		warn("output.trace_steps: the run ends with step %lld, before the first one to be traced", (long long)run->steps - 1);
}

/* What makes our clock rank 0's, now. Ranks of one host read the same one. */
static void read_clock(struct run *run, int which)
{
	struct trace_reading *r = &run->trace.clock[which];

	if (run->world.nodes > 1)
		r->offset = comm_clock_offset(run->control, &r->uncertain);
	r->at = clock_now();
}

void run_start_trace(struct run *run)
{
	double origin = 0;

	if (!wanted(run))
		return;
	if (!run_serves(run))
		choose_steps(run);
	trace_open(run->device, config_int(run->config, "output.trace_most"));
	if (!run_serves(run))
		trace_stream(run->compute, true);
	trace_stream(run->comm->stream, false);
	read_clock(run, 0);
	comm_barrier(run->control);
	origin = run->world.rank == 0 ? clock_now() : 0;
	comm_host_reduce(run->control, &origin, 1, REDUCE_SUM);
	run->trace.origin = origin;
}

/* Crystals differ by some parts in a million, which is a millisecond in a minute: between two readings a line. */
double run_trace_time(const struct run *run, double at)
{
	const struct trace_reading *a = &run->trace.clock[0], *b = &run->trace.clock[1];
	double drift = b->at > a->at ? (b->offset - a->offset) / (b->at - a->at) : 0;

	return at + a->offset + drift * (at - a->at) - run->trace.origin;
}

void run_trace_step(struct run *run, int64_t t)
{
	trace_on(run->device, run->trace.first <= t && t <= run->trace.last);
	trace_begin(run->compute, "step", NULL, t);
}

/* The file's last key: of the run, and how far to trust it. */
static char *other_data(const struct run *run, double uncertain, double left_out)
{
	return xasprintf("\"otherData\": {\"program\": \"cocod-train %s\", \"algorithm\": \"%s\", \"model\": \"%s\", \"ranks\": \"%d\", "
	                 "\"first_step\": \"%lld\", \"last_step\": \"%lld\", \"clock_uncertainty_us\": \"%.3f\", \"events_left_out\": \"%.0f\"}",
	                 COCOD_VERSION, run->sync.ops->name, run->net.name, run->world.size, (long long)run->trace.first,
	                 (long long)run->trace.last, 1e6 * uncertain, left_out);
}

static void report(const struct run *run, double spans, double left_out)
{
	note("trace of steps %lld to %lld in %s/trace.json: %.0f spans; open it in ui.perfetto.dev or chrome://tracing", (long long)run->trace.first,
	     (long long)run->trace.last, run->dir.path, spans);
	if (left_out > 0)
		warn("the trace is incomplete: %.0f of its events found no place. Set a larger output.trace_most (%lld of a kind and rank), or "
		     "fewer output.trace_steps", left_out, (long long)config_int(run->config, "output.trace_most"));
}

void run_write_trace(struct run *run)
{
	const struct trace *trace = trace_of(run->device);
	double sum[2], uncertain;
	FILE *f = NULL;
	char *tail = NULL;

	if (!trace)
		return;
	trace_on(run->device, false);
	if (!run_serves(run))
		run->device->ops->stream->sync(run->compute);
	run->device->ops->stream->sync(run->comm->stream);
	read_clock(run, 1);
	sum[0] = (double)trace->spans;
	sum[1] = (double)trace->left_out;
	comm_host_reduce(run->control, sum, 2, REDUCE_SUM);
	uncertain = fmax(run->trace.clock[0].uncertain, run->trace.clock[1].uncertain);
	if (run->world.rank == 0) {
		f = rundir_file(&run->dir, "trace.json");
		tail = other_data(run, uncertain, sum[1]);
	}
	trace_gather(run, f, trace_write_events, tail);
	if (!f)
		return;
	rundir_flush(f, "trace.json");
	fclose(f);
	free(tail);
	report(run, sum[0], sum[1]);
}
