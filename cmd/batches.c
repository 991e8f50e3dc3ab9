/*
 * Who gets how many images of a step. A number or a list is as it is; "proportional" (Shen et al., IJCAI 2019: proportional sampling)
 * makes M_i proportional to the workers' speeds, so that all end a step together, and the average weighs them by M_i / sum M.
 *
 * Speeds are measured here, before anything of the run exists: a network of the mean batch on scratch memory, all ranks at the same
 * time (they may share a machine), the median of the passes of half a second. The speed with a small batch is not that with a large
 * one, so it is measured again with the first answer. What was decided replaces "proportional" in the config: the run directory's
 * config.cfg repeats the run.
 */
#include <stdlib.h>

#include "../core/apportion.h"
#include "../core/clock.h"
#include "../core/die.h"
#include "run.h"

/* ---- speeds ---- */

enum { WARM_UP = 3, PASSES = 3, PASSES_MOST = 1000, ROUNDS = 2 };       /* warm-up: a GPU records the second pass */
static const double MEASURE_SECONDS = 0.5;

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double time_of_pass(struct run *run, int64_t pass, struct slowdown *slowdown, struct net *net, struct stream *compute, int batch)
{
	double begin = clock_now();

	slowdown_begin(slowdown, pass, run->device, compute);
	net_pass(net, 1.0f / (float)batch);
	slowdown_end(slowdown, run->device, compute);
	run->device->ops->stream->sync(compute);
	return clock_now() - begin;
}

/* Images a second of this rank, forward and backward, while all ranks measure. -1: the model cannot be built. On the virtual clock all
 * workers are the same machine but for cluster.slowdown, and the speed is relative to the fastest. */
static int measure_speed(struct run *run, int batch, double *speed)
{
	const struct stream_ops *stream = run->device->ops->stream;
	size_t pixels = (size_t)batch * (size_t)run->data.h * (size_t)run->data.w * (size_t)run->data.c;
	struct slowdown none = { .factor = 1 };         /* a first pass takes its time anyway */
	double *seconds, began;
	struct stream *compute;
	struct net net = { 0 };
	int32_t *label;
	float *image;
	int passes = 0;

	if (run->virtual) {
		*speed = 1 / slowdown_mean(&run->slowdown);
		return 0;
	}
	if (run_build_net(run, &net, batch)) {
		net_free(&net);
		return -1;
	}
	compute = stream->open(run->device, STREAM_COMPUTE);
	net_bind(&net, run->device, compute, true);
	net_init_params(&net);
	net.graphs = config_bool(run->config, "device.graphs");
	image = xcalloc(pixels, sizeof(*image));
	label = xcalloc((size_t)batch, sizeof(*label));
	net_load(&net, image, label);
	for (int i = 0; i < WARM_UP; i++)
		time_of_pass(run, i, &none, &net, compute, batch);
	seconds = xcalloc(PASSES_MOST, sizeof(*seconds));
	comm_barrier(run->team);
	began = clock_now();
	while (passes < PASSES || (passes < PASSES_MOST && clock_now() - began < MEASURE_SECONDS)) {
		seconds[passes] = time_of_pass(run, passes, &run->slowdown, &net, compute, batch);
		passes++;
	}
	qsort(seconds, (size_t)passes, sizeof(*seconds), by_value);
	*speed = batch / seconds[passes / 2];
	free(seconds);
	free(label);
	free(image);
	net_free(&net);
	stream->close(compute);
	return 0;
}

/* ---- batches ---- */

static void divide(struct run *run, int64_t total)
{
	int64_t *share = xcalloc((size_t)run->workers, sizeof(*share));

	apportion(total, run->workers, run->speed, 1, share);
	for (int r = 0; r < run->workers; r++)
		run->batch[r] = (int)share[r];
	free(share);
}

static int given_speeds(struct run *run, int count)
{
	if (count != run->workers) {
		error("train.speeds (%s) lists %d speeds, but %d worker%s", config_origin(run->config, "train.speeds"), count, run->workers,
		      run->workers == 1 ? " trains" : "s train");
		return hint("give one for each worker, or none: then they are measured");
	}
	config_list(run->config, "train.speeds", run->speed, count);
	return 0;
}

