/* What a network takes on some machine: seconds of one step at this worker's batch. */
#ifndef COCOD_NET_TIMES_H
#define COCOD_NET_TIMES_H

struct net_times {
	double *forward, *backward;     /* of each node */
	double update;                  /* of the optimizer, on the whole arena */
};

#endif
