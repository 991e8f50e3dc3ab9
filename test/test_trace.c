/*
 * The trace of a device's streams, with either driver of the communication stream, and with the virtual clock and without it: when spans begin
 * and end, how they nest, whence flows come, what is left out. What a whole run leaves is test_trace.sh's. On $COCOD_TEST_DEVICE, if it is
 * given.
 */
#include <stdatomic.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/timeline.h"
#include "../core/trace.h"
#include "tap.h"

static struct device *dev;
static struct stream *compute, *comm;
static struct event *event;
static const struct trace *trace;
static bool on_virtual;

static void record(struct stream *s) { dev->ops->stream->record(event, s); }
static void wait(struct stream *s) { dev->ops->stream->wait(s, event); }

static void settle(void)
{
	dev->ops->stream->sync(comm);
	dev->ops->stream->sync(compute);
}

static void open_all(int64_t most)
{
	timeline_open(dev);
	compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
	comm = dev->ops->stream->open(dev, STREAM_COMM);
	event = dev->ops->stream->event_open(dev);
	if (on_virtual) {
		timeline_watch(compute);
		timeline_watch(comm);
	}
	trace_open(dev, most);
	trace_stream(compute, true);
	trace_stream(comm, false);
	trace = trace_of(dev);
	trace_on(dev, true);
}

static void close_all(void)
{
	dev->ops->stream->event_close(event);
	dev->ops->stream->close(comm);
	dev->ops->stream->close(compute);
	timeline_close(dev);
	trace = NULL;
}

/* The first span of this name; NULL: there is none. */
static const struct trace_span *find(const char *name)
{
	for (int64_t i = 0; i < trace->spans; i++)
		if (!strcmp(trace->span[i].name, name))
			return &trace->span[i];
	return NULL;
}

static int count(const char *name)
{
	int n = 0;

	for (int64_t i = 0; i < trace->spans; i++)
		n += !strcmp(trace->span[i].name, name);
	return n;
}

static bool ended(const struct trace_span *s) { return s && s->begin[TRACE_WALL] <= s->end[TRACE_WALL]; }

static bool within(const struct trace_span *in, const struct trace_span *out)
{
	return ended(in) && ended(out) && out->begin[TRACE_WALL] <= in->begin[TRACE_WALL] && in->end[TRACE_WALL] <= out->end[TRACE_WALL];
}

/* ---- tests ---- */

static void test_without(void)
{
	struct stream *s = dev->ops->stream->open(dev, STREAM_COMM);

	trace_begin(s, "nothing", NULL, 1);
	trace_phase(s, "nothing");
	trace_count(s, "nothing", 1);
	trace_end(s);
	dev->ops->stream->close(s);
	ok(!trace_of(dev) && !trace_is_on(dev), "without a trace the calls do nothing");
	timeline_open(dev);
	s = dev->ops->stream->open(dev, STREAM_COMM);
	trace_begin(s, "nothing", NULL, 1);
	trace_on(dev, true);
	trace_end(s);
	dev->ops->stream->close(s);
	ok(!trace_of(dev) && !trace_is_on(dev), "nor do they with a timeline alone");
	timeline_close(dev);
}

static void test_nesting(void)
{
	open_all(100);
	trace_begin(comm, "outer", "bytes", 12);
	trace_begin(comm, "inner", NULL, 3);
	trace_end(comm);
	trace_begin(comm, "next", NULL, -1);
	trace_end(comm);
	trace_end(comm);
	settle();
	ok(within(find("inner"), find("outer")) && within(find("next"), find("outer")), "spans nest");
	ok(find("inner")->end[TRACE_WALL] <= find("next")->begin[TRACE_WALL], "in the order in which they were queued");
	ok(find("outer")->number == 12 && !strcmp(find("outer")->what, "bytes") && find("inner")->number == 3 && !find("inner")->what,
	   "they keep their numbers");
	close_all();
}

static _Atomic bool gate;

static bool gate_open(void *args)
{
	(void)args;
	return atomic_load(&gate);
}

