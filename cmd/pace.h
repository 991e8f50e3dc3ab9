/* How fast this run's workers compute, for predictions. */
#ifndef COCOD_PACE_H
#define COCOD_PACE_H

#include "run.h"

struct pace {
	double forward, backward;       /* seconds of a step; the optimizer is in backward */
	int slowest;                    /* the worker whose they are */
	double *ready;                  /* pace_find()'s alone: cost.h's; owned, pace_release() frees it */
};

/*
 * From the times of layers (calibrate.h) if somebody has asked for them, else from cluster.compute.images_per_s, else .rates, else
 * measured: passes over the first batch, all workers at the same time since they may share a
 * machine. All workers together; the same numbers on all. Leaves everything as it was but for the gradients, which are the first
 * batch's, and the loader, which must be started anew.
 */
struct pace pace_find(struct run *);
void pace_release(struct pace *);
/* Was it, or is it going to be, measured here, so that gradients of the first batch are there? And in words. */
bool pace_measured(const struct run *);
void pace_source(const struct run *, char *text, size_t);
bool pace_given(const struct run *);            /* a speed is: by either key */
/* Images a second of one worker, and which key says so; 0: none does. */
double pace_rate(const struct config *, const char **key);
int pace_check(const struct config *);          /* cluster.compute.rates; -1: error recorded */

/* The pieces. Measured, of this rank, without cluster.slowdown; and the optimizer's seconds on the whole arena. */
struct pace pace_measure(struct run *);
double pace_update(struct run *);

#endif
