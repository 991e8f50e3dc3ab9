/* The modelled network: see wire.h. All that happens here happens in host functions on the communicator's stream. */
#include <math.h>
#include <stdlib.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/timeline.h"
#include "wire.h"

struct wire {
	struct cost_model link;
	double kernel, offset;
	bool emulate;
	int depth;                      /* of wire_begin() */
	bool muted;
	double start, theirs;           /* the stream's: when the exchange under way began here, and at the partner; a collective: anywhere */
};

void wire_open(struct comm *comm, const struct cost_model *link, double kernel, bool emulate, double offset)
{
	struct wire *w = xcalloc(1, sizeof(*w));

	CHECK(comm->size == 1 || comm->ops->tell);
	w->link = *link;
	w->link.workers = comm->size;
	w->kernel = kernel;
	w->emulate = emulate;
	w->offset = offset;
	comm->wire = w;
}

void wire_release(struct comm *comm)
{
	free(comm->wire);
	comm->wire = NULL;
}

const struct cost_model *wire_link(const struct comm *comm) { return &comm->wire->link; }

/* ---- host functions ---- */

struct step {
	struct wire *wire;
	struct timeline_account *account;       /* NULL: emulated, or this end keeps no time now */
	double send, recv;              /* seconds; recv < 0: nothing comes */
};

static bool see_start(void *args)
{
	const struct step *s = args;

	s->wire->start = s->account ? s->account->now : s->wire->emulate ? clock_now() + s->wire->offset : NAN;
	return true;
}

static bool see_latest(void *args)
{
	const struct step *s = args;

	s->wire->start = fmax(s->wire->start, s->wire->theirs);
	return true;
}

static bool reach_end(void *args)
{
	const struct step *s = args;
	struct wire *w = s->wire;
	double end = w->start + s->send;

	if (s->recv >= 0)
		end = fmax(end, fmax(w->start, w->theirs) + s->recv);
	if (w->emulate)
		return clock_now() + w->offset >= end;
	if (!s->account)
		return true;
	s->account->busy += end - s->account->now;
	s->account->now = end;
	return true;
}

static void queue(struct comm *comm, host_fn *fn, double send, double recv)
{
	struct wire *w = comm->wire;
	struct step s = { w, w->emulate || w->muted ? NULL : timeline_of(comm->stream), send, recv };

	comm->device->ops->stream->call(comm->stream, fn, &s, sizeof(s));
}

/* ---- what is queued ---- */

/* Ranks that train pause together, and need not tell each other. A server has to be told. */
static bool keeps_time(const struct comm *comm) { return comm->wire && (comm->wire->emulate || comm->servers || timeline_of(comm->stream)); }

bool wire_begin(struct comm *comm)
{
	if (!keeps_time(comm) || comm->wire->depth > 0)
		return false;
	comm->wire->depth++;
	queue(comm, see_start, 0, 0);
	return true;
}

/* The latest beginning of all: each rank hears of 1, 2, 4, … others in turn; a maximum may hear of one twice. */
void wire_end_collective(struct comm *comm, double seconds)
{
	struct wire *w = comm->wire;
	int rank = comm->rank, size = comm->size;

	for (int step = 1; step < size; step *= 2) {
		comm->ops->tell(comm, (rank + step) % size, &w->start, (rank + size - step) % size, &w->theirs, sizeof(w->start));
		queue(comm, see_latest, 0, 0);
	}
	queue(comm, reach_end, seconds, -1);
	w->depth--;
}

/* all: all ranks do the same at the same time, so that those of a node share its link. */
static double seconds(const struct comm *comm, int peer, int64_t bytes, bool all)
{
	const struct cost_model *m = &comm->wire->link;
	int node = m->per_node > 1 ? m->per_node : 1, across = all ? cost_across_ring(m, abs(peer - comm->rank)) : 1;

	if (peer / node == comm->rank / node)
		return m->intra_latency + (double)bytes * m->intra_per_byte;
	return m->latency + (double)bytes * m->per_byte * (across > 1 ? across : 1);
}

void wire_end_exchange(struct comm *comm, int to, int64_t send_bytes, int from, int64_t recv_bytes)
{
	struct wire *w = comm->wire;
	bool sends = send_bytes > 0, receives = recv_bytes > 0;

	if (sends || receives)
		comm->ops->tell(comm, sends ? to : -1, &w->start, receives ? from : -1, &w->theirs, sizeof(w->start));
	queue(comm, reach_end, sends ? seconds(comm, to, send_bytes, receives) : 0, receives ? seconds(comm, from, recv_bytes, sends) : -1);
	w->depth--;
}

void wire_kernels(struct comm *comm, int64_t n)
{
	if (comm->wire && !comm->wire->emulate)
		timeline_spend(comm->stream, (double)n * comm->wire->kernel);
}

bool wire_pause(struct comm *comm, double seconds)
{
	if (!comm->wire || comm->wire->emulate)
		return false;
	timeline_spend(comm->stream, seconds);
	return true;
}

/* ---- servers ---- */

void wire_mute(struct comm *comm, bool muted)
{
	if (comm->wire)
		comm->wire->muted = muted;
}

bool wire_orders(const struct comm *comm) { return comm->wire && !comm->wire->emulate; }
double wire_heard(const struct comm *comm) { return comm->wire->theirs; }

static bool take_in(void *args)
{
	const struct step *s = args;
	double end = fmax(s->account->now, s->send) + s->recv;

	s->account->busy += end - s->account->now;
	s->account->now = end;
	return true;
}

void wire_take_in(struct comm *comm, int from, double asked, int64_t bytes)
{
	struct step s = { comm->wire, timeline_of(comm->stream), asked, seconds(comm, from, bytes, false) };

	if (s.account)
		comm->device->ops->stream->call(comm->stream, take_in, &s, sizeof(s));
}
