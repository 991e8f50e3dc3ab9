/*
 * The facts that a schedule goes by: when backward makes each gradient final, and what a message costs. They are measured before the
 * first step by all workers at the same time (they may share a machine), the slowest's count, and what was found is left in the run
 * directory: schedule.txt, by which the same plan can be made again (schedule.facts). The run's state is as if nothing had happened.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../comm/fit.h"
#include "../core/die.h"
#include "../core/net_times.h"
#include "run.h"

static const double PROFILE_SECONDS = 0.6;
enum { FIT_LEAST = 4 << 10, FIT_MOST = 64 << 20 };      /* bytes; longer messages lie on the line */

/* What the trainer queues for a bucket, as far as the network sees it. A forecast's fit is another one (predict_network()): it is of a step of
 * a ring, whatever all-reduces here, of shorter messages and without the delay, so that formulas for any number of workers can use it. */
static void average(struct comm *comm, void *buffer, int64_t bytes)
{
	comm_delay(comm);
	fit_allreduce(comm, buffer, bytes);
}

/* The same of the network that the virtual clock goes by. */
static struct fit modelled(const struct run *run, int64_t most)
{
	enum { SIZES = 16 };
	struct cost_model link = run_link(run, run->world.size);
	double bytes[SIZES], seconds[SIZES];
	int count = 0;

	for (double b = FIT_LEAST; count < SIZES && (count == 0 || b <= (double)most); b *= 4, count++) {
		bytes[count] = b;
		seconds[count] = link.delay + comm_allreduce_cost(run->comm, &link, b);
	}
	return fit_line(bytes, seconds, count);
}

static void measure(struct run *run, struct schedule_facts *f)
{
	int64_t bytes = 4 * run->net.n, most = bytes < FIT_MOST ? bytes : FIT_MOST;
	struct fit fit;

	if (run->net.times) {
		f->backward = net_times_profile(run->net.times, &run->net, f->ready);
	} else {
		comm_barrier(run->team);
		f->backward = net_profile(&run->net, PROFILE_SECONDS, f->ready);
	}
	f->backward *= slowdown_mean(&run->slowdown);
	for (int i = 0; i < f->tensors; i++)
		f->ready[i] *= slowdown_mean(&run->slowdown);
	fit = run->virtual ? modelled(run, most) : comm_fit(run->comm, average, most);
	f->latency = fit.latency;
	f->per_byte = fit.per_byte;
	f->error = fit.error;
}

/* The largest of all ranks' numbers: of what was measured the slowest's, of what rank 0 alone has read rank 0's. */
static void agree_on(struct run *run, struct schedule_facts *f)
{
	double line[] = { f->latency, f->per_byte, f->error, f->backward };

	comm_host_reduce(run->team, line, 4, REDUCE_MAX);
	comm_host_reduce(run->team, f->ready, f->tensors, REDUCE_MAX);
	f->latency = line[0];
	f->per_byte = line[1];
	f->error = line[2];
	f->backward = line[3];
}

static void leave_facts(const struct run *run, const struct schedule_facts *f)
{
	FILE *file;

	if (run->dry || run->world.rank != 0)
		return;
	file = rundir_file(&run->dir, "schedule.txt");
	schedule_facts_write(file, f, run->net.tensor);
	rundir_flush(file, "schedule.txt");
	fclose(file);
}

int run_find_facts(struct run *run)
{
	struct schedule_facts f = { .tensors = run->net.tensors };
	const struct config *c = run->config;
	const char *path;
	int status = 0;

	if (!sync_wants_facts(&run->sync, run->workers))
		return 0;
	path = config_has(c, "schedule.facts") ? config_string(c, "schedule.facts") : NULL;
	f.ready = xcalloc((size_t)f.tensors, sizeof(*f.ready));
	if (!path)
		measure(run, &f);
	else if (run->world.rank == 0 && schedule_facts_read(path, config_origin(c, "schedule.facts"), &f, run->net.tensor, f.tensors))
		status = STATUS_CONFIG;
	status = run_agree(run, status);
	if (!status) {
		agree_on(run, &f);
		sync_refine(&run->sync, &f, run->workers);
		leave_facts(run, &f);
	}
	free(f.ready);
	return status;
}

/* ---- what the user is told ---- */

/* Seconds of the exchange that backward does not hide. */
static double exposed(const struct run *run, const struct range *bucket, int buckets)
{
	const struct schedule_facts *f = &run->sync.schedule.facts;

	return fmax(0, schedule_landed(f, run->net.tensor, bucket, buckets) - f->backward);
}

static double exposed_by(const struct run *run, const char *fusion)
{
	struct range *bucket = xcalloc((size_t)run->net.tensors, sizeof(*bucket));
	double seconds = exposed(run, bucket, schedule_find(fusion)->plan(run->config, run->net.tensor, run->net.tensors, run->net.n, bucket));

	free(bucket);
	return seconds;
}

static void log_plan(const struct run *run)
{
	const struct schedule *s = &run->sync.schedule;

	if (!run->dir.log)
		return;
	fprintf(run->dir.log, "schedule %s, average of M bytes %.6g + %.6g M seconds (within %.3g), backward %.6g, exposed %.6g; buckets",
	        s->ops->name, s->facts.latency, s->facts.per_byte, s->facts.error, s->facts.backward, exposed(run, s->bucket, s->buckets));
	for (int i = 0; i < s->buckets; i++)
		fprintf(run->dir.log, " %s+%d: %lld", s->bucket[i].tensor->name, s->bucket[i].tensors - 1, (long long)(4 * s->bucket[i].n));
	fprintf(run->dir.log, "\n");
	rundir_flush(run->dir.log, "rank log");
}

void report_schedule(const struct run *run)
{
	const struct schedule *s = &run->sync.schedule;
	const struct schedule_facts *f = &s->facts;
	enum { SHOWN = 8 };
	char sizes[160] = "", error[48] = "", bytes[48] = "whatever M is";
	int n = 0;

	if (!s->ops->refine)
		return;
	note("schedule   %s (%s)", s->ops->name, s->ops->paper);
	if (!f->ready) {
		note("           one message: %s", run->workers > 1 ? "the compressor wants the model in one piece" : "one worker has nothing to plan");
		return;
	}
	for (int i = 0; i < s->buckets && i < SHOWN; i++)
		n += snprintf(sizes + n, sizeof(sizes) - (size_t)n, " %.3g", 4e-6 * (double)s->bucket[i].n);
	if (f->error > 0)
		snprintf(error, sizeof(error), ", all within %.0f %% of that", 100 * f->error);
	note("           %d tensors in %d message%s of%s%s MB", f->tensors, s->buckets, s->buckets == 1 ? "" : "s", sizes,
	     s->buckets > SHOWN ? " …" : "");
	if (f->per_byte > 0)
		snprintf(bytes, sizeof(bytes), "+ M / (%.4g GB/s)", 1e-9 / f->per_byte);
	note("           an average of M bytes takes %.4g us %s%s", 1e6 * f->latency, bytes, error);
	note("           predicted: backward %.3f ms, then %.3f exposed; fused by size %.3f, not at all %.3f, all in one %.3f",
	     1e3 * f->backward, 1e3 * exposed(run, s->bucket, s->buckets), 1e3 * exposed_by(run, "size"), 1e3 * exposed_by(run, "none"),
	     1e3 * exposed_by(run, "model"));
	if (!run->dry)
		note("           the same plan again: --set 'schedule.facts=\"%s/schedule.txt\"'", run->dir.path);
	log_plan(run);
}
