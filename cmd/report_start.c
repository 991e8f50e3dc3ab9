/*
 * What the user is told before a run: what will run, on what, and who owns which images.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/die.h"
#include "../core/net_times.h"
#include "run.h"

struct place {
	char host[64], device[224];
	int local_rank, threads, cores;
	double slowdown, jitter;
};

/* The decision that measured speeds led to, and how to have it again without measuring. */
static void print_batches(const struct run *run)
{
	bool given = config_list(run->config, "train.speeds", NULL, 0) > 0;
	char *list;

	if (!run->speed)
		return;
	list = run_batch_list(run);
	note("batches    proportional to the speeds %s", given ? "given" : run->virtual ? "of the virtual clock" : "measured just now");
	if (run->workers <= 16)
		note("           the same without measuring: --set 'train.batch=%s'", list);
	if (run->dir.log && run->world.rank == 0) {
		fprintf(run->dir.log, "train.batch=%s for the speeds", list);
		for (int r = 0; r < run->workers; r++)
			fprintf(run->dir.log, " %.6g", run->speed[r]);
		fprintf(run->dir.log, " (%s)\n", given ? "given" : run->virtual ? "by cluster.slowdown" : "measured, images/s");
		rundir_flush(run->dir.log, "rank log");
	}
	free(list);
}

static void print_places(const struct run *run, const struct place *all)
{
	char servers[32] = "";

	if (run->servers)
		snprintf(servers, sizeof(servers), " and %d server%s", run->servers, run->servers == 1 ? "" : "s");
	note("world      %d worker%s%s on %d host%s, communication on %s", run->workers, run->workers == 1 ? "" : "s", servers,
	     run->world.nodes, run->world.nodes == 1 ? "" : "s", run->device != run->host ? "a stream of the GPU" :
	     run->device->config.progress == PROGRESS_THREAD ? "a thread of its own" : "the computing thread (hook)");
	note("transport  %s: %s", run->comm ? run->comm->ops->name : run->world.transport->name, run->comm_why);
	print_batches(run);
	for (int r = 0; r < run->workers; r++) {
		char speed[40] = "", slower[64] = "";

		if (run->speed)
			snprintf(speed, sizeof(speed), " (speed %.4g)", run->speed[r]);
		if (all[r].jitter > 0)
			snprintf(slower, sizeof(slower), ", slowed down x %g (1 + %g |z|)", all[r].slowdown, all[r].jitter);
		else if (all[r].slowdown > 1)
			snprintf(slower, sizeof(slower), ", slowed down x %g", all[r].slowdown);
		note("  rank %-3d %s, local rank %d, batch %d%s, %d of %d cores%s, %s", r, all[r].host, all[r].local_rank, run->batch[r], speed,
		     all[r].threads, all[r].cores, slower, all[r].device);
	}
	for (int r = run->workers; r < run->world.size; r++)
		note("  rank %-3d %s, local rank %d, serves 1/%d of the model", r, all[r].host, all[r].local_rank, run->servers);
}

static void print_world(struct run *run)
{
	struct place mine = { .local_rank = run->world.local_rank, .threads = run->threads, .cores = run->world.cores,
	                      .slowdown = run->slowdown.factor, .jitter = run->slowdown.jitter };
	struct place *all = xcalloc((size_t)run->world.size, sizeof(*all));

	snprintf(mine.host, sizeof(mine.host), "%s", run->world.host);
	snprintf(mine.device, sizeof(mine.device), "%s", run->device->ops->describe(run->device));
	comm_host_gather(run->control, &mine, all, sizeof(mine));
	if (run->world.rank == 0)
		print_places(run, all);
	free(all);
}

enum { LABELS_MOST = 12, RANKS_MOST = 16 };     /* columns and rows of the table of labels */

