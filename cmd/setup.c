/*
 * Opening and closing a run. A mistake that only one rank can see (a file missing on one host) must end all ranks with one
 * message, so every phase ends in run_agree().
 */
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/optimizer_list.h"
#include "../core/sha256.h"
#include "run.h"

int run_agree(struct run *run, int status)
{
	double worst[2] = { status, status ? -run->world.rank : -run->world.size };     /* -lowest failing rank */

	comm_host_reduce(run->control, worst, 2, REDUCE_MAX);
	if (worst[0] != 0 && -worst[1] == run->world.rank) {
		if (run->world.size > 1)
			fprintf(stderr, "rank %d (%s): ", run->world.rank, run->world.host);
		fputs(errors_text(), stderr);
	}
	errors_clear();
	return (int)worst[0];
}

/* device.kind = "auto" is the first in the list of linked devices. */
static const struct device_ops *choose_device(const char *kind)
{
	return !strcmp(kind, "auto") ? device_list[0] : device_find(kind);
}

static enum progress progress_of(const char *name)
{
	return !strcmp(name, "thread") ? PROGRESS_THREAD : !strcmp(name, "hook") ? PROGRESS_HOOK : PROGRESS_AUTO;
}

/* Cores of our mask over the ranks that share it: ranks x threads must never exceed the cores, that costs a factor of 6. */
static void choose_threads(struct run *run, struct device_config *c)
{
	struct world *w = &run->world;
	int fair = w->cores / w->sharing > 0 ? w->cores / w->sharing : 1, wish = (int)config_int(run->config, "device.threads");

	run->threads = wish ? wish : fair;
	if (run->threads * w->sharing > w->cores)
		warn("%d ranks x %d threads share %d cores: expect a slow-down of several times. device.threads = 0 chooses %d", w->sharing,
		     run->threads, w->cores, fair);
	c->threads = run->threads;
	c->spare_cores = w->cores - run->threads * w->sharing;
}

int run_open_world(struct run *run, const struct config *config)
{
	struct device_config device = { 0 };
	const struct device_ops *ops;

	run->config = config;
	if (world_open(&run->world, config_string(config, "comm.transport"))) {
		if (launch_detect().rank == 0)
			fputs(errors_text(), stderr);
		return STATUS_COMM;
	}
	if (config_has(config, "world_size") && config_int(config, "world_size") != run->world.size) {
		error("world_size = %lld (%s), but %d process%s started", (long long)config_int(config, "world_size"),
		      config_origin(config, "world_size"), run->world.size, run->world.size == 1 ? " was" : "es were");
		hint("start with mpirun -np %lld, or leave world_size out", (long long)config_int(config, "world_size"));
		if (run->world.rank == 0)
			fputs(errors_text(), stderr);
		return STATUS_CONFIG;
	}
	choose_threads(run, &device);
	device.conv = config_string(config, "device.conv");
	device.progress = progress_of(config_string(config, "comm.progress"));
	if (!run->world.any_thread)
		device.progress = PROGRESS_HOOK;
	if (run->world.size == 1)
		device.progress = PROGRESS_HOOK;        /* nothing to overlap: no thread for it */
	ops = choose_device(config_string(config, "device.kind"));
	CHECK(ops);
	run->device = ops->open(&device);
	run->control = comm_open(&run->world, run->device);
	return run_agree(run, 0);
}

static int choose_batches(struct run *run)
{
	int n = run->world.size;
	double *list = xcalloc((size_t)n + 1, sizeof(double));
	int count = config_list(run->config, "train.batch", list, n + 1), rc = 0;

	run->batch = xcalloc((size_t)n, sizeof(int));
	if (config_type(run->config, "train.batch") == OPTION_LIST && count != n) {
		error("train.batch (%s) lists %d batch sizes, but %d worker%s", config_origin(run->config, "train.batch"), count, n,
		      n == 1 ? " trains" : "s train");
		rc = hint("give one number for all workers, or one for each");
	}
	for (int r = 0; r < n && !rc; r++) {
		run->batch[r] = (int)list[count == n ? r : 0];
		run->batch_total += run->batch[r];
	}
	if (!rc && run->batch_total > run->data.train.count) {
		error("one step of all workers takes %d images, but %s has %lld", run->batch_total, run->data.def->name,
		      (long long)run->data.train.count);
		rc = hint("use a smaller train.batch or fewer workers");
	}
	free(list);
	return rc;
}

static int plan_steps(struct run *run)
{
	int64_t most = config_int(run->config, "train.max_steps");

	run->epochs = config_float(run->config, "train.epochs");
	run->steps_per_epoch = run->data.train.count / run->batch_total;
	run->steps = (int64_t)(run->epochs * (double)run->steps_per_epoch + 0.5);
	if (most > 0 && most < run->steps)
		run->steps = most;
	if (run->steps < 1)
		return error("train.epochs = %g of %lld steps is less than one step", run->epochs, (long long)run->steps_per_epoch);
	return lr_init(&run->lr, run->config, run->epochs);
}

