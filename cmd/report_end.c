/*
 * What the user is told after a run: where the time went, the truth about overlap; also in summary.json.
 *
 * Per rank and step:  wall = computing + exposed + data.  `exposed` is what computing stood still for communication or lent its
 * thread to it; `communicating` is how long the communication stream was busy; hidden = 1 - exposed / communicating.
 * Dilation is the price of hiding: how much longer the same layers took while communication was active.
 */
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/timeline.h"
#include "account.h"
#include "json.h"
#include "run.h"
#include "served.h"

static double hidden(double comm, double exposed)
{
	double h = comm > 0 ? 1 - exposed / comm : NAN;

	return h < 0 ? 0 : h;
}

static void print_account(const char *who, const struct account *a, bool steps)
{
	char share[16] = "-", slower[16] = "-", own[24] = "";

	if (a->comm > 0)
		snprintf(share, sizeof(share), "%.0f %%", 100 * hidden(a->comm, a->exposed));
	if (isfinite(a->dilation))
		snprintf(slower, sizeof(slower), "x %.2f", a->dilation);
	if (steps)
		snprintf(own, sizeof(own), " %9.0f", a->steps);
	note("  %-10s %9.2f %9.2f %9.2f %9.2f %9.2f %8s %8s%s", who, 1e3 * a->wall, 1e3 * a->computing, 1e3 * a->data, 1e3 * a->comm,
	     1e3 * a->exposed, share, slower, own);
}

static void print_accounts(const struct run *run, const struct account *all, const struct account *mean)
{
	int worst = 0;
	double steps = account_steps(run, all);
	bool differ = false;

	for (int r = 1; r < run->workers; r++)
		differ = differ || all[r].steps != all[0].steps;
	note("where a step's time went, ms (%.*f steps%s; evaluation, %.1f s, not counted)", differ, steps, differ ? " of a worker on average" : "",
	     run->eval_seconds);
	note("  %-10s %9s %9s %9s %9s %9s %8s %8s%s", "", "step", "computing", "data", "comm", "exposed", "hidden", "dilation",
	     differ ? "     steps" : "");
	for (int r = 0; r < run->workers; r++) {
		char name[16];

		snprintf(name, sizeof(name), "rank %d", r);
		if (run->workers <= 8)
			print_account(name, &all[r], differ);
		worst = all[r].computing > all[worst].computing ? r : worst;
	}
	if (run->workers > 8)
		print_account("slowest", &all[worst], differ);
	if (run->world.size > 1)
		note("  slowest to compute: rank %d; %.3f MB sent by a %s and step", worst, mean->bytes / 1e6, run->servers ? "worker" : "rank");
	for (int r = run->workers; r < run->world.size && r < run->workers + 8; r++)
		note("  server %-3d busy %.0f %% of the time; %.3f MB sent a step, evaluations included", r, 100 * all[r].comm / all[r].wall,
		     all[r].bytes / steps / 1e6);
}

static void print_virtual_row(const char *who, const struct virtual *v)
{
	char share[16] = "-";

	if (v->comm > 0)
		snprintf(share, sizeof(share), "%.0f %%", 100 * hidden(v->comm, v->exposed));
	note("  %-10s %9.2f %9.2f %9s %9.2f %9.2f %8s", who, 1e3 * v->step, 1e3 * v->computing, "", 1e3 * v->comm, 1e3 * v->exposed, share);
}

/* Compute streams end apart: the run is over when the last has ended. */
static double virtual_seconds(const struct run *run, const struct account *all)
{
	double seconds = 0;

	for (int r = 0; r < run->workers; r++)
		seconds = fmax(seconds, all[r].virtual.all);
	return seconds;
}

static void print_virtual(const struct run *run, const struct account *all)
{
	int worst = 0;
	double seconds = virtual_seconds(run, all);

	if (!run->virtual)
		return;
	note("and on the virtual clock, of the cluster that was described");
	note("  %-10s %9s %9s %9s %9s %9s %8s", "", "step", "computing", "", "comm", "exposed", "hidden");
	for (int r = 0; r < run->workers; r++) {
		char name[16];

		snprintf(name, sizeof(name), "rank %d", r);
		if (run->workers <= 8)
			print_virtual_row(name, &all[r].virtual);
		worst = all[r].virtual.computing > all[worst].virtual.computing ? r : worst;
	}
	if (run->workers > 8)
		print_virtual_row("slowest", &all[worst].virtual);
	note("  slowest to compute: rank %d; %.1f images/s, %.6g s for all steps", worst, (double)run->samples / seconds, seconds);
}

static struct ps_record total_served(const struct run *run, const struct account *all)
{
	struct ps_record sum = { 0 };

	for (int r = run->workers; r < run->world.size; r++)
		served_add(&sum, &all[r].served);
	return sum;
}

