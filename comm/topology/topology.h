/*
 * Who mixes with whom. Here: all-reduce, everybody with everybody, built as a ring from exchanges and kernels on the
 * communicator's stream.
 */
#ifndef COCOD_TOPOLOGY_H
#define COCOD_TOPOLOGY_H

#include "../../core/option.h"
#include "../comm.h"
#include "../cost.h"

struct topology_ops {
	const char *name, *paper;
	const struct option *options;
};

extern const struct topology_ops *const topology_list[];        /* NULL-terminated */

/*
 * Ring all-reduce in place (Patarasuk & Yuan, 2009): every rank ends with the same bits. n elements of the type.
 * Needs ring_work(…) bytes of comm->work. Sends 2 (P-1)/P n elements a rank, in 2 (P-1) exchanges (more if segmented).
 */
void ring_allreduce(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
size_t ring_work(int64_t n, int size, enum dtype);
double ring_allreduce_cost(const struct cost_model *, double bytes);    /* seconds: 2 (P-1) (alpha + bytes/P beta) */

/* Ring all-gather in place: block r of `buffer` (size × bytes) is rank r's. Sends (P-1) blocks. */
void ring_allgather(struct comm *, void *buffer, int64_t bytes);
double ring_allgather_cost(const struct cost_model *, double bytes);    /* of one block: (P-1) (alpha + bytes beta) */

#endif
