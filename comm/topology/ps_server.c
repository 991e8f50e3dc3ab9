/*
 * A parameter server (ps.h): one loop over requests.
 *
 *     forever:  take the request that comes first, workers taking turns; by the virtual clock (wire.h): that was sent first
 *       round   keep its payload; add up what has come of the ranks 0, 1, … without a gap. When all have asked: answer all
 *       push    sum += payload;  clock of that worker += 1;  answer the waiting reads whose `least` the slowest clock has reached
 *       ticket  if taken < until: the next steps of it, up to `uses`;  taken += their samples
 *       load    (a round) sum, clocks and taken are what the workers say
 *       end     when all workers have said so: leave
 *
 *     worker 0   | step | push | read | step | push | waits … … … … | read |       staleness 1: worker 0, a clock ahead, may not
 *     worker 1   | step … … … … … … … … … … … … … …  | push | read |             begin clock 2 before worker 1 has ended clock 0
 *
 * A round adds in the order of the ranks, so its bits do not depend on who was faster. Pushes outside of rounds are added as they
 * come: that is the point of asynchrony, and the log says in which order it was, so that a run can be followed step by step.
 *
 * Memory: the shard, and one buffer of a shard's size for each worker, made when the first request asks for them.
 *
 * Limits: an update is received, added, and answers are sent, one after the other; a server uses one core and one direction of
 * its link, and whoever is slow to take a long answer (the hook drives his messages) holds up the others.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/die.h"
#include "../../core/trace.h"
#include "../wire.h"
#include "ps_request.h"

struct client {
	void *slot;             /* its payload, or (rank 0's) the running sum of a round */
	int64_t slot_bytes;
	struct ps_request asks; /* what it waits for an answer to */
	bool waits;
	int64_t clock;
	int64_t seen;           /* updates of others in what it read last */
	bool rests;             /* it is not going to ask anything before others have gone on */
	bool pending;           /* what it asks has been received, and is not handled yet */
	double asked;           /* when it began to ask, by the virtual clock; NAN: it keeps no time now */
};

struct server {
	struct comm *comm;
	struct client *client;  /* one a worker */
	struct ps_request *request;     /* on the host, pinned where that matters */
	float *sum;             /* of all updates: the shard */
	int64_t n;              /* its floats; 0: nobody has asked for it yet */
	int64_t updates;        /* added so far, outside of rounds */
	int64_t taken;          /* samples of all steps that tickets were given for */
	int in_round, added;    /* workers that have asked in the round under way; whose payload is in the sum */
	bool *open;             /* workers that have not ended; what comes of the others is for the next ps_serve() */
	bool *awaited;          /* of them, those whose next request has not come yet, but may */
	int ended;
	struct ps_record *record;
	ps_log_fn *log;
	void *log_context;
};

static const struct device_ops *device(const struct server *v) { return v->comm->device->ops; }

static int64_t payload(const struct ps_request *r)
{
	return r->kind == PS_TOTAL || r->kind == PS_TICKET || r->kind == PS_REST || r->kind == PS_END ? 0 : r->n * (int64_t)dtype_size((enum dtype)r->type);
}

static void note_arrival(const struct server *v, const char *what, int worker, int64_t clock)
{
	if (v->log)
		v->log(v->log_context, clock, what, worker, "order of arrival");
}

static void note_ticket(const struct server *v, int worker, const struct ps_ticket *ticket)
{
	char text[64];

	snprintf(text, sizeof(text), "%lld steps from sample %lld", (long long)ticket->steps, (long long)ticket->from);
	if (v->log)
		v->log(v->log_context, v->client[worker].clock, "ticket", worker, text);
}

/* ---- receiving ---- */

static void *reserve(struct server *v, void *old, int64_t *have, int64_t bytes)
{
	const struct mem_ops *mem = device(v)->mem;

	if (bytes <= *have)
		return old;
	mem->free(v->comm->device, old);
	*have = bytes;
	return mem->alloc(v->comm->device, (size_t)bytes);
}

/* The shard, at the first request that is about it. */
static void hold(struct server *v, int64_t n)
{
	int64_t none = 0;

	if (!v->n) {
		v->n = n;
		v->sum = reserve(v, NULL, &none, n * (int64_t)sizeof(float));
	}
	CHECK(v->n == n);
}

/* Its span: what the worker wants, and until it has been dealt with. It ends in ps_serve(). */
static void begin_request(const struct server *v, const struct ps_request *r, int worker)
{
	static const char *const name[] = {
		[PS_REDUCE] = "all-reduce", [PS_ORDERED] = "push in order", [PS_TOTAL] = "read all", [PS_PUSH] = "push",
		[PS_LOAD] = "load", [PS_TICKET] = "ticket", [PS_REST] = "rest", [PS_END] = "end",
	};

	trace_on(v->comm->device, r->traced);
	trace_begin(v->comm->stream, name[r->kind], "worker", worker);
}

