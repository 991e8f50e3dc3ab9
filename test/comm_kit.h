/*
 * What the tests of communicators share: a communicator on a device with a compute stream, used as everything above comm/ uses it; and
 * contents of buffers that say whose and which element they are, with sums that are exact (integers in floating point).
 */
#ifndef COMM_KIT_H
#define COMM_KIT_H

#include <string.h>

#include "ranks.h"

static struct device *dev;
static struct stream *compute;
static struct event *done;
static struct comm *comm;
static int P, R;

/* ---- the way in ---- */

/* What goes between them is queued behind the compute stream, which then waits for it: on a CPU the host has waited, too. */
static inline void begin(struct comm *c) { comm_fork(c, compute); }

static inline void finish(struct comm *c)
{
	comm_mark(c, done);
	dev->ops->stream->wait(compute, done);
}

static inline void streams_open(struct device *device)
{
	dev = device;
	compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
	done = dev->ops->stream->event_open(dev);
}

static inline void streams_close(void)
{
	dev->ops->stream->event_close(done);
	dev->ops->stream->close(compute);
}

/* ---- what is in buffers ---- */

static inline double element(int rank, int64_t i) { return (double)((rank * 311 + i * 7 + i / 13 * rank) % 1001 - 500); }

static inline void put(void *buffer, enum dtype type, int64_t i, double v)
{
	if (type == DTYPE_F32)
		((float *)buffer)[i] = (float)v;
	else if (type == DTYPE_F64)
		((double *)buffer)[i] = v;
	else
		((int64_t *)buffer)[i] = (int64_t)v;
}

static inline double get(const void *buffer, enum dtype type, int64_t i)
{
	return type == DTYPE_F32 ? (double)((const float *)buffer)[i] :
	       type == DTYPE_F64 ? ((const double *)buffer)[i] : (double)((const int64_t *)buffer)[i];
}

/* Of all ranks' elements. */
static inline double expected(enum reduce op, int64_t i)
{
	double v = element(0, i);

	for (int r = 1; r < P; r++) {
		double e = element(r, i);

		v = op == REDUCE_SUM ? v + e : op == REDUCE_MAX ? (e > v ? e : v) : (e < v ? e : v);
	}
	return v;
}

static inline unsigned char byte_of(int rank, int64_t i) { return (unsigned char)(rank * 53 + i * 11 + i / 251); }

#endif
