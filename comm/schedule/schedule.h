/*
 * In which pieces and in which order a vector goes: a schedule cuts the arena, which lies in the order in which backward
 * finishes it, into buckets. A bucket can leave as soon as its last tensor is final.
 */
#ifndef COCOD_SCHEDULE_H
#define COCOD_SCHEDULE_H

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

struct schedule {
	struct range *bucket;
	int buckets;
	struct range whole;             /* the arena as one range */
};

void schedule_init(struct schedule *, const struct config *, const struct tensor_info *, int tensors, int64_t n);
void schedule_release(struct schedule *);

#endif