static int proportional_batches(struct run *run)
{
	int n = run->workers, given = config_list(run->config, "train.speeds", NULL, 0);
	int mean = (int)config_int(run->config, "train.batch_mean");
	int64_t total = (int64_t)mean * n;

	if (!given && !run->calibrates && config_bool(run->config, "cluster.compute.sleep")) {
		error("train.batch = \"proportional\" (%s) measures how fast workers compute, but with cluster.compute.sleep = true (%s) they do not",
		      config_origin(run->config, "train.batch"), config_origin(run->config, "cluster.compute.sleep"));
		return hint("give train.speeds, or the batches as a list");
	}
	run->speed = xcalloc((size_t)n, sizeof(*run->speed));
	for (int r = 0; r < n; r++)
		run->batch[r] = mean;
	if (total > run->data.train.count)
		return 0;       /* the caller complains */
	if (given) {
		if (given_speeds(run, given))
			return -1;
		divide(run, total);
	}
	for (int i = 0; i < ROUNDS && !given && !run->formulas; i++) {
		double mine;

		if (measure_speed(run, run->batch[run->world.rank], &mine))
			return -1;
		comm_host_gather(run->team, &mine, run->speed, sizeof(mine));
		divide(run, total);
	}
	config_decide(run->config, "train.batch", run->batch, n);
	return 0;
}

static int listed_batches(struct run *run)
{
	int n = run->workers, count;
	double *list;

	if (config_is_text(run->config, "train.batch")) {
		error("train.batch (%s) is a list of strings", config_origin(run->config, "train.batch"));
		return hint("write train.batch = \"proportional\", or a list of numbers");
	}
	count = config_list(run->config, "train.batch", NULL, 0);
	if (config_type(run->config, "train.batch") == OPTION_LIST && count != n && !run->calibrates) {
		error("train.batch (%s) lists %d batch sizes, but %d worker%s", config_origin(run->config, "train.batch"), count, n,
		      n == 1 ? " trains" : "s train");
		return hint("give one number for all workers, or one for each");
	}
	list = xcalloc((size_t)count + 1, sizeof(*list));
	config_list(run->config, "train.batch", list, count);
	for (int r = 0; r < n; r++)
		run->batch[r] = (int)list[count == n ? r : 0];
	free(list);
	return 0;
}

static int read_slowdown(struct run *run)
{
	int count = run->calibrates ? 0 : config_list(run->config, "cluster.slowdown", NULL, 0);
	double *list = xcalloc((size_t)count + 1, sizeof(*list));

	config_list(run->config, "cluster.slowdown", list, count);
	run->slowdown = (struct slowdown){
		.factor = run->world.rank < count ? list[run->world.rank] : 1,
		.jitter = run->calibrates ? 0 : config_float(run->config, "cluster.jitter"),
		.seed = (uint64_t)config_int(run->config, "train.seed"),
		.rank = run->world.rank,
	};
	free(list);
	if (count <= run->workers)
		return 0;
	error("cluster.slowdown (%s) lists %d factors, but %d worker%s", config_origin(run->config, "cluster.slowdown"), count, run->workers,
	      run->workers == 1 ? " trains" : "s train");
	return hint("give at most one for each worker; those left out are 1");
}

int run_choose_batches(struct run *run)
{
	int64_t total = 0;

	run->batch = xcalloc((size_t)run->workers, sizeof(*run->batch));
	if (read_slowdown(run))
		return -1;
	if (config_type(run->config, "train.batch") == OPTION_STRING ? proportional_batches(run) : listed_batches(run))
		return -1;
	for (int r = 0; r < run->workers; r++)
		total += run->batch[r];
	run->batch_total = (int)total;
	if (total <= run->data.train.count && total <= INT32_MAX)
		return 0;
	error("one step of all workers takes %lld images, but %s has %lld", (long long)total, run->data.def->name, (long long)run->data.train.count);
	return hint("use a smaller train.batch or fewer workers");
}

char *run_batch_list(const struct run *run)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	CHECK(out);
	for (int r = 0; r < run->workers; r++)
		fprintf(out, "%s%d", r ? ", " : "[", run->batch[r]);
	fputc(']', out);
	fclose(out);
	return text;
}
