/*
 * In which pieces and in which order a vector goes: a schedule cuts the arena, which lies in the order in which backward
 * finishes it, into buckets. A bucket can leave as soon as its last tensor is final.
 */
#ifndef COCOD_SCHEDULE_H
#define COCOD_SCHEDULE_H

#include <stdbool.h>
#include <stdio.h>

#include "../../core/range.h"
#include "../../core/option.h"

struct config;

/* What a plan may go by, the same on all ranks. Seconds. */
struct schedule_facts {
	double latency, per_byte;       /* to average M bytes takes latency + per_byte M (comm/fit.h) */
	double error;                   /* of that line; 0: not known */
	double backward;                /* how long backward takes */
	double *ready;                  /* a tensor each: from where backward begins until its gradient is final; never falls in the arena */
	int tensors;
	/* Not facts, but the config's: */
	double share;                   /* what a compressor leaves of the bytes; 1: all */
	int more;                       /* latencies of its messages beyond the first: it exchanges several times for a bucket */
};

struct schedule_ops {
	const char *name, *paper;
	const struct option *options;
	/* Writes the buckets (at most `tensors`) and returns their number. They are disjoint, in order, and cover the arena. */
	int (*plan)(const struct config *, const struct tensor_info *, int tensors, int64_t n, struct range *bucket);
	/* (optional) The same from facts, which the trainer finds for whoever has this. Until then, and for one worker, plan() holds. */
	int (*refine)(const struct schedule_facts *, const struct tensor_info *, int tensors, int64_t n, struct range *bucket);
};

extern const struct schedule_ops *const schedule_list[];        /* NULL-terminated */
const struct schedule_ops *schedule_find(const char *name);
extern const struct option schedule_policies[];                 /* keys of group "schedule" that hold for all of them */

/*
 * The order of priority.c: buckets cut into slices of at most `most` floats (all but a bucket's last are multiples of ARENA_ALIGN), the
 * one that forward needs first in front of the others as far as backward lets it. share: of the model, what the network sends while
 * backward runs. Returns the number of slices; *slices: xcalloc. The same numbers give the same order everywhere.
 */
struct slice {
	struct range range;             /* of floats; it has no tensors */
	int bucket;
	bool last;                      /* of its bucket */
};
int schedule_slices(const struct range *bucket, int buckets, int64_t most, double share, struct slice **slices);

struct schedule {
	const struct schedule_ops *ops;
	struct range *bucket;
	int buckets;
	struct range whole;             /* the arena as one range */
	struct schedule_facts facts;    /* from schedule_refine() on; its own copy */
};

void schedule_init(struct schedule *, const struct config *, const struct tensor_info *, int tensors, int64_t n);
void schedule_refine(struct schedule *, const struct schedule_facts *);
void schedule_release(struct schedule *);

/* Tensors first … end - 1, up to the next one's offset, so that ranges together cover the arena with its padding. */
struct range schedule_span(const struct tensor_info *, int tensors, int64_t n, int first, int end);
double schedule_message(const struct schedule_facts *, int64_t floats);         /* seconds of one */
/* When the last of these buckets has landed, from where backward begins: each leaves when its last tensor is final, and the one before
 * it has landed. */
double schedule_landed(const struct schedule_facts *, const struct tensor_info *, const struct range *bucket, int buckets);

/* facts.c: as a text that a user may read and change. -1: error recorded. origin: of the path, for messages. */
void schedule_facts_write(FILE *, const struct schedule_facts *, const struct tensor_info *);
/* Fills in all but share; ready has room for `tensors`. */
int schedule_facts_read(const char *path, const char *origin, struct schedule_facts *, const struct tensor_info *, int tensors);

#endif
