/*
 * cluster.slowdown: makes a rank slower than it is, for experiments with unequal workers. Behind each forward and backward pass
 * it pauses for (factor - 1) times what the pass took to compute. Communication goes on meanwhile.
 */
#ifndef COCOD_SLOWDOWN_H
#define COCOD_SLOWDOWN_H

#include "device.h"

struct slowdown {
	double factor;                  /* 1: nothing happens */
	double began, cpu, waited;      /* when the pass began */
	double until;                   /* end of the pause; 0: it has not begun */
};

void slowdown_begin(struct slowdown *, struct device *, struct stream *compute);
/* Returns the seconds of communication that the pause had time for but that the device counts as taken from computing. */
double slowdown_end(struct slowdown *, struct device *, struct stream *compute);

#endif
