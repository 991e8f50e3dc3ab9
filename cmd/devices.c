/* Which device computes, with how many threads, and the communicators over which the ranks agree. */
#include <stdlib.h>
#include <string.h>

#include "../core/backend.h"
#include "../core/die.h"
#include "run.h"

static enum progress progress_of(const char *name)
{
	return !strcmp(name, "thread") ? PROGRESS_THREAD : !strcmp(name, "hook") ? PROGRESS_HOOK : PROGRESS_AUTO;
}

/* Cores of our mask over the ranks that share it: ranks x threads must never exceed the cores, that costs a factor of 6. */
static void choose_threads(struct run *run, struct device_config *c)
{
	struct world *w = &run->world;
	int fair = w->cores / w->sharing > 0 ? w->cores / w->sharing : 1, wish = (int)config_int(run->config, "device.threads");

	run->threads = run_serves(run) ? 1 : wish ? wish : fair;
	if (run->threads * w->sharing > w->cores && !config_bool(run->config, "cluster.compute.sleep"))
		warn("%d ranks x %d threads share %d cores: expect a slow-down of several times. device.threads = 0 chooses %d", w->sharing,
		     run->threads, w->cores, fair);
	c->threads = run->threads;
	c->spare_cores = w->cores - run->threads * w->sharing;
}

static struct device *open_named(const char *name, const struct device_config *c)
{
	const struct device_ops *ops = device_find(name);

	return ops ? ops->open(c) : NULL;
}

/* A server adds vectors as they come out of messages, and formulas compute none: no GPU for that. */
static const char *kind_of(const struct run *run)
{
	const char *kind = config_string(run->config, "device.kind");

	return (run_serves(run) || run->formulas) && strcmp(kind, "reference") ? "cpu" : kind;
}

/* "auto": a GPU if the machine looks as if it had one and it answers; otherwise the CPU, and why. NULL: error() said why not. */
static struct device *open_device(const char *kind, const struct device_config *c)
{
	struct device *dev;

	if (strcmp(kind, "auto"))
		return open_named(kind, c);
	if (backend_likely()) {
		dev = open_named("cuda", c);
		if (dev)
			return dev;
		fputs(errors_text(), stderr);
		warn("there seems to be a GPU, but the CPU will compute; device.kind = \"cpu\" says that this is meant");
		errors_clear();
	}
	return open_named("cpu", c);
}

static enum precision precision_of(const char *name)
{
	return !strcmp(name, "fp32") ? PRECISION_FP32 : !strcmp(name, "tf32") ? PRECISION_TF32 :
	       !strcmp(name, "bf16") ? PRECISION_BF16 : PRECISION_AUTO;
}

/* Returns an exit status. The device that computes, and the CPU device on which control messages live: GPUs' transports do not take host memory. */
static int open_devices(struct run *run, struct device_config *c)
{
	const struct config *config = run->config;
	struct device_config small = { .threads = 1, .progress = PROGRESS_THREAD, .conv = "auto" };
	const char *precision = config_string(config, "device.precision");

	c->conv = config_string(config, "device.conv");
	c->progress = progress_of(config_string(config, "comm.progress"));
	c->precision = precision_of(precision);
	c->deterministic = config_bool(config, "device.deterministic");
	c->index = (int)config_int(config, "device.index");
	c->local_rank = run->world.local_rank;
	if (!run->world.any_thread)
		c->progress = small.progress = PROGRESS_HOOK;
	if (run->world.size == 1)
		c->progress = small.progress = PROGRESS_HOOK;   /* nothing to overlap: no thread for it */
	run->device = open_device(kind_of(run), c);
	if (run->device) {
		run_open_clock(run);
		run_open_trace(run);
	}
	/* A device whose streams the host drives is a CPU. */
	run->host = run->device && run->device->ops->stream->progress ? run->device : open_named("cpu", &small);
	run->control = run->team = comm_open(&run->world, run->host);
	if (run->servers) {
		run->team = comm_open(&run->world, run->host);
		comm_narrow(run->team, run->workers);
	}
	if (!run->device)
		return STATUS_FAILURE;
	if (!run_serves(run) && !run->formulas && c->precision != PRECISION_AUTO && run->device->config.precision != c->precision) {
		error("device.precision = \"%s\" (%s): device \"%s\" computes in fp32 only", precision, config_origin(config, "device.precision"),
		      run->device->ops->name);
		hint("leave it out, or set device.kind = \"cuda\" on a machine with a GPU");
		return STATUS_CONFIG;
	}
	return 0;
}

/* Workers on different devices would round differently and wait for the slowest; nobody wants that by accident. */
static int check_same_device(struct run *run)
{
	struct kind { char name[32]; int precision; } mine = { "", (int)run->device->config.precision }, *all;
	int rc = 0;

	snprintf(mine.name, sizeof(mine.name), "%s", run->device->ops->name);
	all = xcalloc((size_t)run->world.size, sizeof(*all));
	comm_host_gather(run->control, &mine, all, sizeof(mine));
	for (int r = 1; r < run->workers && !rc; r++)
		if (strcmp(all[r].name, all[0].name)) {
			error("rank %d computes on \"%s\", rank 0 on \"%s\"", r, all[r].name, all[0].name);
			rc = hint("set device.kind = \"cpu\", or start workers only where a GPU answers");
		}
	free(all);
	return rc;
}

int run_open_devices(struct run *run)
{
	struct device_config device = { 0 };
	int status;

	choose_threads(run, &device);
	status = run_agree(run, open_devices(run, &device));
	return status ? status : run_agree(run, check_same_device(run) ? STATUS_CONFIG : 0);
}
