/*
 * A rank's events, in the format of Chrome's tracing ("Trace Event Format", Google): complete events (X) for spans, pairs of s and f for
 * flows, C for counters, M for names. Times are microseconds with three places: they are rounded once, to nanoseconds, ends as well as
 * beginnings, so that what nests, nests in the file.
 */
#include <math.h>

#include "../core/trace.h"
#include "trace.h"

enum thread { THREAD_PHASES = 1, THREAD_COMPUTE, THREAD_COMM, THREADS = 10 };

struct writer {
	struct trace_sink *sink;
	const struct run *run;
	const struct trace *trace;
	enum trace_clock clock;
	int process;
};

/* No two threads of the file have a number in common, nor has one that of a process, which would make it the main one. */
static int thread_number(const struct writer *w, enum thread thread) { return THREADS * (w->process + 1) + (int)thread; }

/* The processes of the virtual clock come behind all others. */
static int process_of(const struct run *run, enum trace_clock clock)
{
	return run->world.rank + (clock == TRACE_VIRTUAL ? run->world.size : 0);
}

/* A server has one stream. */
static enum thread thread_of(const struct writer *w, int stream, bool phase)
{
	return phase ? THREAD_PHASES : stream + 1 == w->trace->streams ? THREAD_COMM : THREAD_COMPUTE;
}

static const char *category(enum thread thread)
{
	return thread == THREAD_PHASES ? "phase" : thread == THREAD_COMPUTE ? "compute" : "communication";
}

/* On rank 0's clock, since training began. */
static int64_t nanoseconds(const struct writer *w, const double at[TRACE_CLOCKS])
{
	return llround(1e9 * (w->clock == TRACE_VIRTUAL ? at[TRACE_VIRTUAL] : run_trace_time(w->run, at[TRACE_WALL])));
}

static bool happened(const struct writer *w, const double at[TRACE_CLOCKS]) { return isfinite(at[w->clock]); }

static void put_time(const struct writer *w, const char *key, int64_t ns)
{
	int64_t size = ns < 0 ? -ns : ns;

	trace_put(w->sink, ", \"%s\": %s%lld.%03d", key, ns < 0 ? "-" : "", (long long)(size / 1000), (int)(size % 1000));
}

static void put_head(const struct writer *w, char kind, enum thread thread, int64_t ns)
{
	trace_put(w->sink, ", \"ph\": \"%c\", \"pid\": %d, \"tid\": %d", kind, w->process, thread_number(w, thread));
	put_time(w, "ts", ns);
}

static void put_span(const struct writer *w, const struct trace_span *s)
{
	enum thread thread = thread_of(w, s->stream, s->phase);
	bool numbered = s->number >= 0 && !s->what;
	char name[160];

	snprintf(name, sizeof(name), numbered ? "%s %lld" : "%s", s->name, (long long)s->number);
	trace_open_event(w->sink);
	trace_put(w->sink, "\"name\": ");
	trace_quote(w->sink, name);
	trace_put(w->sink, ", \"cat\": \"%s\"", category(thread));
	put_head(w, 'X', thread, nanoseconds(w, s->begin));
	put_time(w, "dur", nanoseconds(w, s->end) - nanoseconds(w, s->begin));
	if (s->number >= 0) {
		trace_put(w->sink, ", \"args\": {");
		trace_quote(w->sink, s->what ? s->what : "number");
		trace_put(w->sink, ": %lld}", (long long)s->number);
	}
	trace_put(w->sink, "}");
}

/* Either end lies in a slice of its thread: a moment in the span in which it was recorded, the other end where the waiting was over. */
static void put_flow(const struct writer *w, int64_t number)
{
	const struct trace_flow *f = &w->trace->flow[number];
	const struct trace_moment *from = &w->trace->moment[f->moment];
	const struct trace_span *to = &w->trace->span[f->span];
	enum thread source = thread_of(w, from->stream, false), target = thread_of(w, to->stream, false);
	const double *at = target == THREAD_COMPUTE ? to->end : to->begin;
	const char *name = source == THREAD_COMPUTE ? "ready" : "arrived";
	int64_t id = (int64_t)w->process * w->trace->most + number;

	if (!happened(w, from->at) || !happened(w, to->begin) || !happened(w, to->end))
		return;
	trace_open_event(w->sink);
	trace_put(w->sink, "\"name\": \"%s\", \"cat\": \"flow\", \"id\": %lld", name, (long long)id);
	put_head(w, 's', source, nanoseconds(w, from->at));
	trace_put(w->sink, "}");
	trace_open_event(w->sink);
	trace_put(w->sink, "\"name\": \"%s\", \"cat\": \"flow\", \"id\": %lld, \"bp\": \"e\"", name, (long long)id);
	put_head(w, 'f', target, nanoseconds(w, at));
	trace_put(w->sink, "}");
}

static void put_count(const struct writer *w, const struct trace_count *c)
{
	trace_open_event(w->sink);
	trace_put(w->sink, "\"name\": ");
	trace_quote(w->sink, c->name);
	put_head(w, 'C', thread_of(w, c->stream, false), nanoseconds(w, c->at));
	trace_put(w->sink, ", \"args\": {\"sum\": %.0f}}", c->value);
}

static void put_name(const struct writer *w, const char *what, int thread, const char *name)
{
	trace_open_event(w->sink);
	trace_put(w->sink, "\"name\": \"%s\", \"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"args\": {\"name\": ", what, w->process, thread);
	trace_quote(w->sink, name);
	trace_put(w->sink, "}}");
}

static void put_place(const struct writer *w, const char *what, int thread, int place)
{
	trace_open_event(w->sink);
	trace_put(w->sink, "\"name\": \"%s\", \"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"args\": {\"sort_index\": %d}}", what, w->process, thread,
	          place);
}

static void put_thread(const struct writer *w, enum thread thread, const char *name)
{
	put_name(w, "thread_name", thread_number(w, thread), name);
	put_place(w, "thread_sort_index", thread_number(w, thread), (int)thread);
}

static void put_names(const struct writer *w)
{
	const struct run *run = w->run;
	bool serves = run_serves(run);
	char text[160];

	if (w->clock == TRACE_VIRTUAL)
		snprintf(text, sizeof(text), "rank %d, virtual clock", run->world.rank);
	else
		snprintf(text, sizeof(text), "rank %d (%s)%s", run->world.rank, run->world.host, serves ? ", server" : "");
	put_name(w, "process_name", 0, text);
	put_place(w, "process_sort_index", 0, w->process);
	put_thread(w, THREAD_COMM, serves ? "requests" : "communication");
	if (serves)
		return;
	snprintf(text, sizeof(text), "phases of %.100s", run->sync.ops->name);
	put_thread(w, THREAD_PHASES, text);
	put_thread(w, THREAD_COMPUTE, "compute");
}

static void write_clock(const struct writer *w)
{
	const struct trace *t = w->trace;

	put_names(w);
	for (int64_t i = 0; i < t->spans; i++)
		if (happened(w, t->span[i].begin) && happened(w, t->span[i].end))
			put_span(w, &t->span[i]);
	for (int64_t i = 0; i < t->flows; i++)
		put_flow(w, i);
	for (int64_t i = 0; i < t->counts; i++)
		if (happened(w, t->count[i].at))
			put_count(w, &t->count[i]);
}

void trace_write_events(struct trace_sink *k, const struct run *run)
{
	for (int clock = 0; clock < (run->virtual ? TRACE_CLOCKS : 1); clock++) {
		struct writer w = { k, run, trace_of(run->device), (enum trace_clock)clock, process_of(run, (enum trace_clock)clock) };

		write_clock(&w);
	}
}
