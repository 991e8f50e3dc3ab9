/* What each layer takes (core/net_times.h), for a run; and --calibrate. */
#ifndef COCOD_CALIBRATE_H
#define COCOD_CALIBRATE_H

#include "pace.h"

/*
 * The times come from cluster.compute.profile, else cluster.compute.images_per_s, else are measured by rank 0 while the others wait.
 * They are found only if somebody needs them: then run->net.times is set, for this rank's batch; else it stays NULL.
 */
/* Of what is given: for a network that is finished. -1: error recorded, on rank 0. */
int run_read_times(struct run *);
/* And the rest, with cluster.compute.sleep also run->sleep; all workers together, behind net_bind() and optimizer_bind(), while nothing is queued. Gradients are zero then. */
void run_find_times(struct run *);

/* One process: measures, prints the slowest layers, and writes a profile (path NULL: none). An exit status. */
int run_calibrate(struct run *, const char *path);

#endif