/* The host is long through with queuing when the stream begins. */
static void test_time(void)
{
	double opened;

	open_all(100);
	atomic_store(&gate, false);
	dev->ops->stream->call(comm, gate_open, "", 1);
	trace_begin(comm, "late", NULL, -1);
	trace_end(comm);
	trace_count(comm, "sum", 7);
	opened = clock_now();
	atomic_store(&gate, true);
	settle();
	ok(ended(find("late")) && find("late")->begin[TRACE_WALL] >= opened, "a span begins when the stream is there, not when it is queued");
	ok(trace->counts == 1 && trace->count[0].value == 7 && trace->count[0].at[TRACE_WALL] >= opened, "so does a count");
	close_all();
}

static void test_window(void)
{
	open_all(100);
	trace_on(dev, false);
	trace_begin(comm, "around", NULL, -1);
	trace_on(dev, true);
	trace_begin(comm, "kept", NULL, -1);
	trace_on(dev, false);
	trace_begin(comm, "after", NULL, -1);
	trace_end(comm);
	trace_end(comm);
	trace_end(comm);
	settle();
	ok(trace->spans == 1 && ended(find("kept")), "a span is kept if it begins while the trace is on, to its end");
	close_all();
}

static void test_whole(void)
{
	open_all(100);
	trace_whole(compute, "evaluation", NULL, -1);
	trace_whole(compute, "inside", NULL, -1);
	trace_begin(compute, "deep", NULL, -1);
	record(compute);
	wait(compute);
	trace_end(compute);
	trace_end(compute);
	trace_begin(compute, "also inside", NULL, -1);
	trace_end(compute);
	trace_end(compute);
	trace_begin(compute, "behind", NULL, -1);
	trace_end(compute);
	settle();
	ok(trace->spans == 2 && ended(find("evaluation")) && ended(find("behind")) && trace->moments == 0, "of a whole the inside is not kept");
	close_all();
}

/* compute: [ layer  record ]                    [ wait ]
 * comm:                      [ bucket  record ]           */
static void test_flows(void)
{
	const struct trace_flow *ready, *arrived;
	struct event *first;

	open_all(100);
	first = event;
	event = dev->ops->stream->event_open(dev);
	record(compute);
	wait(comm);
	trace_begin(comm, "of nobody", NULL, -1);
	trace_end(comm);
	trace_begin(compute, "layer", NULL, -1);
	record(compute);
	trace_end(compute);
	wait(comm);
	trace_begin(comm, "bucket", NULL, 0);
	dev->ops->stream->record(first, comm);
	trace_end(comm);
	trace_begin(comm, "behind", NULL, 1);
	trace_end(comm);
	dev->ops->stream->wait(compute, first);
	settle();
	ok(trace->flows == 2, "a flow for each wait for what was recorded in a span: %lld", (long long)trace->flows);
	ready = &trace->flow[0];
	arrived = &trace->flow[1];
	ok(trace->flows == 2 && &trace->span[ready->span] == find("bucket") && &trace->span[arrived->span] == find("wait"),
	   "to the span that came after the wait, and to the span of the wait");
	ok(trace->moments == 2 && trace->moment[ready->moment].at[TRACE_WALL] >= find("layer")->begin[TRACE_WALL] &&
	   trace->moment[ready->moment].at[TRACE_WALL] <= find("layer")->end[TRACE_WALL], "from inside the span in which it was recorded");
	ok(trace->moment[ready->moment].at[TRACE_WALL] <= find("bucket")->begin[TRACE_WALL] &&
	   trace->moment[arrived->moment].at[TRACE_WALL] <= find("wait")->end[TRACE_WALL], "no flow ends before it starts");
	dev->ops->stream->event_close(first);
	close_all();
}

static void test_recorded_again(void)
{
	open_all(100);
	trace_begin(compute, "first", NULL, -1);
	record(compute);
	trace_end(compute);
	trace_begin(compute, "second", NULL, -1);
	record(compute);
	trace_end(compute);
	wait(comm);
	trace_begin(comm, "bucket", NULL, -1);
	trace_end(comm);
	settle();
	ok(trace->flows == 1 && trace->moment[trace->flow[0].moment].at[TRACE_WALL] >= find("second")->begin[TRACE_WALL],
	   "a wait means the last record");
	close_all();
}

