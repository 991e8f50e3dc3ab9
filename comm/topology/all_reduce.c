/*
 * All-reduce and all-gather as algorithms call them: the transport's own, or built of exchanges in the way that was planned. With
 * parameter servers the sum is made there.
 *
 * A library's own is counted as the ring, so that a figure of "bytes sent" means the algorithm's volume, whatever carries it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/die.h"
#include "../../core/trace.h"
#include "../wire.h"
#include "allreduce.h"
#include "ps.h"

const struct allreduce_ops *const allreduce_list[] = {
	&allreduce_ring,
	&allreduce_doubling,
	&allreduce_tree,
	&allreduce_hierarchical,
	NULL,
};

/* ---- which way ---- */

/* The groups in the order of their first ranks. */
static void plan_teams(struct allreduce_plan *plan, const struct comm *comm, const int *host)
{
	int *group = plan->ranks, *leader = group + comm->size, *node = leader + comm->size;

	plan->group = (struct team){ group, 0, 0 };
	plan->leaders = (struct team){ leader, 0, -1 };
	plan->node = node;
	for (int r = 0; r < comm->size; r++) {
		bool first;

		for (node[r] = 0; host[node[r]] != host[r]; node[r]++)
			;
		first = node[r] == r;
		if (host[r] == host[comm->rank]) {
			if (r == comm->rank)
				plan->group.me = plan->group.size;
			group[plan->group.size++] = r;
		}
		if (first) {
			if (r == comm->rank)
				plan->leaders.me = plan->leaders.size;
			leader[plan->leaders.size++] = r;
		}
	}
}

void comm_plan_allreduce(struct comm *comm, const char *name, const int *host, const struct cost_model *link)
{
	struct allreduce_plan *plan = xcalloc(1, sizeof(*plan));

	comm_unplan_allreduce(comm);
	for (int i = 0; allreduce_list[i]; i++)
		if (!strcmp(allreduce_list[i]->name, name))
			plan->ops = allreduce_list[i];
	CHECK(plan->ops || !strcmp(name, "auto"));
	plan->link = *link;
	plan->link.workers = comm->size;
	plan->ranks = xcalloc(3 * (size_t)comm->size, sizeof(*plan->ranks));
	plan_teams(plan, comm, host);
	comm->plan = plan;
}

void comm_unplan_allreduce(struct comm *comm)
{
	if (comm->plan)
		free(comm->plan->ranks);
	free(comm->plan);
	comm->plan = NULL;
}

const int *comm_nodes(const struct comm *comm) { return comm->plan ? comm->plan->node : NULL; }

/* A library cannot be told how; what it does best is its affair. */
static bool by_library(const struct comm *comm)
{
	return comm->ops->allreduce && (!comm->plan || !comm->plan->ops || comm->plan->ops == &allreduce_ring);
}

static const struct allreduce_ops *way(const struct comm *comm, const struct cost_model *m, double bytes)
{
	const struct allreduce_ops *best = &allreduce_ring;

	if (!comm || !comm->plan || by_library(comm))
		return best;
	if (comm->plan->ops)
		return comm->plan->ops;
	for (int i = 0; allreduce_list[i]; i++)
		if (allreduce_list[i]->cost(m, bytes) < best->cost(m, bytes))
			best = allreduce_list[i];
	return best;
}

const char *comm_allreduce_way(const struct comm *comm, double bytes)
{
	return by_library(comm) ? comm->ops->name : way(comm, comm->plan ? &comm->plan->link : NULL, bytes)->name;
}

/* ---- all-reduce ---- */

void comm_expect_allreduce(struct comm *comm, int64_t n, enum dtype type)
{
	if (comm->servers || by_library(comm))
		return;
	if (!comm->plan)
		comm_reserve(comm, allreduce_ring.work(comm, n, type));
	for (int i = 0; allreduce_list[i] && comm->plan; i++)           /* shorter ones may go another way, and need no more */
		if (!comm->plan->ops || comm->plan->ops == allreduce_list[i])
			comm_reserve(comm, allreduce_list[i]->work(comm, n, type));
}

/* Ends what wire_begin() began, with a share of what an all-reduce of so many bytes takes. */
static void end_timed(struct comm *comm, bool timed, double share, double bytes)
{
	if (timed)
		wire_end_collective(comm, share * comm_allreduce_cost(comm, wire_link(comm), bytes));
}

static void begin_traced(struct comm *comm, const char *name, int64_t bytes) { trace_whole(comm->stream, name, "bytes", bytes); }

