/*
 * trace.json: what was kept of all ranks (core/trace.h) as one file in the format of Chrome's tracing, which Perfetto reads as well. A process
 * is a rank, a thread one of its streams; docs/trace.md says what is in it.
 */
#ifndef COCOD_TRACE_FILE_H
#define COCOD_TRACE_FILE_H

#include "run.h"

/* Text on its way to rank 0's file; other ranks' goes there in pieces. */
struct trace_sink;

/* All ranks together. Rank 0 writes its own, then what comes of the others, in their order, and in the end `tail`, the file's last
 * key; each rank's part is what write(sink, run) puts. */
void trace_gather(struct run *, FILE *, void (*write)(struct trace_sink *, const struct run *), const char *tail);
/* At most 1000 bytes at once. */
void trace_put(struct trace_sink *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_quote(struct trace_sink *, const char *text);        /* as a JSON string, of at most 160 bytes */
/* Begins an object of traceEvents. */
void trace_open_event(struct trace_sink *);

/* trace_events.c: this rank's. */
void trace_write_events(struct trace_sink *, const struct run *);

#endif
