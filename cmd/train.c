/*
 * The training loop. It hands over to the sync algorithm before forward, during backward and after it, and never asks for a name.
 */
#include <math.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/net_sleep.h"
#include "../core/timeline.h"
#include "../core/trace.h"
#include "metrics.h"

static bool hook_param_needed(void *context, const struct range *range) { return sync_param_needed(context, range); }
static bool hook_grad_ready(void *context, const struct range *range) { return sync_grad_ready(context, range); }

void run_load(struct run *run, const struct batch *batch)
{
	if (batch->draw)
		net_load_resident(&run->net, &run->images, batch->draw, batch->label);
	else
		net_load(&run->net, batch->image, batch->label);
}

struct spent run_counters(struct run *run)
{
	const struct stream_ops *stream = run->device->ops->stream;

	return (struct spent){
		.wall = clock_now(),
		.data = loader_waited(run->train),
		.exposed = stream->waited(run->compute),
		.comm = stream->busy(run->comm->stream),
		.bytes = (double)run->comm->bytes_sent,
	};
}

/* A device that runs behind the host has not finished a step when its calls return, so nothing is summed over steps: totals are read,
 * and are exact wherever the host has waited, as it does for every row of metrics. */
void run_clock(struct run *run)
{
	struct spent now = run_counters(run), *aside = &run->aside;

	run->spent = (struct spent){ now.wall - aside->wall, now.data - aside->data, now.exposed - aside->exposed, now.comm - aside->comm,
		                     now.bytes - aside->bytes };
}

void run_set_aside(struct run *run, const struct spent *since)
{
	struct spent now = run_counters(run), *aside = &run->aside;

	aside->wall += now.wall - since->wall;
	aside->data += now.data - since->data;
	aside->exposed += now.exposed - since->exposed;
	aside->comm += now.comm - since->comm;
	aside->bytes += now.bytes - since->bytes;
}

/* On the virtual clock a server answers in the order of times: it has to know that this worker is going to wait for others. */
void run_rest(struct run *run)
{
	struct spent before = run_counters(run);

	if (!run->virtual || !run->servers)
		return;
	ps_rest(run->comm);
	run_set_aside(run, &before);
}

/* What an algorithm has to send before its models can be averaged belongs to training, and to the row that is about to be made. What it
 * waits for there does not. */
static void settle_aside(struct run *run)
{
	struct spent before;

	run->device->ops->stream->sync(run->compute);   /* the step itself is training */
	run_rest(run);
	before = run_counters(run);
	timeline_pause(run->device, true);
	sync_settle(&run->sync);
	timeline_pause(run->device, false);
	before.bytes = (double)run->comm->bytes_sent;
	run_set_aside(run, &before);
}

/* Evaluation happens between steps and is not counted; nor is rank 0's wait for the last rows of those who are behind. */
static void evaluate_aside(struct run *run)
{
	struct spent before = run_counters(run);

	metrics_flush(run);
	metrics_progress_end(run);
	timeline_pause(run->device, true);
	if (!run->sleep) {
		trace_phase(run->compute, NULL);
		trace_whole(run->compute, "evaluation", "step", run->step);
		run_evaluate(run);
		trace_end(run->compute);
	}
	timeline_pause(run->device, false);
	run_set_aside(run, &before);
}

static void end_slowdown(struct run *run)
{
	bool slow = run->slowdown.now > 1;

	if (slow)
		trace_begin(run->compute, "slowdown", NULL, -1);
	run->aside.exposed += slowdown_end(&run->slowdown, run->device, run->compute);
	if (slow)
		trace_end(run->compute);
}

static void compute(struct run *run, int64_t t)
{
	run->net.slowness = slowdown_factor(&run->slowdown, t);
	if (!run->virtual)
		slowdown_begin(&run->slowdown, t, run->device, run->compute);
	net_pass(&run->net, 1.0f / (float)run->batch[run->world.rank]);
	if (!run->virtual)
		end_slowdown(run);
}

/* No batch, either: making one is computing. */
static void next_batch(struct run *run)
{
	struct batch batch;

	if (run->sleep)
		return;
	trace_begin(run->compute, "batch", NULL, -1);
	CHECK(loader_next(run->train, &batch));
	run_load(run, &batch);
	trace_end(run->compute);
}

