/*
 * All-reduce: each of our ways beside MPI_Allreduce and, if the transport has one, its own, in turn in one run: milliseconds (median,
 * slowest rank) for a model's vector and smaller ones. For hierarchical, neighbouring pairs of ranks are a host.
 *
 *     mpirun -np 2 build/…/test/bench_allreduce [repetitions [device [transport]]]
 *
 * MPI_Allreduce is always on host memory. On "cuda" our messages go through it, too, unless the transport is nccl.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../comm/topology/allreduce.h"
#include "../core/clock.h"
#include "../core/die.h"

enum { OWN = 4, MPI_WAY = OWN, LIBRARY, WAYS, LONGEST = 11173962 };

static const char *const way_name[WAYS] = { "ring", "doubling", "tree", "hierarchical", "MPI", "library" };
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
	if (way < OWN)
		allreduce_list[way]->run(comm, v, n, DTYPE_F32, REDUCE_SUM);
	else if (way == MPI_WAY)
		MPI_Allreduce(MPI_IN_PLACE, host, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
	else
		comm->ops->allreduce(comm, v, n, DTYPE_F32, REDUCE_SUM);
	comm->device->ops->stream->sync(comm->stream);
}

/* All vectors are zero, and stay it. */
static void compare(float *v, float *host, int64_t n, int repetitions)
{
	int ways = comm->ops->allreduce && comm->size > 1 ? WAYS : WAYS - 1, best = 0;
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
		best = way < OWN && medians[way] < medians[best] ? way : best;
	}
	if (comm->rank != 0)
		return;
	printf("%10lld floats", (long long)n);
	for (int way = 0; way < ways; way++)
		printf("  %s %8.3f", way_name[way], 1e3 * medians[way]);
	printf(" ms;  MPI / %s %.2f\n", way_name[best], medians[MPI_WAY] / medians[best]);
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
	int *host_of;

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
	host_of = xcalloc((size_t)world.size, sizeof(*host_of));
	for (int r = 0; r < world.size; r++)
		host_of[r] = r / 2;
	comm_plan_allreduce(comm, "hierarchical", host_of, &(struct cost_model){ 0 });
	for (int way = 0; way < OWN; way++)
		comm_reserve(comm, allreduce_list[way]->work(comm, LONGEST, DTYPE_F32));
	if (world.rank == 0)
		printf("%d ranks on %d host%s, %s, over %s (%s), progress by hook, median of %d\n", world.size, world.nodes,
		       world.nodes == 1 ? "" : "s", dev->ops->describe(dev), ops->name, why, repetitions);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		compare(v, host, sizes[i], repetitions);
	dev->ops->mem->free(dev, v);
	free(host);
	free(host_of);
	comm_close(comm);
	comm_close(control);
	if (dev != cpu)
		dev->ops->close(dev);
	cpu->ops->close(cpu);
	world_close(&world);
	return 0;
}
