/*
 * In which pieces and in which order a vector goes: a schedule cuts the arena, which lies in the order in which backward
 * finishes it, into buckets. A bucket can leave as soon as its last tensor is final.
 */
#ifndef COCOD_SCHEDULE_H
#define COCOD_SCHEDULE_H

#include <stdbool.h>

#include "../../core/range.h"
#include "../../core/option.h"

struct config;

struct schedule_ops {
	const char *name, *paper;
	const struct option *options;
	/* Writes the buckets (at most `tensors`) and returns their number. They are disjoint, in order, and cover the arena. */
	int (*plan)(const struct config *, const struct tensor_info *, int tensors, int64_t n, struct range *bucket);
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
	struct range *bucket;
	int buckets;
	struct range whole;             /* the arena as one range */
};

void schedule_init(struct schedule *, const struct config *, const struct tensor_info *, int tensors, int64_t n);
void schedule_release(struct schedule *);

#endif