static void test_limit(void)
{
	open_all(3);
	trace_begin(comm, "around", NULL, -1);
	for (int i = 0; i < 4; i++) {
		trace_begin(comm, "outer", NULL, i);
		trace_begin(comm, "inner", NULL, i);
		trace_end(comm);
		trace_end(comm);
	}
	trace_begin(comm, "last", NULL, -1);
	trace_end(comm);
	trace_end(comm);
	settle();
	ok(trace->spans == 3 && trace->left_out == 7, "what finds no place is counted: %lld", (long long)trace->left_out);
	ok(within(find("inner"), find("outer")) && within(find("outer"), find("around")) &&
	   find("outer")->end[TRACE_WALL] < find("around")->end[TRACE_WALL], "and does not end what has one");
	close_all();
}

static void test_phases(void)
{
	const struct trace_span *local, *merge;

	open_all(100);
	trace_on(dev, false);
	trace_phase(compute, "local steps");
	trace_begin(compute, "before", NULL, -1);
	trace_on(dev, true);
	trace_phase(compute, "local steps");
	trace_end(compute);
	trace_begin(compute, "step", NULL, -1);
	trace_phase(compute, "merge");
	trace_end(compute);
	trace_on(dev, false);
	settle();
	local = find("local steps");
	merge = find("merge");
	ok(ended(local) && count("local steps") == 1 && local->phase, "a phase that lasts begins with the trace, and goes on");
	ok(ended(local) && ended(merge) && local->end[TRACE_WALL] <= merge->begin[TRACE_WALL] && merge->end[TRACE_WALL] >= find("step")->end[TRACE_WALL],
	   "until the next one, and that until the trace ends");
	close_all();
}

static void test_clocks(void)
{
	const struct trace_span *wait_span, *busy;

	open_all(100);
	trace_begin(comm, "busy", NULL, -1);
	timeline_spend(comm, 1e6);
	record(comm);
	trace_end(comm);
	wait(compute);
	timeline_pause(dev, true);
	trace_begin(comm, "aside", NULL, -1);
	trace_end(comm);
	timeline_pause(dev, false);
	settle();
	busy = find("busy");
	wait_span = find("wait");
	if (on_virtual) {
		near(busy->end[TRACE_VIRTUAL] - busy->begin[TRACE_VIRTUAL], 1e6, 0, "a span lasts what was spent in it, on the virtual clock");
		near(wait_span->end[TRACE_VIRTUAL] - wait_span->begin[TRACE_VIRTUAL], 1e6, 0, "and its wait as long");
	} else {
		ok(isnan(busy->begin[TRACE_VIRTUAL]) && isnan(wait_span->end[TRACE_VIRTUAL]), "streams without a time have none in the trace");
	}
	ok(isnan(find("aside")->begin[TRACE_VIRTUAL]) && ended(find("aside")), "what is aside has none on the virtual clock, but on the wall's");
	ok(busy->end[TRACE_WALL] - busy->begin[TRACE_WALL] < 1e6, "the wall clock knows nothing of that");
	close_all();
}

int main(void)
{
	const char *wish = getenv("COCOD_TEST_DEVICE");
	static const enum progress driver[] = { PROGRESS_THREAD, PROGRESS_HOOK };

	for (int i = 0; i < 4; i++) {
		struct device_config config = { .threads = 1, .progress = driver[i % 2], .conv = "auto", .precision = PRECISION_FP32, .index = -1 };
		const struct device_ops *ops = device_find(wish ? wish : "cpu");

		on_virtual = i >= 2;
		dev = ops ? ops->open(&config) : NULL;
		if (!dev)
			die(STATUS_FAILURE, "%s", errors_text());
		test_without();
		test_nesting();
		test_time();
		test_window();
		test_whole();
		test_flows();
		test_recorded_again();
		test_limit();
		test_phases();
		test_clocks();
		dev->ops->close(dev);
	}
	return done_testing();
}
