/*
 * Hierarchical all-reduce: the sum of each host to its first rank, a ring of these, the result back inside each host.
 *
 * Source: the scheme of several MPI libraries and of Jia et al., "Highly Scalable Deep Learning Training System with Mixed-Precision",
 * 2018 (arXiv 1807.11205), section 3.3.
 *
 *     2 hosts of 3      0 ← 1, 0 ← 2        3 ← 4, 3 ← 5         trees inside the hosts
 *                       0 ↔ 3                                    a ring of the hosts
 *                       0 → 1, 0 → 2        3 → 4, 3 → 5
 *
 * Groups may be of any size, also unequal. All ranks of a group get their leader's bits, and all leaders have the ring's.
 *
 * Sent, with L groups: P - L vectors up, 2 (L-1) in the ring, P - L down: 2 (P-1)/P a rank on average, as the ring; but between the
 * hosts only 2 (L-1)/L a host. Cost: 2 ceil(log2 g) (alpha' + n beta') + 2 (L-1) (alpha + n/L beta), alpha' and beta' inside a host of g.
 */
#include "allreduce.h"

static void hierarchical_run(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	const struct allreduce_plan *plan = comm->plan;

	tree_reduce(comm, &plan->group, buffer, n, type, op);
	if (plan->leaders.me >= 0)
		ring_among(comm, &plan->leaders, buffer, n, type, op);
	tree_broadcast(comm, &plan->group, buffer, n * (int64_t)dtype_size(type));
}

static size_t work(const struct comm *comm, int64_t n, enum dtype type)
{
	(void)comm;
	return segment_work(n, type);
}

static double vectors(int workers) { return 2.0 * (workers - 1) / workers; }

static double cost(const struct cost_model *m, double bytes)
{
	int group = m->per_node > m->workers ? m->workers : m->per_node > 1 ? m->per_node : 1;
	int groups = (m->workers + group - 1) / group;
	double inside = 2.0 * tree_depth(group) * (m->intra_latency + bytes * m->intra_per_byte);

	return inside + 2.0 * (groups - 1) * (m->latency + bytes / groups * m->per_byte);
}

const struct allreduce_ops allreduce_hierarchical = {
	.name = "hierarchical",
	.title = "hierarchical all-reduce",
	.run = hierarchical_run,
	.work = work,
	.vectors = vectors,
	.cost = cost,
};
