/*
 * The ways to build an all-reduce from exchanges and kernels: one file each, ring.c, doubling.c, tree.c, hierarchical.c. In all of
 * them each sum is made once, or by two ranks from the same operands in the same order: every rank ends with the same bits.
 */
#ifndef COCOD_ALLREDUCE_H
#define COCOD_ALLREDUCE_H

#include "topology.h"

struct allreduce_ops {
	const char *name, *title;       /* title: in a trace */
	void (*run)(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
	size_t (*work)(const struct comm *, int64_t n, enum dtype);     /* bytes of comm->work that run() needs */
	double (*vectors)(int workers);         /* how many times n elements a rank sends, on average over the ranks: exactly */
	double (*cost)(const struct cost_model *, double bytes);        /* seconds */
};

extern const struct allreduce_ops allreduce_ring, allreduce_doubling, allreduce_tree, allreduce_hierarchical;
extern const struct allreduce_ops *const allreduce_list[];     /* NULL-terminated */

/* Some ranks of a communicator, in an order that all of them know. */
struct team {
	const int *rank;                /* of each member; NULL: all ranks */
	int size, me;                   /* me: the place of the one that asks */
};

static inline int team_rank(const struct team *t, int member) { return t->rank ? t->rank[member] : member; }
static inline struct team team_of_all(const struct comm *comm) { return (struct team){ NULL, comm->size, comm->rank }; }

struct allreduce_plan {
	const struct allreduce_ops *ops;        /* NULL: what link's formulas choose */
	struct cost_model link;
	struct team group, leaders;     /* the ranks of this one's host; the first of each host (me: -1 if this one is none) */
	int *ranks;                     /* their lists */
	int *node;                      /* of each rank the first one of its group */
};

/* What is long goes in segments, so that a received one is still in the cache when it is added; 4 MiB measured best
 * (test/bench_allreduce.c). */
enum { SEGMENT_BYTES = 4 << 20 };

static inline int64_t segment_least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline size_t segment_work(int64_t n, enum dtype type) { return (size_t)segment_least(n * (int64_t)dtype_size(type), SEGMENT_BYTES); }

/* The parts that hierarchical is made of. */
void ring_among(struct comm *, const struct team *, void *buffer, int64_t n, enum dtype, enum reduce);
void tree_reduce(struct comm *, const struct team *, void *buffer, int64_t n, enum dtype, enum reduce);        /* to member 0 */
void tree_broadcast(struct comm *, const struct team *, void *buffer, int64_t bytes);   /* from member 0 */
int tree_depth(int size);               /* messages one after the other in either: ceil(log2 size) */

#endif