static int build_net(struct run *run)
{
	const char *name = config_string(run->config, "model.name");
	const struct model_def *model = model_find(name);
	struct model_input input = { run->batch[run->world.rank], run->data.h, run->data.w, run->data.c, run->data.classes };

	CHECK(model);
	net_init(&run->net, name, (uint64_t)config_int(run->config, "train.seed"));
	if (model->build(&run->net, &input, run->config) < 0)
		return -1;
	return net_finish(&run->net);
}

int run_open_model(struct run *run)
{
	int status = run_agree(run, dataset_open(&run->data, run->config) ? STATUS_DATA : 0);

	if (status)
		return status;
	if (choose_batches(run) || plan_steps(run) || build_net(run))
		return run_agree(run, STATUS_CONFIG);
	optimizer_init(&run->optimizer, optimizer_find(config_string(run->config, "optimizer.name")), run->config);
	return run_agree(run, sync_init(&run->sync, run->config, run->net.tensor, run->net.tensors, run->net.n) ? STATUS_CONFIG : 0);
}

static void open_loaders(struct run *run)
{
	struct loader_config c = {
		.seed = (uint64_t)config_int(run->config, "train.seed"),
		.train = true,
		.augment = config_bool(run->config, "data.augment"),
		.workers = run->world.size,
		.worker = run->world.rank,
		.batch = run->batch,
		.prefetch = (int)config_int(run->config, "data.prefetch"),
		.cyclic = true,
	};

	run->train = loader_open(&run->data, &run->data.train, &c);
	c.train = c.augment = c.cyclic = false;
	run->test = loader_open(&run->data, &run->data.test, &c);
	CHECK(loader_steps(run->train) == run->steps_per_epoch);
}

/* DiLoCo's authors are not the only ones whose workers once started from different weights. */
static void check_same_start(struct run *run)
{
	char hex[65], *all = xcalloc((size_t)run->world.size, sizeof(hex));
	float *x = run->device->ops->mem->alloc_host(run->device, (size_t)run->net.n * sizeof(float));
	struct sha256 hash;

	run->device->ops->mem->copy(run->compute, x, run->net.x, (size_t)run->net.n * sizeof(float), COPY_TO_HOST);
	run->device->ops->stream->sync(run->compute);
	sha256_init(&hash);
	sha256_add(&hash, x, (size_t)run->net.n * sizeof(float));
	sha256_end(&hash, hex);
	comm_host_gather(run->control, hex, all, sizeof(hex));
	for (int r = 1; r < run->world.size; r++)
		if (strcmp(all, all + (size_t)r * sizeof(hex)))
			die(STATUS_FAILURE, "rank %d starts from other weights than rank 0: different programs or configs on the hosts?", r);
	run->device->ops->mem->free_host(run->device, x);
	free(all);
}

void run_bind(struct run *run)
{
	const struct device_ops *dev = run->device->ops;

	run->compute = dev->stream->open(run->device, STREAM_COMPUTE);
	run->comm = comm_open(&run->world, run->device);
	run->comm->delay = config_float(run->config, "comm.delay_ms") * 1e-3;
	net_bind(&run->net, run->device, run->compute, true);
	net_init_params(&run->net);
	check_same_start(run);
	optimizer_bind(&run->optimizer, run->device, run->net.n);
	sync_bind(&run->sync, run->comm, run->compute, &run->optimizer, run->net.x, run->net.g, run->batch);
	run->mean_x = dev->mem->alloc(run->device, (size_t)run->net.n * sizeof(float));
	run->mean_buffer = dev->mem->alloc(run->device, (size_t)(run->net.buffer_n + 1) * sizeof(float));
	comm_reserve(run->comm, ring_work(run->net.buffer_n, run->world.size, DTYPE_F32));
	open_loaders(run);
}

void run_close(struct run *run)
{
	rundir_close(&run->dir);
	if (run->train)
		loader_close(run->train);
	if (run->test)
		loader_close(run->test);
	if (run->comm) {
		run->device->ops->stream->sync(run->comm->stream);      /* an exchange may still be in flight */
		run->device->ops->mem->free(run->device, run->mean_x);
		run->device->ops->mem->free(run->device, run->mean_buffer);
	}
	sync_release(&run->sync);
	optimizer_release(&run->optimizer);
	net_free(&run->net);
	if (run->comm)
		comm_close(run->comm);
	dataset_close(&run->data);
	free(run->batch);
	if (run->compute)
		run->device->ops->stream->close(run->compute);
	if (run->control)
		comm_close(run->control);
	if (run->device)
		run->device->ops->close(run->device);
	world_close(&run->world);
}
