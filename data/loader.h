/*
 * The loader turns a split into batches: order, shards, augmentation, normalisation, prefetch.
 *
 * Order: every epoch is a permutation of the whole split, a function of (seed, epoch) alone, cut into one contiguous, disjoint
 * shard a worker; together they are the whole split, their sizes in the ratio of the workers' batch sizes. Worker i takes whole
 * batches of its size from its shard; all take the same number of steps, floor(count / ΣM); the few samples left over differ from
 * epoch to epoch. Augmentation of a sample is a function of (seed, epoch, sample). So neither the number of threads nor a
 * resume changes a bit.
 *
 * With a partition (partition.h) each worker owns its samples: an epoch is a permutation of its own ones, a function of (seed, epoch,
 * worker). Everything else is the same.
 *
 * Evaluation: the split in order, cut into contiguous shards of ceil sizes; the last batch is filled up with label -1.
 */
#ifndef COCOD_LOADER_H
#define COCOD_LOADER_H

#include "../core/device.h"
#include "dataset.h"

struct loader;
struct partition;

struct loader_config {
	uint64_t seed;
	bool train;                     /* permuted, augmented, whole batches; else in order, plain, last batch filled up */
	bool augment;                   /* random crop and flip, as the data set allows */
	int workers, worker;
	const int *batch;               /* batch size of each worker (M_i) */
	const struct partition *partition;      /* (train) who owns what, for these workers and batches; NULL or iid: nobody. Outlives the loader */
	int prefetch;                   /* batches made ahead by the loader's thread; 0: made by the caller */
	bool draws;                     /* batches are records for a device that augments by itself (batch.draw), not images */
	bool cyclic;                    /* (train) never ends: epoch follows epoch; else ends after each epoch until loader_start */
};

struct batch {
	const float *image;             /* M × h × w × c, normalised: (v / 255 - mean) / std; NULL if draws were asked for */
	const struct image_draw *draw;  /* M records: which sample, its crop and flip; NULL if not asked for */
	const int32_t *label;           /* M; -1: filler */
	const int64_t *sample;          /* M, index into the split; -1: filler */
	int count;                      /* real samples */
	int64_t epoch, step;            /* of this batch; step inside the epoch */
};

/* NULL: a mistake was recorded (fewer training images than one step of all workers takes). */
struct loader *loader_open(const struct dataset *, const struct split *, const struct loader_config *);
void loader_close(struct loader *);
int64_t loader_steps(const struct loader *);                    /* per epoch (train), or for the whole shard */
/* Begins at this epoch and step (train) or anew (evaluation); what was prefetched is dropped. Needed before the first next. */
void loader_start(struct loader *, int64_t epoch, int64_t step);
/* The next batch, valid until the following call; false at the end. Blocks until it is made. */
bool loader_next(struct loader *, struct batch *);
double loader_waited(const struct loader *);                    /* seconds spent in loader_next: blocked, or making the batch */

/* The pieces, for tests: order[count] of an epoch; the shard [*from, *to) of a worker in it. */
void loader_order(uint64_t seed, int64_t epoch, int64_t count, uint32_t *order);
void loader_shard(int64_t count, int workers, const int *batch, int worker, int64_t *from, int64_t *to);

#endif