/* One rank's row: the images of each label; those beyond the last column are one sum. */
static void print_labels(const struct partition *p, int rank)
{
	const int64_t *count = p->count + (int64_t)rank * p->classes;
	int shown = p->classes > LABELS_MOST ? LABELS_MOST - 1 : p->classes, n;
	int64_t others = 0;
	char line[256];

	n = snprintf(line, sizeof(line), "  rank %-3d", rank);
	for (int c = 0; c < shown; c++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %7lld", (long long)count[c]);
	for (int c = shown; c < p->classes; c++)
		others += count[c];
	if (shown < p->classes)
		snprintf(line + n, sizeof(line) - (size_t)n, " %9lld", (long long)others);
	note("%s", line);
}

static void print_partition(const struct run *run)
{
	const struct partition *p = &run->partition;
	int shown = p->classes > LABELS_MOST ? LABELS_MOST - 1 : p->classes, n;
	char line[256], alpha[40] = "";

	if (!p->count)
		return;
	if (p->rule.kind == PARTITION_DIRICHLET)
		snprintf(alpha, sizeof(alpha), ", alpha %g", p->rule.alpha);
	note("partition  %s%s: a worker owns its images; skew %.2f (0: all have the same mixture); images of each label:",
	     partition_name(p->rule.kind), alpha, partition_skew(p));
	n = snprintf(line, sizeof(line), "  %-8s", "label");
	for (int c = 0; c < shown; c++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %7d", c);
	if (shown < p->classes)
		snprintf(line + n, sizeof(line) - (size_t)n, " %4d-%-4d", shown, p->classes - 1);
	note("%s", line);
	for (int r = 0; r < p->workers; r++) {
		if (p->workers > RANKS_MOST && r == RANKS_MOST - 2) {
			note("  … the other ranks' are in their rank-NNN.log");
			r = p->workers - 1;
		}
		print_labels(p, r);
	}
}

/* In each rank's own log: all of it, however many there are. */
static void log_partition(const struct run *run)
{
	const struct partition *p = &run->partition;

	if (!p->count || !run->dir.log)
		return;
	fprintf(run->dir.log, "partition %s, alpha %g, seed %llu, skew %.4f; images of label:", partition_name(p->rule.kind), p->rule.alpha,
	        (unsigned long long)p->rule.seed, partition_skew(p));
	for (int c = 0; c < p->classes; c++)
		if (p->count[(int64_t)run->world.rank * p->classes + c])
			fprintf(run->dir.log, " %d: %lld", c, (long long)p->count[(int64_t)run->world.rank * p->classes + c]);
	fprintf(run->dir.log, "\n");
	rundir_flush(run->dir.log, "rank log");
}

static void print_compress(const struct run *run)
{
	char what[200];

	note("compress   %s (%s)", run->sync.compress.name, run->sync.compress.ops->paper);
	compress_describe(&run->sync.compress, &run->sync.schedule.whole, what, sizeof(what));
	if (*what)
		note("           %s", what);
}

static void print_asleep(const struct net_times *t)
{
	note("asleep     layers do not compute (cluster.compute.sleep): forward sleeps for %.2f ms, backward for %.2f, an update takes %.2f",
	     1e3 * net_times_forward(t), 1e3 * net_times_backward(t), 1e3 * t->update);
	note("           times %s", t->from);
	note("           gradients are noise: NOTHING IS LEARNT, and the loss means nothing");
}

static void print_all_reduce(const struct run *run)
{
	const char *way = comm_allreduce_way(run->comm, 4.0 * (double)run->net.n);
	double link[2];

	if (run->fit.points && config_list(run->config, "topology.link", link, 2) == 2)
		note("all-reduce %s (of the whole model in one piece), by topology.link = [%.4g, %.4g], fitted here", way, link[0], link[1]);
	else
		note("all-reduce %s (of the whole model in one piece)", way);
}

void report_start(struct run *run)
{
	const struct config *c = run->config;
	const char *unused = config_unused(c);

	if (run_serves(run)) {          /* rank 0 speaks */
		print_world(run);
		return;
	}
	note("cocod-train %s", COCOD_VERSION);
	note("data       %s, %lld training and %lld test images of %d x %d x %d, %d classes", run->data.def->name,
	     (long long)run->data.train.count, (long long)run->data.test.count, run->data.h, run->data.w, run->data.c, run->data.classes);
	print_partition(run);
	log_partition(run);
	if (run->world.rank == 0)
		net_print(&run->net, stdout);
	note("algorithm  %s (%s)", run->sync.ops->name, run->sync.ops->paper);
	print_compress(run);
	report_schedule(run);
	note("optimizer  %s, lr %g %s; effective batch %d", run->optimizer.ops->name, run->lr.base,
	     config_string(c, "optimizer.schedule"), run->batch_total);
	if (run->sleep)
		print_asleep(run->times);
	if (run->comm->plan && run->world.size > 1)
		print_all_reduce(run);
	print_world(run);
	report_clock(run);
	if (*unused)
		note("unused     %s: not keys of what is selected", unused);
	if (run->world.size == 1 && strcmp(config_string(c, "topology.kind"), "ps"))
		note("one worker: nothing will be exchanged; mpirun -np N starts N");
	note("run        %lld steps%s (%g epochs of %lld), results in %s", (long long)run->steps,
	     run->sync.ops->claim ? " of a worker on average" : "", run->epochs, (long long)run->steps_per_epoch,
	     run->dir.path[0] ? run->dir.path : "no directory");
	fflush(stdout);
}
