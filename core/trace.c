/*
 * The trace: see trace.h.
 *
 * The host queues the operations of a stream in their order, so it is the host that gives a span its place when it queues its beginning;
 * what runs on the stream only writes the time there. So no two threads write to the same place, nothing is locked, and a full buffer is
 * seen before anything is queued.
 */
#include <math.h>
#include <stdlib.h>

#include "clock.h"
#include "die.h"
#include "timeline_impl.h"

enum { DEPTH = 16, PENDING = 8 };

struct trace_row {
	struct stream *stream;
	int index;
	bool waits;
	int open[DEPTH], depth;         /* spans that have not ended: their places, -1: not kept */
	int whole;                      /* depth of the span whose inside is not kept; 0: none */
	int wait;                       /* the span of the wait that is being queued; -1: not kept */
	int pending[PENDING], pendings; /* moments waited for since the last span: the next one gets their flows */
	double opened[TRACE_CLOCKS];
	const char *phase;
	int phase_span;                 /* -1: not kept */
};

void trace_open(struct device *dev, int64_t most)
{
	struct trace *t = xcalloc(1, sizeof(*t));

	CHECK(dev->timeline && !dev->timeline->trace && most > 0 && most < INT32_MAX);
	t->most = most;
	t->span = xcalloc((size_t)most, sizeof(*t->span));
	t->moment = xcalloc((size_t)most, sizeof(*t->moment));
	t->flow = xcalloc((size_t)most, sizeof(*t->flow));
	t->count = xcalloc((size_t)most, sizeof(*t->count));
	dev->timeline->trace = t;
}

void trace_release(struct timeline *timeline)
{
	struct trace *t = timeline->trace;

	if (!t)
		return;
	free(t->span);
	free(t->moment);
	free(t->flow);
	free(t->count);
	free(t);
	timeline->trace = NULL;
}

const struct trace *trace_of(const struct device *dev) { return dev->timeline ? dev->timeline->trace : NULL; }
bool trace_is_on(const struct device *dev) { return dev->timeline && dev->timeline->trace && dev->timeline->trace->on; }

/* ---- what is queued ---- */

struct stamp {
	double *at;
	const struct timeline_account *account;
};

static bool write_time(void *args)
{
	const struct stamp *s = args;

	s->at[TRACE_WALL] = clock_now();
	s->at[TRACE_VIRTUAL] = s->account ? s->account->now : NAN;
	return true;
}

static bool write_virtual(void *args)
{
	const struct stamp *s = args;

	s->at[TRACE_VIRTUAL] = s->account->now;
	return true;
}

/* at: NAN so far. */
static void stamp(struct stream *s, double at[TRACE_CLOCKS])
{
	const struct stream_ops *ops = timeline_stream(s)->timeline->real->stream;
	struct stamp args = { at, timeline_of(s) };

	if (!ops->stamp) {
		ops->call(s, write_time, &args, sizeof(args));
		return;
	}
	ops->stamp(s, &at[TRACE_WALL]);
	if (args.account)
		ops->call(s, write_virtual, &args, sizeof(args));
}

void trace_stream(struct stream *s, bool waits)
{
	struct stream_shadow *shadow = timeline_stream(s);
	struct trace *t = shadow->timeline->trace;

	CHECK(t && !shadow->row && t->streams < TRACE_STREAMS);
	shadow->row = xcalloc(1, sizeof(*shadow->row));
	shadow->row->stream = s;
	shadow->row->index = t->streams;
	shadow->row->waits = waits;
	shadow->row->phase_span = -1;
	t->row[t->streams++] = shadow->row;
	stamp(s, shadow->row->opened);          /* whatever the device allocates for the first one, it does now */
}

/* ---- places ---- */

static bool keeps(const struct trace *t, const struct trace_row *row) { return t->on && !row->whole; }

/* The next place of a kind that has taken `used` so far; -1: there is none. */
static int place(struct trace *t, int64_t *used)
{
	if (*used < t->most)
		return (int)(*used)++;
	t->left_out++;
	return -1;
}

static void add_flow(struct trace *t, int moment, int span)
{
	int i = moment < 0 || span < 0 ? -1 : place(t, &t->flows);

	if (i >= 0)
		t->flow[i] = (struct trace_flow){ moment, span };
}

