/*
 * The outer optimizer: z, the model all workers hold, is moved by SGD with momentum, whose gradient is how far the workers went away
 * from it, on average. SlowMo and the DiLoCo family are this with different numbers and different ideas of when.
 *
 *     d = average(z - x_i);   v = momentum v + d;   z = z - lr (nesterov ? d + momentum v : v)
 *
 * d is the difference to a reference that all workers hold (DESIGN 3), so every compressor works: what it did not send is in its
 * residual. z and v come from the average alone and are the same bits everywhere.
 */
#ifndef COCOD_OUTER_H
#define COCOD_OUTER_H

#include "sync.h"

struct outer {
	float *z, *v;                   /* at first x_0 and 0; v: NULL without momentum */
	float *d;                       /* what is sent, then its average */
	struct event *done;             /* the average is there */
	struct hyper hyper, *block;     /* the same on the host and in device memory */
};

void outer_bind(struct outer *, struct sync *, double lr, double momentum, bool nesterov);
/* From the next step on. Only for an outer optimizer that was bound with momentum. */
void outer_set_momentum(struct outer *, struct sync *, double momentum);
/* z, v <- step(z, v, d) on [offset, offset + n), on the compute stream. */
void outer_step(struct outer *, struct sync *, int64_t offset, int64_t n);
/* A whole round that everybody waits for: average, outer step, x_i = z. */
void outer_round(struct outer *, struct sync *);
void outer_state(struct outer *, struct sync *, struct state_visitor *);
void outer_release(struct outer *, struct sync *);

#endif
