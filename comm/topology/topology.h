/*
 * Who mixes with whom. Here: all-reduce, everybody with everybody, on the communicator's stream: by the transport's own collective
 * if it has one (NCCL), else as a ring of exchanges and kernels, or by parameter servers (ps.h). Algorithms call comm_allreduce() and
 * comm_allgather().
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
 * All-reduce in place: every rank ends with the same bits. n elements of the type. While opening, comm_expect_allreduce() must have
 * told of an n at least as large of an element as large. Counted are the bytes that the ring sends, 2 (P-1)/P n elements, whoever
 * carries it: a library does not tell what it sends, and may send less (NVLink's switches add).
 */
void comm_allreduce(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
void comm_expect_allreduce(struct comm *, int64_t n, enum dtype);
/* Of one all-reduce of n floats, with so many workers: bytes that each sends, on average; seconds. comm NULL: without servers. */
double comm_allreduce_bytes(const struct comm *, double n, int workers);
double comm_allreduce_cost(const struct comm *, const struct cost_model *, double bytes);
/* All-gather in place: block r of `buffer` (size × bytes) is rank r's. Counted: (P-1) blocks. */
void comm_allgather(struct comm *, void *buffer, int64_t bytes);

/*
 * Ring all-reduce in place (Patarasuk & Yuan, 2009): every rank ends with the same bits. n elements of the type.
 * Needs ring_work(…) bytes of comm->work. Sends 2 (P-1)/P n elements a rank, in 2 (P-1) exchanges (more if segmented).
 */
void ring_allreduce(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
size_t ring_work(int64_t n, int size, enum dtype);
int64_t ring_allreduce_elements(int64_t n, int size, int rank);         /* that this rank sends, exactly */
double ring_allreduce_cost(const struct cost_model *, double bytes);    /* seconds: 2 (P-1) (alpha + bytes/P beta) */

/* Ring all-gather in place. Sends (P-1) blocks, in (P-1) exchanges. */
void ring_allgather(struct comm *, void *buffer, int64_t bytes);
double ring_allgather_cost(const struct cost_model *, double bytes);    /* of one block: (P-1) (alpha + bytes beta) */

#endif
