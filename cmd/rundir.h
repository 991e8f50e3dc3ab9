/*
 * The run directory: config.cfg as resolved, metrics.csv, eval.csv, summary.json, TensorBoard events, rank-NNN.log, and decisions.csv if
 * anything was decided by measured times. Rank 0 makes it and writes all but the logs and the other ranks' decisions. A used directory is
 * refused, so that no result is ever overwritten by accident.
 */
#ifndef COCOD_RUNDIR_H
#define COCOD_RUNDIR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct config;

struct rundir {
	char path[1024];
	FILE *metrics, *eval;           /* rank 0 */
	FILE *events;                   /* rank 0; NULL without output.tensorboard */
	FILE *log;                      /* every rank */
	FILE *decisions;                /* every rank; NULL before its first one */
};

/* output.dir with %n (output.name) and %t (start time) filled in. */
void rundir_path(struct rundir *, const struct config *, const char *time_stamp);
/* Rank 0: makes the directory and opens its files. Returns 0 or an exit status, with error() recorded. */
int rundir_create(struct rundir *, const struct config *);
/* Rank 0: config.cfg, as the config is now. Dies if that cannot be written. */
void rundir_write_config(struct rundir *, const struct config *);
/* Every rank, after rank 0 has made it. */
int rundir_open_log(struct rundir *, int rank);
FILE *rundir_file(const struct rundir *, const char *name);     /* for writing; dies if that cannot be */
void rundir_close(struct rundir *);
/* A line for decisions.csv (of other ranks than 0: decisions-NNN.csv), which is made for the first one. */
void rundir_decision(struct rundir *, int rank, int64_t step, const char *what, int64_t value, const char *why);
void rundir_flush_decisions(struct rundir *);                   /* now and then: a run that dies leaves what it decided before */
/* Flushes a line and dies with the disk's own words if it could not be written. */
void rundir_flush(FILE *, const char *what);

/* Ends a line of a table: its last column, empty if it is NAN. */
void rundir_virtual(FILE *, double seconds);

#endif
