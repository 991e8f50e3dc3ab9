/*
 * What messages cost here and now: T(M) = alpha + beta M, fitted to the times of a few of them. The model behind all formulas (cost.h) and
 * behind MG-WFBP's plan; with its error, since a line is not what every network is.
 */
#ifndef COCOD_FIT_H
#define COCOD_FIT_H

#include "comm.h"

struct fit {
	double latency, per_byte;       /* alpha: seconds; beta: seconds a byte; neither is negative */
	double error;                   /* the largest |T(M) / measured - 1| */
	int points;                     /* sizes measured; 0: one rank, nothing to measure */
};

/* The line whose relative errors have the smallest sum of squares: a long message counts no more than a short one. count >= 1. */
struct fit fit_line(const double *bytes, const double *seconds, int count);

/* Queues what is timed: `bytes` (a multiple of 4) from buffer, in place or into the second half of it. */
typedef void fit_fn(struct comm *, void *buffer, int64_t bytes);
fit_fn fit_exchange;                    /* to the right, while as much comes from the left: a step of every ring */
fit_fn fit_allreduce;                   /* a sum of floats */

/* All ranks together, while nothing is queued: messages of 4 KB up to `most` bytes, fewer where they are slow (about a second in all). The
 * slowest rank's time counts, the best of several. The same numbers on all ranks. */
struct fit comm_fit(struct comm *, fit_fn *, int64_t most);

#endif
