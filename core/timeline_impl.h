/* What timeline.c and trace.c share: what hangs on a device, its streams and its events while either of them is on. */
#ifndef COCOD_TIMELINE_IMPL_H
#define COCOD_TIMELINE_IMPL_H

#include "timeline.h"
#include "trace.h"

enum { TIMELINE_RECORDS = 1024 };

struct timeline {
	struct device_ops ops;          /* the backend's, but for `stream` */
	struct stream_ops stream;
	const struct device_ops *real;
	bool paused;
	struct trace *trace;            /* NULL: none */
};

struct stream_shadow {
	struct timeline *timeline;
	struct timeline_account account;
	bool watched;
	struct trace_row *row;          /* NULL: not traced */
};

struct event_shadow {
	struct timeline *timeline;
	int64_t recorded;               /* the host's: number of the last record that has a time; 0: none */
	struct { int64_t number; double at; } moment[TIMELINE_RECORDS];
	int traced;                     /* the last record's moment in the trace, from 1 on; 0: it has none */
};

static inline struct stream_shadow *timeline_stream(const struct stream *s) { return ((const struct shadowed *)s)->shadow; }
static inline struct event_shadow *timeline_event(const struct event *e) { return ((const struct shadowed *)e)->shadow; }

/* trace.c's part in record() and wait(): in front of the real record; around the real wait. */
void trace_on_record(struct event_shadow *, struct stream *);
void trace_before_wait(struct stream *);
void trace_after_wait(struct stream *, const struct event_shadow *);
void trace_release(struct timeline *);

#endif