static int add_span(struct stream *s, const char *name, const char *what, int64_t number, bool phase)
{
	struct trace *t = timeline_stream(s)->timeline->trace;
	int i = place(t, &t->spans);

	if (i < 0)
		return -1;
	t->span[i] = (struct trace_span){ name, what, number, timeline_stream(s)->row->index, phase, { NAN, NAN }, { NAN, NAN } };
	stamp(s, t->span[i].begin);
	return i;
}

static void end_span(struct stream *s, int span)
{
	if (span >= 0)
		stamp(s, timeline_stream(s)->timeline->trace->span[span].end);
}

/* ---- the calls ---- */

void trace_span_begin(struct stream *s, const char *name, const char *what, int64_t number, bool whole)
{
	struct stream_shadow *shadow = timeline_stream(s);
	struct trace_row *row = shadow->row;
	int span = -1;

	if (!row)
		return;
	CHECK(row->depth < DEPTH);
	if (keeps(shadow->timeline->trace, row)) {
		span = add_span(s, name, what, number, false);
		for (int i = 0; i < row->pendings; i++)
			add_flow(shadow->timeline->trace, row->pending[i], span);
	}
	row->pendings = 0;
	row->open[row->depth++] = span;
	if (whole && !row->whole)
		row->whole = row->depth;
}

void trace_span_end(struct stream *s)
{
	struct trace_row *row = timeline_stream(s)->row;

	if (!row)
		return;
	CHECK(row->depth > 0);
	end_span(s, row->open[--row->depth]);
	if (row->whole > row->depth)
		row->whole = 0;
}

static void begin_phase(struct stream *s)
{
	struct trace_row *row = timeline_stream(s)->row;

	row->phase_span = row->phase && timeline_stream(s)->timeline->trace->on ? add_span(s, row->phase, NULL, -1, true) : -1;
}

void trace_on(struct device *dev, bool on)
{
	struct trace *t = dev->timeline ? dev->timeline->trace : NULL;

	if (!t || t->on == on)
		return;
	t->on = on;
	for (int i = 0; i < t->streams; i++) {
		if (on) {
			begin_phase(t->row[i]->stream);
			continue;
		}
		end_span(t->row[i]->stream, t->row[i]->phase_span);
		t->row[i]->phase_span = -1;
	}
}

void trace_phase_begin(struct stream *s, const char *name)
{
	struct trace_row *row = timeline_stream(s)->row;

	if (!row || name == row->phase)
		return;
	end_span(s, row->phase_span);
	row->phase = name;
	begin_phase(s);
}

void trace_count_now(struct stream *s, const char *name, double value)
{
	struct stream_shadow *shadow = timeline_stream(s);
	struct trace *t = shadow->timeline->trace;
	int i = shadow->row && keeps(t, shadow->row) ? place(t, &t->counts) : -1;

	if (i < 0)
		return;
	t->count[i] = (struct trace_count){ name, value, shadow->row->index, { NAN, NAN } };
	stamp(s, t->count[i].at);
}

/* ---- events ---- */

/* A moment outside of all spans could not be drawn. */
void trace_on_record(struct event_shadow *e, struct stream *s)
{
	struct trace *t = e->timeline->trace;
	struct trace_row *row = timeline_stream(s)->row;
	int i = -1;

	if (row && keeps(t, row) && row->depth > 0 && row->open[row->depth - 1] >= 0)
		i = place(t, &t->moments);
	e->traced = i + 1;
	if (i < 0)
		return;
	t->moment[i] = (struct trace_moment){ row->index, { NAN, NAN } };
	stamp(s, t->moment[i].at);
}

void trace_before_wait(struct stream *s)
{
	struct stream_shadow *shadow = timeline_stream(s);
	struct trace_row *row = shadow->row;

	if (row)
		row->wait = row->waits && keeps(shadow->timeline->trace, row) ? add_span(s, "wait", NULL, -1, false) : -1;
}

void trace_after_wait(struct stream *s, const struct event_shadow *e)
{
	struct trace_row *row = timeline_stream(s)->row;
	int moment = e->traced - 1;

	if (!row)
		return;
	if (row->waits) {
		end_span(s, row->wait);
		add_flow(e->timeline->trace, moment, row->wait);
	} else if (moment >= 0 && row->pendings < PENDING) {
		row->pending[row->pendings++] = moment;
	}
}
