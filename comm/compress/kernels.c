/*
 * Times a compressor's kernels: see kernels.h.
 *
 * Why not an average's time less what the formula says of its messages: that is a small difference of two large numbers, one of them a
 * model. Why not a communicator of one rank: it adds up nothing, merges no lists and encodes sums of another length. So all ranks average
 * as in training, and the transport is wrapped: a stopwatch, read by the stream itself, stands still from the beginning of each message to
 * its end. Waiting for a slower rank happens inside messages, and is not counted.
 *
 * A stopwatch that is stopped and started costs time of its own on a GPU, where the host reads it: found by doing so with nothing in
 * between, and taken off.
 */
#include <math.h>

#include "../../core/clock.h"
#include "kernels.h"

enum { TRIES = 4, FEWEST = 3, EMPTY = 8 };     /* one of two may have waited for a core */
static const double LONG = 0.1;         /* seconds of averages after which there is no fourth one */

struct stopwatch {
	double seconds, since;
	int64_t stops;
};

/* A transport in front of another one. A communicator finds it by its table of functions. */
struct timed {
	struct comm_ops ops;
	const struct comm_ops *inner;
	struct stopwatch *watch;
};

static const struct timed *timed_of(const struct comm *comm) { return (const struct timed *)comm->ops; }

static bool start(void *arg)
{
	struct stopwatch *w = *(struct stopwatch **)arg;

	w->since = clock_now();
	return true;
}

static bool stop(void *arg)
{
	struct stopwatch *w = *(struct stopwatch **)arg;

	w->seconds += clock_now() - w->since;
	w->stops++;
	return true;
}

static void queue(struct comm *comm, host_fn *fn, struct stopwatch *w) { comm->device->ops->stream->call(comm->stream, fn, &w, sizeof(w)); }

static void timed_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	const struct timed *t = timed_of(comm);

	queue(comm, stop, t->watch);
	t->inner->exchange(comm, to, send, send_bytes, from, recv, recv_bytes);
	queue(comm, start, t->watch);
}

static void timed_allreduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	const struct timed *t = timed_of(comm);

	queue(comm, stop, t->watch);
	t->inner->allreduce(comm, buffer, n, type, op);
	queue(comm, start, t->watch);
}

static void timed_allgather(struct comm *comm, void *buffer, int64_t bytes)
{
	const struct timed *t = timed_of(comm);

	queue(comm, stop, t->watch);
	t->inner->allgather(comm, buffer, bytes);
	queue(comm, start, t->watch);
}

static struct timed wrap(const struct comm_ops *inner, struct stopwatch *watch)
{
	struct timed t = { *inner, inner, watch };

	t.ops.exchange = timed_exchange;
	t.ops.allreduce = inner->allreduce ? timed_allreduce : NULL;
	t.ops.allgather = inner->allgather ? timed_allgather : NULL;
	return t;
}

/* Seconds from a start to the stop right behind it. */
static double cost_of_watch(struct comm *comm)
{
	struct stopwatch w = { 0 };

	for (int i = 0; i < EMPTY; i++) {
		queue(comm, start, &w);
		queue(comm, stop, &w);
	}
	comm->device->ops->stream->sync(comm->stream);
	return w.seconds / EMPTY;
}

static double once(struct compress *c, const struct range *range, int count, const float *in, float *out, struct stopwatch *w)
{
	struct comm *comm = c->comm;

	*w = (struct stopwatch){ 0 };
	queue(comm, start, w);
	for (int i = 0; i < count; i++)
		c->ops->average(c, &range[i], in, out);         /* without the injected delay */
	queue(comm, stop, w);
	comm->device->ops->stream->sync(comm->stream);
	return w->seconds;
}

double compress_kernels(struct compress *c, const struct range *range, int count, const float *in, float *out)
{
	struct comm *comm = c->comm, *control = comm->control ? comm->control : comm;
	const struct comm_ops *inner = comm->ops;
	struct wire *wire = comm->wire;
	double empty = cost_of_watch(comm), best = INFINITY, all = 0;
	int64_t sent = comm->bytes_sent;
	struct stopwatch watch;
	struct timed timed = wrap(inner, &watch);

	for (int i = -1; i < TRIES && (i < FEWEST || all < LONG); i++) {        /* the first one touches its memory */
		double seconds;

		comm_barrier(control);
		comm->ops = &timed.ops;
		comm->wire = NULL;              /* modelled times are those of messages */
		seconds = once(c, range, count, in, out, &watch);
		comm->wire = wire;
		comm->ops = inner;
		seconds = fmax(seconds - empty * (double)watch.stops, 0);
		comm_host_reduce(control, &seconds, 1, REDUCE_MAX);
		all += i >= 0 ? seconds : 0;
		if (i >= 0)
			best = fmin(best, seconds);
	}
	comm->bytes_sent = sent;                                        /* not the run's */
	return best;
}
