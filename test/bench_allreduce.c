/*
 * Our ring all-reduce beside MPI_Allreduce, in turn in one run: milliseconds (median, slowest rank) and the ratio, for a model's
 * vector and smaller ones.
 *
 *     mpirun -np 2 build/…/test/bench_allreduce [repetitions]
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "../comm/topology/topology.h"
#include "../core/clock.h"
#include "../core/die.h"

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

static double slowest(struct comm *comm, double seconds)
{
	comm_host_reduce(comm, &seconds, 1, REDUCE_MAX);
	return seconds;
}

static void compare(struct comm *comm, float *v, int64_t n, int repetitions)
{
	const struct stream_ops *stream = comm->device->ops->stream;
	double *ring = xcalloc((size_t)repetitions, sizeof(double)), *mpi = xcalloc((size_t)repetitions, sizeof(double)), start;

	for (int i = -1; i < repetitions; i++) {        /* -1 warms up */
		comm_barrier(comm);
		start = clock_now();
		ring_allreduce(comm, v, n, DTYPE_F32, REDUCE_SUM);
		stream->sync(comm->stream);
		start = slowest(comm, clock_now() - start);
		if (i >= 0)
			ring[i] = start;
		comm_barrier(comm);
		start = clock_now();
		MPI_Allreduce(MPI_IN_PLACE, v, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
		start = slowest(comm, clock_now() - start);
		if (i >= 0)
			mpi[i] = start;
		for (int64_t k = 0; k < n; k++)
			v[k] = 1;
	}
	if (comm->rank == 0) {
		double r = median(ring, repetitions), m = median(mpi, repetitions);

		printf("%10lld floats  own ring %9.3f ms  MPI_Allreduce %9.3f ms  MPI / own %.2f\n", (long long)n, 1e3 * r, 1e3 * m, m / r);
	}
	free(ring);
	free(mpi);
}

int main(int argc, char **argv)
{
	static const int64_t sizes[] = { 16, 1024, 65536, 1 << 20, 11173962 };
	struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto" };
	int repetitions = argc > 1 ? atoi(argv[1]) : 11;
	struct device *dev;
	struct world world;
	struct comm *comm;
	float *v;

	if (repetitions < 1 || world_open(&world, "mpi")) {
		fputs(errors_text(), stderr);
		return 1;
	}
	dev = device_find("cpu")->open(&config);
	comm = comm_open(&world, dev);
	v = dev->ops->mem->alloc(dev, 11173962 * sizeof(float));
	comm_reserve(comm, ring_work(11173962, world.size, DTYPE_F32));
	if (world.rank == 0)
		printf("%d ranks on %d host%s, progress by hook, median of %d\n", world.size, world.nodes, world.nodes == 1 ? "" : "s", repetitions);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		compare(comm, v, sizes[i], repetitions);
	dev->ops->mem->free(dev, v);
	comm_close(comm);
	dev->ops->close(dev);
	world_close(&world);
	return 0;
}