static void end_traced(struct comm *comm)
{
	trace_end(comm->stream);
	comm_trace_sent(comm);
}

static void all_reduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	double bytes = (double)n * (double)dtype_size(type);

	if (comm->servers) {
		ps_allreduce(comm, buffer, n, type, op);
	} else if (!by_library(comm)) {
		bool timed = wire_begin(comm);

		way(comm, comm->plan ? &comm->plan->link : NULL, bytes)->run(comm, buffer, n, type, op);
		end_timed(comm, timed, 1, bytes);
	} else if (comm->size > 1 && n > 0) {
		comm->bytes_sent += ring_allreduce_elements(n, comm->size, comm->rank) * (int64_t)dtype_size(type);
		comm->ops->allreduce(comm, buffer, n, type, op);
	}
}

/* What happens between workers and servers is told span by span. */
void comm_allreduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	int64_t bytes = n * (int64_t)dtype_size(type);

	if (comm->servers)
		trace_begin(comm->stream, "all-reduce by servers", "bytes", bytes);
	else if (by_library(comm))
		begin_traced(comm, "library all-reduce", bytes);
	else
		begin_traced(comm, way(comm, comm->plan ? &comm->plan->link : NULL, (double)bytes)->title, bytes);
	all_reduce(comm, buffer, n, type, op);
	end_traced(comm);
}

/* ---- in two halves ---- */

/* A library's parts are equal blocks that begin where its kernels like it, at multiples of 16 bytes; what is left over is reduced at once. */
static int64_t even_part(const struct comm *comm, int64_t n) { return n / comm->size / 4 * 4; }

void comm_reduce_scatter(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	int64_t size = (int64_t)dtype_size(type), part = even_part(comm, n), even = part * comm->size;

	begin_traced(comm, "reduce-scatter", n * size);
	CHECK(!comm->servers && (by_library(comm) || !comm->plan || comm->plan->ops == &allreduce_ring));
	if (!by_library(comm)) {
		bool timed = wire_begin(comm);

		ring_reduce_scatter(comm, buffer, n, type, op);
		end_timed(comm, timed, 0.5, (double)(n * size));
	} else {
		if (comm->size > 1 && part > 0) {
			comm->bytes_sent += (comm->size - 1) * part * size;
			comm->ops->reduce_scatter(comm, buffer, part, type, op);
		}
		all_reduce(comm, (char *)buffer + even * size, n - even, type, op);
	}
	end_traced(comm);
}

void comm_gather_sums(struct comm *comm, void *buffer, int64_t n, enum dtype type)
{
	bool timed;

	if (by_library(comm)) {
		comm_allgather(comm, buffer, even_part(comm, n) * (int64_t)dtype_size(type));
		return;
	}
	begin_traced(comm, "all-gather", n * (int64_t)dtype_size(type));
	timed = wire_begin(comm);
	ring_gather_chunks(comm, buffer, n, type);
	end_timed(comm, timed, 0.5, (double)(n * (int64_t)dtype_size(type)));
	end_traced(comm);
}

double comm_allreduce_bytes(const struct comm *comm, double n, int workers)
{
	struct cost_model m = { 0 };

	if (comm && comm->servers)
		return ps_bytes((int64_t)n, comm->servers);
	if (comm && comm->plan)
		m = comm->plan->link;
	m.workers = workers;
	return way(comm, &m, 4.0 * n)->vectors(workers) * 4.0 * n;
}

double comm_allreduce_cost(const struct comm *comm, const struct cost_model *m, double bytes)
{
	return comm && comm->servers ? ps_cost(m, bytes, bytes, comm->servers) : way(comm, m, bytes)->cost(m, bytes);
}

/* ---- all-gather ---- */

void comm_allgather(struct comm *comm, void *buffer, int64_t bytes)
{
	CHECK(!comm->servers);          /* servers only add; sync_init() has refused whoever gathers */
	begin_traced(comm, "all-gather", comm->size * bytes);
	if (!comm->ops->allgather) {
		bool timed = wire_begin(comm);

		ring_allgather(comm, buffer, bytes);
		if (timed)
			wire_end_collective(comm, ring_allgather_cost(wire_link(comm), (double)bytes));
	} else if (comm->size > 1 && bytes > 0) {
		comm->bytes_sent += (comm->size - 1) * bytes;
		comm->ops->allgather(comm, buffer, bytes);
	}
	end_traced(comm);
}
