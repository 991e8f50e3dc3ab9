/*
 * Who mixes with whom. Here: all-reduce, everybody with everybody, on the communicator's stream: by the transport's own collective
 * if it has one (NCCL), else of exchanges and kernels in one of four ways (allreduce.h), or by parameter servers (ps.h). Algorithms
 * call comm_allreduce() and comm_allgather().
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
 * told of an n at least as large of an element as large. Counted is what is sent, and for a library's own what the ring would send,
 * 2 (P-1)/P n elements: a library does not tell, and may send less (NVLink's switches add).
 */
void comm_allreduce(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
void comm_expect_allreduce(struct comm *, int64_t n, enum dtype);
/* Of one all-reduce of n floats, with so many workers: bytes that each sends, on average; seconds. comm NULL: without servers. */
double comm_allreduce_bytes(const struct comm *, double n, int workers);
double comm_allreduce_cost(const struct comm *, const struct cost_model *, double bytes);
/*
 * How it is built from now on, topology.allreduce: the name of a way (allreduce.h), or "auto": for each length the one that
 * link's formulas say is fastest. host: of each rank a number, equal for those that hierarchical takes as one group. All ranks, with
 * the same arguments; before comm_expect_allreduce(). Without this call: the ring. A library's own takes the place of "ring" and "auto".
 */
void comm_plan_allreduce(struct comm *, const char *name, const int *host, const struct cost_model *link);
void comm_unplan_allreduce(struct comm *);
/* The groups of that plan, whichever way it goes: of each rank the first one of its group. NULL: nothing was planned. */
const int *comm_nodes(const struct comm *);
const char *comm_allreduce_way(const struct comm *, double bytes);      /* the name of what carries so many bytes, for the user */
/*
 * An all-reduce in two halves, and whatever the caller likes between them: the same buffer, n and type for both. In between each rank holds
 * the sums of a part of its own, and the rest means nothing. By exchanges they are the ring's phases, and leave its bits; a library
 * may add in another order than in its all-reduce. Counted: what the ring sends, half of it each (P even parts). Where the all-reduce is a
 * ring or a library's only; comm_expect_allreduce() as for that.
 */
void comm_reduce_scatter(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
void comm_gather_sums(struct comm *, void *buffer, int64_t n, enum dtype);
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
/* Its two phases: rank r holds chunk r+1 between them. */
void ring_reduce_scatter(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
void ring_gather_chunks(struct comm *, void *buffer, int64_t n, enum dtype);

/* Ring all-gather in place. Sends (P-1) blocks, in (P-1) exchanges. */
void ring_allgather(struct comm *, void *buffer, int64_t bytes);
double ring_allgather_cost(const struct cost_model *, double bytes);    /* of one block: (P-1) (alpha + bytes beta) */

/* Seconds of the other patterns, with so many bytes in every message: recursive doubling, up a tree and down again. */
double doubling_cost(const struct cost_model *, double bytes);
double doubling_guest_cost(const struct cost_model *, double bytes);    /* of one more message between guests and hosts; P = 2^m: 0 */
double tree_cost(const struct cost_model *, double bytes);

#endif
