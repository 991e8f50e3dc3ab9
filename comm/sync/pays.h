/*
 * Does compressing pay? The same algorithm with several compressors, by its formulas: what a step takes with each, and on which networks one
 * beats sending everything. No device, no messages: what goes in was measured or given by others.
 */
#ifndef COCOD_PAYS_H
#define COCOD_PAYS_H

#include <stdio.h>

#include "sync.h"

/* Bandwidths, Gbit/s: from <= it < to. from 0: any slower; to INFINITY: any faster; from INFINITY: none. */
struct band {
	double from, to;
};

struct rival {
	char name[80];                  /* for the user: "topk, density 0.01" */
	const struct sync *sync;        /* as far as its formulas need it */
	double kernels;                 /* cost_model's, with this compressor */
	bool chosen;                    /* the run's */
	/* By pays_predict(); of a step: */
	double step, exposed;           /* seconds; exposed: beyond what computing alone takes */
	double bytes;                   /* that a rank sends */
	struct band wins;               /* over rival 0 */
};

/* Fills in the predictions, on the machine that the model says. The first rival is dense. */
void pays_predict(struct rival *, int count, const struct cost_model *);
/* On which bandwidths a step with `a` is shorter than with `dense`; everything else as the model says. If there are several such bands
 * (no formula of ours has them), the slowest one. */
struct band pays_where(const struct rival *a, const struct rival *dense, const struct cost_model *);
/* Keeps, in this order: the dense one, the chosen one, and of the others the `most` fastest, the fastest first. Returns how many. */
int pays_keep(struct rival *, int count, int most);
void pays_print(FILE *, const struct rival *, int count, const struct cost_model *);
/* What to tell a user whose choice loses by more than `margin` of the dense step; to be freed. NULL: it does not. */
char *pays_warning(const struct rival *, int count, const struct cost_model *, double margin);

#endif
