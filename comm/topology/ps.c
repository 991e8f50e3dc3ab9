/*
 * The workers' side of parameter servers: requests as operations on the communication stream (ps.h).
 *
 *     all-reduce        request + shard 0 → server 0, request + shard 1 → server 1, …;   then … shard 1 ← server 1, shard 0 ← server 0
 *     step              the same; without a read nothing comes back
 *
 *     worker 0   | push 0 | push 1 |        wait        | pull 1 | pull 0 |
 *     worker 1        | push 0 | push 1 |   wait                | pull 1 | pull 0 |
 *     server 0   | from 0 | from 1 | add | to 0 | to 1 |
 *
 * Deadlock: a server that answers stands still until the worker takes the answer. So answers are taken in the order opposite to
 * that of the pushes. Then the last server always goes on: whoever it answers has pushed to all, and takes its answer first. And if all
 * servers after s go on, so does s: between the push to it and its answer, a worker waits only for servers after s; and for pushes
 * to them by others, who have pushed the same to s already, or s would not answer.
 *
 * Limits: a worker sends or receives, never both at once, and one server after the other; its link is used in one direction. The
 * servers' links are what all workers share: W workers take W/S times as long as one.
 */
#include <math.h>

#include "../../core/die.h"
#include "../../core/range.h"
#include "../../core/trace.h"
#include "ps_request.h"

void ps_open(struct comm *comm, int servers)
{
	CHECK(servers >= 1 && servers < comm->size && comm->ops->arrived);
	comm->servers = servers;
	comm_narrow(comm, comm->size - servers);
	comm_reserve(comm, sizeof(struct ps_request));  /* and tickets, which are shorter */
}

void ps_shard(int64_t n, int servers, int server, int64_t *from, int64_t *to)
{
	int64_t units = (n + ARENA_ALIGN - 1) / ARENA_ALIGN;

	*from = units * server / servers * ARENA_ALIGN;
	*to = units * (server + 1) / servers * ARENA_ALIGN;
	if (*from > n)
		*from = n;
	if (*to > n)
		*to = n;
}

/* The request lies in device memory, like all that is sent; the stream writes the next one when this one is gone. */
static void ask(struct comm *comm, int server, const struct ps_request *r)
{
	struct ps_request mine = *r;

	mine.traced = trace_is_on(comm->device);
	comm->device->ops->mem->set(comm->stream, comm->work, &mine, sizeof(mine));
	comm_exchange(comm, comm->size + server, comm->work, sizeof(mine), -1, NULL, 0);
}

static void take_ticket(struct comm *comm, struct ps_ticket *ticket)
{
	comm_exchange(comm, -1, NULL, 0, comm->size + comm->servers - 1, comm->work, sizeof(*ticket));
	comm->device->ops->mem->copy(comm->stream, ticket, comm->work, sizeof(*ticket), COPY_TO_HOST);
}

/* Every server that has a part of the n elements is asked, gets its part of `in` and sends its part of `out`, where not NULL. The last
 * one, which always has a part, is asked for the ticket. */
static void trade(struct comm *comm, struct ps_request r, const void *in, void *out, int64_t n, int64_t size, struct ps_ticket *ticket)
{
	int64_t from, to;

	for (int s = 0; s < comm->servers; s++) {
		ps_shard(n, comm->servers, s, &from, &to);
		if (from == to)
			continue;
		r.n = to - from;
		ask(comm, s, &r);
		if (in)
			comm_exchange(comm, comm->size + s, (const char *)in + from * size, (to - from) * size, -1, NULL, 0);
	}
	for (int s = comm->servers - 1; s >= 0 && out; s--) {
		ps_shard(n, comm->servers, s, &from, &to);
		if (from < to)
			comm_exchange(comm, -1, NULL, 0, comm->size + s, (char *)out + from * size, (to - from) * size);
		if (s + 1 == comm->servers && r.until)
			take_ticket(comm, ticket);
	}
}

void ps_allreduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	struct ps_request r = { .kind = PS_REDUCE, .type = (int)type, .op = (int)op };

	trade(comm, r, buffer, buffer, n, (int64_t)dtype_size(type), NULL);
}

void ps_push(struct comm *comm, float *update, int64_t n, const struct ps_step *step)
{
	struct ps_request r = {
		.kind = step->ordered ? PS_ORDERED : PS_PUSH, .type = DTYPE_F32, .op = REDUCE_SUM,
		.uses = step->uses, .clock = step->clock, .least = step->least, .until = step->until, .batch = step->batch,
	};

	CHECK(step->uses > 0 || !step->ordered);
	trade(comm, r, update, step->uses ? update : NULL, n, sizeof(float), step->ticket);
}

void ps_ticket(struct comm *comm, int steps, int64_t batch, int64_t until, struct ps_ticket *ticket)
{
	ask(comm, comm->servers - 1, &(struct ps_request){ .kind = PS_TICKET, .uses = steps, .until = until, .batch = batch });
	take_ticket(comm, ticket);
}

void ps_total(struct comm *comm, float *out, int64_t n)
{
	trade(comm, (struct ps_request){ .kind = PS_TOTAL, .type = DTYPE_F32 }, NULL, out, n, sizeof(float), NULL);
}

void ps_load(struct comm *comm, float *sum, int64_t n, int64_t clock, int64_t taken)
{
	trade(comm, (struct ps_request){ .kind = PS_LOAD, .type = DTYPE_F32, .clock = clock, .least = taken }, sum, sum, n, sizeof(float), NULL);
}

static void tell_all(struct comm *comm, enum ps_kind kind)
{
	for (int s = 0; s < comm->servers; s++)
		ask(comm, s, &(struct ps_request){ .kind = (int16_t)kind });
}

void ps_rest(struct comm *comm) { tell_all(comm, PS_REST); }

void ps_end(struct comm *comm)
{
	tell_all(comm, PS_END);
	comm->device->ops->stream->sync(comm->stream);
}

double ps_bytes(int64_t n, int servers)
{
	int64_t from, to, bytes = 0;

	for (int s = 0; s < servers; s++) {
		ps_shard(n, servers, s, &from, &to);
		if (from < to)
			bytes += (int64_t)sizeof(struct ps_request) + (to - from) * (int64_t)sizeof(float);
	}
	return (double)bytes;
}

double ps_cost(const struct cost_model *m, double bytes_up, double bytes_down, int servers)
{
	int group = m->per_node > 1 ? m->per_node : 1, links = (servers + group - 1) / group;
	double share = fmax((double)m->workers / links, m->workers < group ? m->workers : group);
	bool inside = m->workers + servers <= group;

	if (inside)
		return 2 * m->intra_latency + (bytes_up + bytes_down) * m->intra_per_byte * fmax((double)m->workers / servers, 1);
	return 2 * m->latency + (bytes_up + bytes_down) * m->per_byte * share;
}
