/* The run directory: see rundir.h. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/config.h"
#include "../core/die.h"
#include "rundir.h"

void rundir_path(struct rundir *d, const struct config *config, const char *time_stamp)
{
	const char *name = config_string(config, "output.name");
	size_t n = 0;

	for (const char *p = config_string(config, "output.dir"); *p && n + 1 < sizeof(d->path); p++) {
		const char *insert = *p != '%' ? NULL : p[1] == 'n' ? name : p[1] == 't' ? time_stamp : p[1] == '%' ? "%" : NULL;

		if (!insert) {
			d->path[n++] = *p;
			continue;
		}
		n += (size_t)snprintf(d->path + n, sizeof(d->path) - n, "%s", insert);
		if (n >= sizeof(d->path))
			n = sizeof(d->path) - 1;
		p++;
	}
	d->path[n] = 0;
}

/* mkdir -p */
static int make_path(const char *path)
{
	char part[1024];

	for (const char *p = path; *p; p++) {
		if (p[1] && !(p[1] == '/' && p > path))
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)(p + 1 - path), path);
		if (mkdir(part, 0777) && errno != EEXIST)
			return -1;
	}
	return 0;
}

FILE *rundir_file(const struct rundir *d, const char *name)
{
	char path[1200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", d->path, name);
	f = fopen(path, "w");
	if (!f)
		die(STATUS_FAILURE, "cannot write %s: %s", path, strerror(errno));
	return f;
}

/* An earlier run's, of all its ranks: this one may decide nothing, or have fewer. */
static void remove_decisions(const struct rundir *d)
{
	char path[1300];
	DIR *folder = opendir(d->path);

	for (struct dirent *e; folder && (e = readdir(folder));) {
		const char *number = e->d_name + strlen("decisions");

		if (strncmp(e->d_name, "decisions", strlen("decisions")))
			continue;
		if (*number == '-')
			number += 1 + strspn(number + 1, "0123456789");
		if (strcmp(number, ".csv"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", d->path, e->d_name);
		unlink(path);
	}
	if (folder)
		closedir(folder);
}

void rundir_write_config(struct rundir *d, const struct config *config)
{
	FILE *f = rundir_file(d, "config.cfg");

	config_print(config, f);
	rundir_flush(f, "config.cfg");
	fclose(f);
}

int rundir_create(struct rundir *d, const struct config *config)
{
	char used[1200];
	FILE *f;

	snprintf(used, sizeof(used), "%s/config.cfg", d->path);
	if (!access(used, F_OK) && !config_bool(config, "output.overwrite")) {
		error("output.dir: %s holds an earlier run", d->path);
		hint("choose another output.dir or output.name, or set output.overwrite = true to write over it");
		return STATUS_CONFIG;
	}
	if (make_path(d->path)) {
		error("output.dir: cannot make %s: %s", d->path, strerror(errno));
		hint("set output.dir to a folder that this user may write to");
		return STATUS_FAILURE;
	}
	f = fopen(used, "w");
	if (!f) {
		error("output.dir: cannot write %s: %s", used, strerror(errno));
		hint("set output.dir to a folder that this user may write to");
		return STATUS_FAILURE;
	}
	fclose(f);
	remove_decisions(d);
	rundir_write_config(d, config);
	d->metrics = rundir_file(d, "metrics.csv");
	fprintf(d->metrics, "step,epoch,loss,accuracy,lr,images_per_s,compute_ms,comm_ms,exposed_ms,bytes_sent,wall_s,virtual_s\n");
	rundir_flush(d->metrics, "metrics.csv");
	d->eval = rundir_file(d, "eval.csv");
	fprintf(d->eval, "epoch,step,test_loss,test_accuracy,wall_s,virtual_s\n");
	rundir_flush(d->eval, "eval.csv");
	return 0;
}

int rundir_open_log(struct rundir *d, int rank)
{
	char path[1200];

	snprintf(path, sizeof(path), "%s/rank-%03d.log", d->path, rank);
	d->log = fopen(path, "w");
	if (!d->log && make_path(d->path) == 0)         /* a host that does not share rank 0's disk keeps its log in its own */
		d->log = fopen(path, "w");
	if (d->log)
		return 0;
	error("output.dir: cannot write %s: %s", path, strerror(errno));
	return STATUS_FAILURE;
}

void rundir_decision(struct rundir *d, int rank, int64_t step, const char *what, int64_t value, const char *why)
{
	char name[40] = "decisions.csv";

	if (!d->decisions) {
		if (rank)
			snprintf(name, sizeof(name), "decisions-%03d.csv", rank);
		d->decisions = rundir_file(d, name);
		fprintf(d->decisions, "step,what,value,why\n");
	}
	fprintf(d->decisions, "%lld,%s,%lld,%s\n", (long long)step, what, (long long)value, why);
}

void rundir_flush_decisions(struct rundir *d)
{
	if (d->decisions)
		rundir_flush(d->decisions, "decisions.csv");
}

void rundir_virtual(FILE *f, double seconds)
{
	if (isfinite(seconds))
		fprintf(f, "%.9g", seconds);
	fprintf(f, "\n");
}

void rundir_flush(FILE *f, const char *what)
{
	if (fflush(f) || ferror(f))
		die(STATUS_FAILURE, "cannot write %s: %s", what, strerror(errno));
}

void rundir_close(struct rundir *d)
{
	if (d->metrics)
		fclose(d->metrics);
	if (d->eval)
		fclose(d->eval);
	if (d->events)
		fclose(d->events);
	if (d->log)
		fclose(d->log);
	rundir_flush_decisions(d);
	if (d->decisions)
		fclose(d->decisions);
}
