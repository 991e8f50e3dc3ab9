/*
 * Binomial tree: sums go up to rank 0, the result comes down.
 *
 * Source: Thakur, Rabenseifner, Gropp: "Optimization of Collective Communication Operations in MPICH", IJHPCA 2005, for its two
 * halves.
 *
 *     up, 6 ranks     0 ← 1  2 ← 3  4 ← 5         down: the same arrows, turned round, from the last row to the first
 *                     0 ← 2         4
 *                     0 ← 4
 *
 * Any number of ranks: a member that is not there sends nothing. All ranks get rank 0's bits.
 *
 * Sent: every rank but the first sends its vector up once and is sent the result once: 2 (P-1)/P vectors on average, as the ring; but
 * rank 0 sends and receives log2 P of them. Cost: 2 ceil(log2 P) (alpha + n beta), less where segments follow one another up the tree.
 * Of `step` neighbours one sends in a row of the drawing: no two of a node cross its link at the same time. Where nodes are multiples of
 * 2 step workers, none does.
 */
#include "allreduce.h"

int tree_depth(int size)
{
	int depth = 0;

	for (int p = 1; p < size; p *= 2)
		depth++;
	return depth;
}

void tree_reduce(struct comm *comm, const struct team *t, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	int64_t size = (int64_t)dtype_size(type), segment = SEGMENT_BYTES / size;

	for (int64_t i = 0; i < n; i += segment) {
		int64_t count = segment_least(segment, n - i);
		char *at = (char *)buffer + i * size;
		int step = 1;

		for (; step < t->size && !(t->me & step); step *= 2) {
			if (t->me + step >= t->size)
				continue;
			comm_exchange(comm, -1, NULL, 0, team_rank(t, t->me + step), comm->work, count * size);
			comm->device->ops->vec->reduce(comm->stream, count, type, op, comm->work, at);
		}
		if (step < t->size)
			comm_exchange(comm, team_rank(t, t->me - step), at, count * size, -1, NULL, 0);
	}
}

void tree_broadcast(struct comm *comm, const struct team *t, void *buffer, int64_t bytes)
{
	int from = 1;

	while (from < t->size && !(t->me & from))
		from *= 2;
	for (int64_t i = 0; i < bytes; i += SEGMENT_BYTES) {
		int64_t count = segment_least(SEGMENT_BYTES, bytes - i);
		char *at = (char *)buffer + i;

		if (t->me)
			comm_exchange(comm, -1, NULL, 0, team_rank(t, t->me - from), at, count);
		for (int step = from / 2; step > 0; step /= 2)
			if (t->me + step < t->size)
				comm_exchange(comm, team_rank(t, t->me + step), at, count, -1, NULL, 0);
	}
}

static void tree_run(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	struct team all = team_of_all(comm);

	tree_reduce(comm, &all, buffer, n, type, op);
	tree_broadcast(comm, &all, buffer, n * (int64_t)dtype_size(type));
}

static size_t work(const struct comm *comm, int64_t n, enum dtype type)
{
	(void)comm;
	return segment_work(n, type);
}

static double vectors(int workers) { return 2.0 * (workers - 1) / workers; }

double tree_cost(const struct cost_model *m, double bytes)
{
	int group = m->per_node > 1 ? m->per_node : 1;
	double seconds = 0;

	for (int step = 1; step < m->workers; step *= 2)
		seconds += cost_step(m, m->workers > group && group % (2 * step) ? 1 : 0, bytes);
	return 2 * seconds;
}

const struct allreduce_ops allreduce_tree = {
	.name = "tree",
	.title = "tree all-reduce",
	.run = tree_run,
	.work = work,
	.vectors = vectors,
	.cost = tree_cost,
};
