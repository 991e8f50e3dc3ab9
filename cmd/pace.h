/* How fast this run's workers compute, for predictions. */
#ifndef COCOD_PACE_H
#define COCOD_PACE_H

#include "run.h"

struct pace {
	double forward, backward;       /* seconds of a step; the optimizer is in backward */
	int slowest;                    /* the worker whose they are */
};

/*
 * From cluster.compute.images_per_s, else .rates, else measured: passes over the first batch, all workers at the same time since they may share a
 * machine. All workers together; the same numbers on all. Leaves everything as it was but for the gradients, which are the first
 * batch's, and the loader, which must be started anew.
 */
struct pace pace_find(struct run *);
bool pace_given(const struct run *);            /* nothing is measured */
/* Images a second of one worker, and which key says so; 0: none does. */
double pace_rate(const struct config *, const char **key);
int pace_check(const struct config *);          /* cluster.compute.rates; -1: error recorded */

#endif
