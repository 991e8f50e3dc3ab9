/*
 * Ring all-reduce and all-gather on kept buffers.
 *
 * Description: the vector is cut into P chunks. Reduce-scatter: in step s rank r sends chunk r-s to r+1 and adds what r-1 sends to
 * its chunk r-s-1; after P-1 steps rank r holds the sum of chunk r+1. All-gather: the finished chunks go round once more.
 *
 * Example on 3 ranks, chunks a b c, upper case finished (a01 = a of ranks 0 and 1 added):
 *
 *              rank 0           rank 1           rank 2
 *     step 0   sends a          sends b          sends c
 *     step 1   c02 → 1          a01 → 2          b12 → 0
 *     then     B                C                A            each goes round in 2 more steps
 *
 * Every chunk is added up in one fixed order and then copied: all ranks end with the same bits, and a run repeats them. The two
 * phases can be had one by one, with something else between them.
 *
 * Limitations: 2 (P-1) latencies; short vectors are better off with recursive doubling.
 */
#include "allreduce.h"

enum { CHUNK_ALIGN = 16 };

static void chunk(int64_t n, int size, int index, int64_t *from, int64_t *to)
{
	int64_t units = (n + CHUNK_ALIGN - 1) / CHUNK_ALIGN;

	index = (index % size + size) % size;
	*from = units * index / size * CHUNK_ALIGN;
	*to = units * (index + 1) / size * CHUNK_ALIGN;
	if (*from > n)
		*from = n;
	if (*to > n)
		*to = n;
}

size_t ring_work(int64_t n, int size, enum dtype type)
{
	int64_t longest = ((n + CHUNK_ALIGN - 1) / CHUNK_ALIGN / size + 1) * CHUNK_ALIGN;

	return segment_work(longest, type);
}

/* One step of either phase: chunk `out` to the right, chunk `in` from the left, added or copied. Segment lengths follow from the
 * chunk lengths, which both neighbours know. */
static void ring_step(struct comm *comm, const struct team *t, char *buffer, int64_t n, enum dtype type, enum reduce op, bool add,
                      int out, int in)
{
	int64_t size = (int64_t)dtype_size(type), segment = SEGMENT_BYTES / size;
	int right = team_rank(t, (t->me + 1) % t->size), left = team_rank(t, (t->me + t->size - 1) % t->size);
	int64_t send, send_end, recv, recv_end;

	chunk(n, t->size, out, &send, &send_end);
	chunk(n, t->size, in, &recv, &recv_end);
	while (send < send_end || recv < recv_end) {
		int64_t s = segment_least(segment, send_end - send), r = segment_least(segment, recv_end - recv);

		comm_exchange(comm, s ? right : -1, buffer + send * size, s * size,
		              r ? left : -1, add ? (char *)comm->work : buffer + recv * size, r * size);
		if (add && r)
			comm->device->ops->vec->reduce(comm->stream, r, type, op, comm->work, buffer + recv * size);
		send += s;
		recv += r;
	}
}

static void reduce_phase(struct comm *comm, const struct team *t, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	for (int s = 0; s < t->size - 1; s++)
		ring_step(comm, t, buffer, n, type, op, true, t->me - s, t->me - s - 1);
}

static void gather_phase(struct comm *comm, const struct team *t, void *buffer, int64_t n, enum dtype type)
{
	for (int s = 0; s < t->size - 1; s++)
		ring_step(comm, t, buffer, n, type, REDUCE_SUM, false, t->me + 1 - s, t->me - s);
}

void ring_among(struct comm *comm, const struct team *t, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	reduce_phase(comm, t, buffer, n, type, op);
	gather_phase(comm, t, buffer, n, type);
}

void ring_reduce_scatter(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	struct team all = team_of_all(comm);

	reduce_phase(comm, &all, buffer, n, type, op);
}

void ring_gather_chunks(struct comm *comm, void *buffer, int64_t n, enum dtype type)
{
	struct team all = team_of_all(comm);

	gather_phase(comm, &all, buffer, n, type);
}

void ring_allreduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	struct team all = team_of_all(comm);

	ring_among(comm, &all, buffer, n, type, op);
}

/* Rank r sends every chunk twice, but for r+1 in the first phase and r+2 in the second. */
int64_t ring_allreduce_elements(int64_t n, int size, int rank)
{
	int64_t sum = size > 1 ? 2 * n : 0, from, to;

	for (int kept = 1; kept <= 2 && size > 1; kept++) {
		chunk(n, size, rank + kept, &from, &to);
		sum -= to - from;
	}
	return sum;
}

double ring_allreduce_cost(const struct cost_model *m, double bytes)
{
	return 2.0 * (m->workers - 1) * cost_step(m, cost_across_ring(m, 1), bytes / m->workers);
}

void ring_allgather(struct comm *comm, void *buffer, int64_t bytes)
{
	int p = comm->size, r = comm->rank;
	char *block = buffer;

	for (int s = 0; s < p - 1; s++)
		comm_exchange(comm, (r + 1) % p, block + (r - s + p) % p * bytes, bytes,
		              (r + p - 1) % p, block + (r - s - 1 + p) % p * bytes, bytes);
}

double ring_allgather_cost(const struct cost_model *m, double bytes)
{
	return (m->workers - 1) * cost_step(m, cost_across_ring(m, 1), bytes);
}

static size_t work(const struct comm *comm, int64_t n, enum dtype type) { return ring_work(n, comm->size, type); }
static double vectors(int workers) { return 2.0 * (workers - 1) / workers; }

const struct allreduce_ops allreduce_ring = {
	.name = "ring",
	.title = "ring all-reduce",
	.run = ring_allreduce,
	.work = work,
	.vectors = vectors,
	.cost = ring_allreduce_cost,
};
