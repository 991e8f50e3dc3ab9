/*
 * The run as it would be with another algorithm or compressor: as far as formulas need it, never bound. Behind its warm-up: densities
 * and dense first rounds are those of later steps.
 */
#ifndef COCOD_VARIANT_H
#define COCOD_VARIANT_H

#include "run.h"

struct variant {
	struct config *config;
	struct sync sync;
	struct comm comm;               /* that its formulas ask: the run's, or one that is only imagined, with the servers that there would be */
};

/* NULL: the run's own. False, and nothing to close: the combination has no meaning. It may not be moved while it is open. */
bool variant_open(struct run *, struct variant *, const char *algorithm, const char *topology, const char *method);
void variant_close(struct variant *);
/* What the all-reduce would be on that machine, if nothing is bound; else it stays the run's. */
void variant_plan(const struct run *, struct variant *, const struct cost_model *);
/* Seconds of its compressor beside the messages of an average: cluster.compute.compress_ns, else measured, which all workers do together;
 * 0 where neither is possible. */
double variant_kernels(struct run *, const struct variant *);
double variant_own_kernels(struct run *);       /* of the run's own compressor; 0 where none is needed */
void variant_name(const struct variant *, char *out, size_t size);      /* of its compressor: "topk, density 0.01" */

#endif
