/* The clocks of different hosts have nothing in common: what to add to each, so that all show rank 0's time. */
#ifndef COCOD_OFFSET_H
#define COCOD_OFFSET_H

#include "comm.h"

/* All ranks together, on a control communicator, nothing queued. Returns what to add to this process's clock_now(); 0 for rank 0. uncertain
 * (may be NULL): the largest error of any rank's, in seconds: half of the fastest message there and back. The host waits. */
double comm_clock_offset(struct comm *, double *uncertain);

#endif
