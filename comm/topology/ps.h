/*
 * Parameter servers: some ranks hold the model in shards, the workers push to them and pull from them.
 *
 * Paper: Li et al., "Scaling Distributed Machine Learning with the Parameter Server", OSDI 2014.
 *
 * The last `servers` ranks serve. A vector of n elements is cut into as many contiguous shards, one a server. A worker's
 * operations below are queued on its communication stream like any other; each sends every server a request and, with most of
 * them, its shard of a vector. A server knows no algorithm: it loops over requests, whatever comes first, until all workers have
 * said that they are done.
 *
 *   round     what all workers ask for is answered when all have asked, with the same bits for all, added up in the order of the ranks
 *   step      one worker's update is added to the shard as it comes; a read is answered as soon as it may be
 *
 * Clocks (Ho et al., NeurIPS 2013): the clock of a worker is the number of its updates that a server has. A read names the clock
 * that the slowest worker must have reached, and waits on the server until it has.
 *
 * Tickets: workers that go at their own pace must stop together, when all have processed so many samples. The last server counts the
 * samples of the steps that it has let workers take, and lets them take no more when they reach `until`. All who are refused hear the
 * same number.
 *
 * What servers hold is the sum of the updates, at first 0: the model is that sum plus the one that all workers started from.
 */
#ifndef COCOD_PS_H
#define COCOD_PS_H

#include "topology.h"

/* From now on the last ranks serve: size counts the workers, rank >= size is a server. All ranks, before anything is queued. */
void ps_open(struct comm *, int servers);
static inline bool ps_serves(const struct comm *comm) { return comm->rank >= comm->size; }

/* Elements [*from, *to) of n: a multiple of ARENA_ALIGN each but for the last; may be empty. */
void ps_shard(int64_t n, int servers, int server, int64_t *from, int64_t *to);

/* ---- workers ---- */

/* A round: the sum (maximum, …) of all workers' buffers, in place. */
void ps_allreduce(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);

struct ps_ticket {
	int64_t steps;                  /* that its owner may take; 0: none before a larger `until` */
	int64_t from;                   /* samples of all workers' steps before those */
};

struct ps_step {
	int64_t clock;                  /* updates of this worker before this one */
	bool ordered;                   /* as a round: added up in the order of the ranks once all have come; all workers read */
	int uses;                       /* reads after it, for so many clocks; 0: does not read */
	int64_t least;                  /* the slowest worker's clock that the read waits for */
	/* until > 0: the worker goes at its own pace. With a read it gets a ticket for the steps that it serves, of `batch` samples each. */
	int64_t until, batch;
	struct ps_ticket *ticket;       /* where to put it: host memory of the device (alloc_host), there when the read is */
};
/* Pushes the update (n floats). If it reads, the sum of all updates so far takes its place. */
void ps_push(struct comm *, float *update, int64_t n, const struct ps_step *);
/* A ticket for at most so many steps, without a push. */
void ps_ticket(struct comm *, int steps, int64_t batch, int64_t until, struct ps_ticket *);
/* A round: the sum of all updates. */
void ps_total(struct comm *, float *out, int64_t n);
/* A round: servers hold `sum` from now on (the same of all workers, as ps_total() gave it), this worker's clock, and how many samples they
 * have given tickets for. A ticket for 0 steps tells the latter. */
void ps_load(struct comm *, float *sum, int64_t n, int64_t clock, int64_t taken);
/* Virtual clock only: this worker is going to wait for others, who may need a server first. Until it asks again, servers do not wait for it. */
void ps_rest(struct comm *);
void ps_end(struct comm *);             /* this worker is done: ps_serve() returns when all have said so. The host waits */

double ps_bytes(int64_t n, int servers);        /* that a worker sends with a vector of n floats: itself and the requests in front */
/* Seconds of one vector there and back, one direction after the other: all workers share the links of the servers' nodes, and those of a
 * node its own. */
double ps_cost(const struct cost_model *, double bytes_up, double bytes_down, int servers);

/* ---- servers ---- */

enum { PS_AGES = 32 };

/* What a server has seen. The age of what a worker reads at its clock c is c - the slowest worker's clock at that moment. Where each
 * goes at its own pace clocks say nothing: there it is how many updates of others came between the read and the update that it led to. */
struct ps_record {
	bool own_pace;
	int64_t age[PS_AGES];           /* how many clocks ran on what age; the last entry: that or more */
	int64_t oldest, reads;
	int64_t requests;
};

/* Takes the decisions of arrival, like struct sync's log: at that worker's clock, "push" when its update was added, "read" when it
 * was answered, "ticket" when it was given one; value: the worker. Only where the rules leave the order open. */
typedef void ps_log_fn(void *context, int64_t clock, const char *what, int64_t worker, const char *why);

/* Serves until all workers have called ps_end(). The host loops. log may be NULL. */
void ps_serve(struct comm *, struct ps_record *, ps_log_fn *log, void *log_context);

#endif
