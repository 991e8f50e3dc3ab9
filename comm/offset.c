/*
 * Clock offsets by messages there and back (Cristian, "Probabilistic clock synchronization", 1989): the other clock was read at some moment
 * between sending and receiving; in the middle, as far as we know, and wrong by half of the way at most. The fastest of many ways
 * tells most.
 *
 *     rank 0   t0 ----.              .---> t1          offset = (t0 + t1) / 2 - t
 *     rank r           `---> t -----´
 */
#include <math.h>

#include "../core/clock.h"
#include "offset.h"

enum { TRIES = 32 };

struct reading {
	double offset, way;             /* way: there and back */
};

static void send(struct comm *comm, int to, double *value)
{
	comm_exchange(comm, to, value, sizeof(*value), -1, NULL, 0);
	comm->device->ops->stream->sync(comm->stream);
}

static void receive(struct comm *comm, int from, double *value)
{
	comm_exchange(comm, -1, NULL, 0, from, value, sizeof(*value));
	comm->device->ops->stream->sync(comm->stream);
}

static struct reading ask(struct comm *comm, int rank)
{
	struct reading best = { 0, INFINITY };

	for (int i = 0; i < TRIES; i++) {
		double begin = clock_now(), theirs = 0, end;

		send(comm, rank, &theirs);
		receive(comm, rank, &theirs);
		end = clock_now();
		if (end - begin < best.way)
			best = (struct reading){ (begin + end) / 2 - theirs, end - begin };
	}
	return best;
}

static void answer(struct comm *comm)
{
	for (int i = 0; i < TRIES; i++) {
		double mine;

		receive(comm, 0, &mine);
		mine = clock_now();
		send(comm, 0, &mine);
	}
}

double comm_clock_offset(struct comm *comm, double *uncertain)
{
	double mine = 0, worst = 0;

	for (int r = 1; r < comm->size; r++) {          /* one after the other: nobody else's messages in the way */
		if (comm->rank == 0) {
			struct reading reading = ask(comm, r);

			worst = fmax(worst, reading.way / 2);
			send(comm, r, &reading.offset);
		} else if (comm->rank == r) {
			answer(comm);
			receive(comm, 0, &mine);
		}
	}
	comm_host_reduce(comm, &worst, 1, REDUCE_MAX);
	if (uncertain)
		*uncertain = worst;
	return mine;
}