/* Servers whose part of the model is not empty. */
static int count_read(const struct run *run, const struct account *all)
{
	int n = 0;

	for (int r = run->workers; r < run->world.size; r++)
		n += all[r].served.reads > 0;
	return n;
}

static double server_bytes(const struct run *run, const struct account *all)
{
	double bytes = 0;

	for (int r = run->workers; r < run->world.size; r++)
		bytes += all[r].bytes / account_steps(run, all) / run->servers;
	return bytes;
}

/* Done when the last is: where workers go at their own pace, the others have waited for it at the last evaluation. */
static double images_per_s(const struct run *run, const struct account *all)
{
	double longest = 0;

	for (int r = 0; r < run->workers; r++)
		longest = fmax(longest, all[r].wall * all[r].steps);
	return longest > 0 ? (double)run->samples / longest : NAN;
}

/* ---- what was predicted ---- */

/* (predicted - measured) / measured; NaN if nothing was measured. */
static double error_of(double predicted, double measured) { return measured > 0 ? predicted / measured - 1 : NAN; }

/* least: of less than that the error says nothing. */
static void print_one(const char *what, double scale, double predicted, double measured, double least)
{
	char error[24] = "-";

	if (measured > least)
		snprintf(error, sizeof(error), "%+.0f %%", round(100 * error_of(predicted, measured)) + 0.0);
	note("  %-22s %12.4g %12.4g %9s", what, scale * predicted, scale * measured, error);
}

/* What came true on the clock that the prediction was made for; exposed: beyond what computing takes. */
static double came_true(const struct run *run, const struct account *mean, bool exposed)
{
	if (run->virtual)
		return exposed ? mean->virtual.exposed : mean->virtual.step;
	return exposed ? mean->exposed : mean->wall;
}

/* Held against the steps behind a compressor's warm-up: the prediction knows no other. */
static void print_predicted(const struct run *run, const struct account *later)
{
	const struct prediction *p = &run->predicted;
	double step = came_true(run, later, false);
	char behind[60] = "";

	if (!p->made)
		return;
	if (later->steps == 0) {
		note("what was predicted at the start (which took %.1f s) has no step to be held against: warming up took %lld of %lld", p->took,
		     (long long)run->warm_steps, (long long)run->step);
		return;
	}
	if (run->warm_steps > 0)
		snprintf(behind, sizeof(behind), " and the steps behind a warm-up of %lld", (long long)run->warm_steps);
	note("what was predicted at the start (which took %.1f s)%s", p->took, behind);
	note("  %-22s %12s %12s %9s", "", "predicted", run->virtual ? "virtual" : "measured", "error");
	print_one("step, ms", 1e3, p->step, step, 0);
	print_one("exposed, ms", 1e3, p->exposed, came_true(run, later, true), 0.01 * step);
	print_one("sent a step, MB", 1e-6, p->bytes, later->bytes, 0);
}

static void predicted_json(const struct run *run, const struct account *later, struct json *j)
{
	const struct prediction *p = &run->predicted;

	if (!p->made)
		return;
	json_number(j, "predicted_step_ms", 1e3 * p->step);
	json_number(j, "prediction_error", later->steps > 0 ? error_of(p->step, came_true(run, later, false)) : NAN);
	json_number(j, "predicted_exposed_ms", 1e3 * p->exposed);
	json_number(j, "predicted_bytes_sent_per_step", p->bytes);
	json_number(j, "compress_ms", 1e3 * p->kernels);
	json_number(j, "fitted_latency_us", 1e6 * p->latency);
	json_number(j, "fitted_gbit_per_s", 8e-9 / p->per_byte);
	json_number(j, "fit_error", p->fit_error);
	json_number(j, "prediction_s", p->took);
}

static void virtual_json(const struct run *run, const struct account *all, const struct account *mean, struct json *j)
{
	double seconds = virtual_seconds(run, all);

	json_number(j, "virtual_s", run->virtual ? seconds : NAN);
	if (!run->virtual)
		return;
	json_number(j, "virtual_step_ms", 1e3 * seconds / account_steps(run, all));
	json_number(j, "virtual_compute_ms", 1e3 * mean->virtual.computing);
	json_number(j, "virtual_comm_ms", 1e3 * mean->virtual.comm);
	json_number(j, "virtual_exposed_ms", 1e3 * mean->virtual.exposed);
	json_number(j, "virtual_hidden_fraction", hidden(mean->virtual.comm, mean->virtual.exposed));
	json_number(j, "virtual_images_per_s", (double)run->samples / seconds);
}