/* Once in a run the host waits for the device, so that both sides of the mark are exact. */
static void mark_warmed(struct run *run)
{
	run->device->ops->stream->sync(run->compute);
	run_clock(run);
	run->warmed = (struct mark){
		.step = run->warm_steps, .spent = run->spent,
		.compute = timeline_account(run->compute), .comm = timeline_account(run->comm->stream),
	};
}

static void train_step(struct run *run, int64_t t)
{
	int64_t epoch = run->samples / run_epoch_samples(run);

	if (t > 0 && t == run->warm_steps)
		mark_warmed(run);
	run_trace_step(run, t);
	die_step(t);
	run->sync.lr = lr_at(&run->lr, run_epochs(run, run->samples));
	if (t == 0 || epoch != run->sync.epoch)
		sync_epoch(&run->sync, epoch);
	net_set_step(&run->net, t * run->workers + run->world.rank);       /* dropout differs between workers */
	next_batch(run);
	sync_begin(&run->sync, t);
	if (run->sleep)
		run->aside.exposed += net_sleep_pass(run->sleep, t, slowdown_factor(&run->slowdown, t));
	else
		compute(run, t);
	sync_step(&run->sync, t);
	run->aside.exposed += run->optimizer.lent;
	run->optimizer.lent = 0;
	trace_end(run->compute);
	run_clock(run);
}

/* Steps until all workers together have processed so many samples. The algorithm waits for the others, above all at their end; a device
 * that runs behind the host may compute meanwhile. */
static void train_until(struct run *run, int64_t until)
{
	for (;;) {
		double begin = clock_now();

		run->samples = sync_claim(&run->sync, run->step, until);
		if (run->samples >= until || run->device == run->host)
			run->aside.exposed -= clock_now() - begin;
		metrics_reach(run, run->samples < until ? run->samples : until, until);
		if (run->samples >= until)
			break;
		train_step(run, run->step++);
	}
	settle_aside(run);
	metrics_complete(run, until);
}

/* Samples at which the model is evaluated next; never further than the run goes. */
static int64_t next_evaluation(const struct run *run)
{
	int64_t every = (int64_t)(config_float(run->config, "train.eval_every") * (double)run->steps_per_epoch + 0.5) * run->batch_total;
	int64_t end = run->steps * run->batch_total, next = every > 0 ? (run->samples / every + 1) * every : end;

	return next < end ? next : end;
}

int run_train(struct run *run)
{
	/* Layers are timed one by one only where they run inside their call. */
	run->net.hooks = (struct net_hooks){ &run->sync, hook_param_needed, hook_grad_ready, run->device == run->host ? run->comm->stream : NULL };
	run->net.graphs = config_bool(run->config, "device.graphs");
	run->metrics = metrics_open(run);
	run->evaluated_at = -1;
	if (run->sleep)
		run->test_loss = run->test_accuracy = run->best_accuracy = NAN;
	else
		loader_start(run->train, 0, 0);
	run_start_trace(run);
	run->aside = run_counters(run);
	run_start_clock(run);
	while (run->samples < run->steps * run->batch_total) {
		train_until(run, next_evaluation(run));
		evaluate_aside(run);
	}
	timeline_pause(run->device, true);
	metrics_close(run);
	if (run->sleep)
		run->train_loss = NAN;
	return STATUS_DONE;
}

/* On disk as often as rows of metrics: whenever worker 0 ends one. */
static void log_arrival(void *context, int64_t clock, const char *what, int64_t worker, const char *why)
{
	struct run *run = context;

	rundir_decision(&run->dir, run->world.rank, clock, what, worker, why);
	if (worker == 0 && clock % config_int(run->config, "output.log_every") == 0)
		rundir_flush_decisions(&run->dir);
}

/* What arrived in which order decides the result of an asynchronous run: it is written down. */
int run_serve(struct run *run)
{
	double start = clock_now();

	run_start_trace(run);
	run_start_clock(run);
	ps_serve(run->comm, &run->served, run->dir.path[0] ? log_arrival : NULL, run);
	run->spent.wall = clock_now() - start;
	run->spent.comm = run->device->ops->stream->busy(run->comm->stream);
	run->spent.bytes = (double)run->comm->bytes_sent;
	return STATUS_DONE;
}
