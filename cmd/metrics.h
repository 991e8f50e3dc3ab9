/*
 * metrics.csv: a row every output.log_every steps, of all workers. Their sums travel to rank 0 on the team's communicator while
 * training goes on; the row is written when they have come. Nobody waits for a row until 256 are under way: rank 0 may be that far ahead of
 * the slowest worker.
 *
 * A row ends where all together have processed so many samples, and at an evaluation: the same rows on all workers, though each may take
 * another number of steps for one. A worker's steps count in the last row that had ended when it heard of it; a row in which nobody
 * has ended a step is left out.
 */
#ifndef COCOD_METRICS_H
#define COCOD_METRICS_H

#include "run.h"

struct metrics *metrics_open(struct run *);
void metrics_close(struct run *);
/* In front of every step: sends off the rows that have ended when all have processed so many samples, but not one that ends at `until`;
 * writes rows that have come. Takes the net's sums. */
void metrics_reach(struct run *, int64_t samples, int64_t until);
/* All have processed `until`: sends off the row that ends there. Workers hear at different times of the samples of all, so those before it
 * must be on their way, metrics_reach(run, until, until), before anything else is exchanged on the team's communicator. */
void metrics_complete(struct run *, int64_t until);
void metrics_flush(struct run *);       /* waits for the rows under way and writes them */
/* The progress line: rank 0, live on a terminal, now and then elsewhere. */
void metrics_progress_end(struct run *);        /* ends a live line, before other output */

#endif