/* Returns how many of them are sure to ask, whatever we do. */
static int count_awaited(struct server *v)
{
	int sure = 0;

	for (int w = 0; w < v->comm->size; w++) {
		v->awaited[w] = v->open[w] && !v->client[w].waits && !v->client[w].pending;
		sure += v->awaited[w] && !v->client[w].rests;
	}
	return sure;
}

/* The request that comes first, with its payload. Returns whose it is. */
static int receive(struct server *v, int turn)
{
	struct comm *comm = v->comm;
	int worker = comm_wait_any(comm, v->awaited, turn);
	struct client *c = &v->client[worker];

	comm_exchange(comm, -1, NULL, 0, worker, comm->work, sizeof(*v->request));
	device(v)->mem->copy(comm->stream, v->request, comm->work, sizeof(*v->request), COPY_TO_HOST);
	device(v)->stream->sync(comm->stream);
	c->asks = *v->request;
	if (wire_orders(comm))
		c->asked = wire_heard(comm);
	else
		begin_request(v, &c->asks, worker);
	if (payload(&c->asks)) {
		c->slot = reserve(v, c->slot, &c->slot_bytes, payload(&c->asks));
		comm_exchange(comm, -1, NULL, 0, worker, c->slot, payload(&c->asks));
		if (wire_orders(comm))          /* nobody drives the stream while we wait for somebody else, who may wait for this one */
			device(v)->stream->sync(comm->stream);
	}
	v->record->requests++;
	return worker;
}

/* a was asked before b; who keeps no time comes first, ranks in their order. */
static bool earlier(const struct client *a, const struct client *b) { return isnan(a->asked) ? !isnan(b->asked) : a->asked < b->asked; }

/* By the virtual clock, what was asked first comes first: as soon as everybody who is going to ask something has done so. */
static int take_earliest(struct server *v)
{
	struct comm *comm = v->comm;
	int first = -1, pending = 0;

	for (int w = 0; w < comm->size; w++)
		pending += v->client[w].pending;
	wire_mute(comm, true);
	while (count_awaited(v) || !pending) {
		struct client *c = &v->client[receive(v, 0)];

		c->rests = c->asks.kind == PS_REST;
		c->pending = !c->rests;
		pending += c->pending;
	}
	for (int w = 0; w < comm->size; w++)
		if (v->client[w].pending && (first < 0 || earlier(&v->client[w], &v->client[first])))
			first = w;
	v->client[first].pending = false;
	begin_request(v, &v->client[first].asks, first);
	if (isnan(v->client[first].asked))
		return first;
	wire_mute(comm, false);
	wire_take_in(comm, first, v->client[first].asked, (int64_t)sizeof(*v->request) + payload(&v->client[first].asks));
	return first;
}

static int take(struct server *v, int turn)
{
	if (wire_orders(v->comm))
		return take_earliest(v);
	CHECK(count_awaited(v));
	return receive(v, turn);
}

/* ---- answering ---- */

static void answer(struct server *v, int worker, const void *data, int64_t bytes)
{
	v->client[worker].waits = false;
	comm_exchange(v->comm, worker, data, bytes, -1, NULL, 0);
}

static bool is_last(const struct server *v) { return v->comm->rank + 1 == v->comm->size + v->comm->servers; }

/* The last step may end behind `until`, so that every sample before it is somebody's. */
static void answer_ticket(struct server *v, int worker)
{
	const struct ps_request *r = &v->client[worker].asks;
	struct ps_ticket ticket = { .from = v->taken };
	int64_t left = (r->until - v->taken + r->batch - 1) / r->batch;

	if (v->taken < r->until)
		ticket.steps = left < r->uses ? left : r->uses;
	v->taken += ticket.steps * r->batch;
	note_ticket(v, worker, &ticket);
	device(v)->mem->set(v->comm->stream, v->comm->work, &ticket, sizeof(ticket));
	answer(v, worker, v->comm->work, sizeof(ticket));
}

static int64_t slowest(const struct server *v)
{
	int64_t least = v->client[0].clock;

	for (int w = 1; w < v->comm->size; w++)
		least = v->client[w].clock < least ? v->client[w].clock : least;
	return least;
}

static void record_age(struct ps_record *record, int64_t age)
{
	record->age[age < PS_AGES ? age : PS_AGES - 1]++;
	record->oldest = age > record->oldest ? age : record->oldest;
}

/* What is read now serves the next `uses` clocks of that worker, and is a clock older in each; at its own pace, see push(). */
static void record_read(struct server *v, struct client *c)
{
	int64_t age = c->clock - slowest(v);

	v->record->reads++;
	c->seen = v->updates - c->clock;
	for (int i = 0; i < c->asks.uses && !c->asks.until; i++)
		record_age(v->record, age++);
}

