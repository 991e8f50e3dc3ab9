/* Times messages, and lays a line through them: see fit.h. */
#include <math.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "fit.h"
#include "topology/topology.h"

enum { POINTS = 7, TRIES = 9, SMALLEST = 4096, GROWTH = 8, TRAIN = 64 << 10 };
static const double LONGEST = 0.04;     /* seconds: nothing longer is measured after a message that took so long */

static double worst_error(const struct fit *f, const double *bytes, const double *seconds, int count)
{
	double worst = 0;

	for (int i = 0; i < count; i++)
		worst = fmax(worst, fabs((f->latency + f->per_byte * bytes[i]) / seconds[i] - 1));
	return worst;
}

struct fit fit_line(const double *bytes, const double *seconds, int count)
{
	double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0, det;
	struct fit f = { .points = count };

	CHECK(count > 0);
	for (int i = 0; i < count; i++) {
		double weight = 1 / (seconds[i] * seconds[i]);

		w += weight;
		wx += weight * bytes[i];
		wy += weight * seconds[i];
		wxx += weight * bytes[i] * bytes[i];
		wxy += weight * bytes[i] * seconds[i];
	}
	det = w * wxx - wx * wx;
	if (det > 1e-12 * w * wxx) {
		f.latency = (wxx * wy - wx * wxy) / det;
		f.per_byte = (w * wxy - wx * wy) / det;
	}
	/* A negative one is not a cost: the best line without it. One size alone says what a message costs, not why. */
	if (det <= 1e-12 * w * wxx || f.per_byte < 0) {
		f.latency = wy / w;
		f.per_byte = 0;
	} else if (f.latency < 0) {
		f.latency = 0;
		f.per_byte = wxy / wxx;
	}
	f.error = worst_error(&f, bytes, seconds, count);
	return f;
}

void fit_exchange(struct comm *comm, void *buffer, int64_t bytes)
{
	int right = (comm->rank + 1) % comm->size, left = (comm->rank + comm->size - 1) % comm->size;

	comm_exchange(comm, right, buffer, bytes, left, (char *)buffer + bytes, bytes);
}

void fit_allreduce(struct comm *comm, void *buffer, int64_t bytes) { comm_allreduce(comm, buffer, bytes / 4, DTYPE_F32, REDUCE_SUM); }

/*
 * All begin together, so that nobody's time is waiting for somebody who measures something else. The best of several: what others do on
 * this machine only adds.
 *
 * Of a short message, several behind one another, as collectives send them: a shaped link (a virtual machine's, say) lets the first
 * few kilobytes after a pause pass at full speed, and one by one they would all be the first.
 */
static double time_of(struct comm *comm, struct comm *control, fit_fn *queue, void *buffer, int64_t bytes)
{
	int count = bytes < TRAIN ? (int)(TRAIN / bytes) : 1;
	double best = INFINITY;

	for (int i = -1; i < TRIES; i++) {              /* the first one finds its route and its buffers */
		double start, seconds;

		comm_barrier(control);
		start = clock_now();
		for (int k = 0; k < count; k++)
			queue(comm, buffer, bytes);
		comm->device->ops->stream->sync(comm->stream);
		seconds = (clock_now() - start) / count;
		comm_host_reduce(control, &seconds, 1, REDUCE_MAX);
		if (i >= 0)
			best = fmin(best, seconds);
	}
	return best;
}

struct fit comm_fit(struct comm *comm, fit_fn *queue, int64_t most)
{
	const struct mem_ops *mem = comm->device->ops->mem;
	struct comm *control = comm->control ? comm->control : comm;
	double bytes[POINTS], seconds[POINTS];
	int64_t sent = comm->bytes_sent;
	void *buffer;
	int count = 0;

	if (comm->size == 1)
		return (struct fit){ 0 };
	most = most < SMALLEST ? SMALLEST : most / 4 * 4;
	buffer = mem->alloc(comm->device, (size_t)(2 * most));
	mem->zero(comm->stream, buffer, (size_t)(2 * most));
	comm_expect_allreduce(comm, most / 4, DTYPE_F32);
	for (int64_t size = SMALLEST; count < POINTS; size = size * GROWTH < most ? size * GROWTH : most) {
		bytes[count] = (double)size;
		seconds[count] = time_of(comm, control, queue, buffer, size);
		if (seconds[count++] > LONGEST || size == most)
			break;
	}
	mem->free(comm->device, buffer);
	comm->bytes_sent = sent;                        /* not the run's */
	return fit_line(bytes, seconds, count);
}
