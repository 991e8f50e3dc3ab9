/*
 * cocod-train: trains an image network on many workers.
 *
 *     mpirun -np 16 cocod-train run.cfg
 *
 * main() is the order of things: command line and config are read by every process before MPI starts, so that a mistake costs
 * nothing and is printed once; then the world, the model, the memory, the run. Exit status: die.h.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "calibrate.h"
#include "options.h"
#include "run.h"
#include "schema.h"
#include "tensorboard.h"

/* Mistakes that every process sees alike: one of them speaks. */
static int refuse(const struct launch *launch)
{
	if (launch->rank == 0)
		fputs(errors_text(), stderr);
	return STATUS_CONFIG;
}

/* Where cluster.preset looks: $COCOD_CLUSTERS, the source tree if we stand in it, else where make install put them. */
static const char *preset_dir(void)
{
	const char *dir = getenv("COCOD_CLUSTERS"), *tree = "scripts/clusters";

	return dir ? dir : !access(tree, R_OK) ? tree : COCOD_SHARE "/clusters";
}

/* What needs no config; one of many processes speaks. */
static int inform(enum action action, const struct launch *launch)
{
	if (launch->rank != 0)
		return STATUS_DONE;
	if (action == ACTION_HELP)
		options_help(stdout);
	else if (action == ACTION_VERSION)
		version_print(stdout);
	else
		list_print(stdout);
	return STATUS_DONE;
}

/* The time in output.dir is rank 0's. */
static void open_path(struct run *run)
{
	char mine[32], *all = xcalloc((size_t)run->world.size, sizeof(mine));
	time_t now = time(NULL);
	struct tm local;

	memset(mine, 0, sizeof(mine));
	strftime(mine, sizeof(mine), "%Y%m%d-%H%M%S", localtime_r(&now, &local));
	comm_host_gather(run->control, mine, all, sizeof(mine));
	rundir_path(&run->dir, run->config, all);
	free(all);
}

static int open_directory(struct run *run)
{
	int status;

	open_path(run);
	status = run_agree(run, run->world.rank == 0 ? rundir_create(&run->dir, run->config) : 0);
	if (!status)
		status = run_agree(run, rundir_open_log(&run->dir, run->world.rank));
	if (!status && run->world.rank == 0 && config_bool(run->config, "output.tensorboard"))
		run->dir.events = tensorboard_open(&run->dir, run->world.host);
	return status;
}

/* Sizes are enough where formulas are. */
static int predict(struct run *run)
{
	int status = 0;

	if (run->formulas)
		run_find_times(run);
	else
		status = run_bind(run);
	if (status)
		return status;
	if (run_serves(run))
		return run_serve(run);
	status = report_scaling(run);
	if (run->servers)
		ps_end(run->comm);
	return status;
}

static int run_config(struct config *config, const struct options *options, double started)
{
	bool question = options->action == ACTION_PREDICT;
	struct run run = {
		.started = started, .dry = options->action != ACTION_TRAIN, .calibrates = options->action == ACTION_CALIBRATE,
		.question = question ? &options->question : NULL,
	};
	int status;

	if (question && options->question.csv)
		note_aside();
	status = run_open_world(&run, config);
	if (!status)
		status = run_open_model(&run);
	if (question) {
		status = status ? status : predict(&run);
		run_close(&run);
		return status;
	}
	if (!status && !run.dry)
		status = open_directory(&run);
	if (!status)
		status = run_bind(&run);
	if (!status && run.calibrates) {
		status = run_calibrate(&run, options->profile);
	} else if (!status) {
		report_start(&run);
		if (!run.dry)
			report_predict(&run);
		if (run_serves(&run))
			status = run_serve(&run);
		else if (run.dry)
			report_dry_run(&run);
		else
			status = run_train(&run);
		if (!run.dry)
			report_end(&run);
		run_write_trace(&run);
	}
	run_close(&run);
	return status;
}

/* What needs one. */
static int act(const struct options *options, const struct launch *launch, double started)
{
	struct config *config = config_load(schema_all(), options->path, options->set, options->sets, preset_dir());
	int status = STATUS_DONE;

	if (!config)
		return refuse(launch);
	if (options->action != ACTION_PRINT_CONFIG)
		status = run_config(config, options, started);
	else if (launch->rank == 0)
		config_print(config, stdout);
	config_free(config);
	return status;
}

int main(int argc, char **argv)
{
	double started = clock_now();
	struct launch launch = launch_detect();
	struct options options;
	int status;

	die_identity(launch.rank, launch.size, "", NULL);
	if (options_parse(&options, argc, argv))
		return refuse(&launch);
	status = options.path ? act(&options, &launch, started) : inform(options.action, &launch);
	options_release(&options);
	return status;
}
