/*
 * Opening and closing a run. A mistake that only one rank can see (a file missing on one host) must end all ranks with one
 * message, so every phase ends in run_agree().
 */
#include <stdlib.h>
#include <string.h>

#include "../core/die.h"
#include "../core/optimizer_list.h"
#include "../core/net_sleep.h"
#include "../core/net_times.h"
#include "../core/sha256.h"
#include "../core/timeline.h"
#include "../data/augment.h"
#include "calibrate.h"

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

/* A mistake that all ranks see alike. */
static int check_world_size(const struct run *run)
{
	const struct config *c = run->config;
	int size = run->world.size;
	long long wanted;

	if (run->calibrates && size > 1) {
		error("--calibrate measures one process that has a machine for itself, but %d were started", size);
		return hint("start it without mpirun");
	}
	if (run->calibrates || run->question || !config_has(c, "world_size") || config_int(c, "world_size") == size)
		return 0;
	wanted = config_int(c, "world_size");
	error("world_size = %lld (%s), but %d process%s started", wanted, config_origin(c, "world_size"), size, size == 1 ? " was" : "es were");
	if (!strcmp(config_string(c, "topology.kind"), "ps"))
		return hint("start with mpirun -np %lld, or leave world_size out: it counts workers and servers", wanted);
	return hint("start with mpirun -np %lld, or leave world_size out", wanted);
}

/* topology.servers of the ranks serve. A mistake that all ranks see alike. One process may ask what many would do: a worker whose
 * servers are in the prediction only; and where only formulas are asked, nobody serves. */
static int choose_servers(struct run *run)
{
	int size = run->world.size;

	if (!strcmp(config_string(run->config, "topology.kind"), "ps") && !(run->dry && size == 1) && !run->formulas)
		run->servers = (int)config_int(run->config, "topology.servers");
	run->workers = size - run->servers;
	if (run->workers > 0)
		return 0;
	error("topology.servers = %d (%s) of %d rank%s: no worker is left", run->servers, config_origin(run->config, "topology.servers"), size,
	      size == 1 ? "" : "s");
	return hint("start one rank more for each server: mpirun -np %d gives one worker", run->servers + 1);
}

int run_open_world(struct run *run, struct config *config)
{
	run->config = config;
	run->formulas = run->question && (pace_given(run) || config_has(config, "cluster.compute.profile"));
	if (world_open(&run->world, config_string(config, "comm.transport"))) {
		if (launch_detect().rank == 0)
			fputs(errors_text(), stderr);
		return STATUS_COMM;
	}
	if (check_world_size(run) || choose_servers(run) || run_check_clock(run) || run_check_trace(run) || pace_check(config)) {
		if (run->world.rank == 0)
			fputs(errors_text(), stderr);
		return STATUS_CONFIG;
	}
	return run_open_devices(run);
}

