/*
 * All-reduce: our ring beside MPI_Allreduce and, if the transport has one, its own, in turn in one run: milliseconds (median,
 * slowest rank) for a model's vector and smaller ones.
 *
 *     mpirun -np 2 build/…/test/bench_allreduce [repetitions [device [transport]]]
 *
 * MPI_Allreduce is always on host memory. On "cuda" the ring's messages go through it, too, unless the transport is nccl.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../comm/topology/topology.h"
#include "../core/clock.h"
#include "../core/die.h"

enum { WAYS = 3, LONGEST = 11173962 };

static const char *const way_name[WAYS] = { "own ring", "MPI_Allreduce", "the transport's" };
static struct comm *comm, *control;

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 2];
}

static void allreduce(int way, float *v, float *host, int64_t n)
{
	if (way == 0)
		ring_allreduce(comm, v, n, DTYPE_F32, REDUCE_SUM);
	else if (way == 1)
		MPI_Allreduce(MPI_IN_PLACE, host, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
	else
		comm_allreduce(comm, v, n, DTYPE_F32, REDUCE_SUM);
	comm->device->ops->stream->sync(comm->stream);
}

/* All vectors are zero, and stay it. */
static void compare(float *v, float *host, int64_t n, int repetitions)
{
	int ways = comm->ops->allreduce ? WAYS : WAYS - 1;
	double *took[WAYS], start, medians[WAYS];

	for (int way = 0; way < ways; way++)
		took[way] = xcalloc((size_t)repetitions, sizeof(double));
	for (int i = -1; i < repetitions; i++)          /* -1 warms up */
		for (int way = 0; way < ways; way++) {
			comm_barrier(control);
			start = clock_now();
			allreduce(way, v, host, n);
			start = clock_now() - start;
			comm_host_reduce(control, &start, 1, REDUCE_MAX);
			if (i >= 0)
				took[way][i] = start;
		}
	for (int way = 0; way < ways; way++) {
		medians[way] = median(took[way], repetitions);
		free(took[way]);
	}
	if (comm->rank != 0)
		return;
	printf("%10lld floats", (long long)n);
	for (int way = 0; way < ways; way++)
		printf("  %s %9.3f ms", way_name[way], 1e3 * medians[way]);
	printf("  MPI / own %.2f\n", medians[1] / medians[ways == WAYS ? 2 : 0]);
}

int main(int argc, char **argv)
{
	static const int64_t sizes[] = { 16, 1024, 65536, 1 << 20, LONGEST };
	struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto", .index = -1 };
	const char *kind = argc > 2 ? argv[2] : "cpu", *transport = argc > 3 ? argv[3] : "auto";
	int repetitions = argc > 1 ? atoi(argv[1]) : 11;
	struct device *cpu = device_find("cpu")->open(&config), *dev = cpu;
	const struct comm_ops *ops = NULL;
	const struct device_ops *found;
	struct world world;
	char why[400];
	float *v, *host;

	if (repetitions < 1 || world_open(&world, "mpi")) {
		fputs(errors_text(), stderr);
		return 1;
	}
	config.local_rank = world.local_rank;
	control = comm_open(&world, cpu);
	found = device_find(kind);
	if (found && strcmp(kind, "cpu"))
		dev = found->open(&config);
	if (found && dev)
		ops = comm_choose(transport, &world, dev, control, why, sizeof(why));
	if (!ops)
		die(STATUS_CONFIG, "no device \"%s\" or no transport \"%s\":\n%s", kind, transport, errors_text());
	comm = comm_open_over(ops, &world, dev, control, NULL);
	v = dev->ops->mem->alloc(dev, LONGEST * sizeof(float));
	host = xcalloc(LONGEST, sizeof(float));
	comm_reserve(comm, ring_work(LONGEST, world.size, DTYPE_F32));
	if (world.rank == 0)
		printf("%d ranks on %d host%s, %s, over %s (%s), progress by hook, median of %d\n", world.size, world.nodes,
		       world.nodes == 1 ? "" : "s", dev->ops->describe(dev), ops->name, why, repetitions);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		compare(v, host, sizes[i], repetitions);
	dev->ops->mem->free(dev, v);
	free(host);
	comm_close(comm);
	comm_close(control);
	if (dev != cpu)
		dev->ops->close(dev);
	cpu->ops->close(cpu);
	world_close(&world);
	return 0;
}