static void write_summary(struct run *run, const struct account *all, const struct account *mean, const struct account *later,
                          double memory_mb, const char *sha)
{
	FILE *f = rundir_file(&run->dir, "summary.json");
	struct json j;
	char *list = run_batch_list(run);
	struct ps_record served = total_served(run, all);

	json_begin(&j, f);
	json_string(&j, "algorithm", run->sync.ops->name);
	json_string(&j, "compress", run->sync.compress.name);
	json_string(&j, "model", run->net.name);
	json_string(&j, "dataset", run->data.def->name);
	json_string(&j, "device", run->device->ops->name);
	json_integer(&j, "world_size", run->world.size);
	json_integer(&j, "workers", run->workers);
	json_integer(&j, "servers", run->servers);
	json_string(&j, "topology", config_string(run->config, "topology.kind"));
	json_integer(&j, "batch_total", run->batch_total);
	json_string(&j, "batch", list);
	json_number(&j, "steps", account_steps(run, all));
	json_integer(&j, "samples", run->samples);
	json_number(&j, "epochs", run_epochs(run, run->samples));
	json_integer(&j, "parameters", run->net.param_count);
	json_number(&j, "final_train_loss", run->train_loss);
	json_number(&j, "final_test_loss", run->test_loss);
	json_number(&j, "final_test_accuracy", run->test_accuracy);
	json_number(&j, "best_test_accuracy", run->best_accuracy);
	json_number(&j, "images_per_s", images_per_s(run, all));
	json_number(&j, "bytes_sent_per_step", mean->bytes);
	if (run->servers)
		json_number(&j, "server_bytes_sent_per_step", server_bytes(run, all));
	served_json(&served, count_read(run, all), &j);
	if (run->sleep)
		json_string(&j, "computing", "asleep");
	json_number(&j, "step_ms", 1e3 * mean->wall);
	json_number(&j, "compute_ms", 1e3 * mean->computing);
	json_number(&j, "comm_ms", 1e3 * mean->comm);
	json_number(&j, "exposed_ms", 1e3 * mean->exposed);
	json_number(&j, "data_ms", 1e3 * mean->data);
	json_number(&j, "hidden_fraction", hidden(mean->comm, mean->exposed));
	json_number(&j, "compute_dilation", mean->dilation);
	predicted_json(run, later, &j);
	json_number(&j, "wall_s", clock_now() - run->started);
	virtual_json(run, all, mean, &j);
	json_number(&j, "peak_memory_mb", memory_mb);
	json_string(&j, "params_sha256", sha);
	json_string(&j, "version", COCOD_VERSION);
	json_end(&j);
	rundir_flush(f, "summary.json");
	fclose(f);
	free(list);
}

void report_end(struct run *run)
{
	struct account mine = account_since(run, &(struct mark){ 0 }), later, mean, mean_later, *all;
	double memory_mb = 0;
	char sha[65] = "", learnt[40] = "asleep, nothing was learnt";

	if (run->step <= run->warm_steps)
		run->warmed.step = run->step;           /* it ended in its warm-up */
	later = account_since(run, &run->warmed);
	if (!run_serves(run))
		run_fingerprint(run, sha);
	if (run->servers && !run_serves(run))
		ps_end(run->comm);
	all = xcalloc((size_t)run->world.size, sizeof(*all));
	comm_host_gather(run->control, &later, all, sizeof(later));
	mean_later = account_mean(run, all);
	comm_host_gather(run->control, &mine, all, sizeof(mine));
	mean = account_mean(run, all);
	for (int r = 0; r < run->workers; r++)
		memory_mb = fmax(memory_mb, all[r].memory_mb);
	if (run->world.rank == 0) {
		struct ps_record served = total_served(run, all);

		print_accounts(run, all, &mean);
		print_virtual(run, all);
		served_print(&served);
		print_predicted(run, &mean_later);
		write_summary(run, all, &mean, &mean_later, memory_mb, sha);
		if (!run->sleep)
			snprintf(learnt, sizeof(learnt), "test accuracy %.2f %%", 100 * run->test_accuracy);
		note("%.0f images/s, peak memory %.0f MB a rank, %s, parameters %.12s…", images_per_s(run, all), memory_mb, learnt, sha);
		note("results in %s", run->dir.path);
	}
	if (run_serves(run))
		fprintf(run->dir.log, "served %lld requests in %.3f s, %.3f s of them busy; sent %.3f MB, peak memory %.0f MB\n",
		        (long long)mine.served.requests, mine.wall, mine.comm, mine.bytes / 1e6, mine.memory_mb);
	else
		fprintf(run->dir.log, "step %.3f ms, computing %.3f, data %.3f, comm %.3f, exposed %.3f, peak memory %.0f MB\n",
		        1e3 * mine.wall, 1e3 * mine.computing, 1e3 * mine.data, 1e3 * mine.comm, 1e3 * mine.exposed, mine.memory_mb);
	rundir_flush(run->dir.log, "rank log");
	free(all);
}
