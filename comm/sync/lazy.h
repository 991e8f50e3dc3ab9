/*
 * Updates that wait for the next forward: what ssgd_split.c and ssgd_priority.c share. A step leaves buckets of averaged gradients behind,
 * each with an event that says when it is there; forward asks for parameters, from the arena's end to its start, and only then is a
 * bucket awaited and its update made.
 *
 * Such an update belongs to the step that left it: the optimizer's hyper block (step counter, learning rate, AdamW's corrections) stays as
 * it is until forward has asked for the whole arena, and the next step begins one only then.
 */
#ifndef COCOD_LAZY_H
#define COCOD_LAZY_H

#include "sync.h"

struct lazy {
	const struct range *bucket;     /* the sync's */
	int buckets;
	struct event **done;            /* of each bucket: its average is in g; recorded by the owner in every step */
	int asked, landed;              /* forward has asked for the buckets from `asked` on; those from `landed` on are updated */
};

void lazy_bind(struct lazy *, struct sync *);
void lazy_release(struct lazy *, struct sync *);
bool lazy_needed(struct lazy *, struct sync *, const struct range *);   /* what param_needed() has to do, and to say */
/* All exchanges of the step are queued: its updates are due from now on. Forward must have asked for all that were due before. */
void lazy_step(struct lazy *, struct sync *);
/* Whoever looks from outside, in settle() or consensus(), sees all updates. They are the same, only earlier. */
void lazy_land(struct lazy *, struct sync *);
void lazy_consensus(struct lazy *, struct sync *, float *out);
/* For cost(): when the next forward ends, in seconds from the beginning of backward, if bucket b's average is there at done[b]. Layers take
 * the same share of forward as of backward. A step is over then: what was sent has been awaited. */
double lazy_forward(const struct sync *, const struct range *bucket, int buckets, const double *done, const struct cost_model *);

#endif
