/*
 * Who owns which training sample.
 *
 *   iid         nobody: each epoch's permutation of all samples is cut into shards (loader.h)
 *   sorted      the samples in the order of their labels, cut into contiguous shards
 *   dirichlet   each class is divided among the workers in proportions drawn from a Dirichlet distribution (Hsu, Qi, Brown 2019;
 *               Li et al. 2022): small alpha gives a worker few labels, a large one the same mixture as everybody
 *
 * A fixed partition is complete and disjoint, and its shards have the sizes that iid's have (loader_shard): in the ratio of the
 * batch sizes M_i, so that all workers take the same number of steps an epoch. Proportions that are merely drawn do not add up to
 * such sizes. So they are balanced: rows (classes) and columns (workers) of the table are scaled in turn until its sums are the
 * numbers of images of each class and the shard sizes. This keeps the odds between two workers for two classes, and of all tables
 * with those sums it is the nearest to the one drawn (in relative entropy); then it is rounded, with exact sums.
 */
#ifndef COCOD_PARTITION_H
#define COCOD_PARTITION_H

#include "dataset.h"

enum partition_kind { PARTITION_IID, PARTITION_SORTED, PARTITION_DIRICHLET };

struct partition_rule {
	enum partition_kind kind;
	double alpha;                   /* Dirichlet: concentration; for unequal workers it is that of an average one */
	uint64_t seed;
};

struct partition {
	struct partition_rule rule;
	int workers, classes;
	int64_t *from;                  /* workers + 1: worker w owns sample[from[w]] … sample[from[w + 1] - 1] */
	uint32_t *sample;               /* every sample once; NULL: iid */
	int64_t *count;                 /* workers × classes: images of each label that a worker owns; NULL: iid */
};

extern const struct option partition_options[];         /* keys of group "data" */
struct partition_rule partition_rule(const struct config *, uint64_t seed);
const char *partition_name(enum partition_kind);

/* batch: M_i of each worker, together no more than the split has. Labels are below `classes`. */
void partition_open(struct partition *, const struct partition_rule *, const struct split *, int classes, int workers, const int *batch);
void partition_close(struct partition *);

/* How far the workers' mixtures are from the whole set's: the share of the images that would have to change hands, 0 … 1. 0 for iid. */
double partition_skew(const struct partition *);

#endif
