/*
 * metrics.csv: a row every output.log_every steps, of all workers. Their sums travel to rank 0 on the team's communicator while
 * training goes on; the row is written when they have come. Nobody waits for a row
 * until 256 are under way: rank 0 may be that far ahead of the slowest worker.
 */
#ifndef COCOD_METRICS_H
#define COCOD_METRICS_H

#include "run.h"

struct metrics *metrics_open(struct run *);
void metrics_close(struct run *);
/* After every step: counts; at a row's end (or if `force`) sends it off; writes rows that have come. Takes the net's sums. */
void metrics_step(struct run *, bool force);
void metrics_flush(struct run *);       /* waits for the rows under way and writes them */
/* The progress line: rank 0, live on a terminal, now and then elsewhere. */
void metrics_progress_end(struct run *);        /* ends a live line, before other output */

#endif
