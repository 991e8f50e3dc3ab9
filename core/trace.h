/*
 * The trace: when each stretch of a stream's work began and ended, on the wall clock and, where streams have one, on the virtual clock.
 *
 *   trace_begin(s, "bucket", NULL, 3); … what is queued on s … trace_end(s);
 *
 * Both ends are operations on the stream, as what lies between them: they tell when the device was there, not when the host queued it.
 * Spans of a stream nest. The device's record() and wait() (timeline.h) are traced besides: who waited for what, and how long.
 *
 * Names are strings that live as long as the trace. All places are allocated by trace_open(); what finds none is counted and left out.
 * Without a trace these calls are a test for NULL. One thread calls them: the one that queues.
 */
#ifndef COCOD_TRACE_H
#define COCOD_TRACE_H

#include "device.h"

/* Where it came to pass: seconds of clock_now(), and of the stream's virtual time; NAN where it has none. */
enum trace_clock { TRACE_WALL, TRACE_VIRTUAL, TRACE_CLOCKS };

struct trace_span {
	const char *name, *what;        /* what: the number's name ("bytes"); NULL: it belongs to the name ("bucket 3") */
	int64_t number;                 /* -1: none */
	int stream;
	bool phase;                     /* of trace_phase(): beside the others, not around them */
	double begin[TRACE_CLOCKS], end[TRACE_CLOCKS];
};

/* A record() in a span. */
struct trace_moment {
	int stream;
	double at[TRACE_CLOCKS];
};

/* From a moment to a span that waited for it and ended with it (a stream that computes), or began behind the wait (one that communicates). */
struct trace_flow {
	int moment, span;
};

struct trace_count {
	const char *name;
	double value;
	int stream;
	double at[TRACE_CLOCKS];
};

enum { TRACE_STREAMS = 4 };

struct trace {
	bool on;                        /* now */
	int64_t most, left_out;         /* places of each kind; what found none */
	int64_t spans, moments, flows, counts;
	struct trace_span *span;
	struct trace_moment *moment;
	struct trace_flow *flow;
	struct trace_count *count;
	int streams;
	struct trace_row *row[TRACE_STREAMS];
};

/* Behind timeline_open(). Nothing is kept before trace_on(). Freed by timeline_close(). */
void trace_open(struct device *, int64_t most);
/* From now on this stream's spans are kept. waits: its waits are spans, too; else they are no work, and only where flows end. */
void trace_stream(struct stream *, bool waits);
/* What begins from now on is kept, or is not. A span is kept whole if its beginning is. */
void trace_on(struct device *, bool on);
bool trace_is_on(const struct device *);
/* NULL: none. The host reads it when the streams have run: it syncs them first. */
const struct trace *trace_of(const struct device *);

void trace_span_begin(struct stream *, const char *name, const char *what, int64_t number, bool whole);
void trace_span_end(struct stream *);
void trace_phase_begin(struct stream *, const char *name);
void trace_count_now(struct stream *, const char *name, double value);

static inline bool trace_may(const struct stream *s) { return ((const struct shadowed *)s)->shadow != NULL; }

static inline void trace_begin(struct stream *s, const char *name, const char *what, int64_t number)
{
	if (trace_may(s))
		trace_span_begin(s, name, what, number, false);
}

/* What happens inside of it, until its end, is not kept. */
static inline void trace_whole(struct stream *s, const char *name, const char *what, int64_t number)
{
	if (trace_may(s))
		trace_span_begin(s, name, what, number, true);
}

static inline void trace_end(struct stream *s)
{
	if (trace_may(s))
		trace_span_end(s);
}

/* A phase of the algorithm: it lasts until the next one begins, over all spans. NULL: there is none for now. */
static inline void trace_phase(struct stream *s, const char *name)
{
	if (trace_may(s))
		trace_phase_begin(s, name);
}

/* A value that changes. */
static inline void trace_count(struct stream *s, const char *name, double value)
{
	if (trace_may(s))
		trace_count_now(s, name, value);
}

#endif