static void answer_reads(struct server *v)
{
	int64_t least = slowest(v);

	for (int w = 0; w < v->comm->size; w++) {
		struct client *c = &v->client[w];

		if (!c->waits || c->asks.kind != PS_PUSH || c->asks.least > least)
			continue;
		record_read(v, c);
		note_arrival(v, "read", w, c->clock);
		answer(v, w, v->sum, v->n * (int64_t)sizeof(float));
		if (c->asks.until && is_last(v))
			answer_ticket(v, w);
	}
}

static void push(struct server *v, int worker)
{
	struct client *c = &v->client[worker];

	hold(v, c->asks.n);
	CHECK(c->asks.clock == c->clock);
	if (c->asks.until) {
		v->record->own_pace = true;
		record_age(v->record, v->updates - c->clock - c->seen);
	}
	device(v)->vec->reduce(v->comm->stream, v->n, DTYPE_F32, REDUCE_SUM, c->slot, v->sum);
	c->clock++;
	v->updates++;
	c->waits = c->asks.uses > 0;
	note_arrival(v, "push", worker, c->asks.clock);
	answer_reads(v);
}

static void load(struct server *v)
{
	device(v)->mem->copy(v->comm->stream, v->sum, v->client[0].slot, (size_t)v->n * sizeof(float), COPY_DEVICE);
	v->taken = v->client[0].asks.least;
	v->updates = 0;
	for (int w = 0; w < v->comm->size; w++)
		v->updates += v->client[w].clock = v->client[w].asks.clock;
	for (int w = 0; w < v->comm->size; w++)
		v->client[w].seen = v->updates - v->client[w].clock;
}

/* All have asked, and rank 0's slot is the sum of all. */
static void end_round(struct server *v, const struct ps_request *r)
{
	struct comm *comm = v->comm;
	bool held = r->kind != PS_REDUCE;

	if (r->kind == PS_LOAD)
		load(v);
	if (r->kind == PS_ORDERED) {
		device(v)->vec->reduce(comm->stream, v->n, DTYPE_F32, REDUCE_SUM, v->client[0].slot, v->sum);
		for (int w = 0; w < comm->size; w++)
			v->client[w].clock++;
		for (int w = 0; w < comm->size; w++)
			record_read(v, &v->client[w]);
	}
	for (int w = 0; w < comm->size; w++)
		answer(v, w, held ? v->sum : v->client[0].slot, r->n * (int64_t)dtype_size((enum dtype)r->type));
	v->in_round = v->added = 0;
}

static void join_round(struct server *v, int worker)
{
	struct comm *comm = v->comm;
	struct client *c = &v->client[worker];
	struct ps_request r = c->asks;

	if (r.kind != PS_REDUCE)
		hold(v, r.n);
	c->waits = true;
	v->in_round++;
	for (; v->added < comm->size && v->client[v->added].waits; v->added++) {
		const struct ps_request *q = &v->client[v->added].asks;

		if (q->kind == PS_PUSH)         /* still waits for a read; it will come */
			break;
		CHECK(q->kind == r.kind && q->n == r.n && q->type == r.type && q->op == r.op);
		if (v->added > 0 && payload(&r) && r.kind != PS_LOAD)
			device(v)->vec->reduce(comm->stream, r.n, (enum dtype)r.type, (enum reduce)r.op, v->client[v->added].slot,
			                       v->client[0].slot);
	}
	if (v->in_round == comm->size)
		end_round(v, &r);
}

/* ---- the loop ---- */

void ps_serve(struct comm *comm, struct ps_record *record, ps_log_fn *log, void *log_context)
{
	struct server v = { .comm = comm, .record = record, .log = log, .log_context = log_context };
	const struct mem_ops *mem = comm->device->ops->mem;

	CHECK(ps_serves(comm));
	v.client = xcalloc((size_t)comm->size, sizeof(*v.client));
	v.open = xcalloc((size_t)comm->size, sizeof(*v.open));
	for (int w = 0; w < comm->size; w++)
		v.open[w] = true;
	v.awaited = xcalloc((size_t)comm->size, sizeof(*v.awaited));
	v.request = mem->alloc_host(comm->device, sizeof(*v.request));
	for (int worker = -1; v.ended < comm->size;) {
		worker = take(&v, (worker + 1) % comm->size);
		if (v.client[worker].asks.kind == PS_END)
			v.open[worker] = false, v.ended++;
		else if (v.client[worker].asks.kind == PS_PUSH)
			push(&v, worker);
		else if (v.client[worker].asks.kind == PS_TICKET)
			answer_ticket(&v, worker);
		else
			join_round(&v, worker);
		trace_end(comm->stream);
		comm->device->ops->stream->sync(comm->stream);
	}
	for (int w = 0; w < comm->size; w++)
		mem->free(comm->device, v.client[w].slot);
	mem->free(comm->device, v.sum);
	mem->free_host(comm->device, v.request);
	free(v.open);
	free(v.awaited);
	free(v.client);
}
