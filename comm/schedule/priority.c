/*
 * In which order slices of gradients go if the most urgent goes first: a plan, made once, the same on every rank.
 *
 * Papers: Jayarajan et al., "Priority-based Parameter Propagation for Distributed DNN Training" (P3), MLSys 2019; Peng et al., "A Generic
 * Communication Scheduler for Distributed DNN Training Acceleration" (ByteScheduler), SOSP 2019.
 *
 *     backward finishes buckets b0, b1, … (last layers first); the next forward needs them the other way round
 *     whenever the network is free:  of the slices that are ready, one of the bucket with the highest number goes
 *
 * Both papers decide while they run, which parameter servers or a coordinator allow. A collective needs all ranks to take the same slice at
 * the same place in the order, and on a GPU the host has queued it long before. So the decisions are those of a simulation with
 * numbers that all ranks have: backward takes 1, of which each weight tensor has an equal part (in ResNets and VGGs layers cost
 * about the same, however many parameters they have; biases and batch norm cost nothing); the network sends `share` of the model
 * in that time.
 *
 * Example: b0 of four parts, b1 and b2 of two, a weight each; slices of two parts, share 1/2, so that a slice takes 1/2:
 *
 *     backward  0 ……………… 1/3 ……………… 2/3 ……………… 1                               b0 is ready at 1/3, b1 at 2/3, b2 at 1
 *     network           | b0, 1st half | b1             | b2             | b0, 2nd half |
 *                       1/3           5/6             4/3             11/6           7/3
 *
 * A share too large sends too much of the last layers before the first ones are ready: in the limit, in the order of backward. One too
 * small leaves the network waiting for gradients that the plan expects by then. What a run without priority reports tells: about
 * 2/3 compute_ms / comm_ms.
 *
 * The share could come from the fitted link and a timed backward, as mg-wfbp's plan does. It would gain little: on a slow network a plan for
 * any other slow one is nearly as good, and on a fast one the order does not matter. By the default, 0.7, a step of ResNet-18, VGG-16 or
 * AlexNet is at most 6 % longer than by the best plan whatever the network (build/…/test/test_priority; by 0.5 up to 18 %). So it stays a
 * number that all ranks know before anything is measured, and a run needs no second for that at its start.
 *
 * Limits: a slice is not interrupted. The plan knows neither stragglers nor a network that changes.
 */
#include <stdlib.h>

#include "../../core/die.h"
#include "schedule.h"

/* A bucket as the simulation sees it. */
struct waiting {
	double ready;                   /* when its gradients are final */
	int64_t sent;                   /* floats of it, so far */
};

static int weights_of(const struct range *bucket)
{
	int weights = 0;

	for (int i = 0; i < bucket->tensors; i++)
		weights += bucket->tensor[i].dims > 1;
	return weights;
}

static struct waiting *find_ready_times(const struct range *bucket, int buckets)
{
	struct waiting *wait = xcalloc((size_t)buckets, sizeof(*wait));
	int total = 0, so_far = 0;

	for (int b = 0; b < buckets; b++)
		total += weights_of(&bucket[b]);
	for (int b = 0; b < buckets; b++) {
		so_far += weights_of(&bucket[b]);
		wait[b].ready = total ? so_far / (double)total : 1;
	}
	return wait;
}

/* The most urgent of the buckets that are ready and not through; none: waits for the next one. */
static int next_bucket(const struct range *bucket, const struct waiting *wait, int buckets, double *now)
{
	int next = -1;

	for (int b = 0; b < buckets; b++) {
		if (wait[b].sent == bucket[b].n)
			continue;
		if (next < 0 && *now < wait[b].ready)
			*now = wait[b].ready;           /* times do not fall from bucket to bucket */
		if (wait[b].ready <= *now)
			next = b;
	}
	return next;
}

int schedule_slices(const struct range *bucket, int buckets, int64_t most, double share, struct slice **slices)
{
	struct waiting *wait = find_ready_times(bucket, buckets);
	int64_t total = bucket[buckets - 1].offset + bucket[buckets - 1].n - bucket[0].offset;
	int64_t length = most < ARENA_ALIGN ? ARENA_ALIGN : most / ARENA_ALIGN * ARENA_ALIGN;
	double now = 0;
	int count = 0, made = 0;

	for (int b = 0; b < buckets; b++)
		count += (int)((bucket[b].n + length - 1) / length);
	*slices = xcalloc((size_t)count, sizeof(**slices));
	while (made < count) {
		int b = next_bucket(bucket, wait, buckets, &now);
		int64_t left = bucket[b].n - wait[b].sent, n = left < length ? left : length;

		(*slices)[made++] = (struct slice){ { bucket[b].offset + wait[b].sent, n, NULL, 0 }, b, n == left };
		wait[b].sent += n;
		now += share > 0 ? (double)n / (share * (double)total) : 1;     /* 0: each takes longer than all of backward */
	}
	free(wait);
	return count;
}