/* Drawn by every rank for itself, with its own C library's logarithms: let no image get lost between two of them. */
static void open_partition(struct run *run)
{
	struct partition_rule rule = partition_rule(run->config, (uint64_t)config_int(run->config, "train.seed"));
	char hex[65], *all = xcalloc((size_t)run->workers, sizeof(hex));
	struct sha256 hash;

	partition_open(&run->partition, &rule, &run->data.train, run->data.classes, run->workers, run->batch);
	sha256_init(&hash);
	if (run->partition.sample)
		sha256_add(&hash, run->partition.sample, (size_t)run->data.train.count * sizeof(*run->partition.sample));
	sha256_end(&hash, hex);
	comm_host_gather(run->team, hex, all, sizeof(hex));
	for (int r = 1; r < run->workers; r++)
		if (strcmp(all, all + (size_t)r * sizeof(hex)))
			die(STATUS_FAILURE, "rank %d divides the training images otherwise than rank 0: other data or another C library there?", r);
	free(all);
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

int run_build_net(struct run *run, struct net *net, int batch)
{
	const char *name = config_string(run->config, "model.name");
	const struct model_def *model = model_find(name);
	struct model_input input = { batch, run->data.h, run->data.w, run->data.c, run->data.classes };

	CHECK(model);
	net_init(net, name, (uint64_t)config_int(run->config, "train.seed"));
	if (model->build(net, &input, run->config) < 0)
		return -1;
	return net_finish(net);
}

/* A server has neither data nor network: it only agrees. */
int run_open_model(struct run *run)
{
	int status, (*open)(struct dataset *, const struct config *) = run->formulas ? dataset_size : dataset_open;

	status = run_agree(run, !run_serves(run) && open(&run->data, run->config) ? STATUS_DATA : 0);
	if (status)
		return status;
	if (run_serves(run))
		return run_agree(run, 0);
	if (run_choose_batches(run) || plan_steps(run) || run_build_net(run, &run->net, run->batch[run->world.rank]))
		return run_agree(run, STATUS_CONFIG);
	if (!run->formulas)
		open_partition(run);
	optimizer_init(&run->optimizer, optimizer_find(config_string(run->config, "optimizer.name")), run->config);
	if (sync_init(&run->sync, run->config, run->net.tensor, run->net.tensors, run->net.n) || run_check_link(run) ||
	    run_check_clocked_sync(run) || run_read_times(run) || (!run->question && compress_check(&run->sync.compress, run->config, run->workers)))
		status = STATUS_CONFIG;
	run->sync.compress.seats = run_seats(run);
	status = run_agree(run, status);
	if (!status && run->workers > 1) {
		run->warm_steps = sync_warm_steps(&run->sync, run->steps_per_epoch);
		if (!run->question)
			sync_foresee(&run->sync, &run->lr, run->steps_per_epoch, run->steps);
	}
	return status;
}

enum { RESIDENT_MOST = 1 << 30 };       /* bytes of images that a GPU keeps; larger sets come batch by batch */

/* Where the device can augment by itself, the whole data set goes there once, as bytes: a step then sends a few numbers a sample. */
static void make_resident(struct run *run)
{
	const struct mem_ops *mem = run->device->ops->mem;
	const struct dataset *d = &run->data;
	size_t bytes = (size_t)(d->train.count + d->test.count) * (size_t)(d->h * d->w * d->c), table = (size_t)d->c * 256 * sizeof(float);
	float *host;
	void *image, *device_table;

	if (!run->device->ops->nn->augment || bytes > RESIDENT_MOST)
		return;
	image = mem->alloc(run->device, bytes);
	device_table = mem->alloc(run->device, table);
	host = xaligned(table);
	augment_table(d, host);
	mem->copy(run->compute, image, d->train.image, bytes, COPY_TO_DEVICE);
	mem->copy(run->compute, device_table, host, table, COPY_TO_DEVICE);
	run->device->ops->stream->sync(run->compute);
	free(host);
	run->images = (struct images){ image, device_table, d->pad };
}

static void open_loaders(struct run *run)
{
	struct loader_config c = {
		.seed = (uint64_t)config_int(run->config, "train.seed"),
		.train = true,
		.augment = config_bool(run->config, "data.augment"),
		.workers = run->workers,
		.worker = run->world.rank,
		.batch = run->batch,
		.partition = &run->partition,
		.prefetch = (int)config_int(run->config, "data.prefetch"),
		.cyclic = true,
		.draws = run->images.image != NULL,
	};

	run->train = loader_open(&run->data, &run->data.train, &c);
	c.train = c.augment = c.cyclic = false;
	run->test = loader_open(&run->data, &run->data.test, &c);
	CHECK(loader_steps(run->train) == run->steps_per_epoch);
}

/* DiLoCo's authors are not the only ones whose workers once started from different weights. */
static void check_same_start(struct run *run)
{
	char hex[65], *all = xcalloc((size_t)run->workers, sizeof(hex));
	float *x = run->device->ops->mem->alloc_host(run->device, (size_t)run->net.n * sizeof(float));
	struct sha256 hash;

	run->device->ops->mem->copy(run->compute, x, run->net.x, (size_t)run->net.n * sizeof(float), COPY_TO_HOST);
	run->device->ops->stream->sync(run->compute);
	sha256_init(&hash);
	sha256_add(&hash, x, (size_t)run->net.n * sizeof(float));
	sha256_end(&hash, hex);
	comm_host_gather(run->team, hex, all, sizeof(hex));
	for (int r = 1; r < run->workers; r++)
		if (strcmp(all, all + (size_t)r * sizeof(hex)))
			die(STATUS_FAILURE, "rank %d starts from other weights than rank 0: different programs or configs on the hosts?", r);
	run->device->ops->mem->free_host(run->device, x);
	free(all);
}

static void log_decision(void *context, int64_t t, const char *what, int64_t value, const char *why)
{
	struct run *run = context;

	rundir_decision(&run->dir, run->world.rank, t, what, value, why);
}

int run_bind(struct run *run)
{
	const struct device_ops *dev = run->device->ops;
	struct comm_config comm = comm_config(run->config);
	const struct comm_ops *transport = (run->servers ? comm_choose_served : comm_choose)(
		run_transport(run), &run->world, run->device, run->control, run->comm_why, sizeof(run->comm_why));
	int status = run_agree(run, transport ? 0 : STATUS_CONFIG);

	if (status)
		return status;
	if (strcmp(run_transport(run), config_string(run->config, "comm.transport")))
		snprintf(run->comm_why, sizeof(run->comm_why), "modelled times are told by messages between hosts' memories");
	run->compute = dev->stream->open(run->device, STREAM_COMPUTE);
	run->comm = comm_open_over(transport, &run->world, run->device, run->control, &comm);
	run->comm->delay = config_float(run->config, "comm.delay_ms") * 1e-3;
	if (run->servers)
		ps_open(run->comm, run->servers);
	run_plan_allreduce(run);
	run_open_wire(run);
	if (run_serves(run))
		return 0;
	net_bind(&run->net, run->device, run->compute, true);
	net_init_params(&run->net);
	check_same_start(run);
	optimizer_bind(&run->optimizer, run->device, run->net.n);
	run_find_times(run);
	status = run_find_facts(run);
	if (status)
		return status;
	run->sync.log = log_decision;
	run->sync.log_context = run;
	sync_bind(&run->sync, run->comm, run->compute, &run->optimizer, run->net.x, run->net.g, run->batch);
	run->mean_x = dev->mem->alloc(run->device, (size_t)run->net.n * sizeof(float));
	run->mean_buffer = dev->mem->alloc(run->device, (size_t)(run->net.buffer_n + 1) * sizeof(float));
	comm_expect_allreduce(run->comm, run->net.buffer_n, DTYPE_F32);
	if (dev->nn->prepare)           /* evaluation reads parameters from there */
		dev->nn->prepare(run->compute, run->net.n, run->mean_x);
	make_resident(run);
	open_loaders(run);
	return 0;
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
		run->device->ops->mem->free(run->device, (void *)run->images.image);
		run->device->ops->mem->free(run->device, (void *)run->images.table);
	}
	sync_release(&run->sync);
	optimizer_release(&run->optimizer);
	net_free(&run->net);
	net_times_free(run->times);
	net_sleep_close(run->sleep);
	if (run->comm)
		comm_close(run->comm);
	partition_close(&run->partition);
	dataset_close(&run->data);
	free(run->batch);
	free(run->speed);
	if (run->compute)
		run->device->ops->stream->close(run->compute);
	if (run->team != run->control)
		comm_close(run->team);
	if (run->control)
		comm_close(run->control);
	if (run->host && run->host != run->device)
		run->host->ops->close(run->host);
	if (run->device) {
		timeline_close(run->device);
		run->device->ops->close(run->device);
	}
	world_close(&run->world);
}
