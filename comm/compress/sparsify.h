/* What top-k and gTop-k share: density with warm-up, residuals, lists, error feedback. */
#ifndef COCOD_SPARSIFY_H
#define COCOD_SPARSIFY_H

#include "compress.h"

extern const struct option sparsify_options[];

struct sparsify {
	double density, warmup[32];     /* warmup[e]: density of epoch e, then `density` */
	int warmups;
	double now;                     /* density in force */
	float *residual;                /* arena of n */
	struct sparse *own;             /* what this rank picked, unweighted; longest range at the highest density */
	struct sparse *list;            /* `lists` lists of most_k entries */
	int64_t most_k;
	void *work;
};

int sparsify_init(struct sparsify *, struct compress *, const struct config *);
void sparsify_bind(struct sparsify *, struct compress *, const struct range *, int count, int lists);
void sparsify_epoch(struct sparsify *, int64_t epoch);
int64_t sparsify_k(const struct sparsify *, int64_t n);         /* max(1, floor(density n)) */
void sparsify_release(struct sparsify *, struct compress *);

#endif
