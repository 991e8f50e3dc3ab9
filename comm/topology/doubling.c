/*
 * Recursive doubling: all ranks add up all that they know with a partner twice as far away each time.
 *
 * Source: Thakur, Rabenseifner, Gropp: "Optimization of Collective Communication Operations in MPICH", IJHPCA 2005.
 *
 *     3 rounds of 8 ranks      0 ↔ 1  2 ↔ 3  4 ↔ 5  6 ↔ 7
 *                              0 ↔ 2  1 ↔ 3  4 ↔ 6  5 ↔ 7
 *                              0 ↔ 4  1 ↔ 5  2 ↔ 6  3 ↔ 7
 *
 * Any P: with P = 2^m + q, the q last ranks first give their vectors to the q first, and get the sum from them in the end.
 *
 * Both partners add the upper one's part to the lower one's, in this order, into whichever of two buffers holds it: so they hold
 * the same bits, signs of zeros and NaNs included, without copying.
 *
 * Sent: m vectors by each of the 2^m ranks, one more by the q last and by their hosts: (2^m m + 2 q) / P on average.
 * Cost: (m + (2 if q > 0)) (alpha + n beta). Few latencies, whole vectors: for short ones. From the distance on at which partners sit
 * in another node, all workers of a node send across at once and share its link: beta counts as often as there are workers in it.
 */
#include "allreduce.h"

static int largest_power(int size)
{
	int p = 1;

	while (2 * p <= size)
		p *= 2;
	return p;
}

static int rounds_of(int power)
{
	int rounds = 0;

	for (int p = 1; p < power; p *= 2)
		rounds++;
	return rounds;
}

static void doubling_segment(struct comm *comm, char *buffer, int64_t n, enum dtype type, enum reduce op)
{
	const struct device_ops *dev = comm->device->ops;
	int64_t bytes = n * (int64_t)dtype_size(type);
	int power = largest_power(comm->size), extra = comm->size - power, rank = comm->rank;
	char *now = buffer, *other = comm->work;

	if (rank >= power) {
		comm_exchange(comm, rank - power, buffer, bytes, -1, NULL, 0);
		comm_exchange(comm, -1, NULL, 0, rank - power, buffer, bytes);
		return;
	}
	if (rank < extra) {
		comm_exchange(comm, -1, NULL, 0, rank + power, other, bytes);
		dev->vec->reduce(comm->stream, n, type, op, other, now);
	}
	for (int step = 1; step < power; step *= 2) {
		int peer = rank ^ step;

		comm_exchange(comm, peer, now, bytes, peer, other, bytes);
		if (rank > peer) {
			char *upper = now;

			now = other;
			other = upper;
		}
		dev->vec->reduce(comm->stream, n, type, op, other, now);
	}
	if (now != buffer)
		dev->mem->copy(comm->stream, buffer, now, (size_t)bytes, COPY_DEVICE);
	if (rank < extra)
		comm_exchange(comm, rank + power, buffer, bytes, -1, NULL, 0);
}

static void doubling_run(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	int64_t size = (int64_t)dtype_size(type), segment = SEGMENT_BYTES / size;

	for (int64_t i = 0; i < n && comm->size > 1; i += segment)
		doubling_segment(comm, (char *)buffer + i * size, segment_least(segment, n - i), type, op);
}

static size_t work(const struct comm *comm, int64_t n, enum dtype type)
{
	(void)comm;
	return segment_work(n, type);
}

static double vectors(int workers)
{
	int power = largest_power(workers);

	return ((double)power * rounds_of(power) + 2.0 * (workers - power)) / workers;
}

struct pairs {
	int workers, power, step;
};

static int partner(const void *context, int rank)
{
	const struct pairs *p = context;

	return rank < p->power ? rank ^ p->step : -1;
}

static int host(const void *context, int rank)
{
	const struct pairs *p = context;

	return rank - p->power;
}

static int guest(const void *context, int rank)
{
	const struct pairs *p = context;

	return rank + p->power < p->workers ? rank + p->power : -1;
}

double doubling_guest_cost(const struct cost_model *m, double bytes)
{
	struct pairs p = { .workers = m->workers, .power = largest_power(m->workers) };
	int leave = cost_across(m, host, &p), enter = cost_across(m, guest, &p);

	return m->workers > p.power ? cost_step(m, leave > enter ? leave : enter, bytes) : 0;
}

double doubling_cost(const struct cost_model *m, double bytes)
{
	struct pairs p = { .workers = m->workers, .power = largest_power(m->workers) };
	double seconds = 2 * doubling_guest_cost(m, bytes);

	for (p.step = 1; p.step < p.power; p.step *= 2)
		seconds += cost_step(m, cost_across(m, partner, &p), bytes);
	return seconds;
}

const struct allreduce_ops allreduce_doubling = {
	.name = "doubling",
	.title = "recursive doubling all-reduce",
	.run = doubling_run,
	.work = work,
	.vectors = vectors,
	.cost = doubling_cost,
};
