/*
 * How many samples all workers together have processed, where each goes at its own pace and no server counts. Everybody's counts go
 * round on a communicator of their own while training goes on, P numbers again and again; nobody waits for them but at the end.
 *
 *     claim, in front of each step:   if a round has come:   known = what it brought;   if sum(known) >= until: one more, and stop
 *                                     if none is under way:  begin one with the own count
 *                                     guess >= until:        wait for the round, and again;   else take the step
 *
 * The guess: since the last round began all have gone on as we have, in the proportion of the rounds in which we never waited (at
 * first, of the batches). A guess too high only costs waiting: in the end the round tells of our last step, too, and the guess is what
 * it brought.
 *
 * Why all stop: a round brings the same numbers to all, and so all stop behind the same one. Whoever thinks that it is enough takes
 * no step, but goes on with the rounds until everybody has heard of it. The one more is exact, since nobody takes a step any more.
 *
 * How far they overshoot: with steady paces by a step each, and less than all do in a step of the slowest. At worst, if all get faster
 * at once, by what they do in three steps of the slowest: a round is over when it has begun it too, in front of one of its steps; it
 * tells what the others had done a step of the slowest before; and the slowest hears of it after its next one.
 */
#ifndef COCOD_TALLY_H
#define COCOD_TALLY_H

#include "../comm.h"

struct tally {
	struct comm *comm;              /* its own; NULL: one worker */
	struct event *arrived;
	int64_t own;                    /* samples that this worker has processed: the caller adds to it */
	int64_t *known, *coming;        /* everybody's, by the last round; of the round under way */
	double others;                  /* samples of the others for one of ours, to begin with */
	int64_t moved, moved_own;       /* in rounds in which we never waited: all, this worker */
	int64_t said;                   /* the last guess: they never fall */
	int64_t rounds;
	bool under_way, idle;           /* idle: we waited between its begin and that of the one before */
};

/* All ranks together. like: on a CPU device, or NULL for one worker; others: samples of the others for one of ours, to begin with. */
void tally_open(struct tally *, struct comm *like, double others);
void tally_close(struct tally *);
int64_t tally_claim(struct tally *, int64_t until);     /* claim() of sync.h */

#endif
