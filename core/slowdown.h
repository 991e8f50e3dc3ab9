/*
 * cluster.slowdown and cluster.jitter: make a rank slower than it is, for experiments with unequal workers. Behind each forward and
 * backward pass it pauses for (factor - 1) times what the pass took to compute. Communication goes on meanwhile.
 */
#ifndef COCOD_SLOWDOWN_H
#define COCOD_SLOWDOWN_H

#include "device.h"

struct slowdown {
	double factor;                  /* cluster.slowdown; 1: as fast as it is */
	double jitter;                  /* cluster.jitter; 0: all steps take as long */
	uint64_t seed;                  /* the jitter's, with the rank and the step */
	int rank;
	double now;                     /* factor of the pass under way */
	double began, cpu, waited;      /* when the pass began */
	double until;                   /* end of the pause; 0: it has not begun */
};

/* How many times as long a step takes: factor (1 + jitter |z|), z standard normal, a function of seed, rank and step alone. */
double slowdown_factor(const struct slowdown *, int64_t step);
double slowdown_mean(const struct slowdown *);                  /* of many steps */
/* Around the passes of a step. */
void slowdown_begin(struct slowdown *, int64_t step, struct device *, struct stream *compute);
/* Returns the seconds of communication that the pause had time for but that the device counts as taken from computing. */
double slowdown_end(struct slowdown *, struct device *, struct stream *compute);
/* On a CPU: the computing thread rests until then, by clock_now(), and drives communication if that is its part. watch: the
 * communication stream, looked after less often while it has nothing to do; NULL: always. Returns as slowdown_end(). */
double slowdown_pause(struct device *, struct stream *compute, const struct stream *watch, double until);

#endif
