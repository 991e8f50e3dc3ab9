/*
 * Streams and events of the CPU device, with both drivers of the communication streams: the thread and the hook. What holds for
 * one must hold for the other, so every test below runs twice.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/device.h"
#include "tap.h"

static struct device *dev;
static const struct stream_ops *so;
static const char *driver;

static double cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- host functions ---- */

/* Counts are atomic: some tests watch them while the driver is at work. */
struct note { int *log; _Atomic int *count; int value; };

static bool note_down(void *arg)
{
	struct note *n = arg;

	n->log[(*n->count)++] = n->value;
	return true;
}

struct late { double seconds, until; int *log; _Atomic int *count; int value; };

static bool finish_late(void *arg)
{
	struct late *l = arg;

	if (l->until == 0)
		l->until = clock_now() + l->seconds;
	if (clock_now() < l->until)
		return false;
	if (l->log)
		l->log[(*l->count)++] = l->value;
	return true;
}

struct gate { _Atomic bool *open; };

static bool gate_open(void *arg) { return atomic_load(*(_Atomic bool **)arg); }

static void call_note(struct stream *s, int *log, _Atomic int *count, int value)
{
	struct note n = { log, count, value };

	so->call(s, note_down, &n, sizeof(n));
}

static void call_late(struct stream *s, double seconds, int *log, _Atomic int *count, int value)
{
	struct late l = { seconds, 0, log, count, value };

	so->call(s, finish_late, &l, sizeof(l));
}

static void call_gate(struct stream *s, _Atomic bool *open) { so->call(s, gate_open, &open, sizeof(open)); }

static bool counts_up(const int *log, int count, int n)
{
	bool good = count == n;

	for (int i = 0; i < count && i < n; i++)
		good = good && log[i] == i;
	return good;
}

/* ---- tests ---- */

static void test_fifo(void)
{
	struct stream *s = so->open(dev, STREAM_COMM);
	int log[300];
	_Atomic int count = 0;

	for (int i = 0; i < 300; i++) {
		if (i % 50 == 7)
			call_late(s, 0.002, log, &count, i);
		else
			call_note(s, log, &count, i);
	}
	so->sync(s);
	ok(counts_up(log, count, 300), "%s: 300 host functions, some of them late, run in their order", driver);
	so->close(s);
}

/* More operations than the ring of the queue holds, the first of them shut until the producer must be blocked or nearly so. */
struct opener { _Atomic bool gate; };

static void *open_soon(void *arg)
{
	struct opener *o = arg;

	nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
	atomic_store(&o->gate, true);
	return NULL;
}

static void test_full_queue(void)
{
	enum { MANY = 20000 };
	struct stream *s = so->open(dev, STREAM_COMM);
	struct opener o = { false };
	int *log = xcalloc(MANY, sizeof(int));
	_Atomic int count = 0;
	pthread_t t;

	pthread_create(&t, NULL, open_soon, &o);
	call_gate(s, &o.gate);
	for (int i = 0; i < MANY; i++)
		call_note(s, log, &count, i);
	so->sync(s);
	pthread_join(t, NULL);
	ok(counts_up(log, count, MANY), "%s: %d operations behind a shut gate: none is lost, none overtakes", driver, MANY);
	so->close(s);
	free(log);
}

static void test_events(void)
{
	struct stream *compute = so->open(dev, STREAM_COMPUTE), *s = so->open(dev, STREAM_COMM);
	struct event *e = so->event_open(dev), *f = so->event_open(dev);
	_Atomic bool gate = false;
	int log[8];
	_Atomic int count = 0;
	double start = clock_now();

	so->wait(compute, e);
	so->wait(s, e);
	call_note(s, log, &count, 0);
	so->sync(s);
	ok(so->done(e) && count == 1 && clock_now() - start < 1, "%s: waiting for an event that was never recorded does not wait", driver);

	call_gate(s, &gate);
	so->record(e, s);
	for (int i = 0; i < 50; i++)
		so->progress(dev);
	ok(!so->done(e), "%s: an event has not happened before what is queued in front of it", driver);
	atomic_store(&gate, true);
	so->wait(compute, e);
	ok(so->done(e), "%s: after waiting for it, it has", driver);

	/* Recorded anew: only the last record counts. */
	for (int i = 0; i < 3; i++) {
		call_late(s, 0.01, log, &count, 1 + i);
		so->record(e, s);
	}
	so->wait(compute, e);
	ok(count == 4 && counts_up(log, count, 4) && so->done(e), "%s: a re-recorded event is waited for up to its last record", driver);

	/* A wait on the stream captures the record that was the last one then. */
	count = 0;
	atomic_store(&gate, false);
	so->record(e, compute);
	so->wait(s, e);
	call_note(s, log, &count, 0);
	call_gate(s, &gate);
	so->record(e, s);
	call_note(s, log, &count, 1);
	start = clock_now();
	while (count == 0 && clock_now() - start < 2)
		so->progress(dev);
	ok(count == 1, "%s: a queued wait is for the record before it, not for later ones", driver);
	atomic_store(&gate, true);
	so->sync(s);
	ok(count == 2, "%s: and the queue goes on", driver);

	/* Recorded on a slow stream, then on a fast one: the older record that happens later must not take the newer one back. */
	atomic_store(&gate, false);
	call_gate(s, &gate);
	so->record(f, s);
	so->record(f, compute);
	ok(so->done(f), "%s: recorded again on another stream: the last record counts", driver);
	atomic_store(&gate, true);
	so->sync(s);
	ok(so->done(f), "%s: and an older record that happens late takes nothing back", driver);
	so->event_close(e);
	so->event_close(f);
	so->close(s);
	so->close(compute);
}

static void test_many_streams(void)
{
	struct stream *s[3];
	struct event *e[3];
	int log[3], bad = 0;
	_Atomic int count = 0;

	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 3; i++) {
			s[i] = so->open(dev, STREAM_COMM);      /* also while the driver is just about to rest from the round before */
			e[i] = so->event_open(dev);
		}
		count = 0;
		/* Last stream first, each waits for the one that was queued before: a chain across the streams. */
		for (int i = 2; i >= 0; i--) {
			if (i < 2)
				so->wait(s[i], e[i + 1]);
			call_note(s[i], log, &count, 2 - i);
			so->record(e[i], s[i]);
		}
		so->sync(s[0]);
		bad += !counts_up(log, count, 3);
		for (int i = 0; i < 3; i++) {
			so->sync(s[i]);
			so->event_close(e[i]);
			so->close(s[i]);
		}
	}
	ok(bad == 0, "%s: 200 times three streams that wait for each other: order kept in all", driver);

	for (int round = 0; round < 200; round++) {
		s[0] = so->open(dev, STREAM_COMM);
		count = 0;
		call_note(s[0], log, &count, 0);
		so->sync(s[0]);
		s[1] = so->open(dev, STREAM_COMM);      /* right behind a sync: nothing is queued, which is all the contract asks for */
		call_note(s[1], log, &count, 1);
		so->close(s[1]);
		bad += !counts_up(log, count, 2);
		so->close(s[0]);
	}
	ok(bad == 0, "%s: a stream can be opened right after another was drained, and close() waits for what is queued", driver);
}

/* Data that one side wrote is seen by the other behind an event, in both directions. */
static void test_memory(void)
{
	enum { N = 20000 };
	struct stream *compute = so->open(dev, STREAM_COMPUTE), *s = so->open(dev, STREAM_COMM);
	struct event *there = so->event_open(dev), *back = so->event_open(dev);
	float *a = dev->ops->mem->alloc(dev, N * sizeof(float)), *b = dev->ops->mem->alloc(dev, N * sizeof(float));
	int bad = 0;

	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < N; i++)
			a[i] = (float)(round + i % 7);
		so->record(there, compute);
		so->wait(s, there);
		dev->ops->vec->scale(s, N, 2, a, b);
		so->record(back, s);
		so->wait(compute, back);
		for (int i = 0; i < N; i++)
			bad += b[i] != 2 * (float)(round + i % 7);
	}
	ok(bad == 0, "%s: what was written before a record is read after the wait, 100 round trips of %d floats", driver, N);
	dev->ops->mem->free(dev, a);
	dev->ops->mem->free(dev, b);
	so->event_close(there);
	so->event_close(back);
	so->close(s);
	so->close(compute);
}

/* Arguments are copied when they are queued. */
static void test_copies(void)
{
	struct stream *s = so->open(dev, STREAM_COMM);
	_Atomic bool gate = false;
	unsigned char block[128], got[128];
	int log[2];
	_Atomic int count = 0;
	struct note n = { log, &count, 5 };
	bool good = true;

	memset(block, 7, sizeof(block));
	call_gate(s, &gate);
	so->call(s, note_down, &n, sizeof(n));
	n.value = 6;
	dev->ops->mem->set(s, got, block, sizeof(block));
	memset(block, 8, sizeof(block));
	atomic_store(&gate, true);
	so->sync(s);
	for (size_t i = 0; i < sizeof(got); i++)
		good = good && got[i] == 7;
	ok(good && log[0] == 5, "%s: arguments and the bytes of set() are captured at the call", driver);
	so->close(s);
}

static void test_accounts(void)
{
	struct stream *compute = so->open(dev, STREAM_COMPUTE), *s = so->open(dev, STREAM_COMM);
	struct event *e = so->event_open(dev), *f = so->event_open(dev);
	double busy = so->busy(s), waited = so->waited(compute), burnt, start;
	_Atomic bool gate = false;

	/* The host waits 300 ms for something that needs no processor: nobody may spin. */
	call_late(s, 0.3, NULL, NULL, 0);
	so->record(e, s);
	start = clock_now();
	burnt = cpu_time();
	so->wait(compute, e);
	burnt = cpu_time() - burnt;
	start = clock_now() - start;
	ok(start >= 0.29, "%s: the host waited %.0f ms for a function of 300 ms", driver, start * 1e3);
	ok(burnt < 0.5 * start, "%s: and burnt %.0f %% of a core meanwhile (< 50 %%)", driver, 100 * burnt / start);
	busy = so->busy(s) - busy;
	ok(busy >= 0.29 && busy <= start + 0.02, "%s: the stream was busy for %.0f ms", driver, busy * 1e3);
	waited = so->waited(compute) - waited;
	ok(waited >= 0.28 && waited <= start + 0.02, "%s: the compute stream waited %.0f ms", driver, waited * 1e3);

	/* Waiting for an event is not being busy. */
	busy = so->busy(s);
	call_gate(s, &gate);
	for (int i = 0; i < 100 && !so->active(s); i++) {
		so->progress(dev);
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
	ok(so->active(s), "%s: a host function that is asked again and again is activity", driver);
	atomic_store(&gate, true);
	so->sync(s);
	ok(so->busy(s) > busy, "%s: and counts as busy", driver);

	struct stream *other = so->open(dev, STREAM_COMM);

	atomic_store(&gate, false);
	call_gate(other, &gate);
	so->record(f, other);
	busy = so->busy(s);
	so->wait(s, f);
	for (int i = 0; i < 100; i++) {
		so->progress(dev);
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	}
	ok(!so->active(s), "%s: waiting for an event is no activity", driver);
	atomic_store(&gate, true);
	so->sync(s);
	ok(so->busy(s) - busy < 0.02, "%s: and 100 ms of it added %.1f ms to the busy time", driver, (so->busy(s) - busy) * 1e3);
	so->close(other);
	so->event_close(e);
	so->event_close(f);
	so->close(s);
	so->close(compute);
}

/* An operation of a stream may itself let the device progress (a long kernel polls, wherever it runs). */
static bool progress_inside(void *arg)
{
	(void)arg;
	nanosleep(&(struct timespec){ 0, 5000000 }, NULL);
	so->progress(dev);
	return true;
}

static void test_nested(void)
{
	struct stream *compute = so->open(dev, STREAM_COMPUTE), *s = so->open(dev, STREAM_COMM);
	double waited = so->waited(compute);

	for (int i = 0; i < 10; i++)
		so->call(s, progress_inside, &i, sizeof(i));
	so->sync(s);
	ok(so->waited(compute) >= waited, "%s: progress() from inside an operation: no recursion, no time counted backwards", driver);
	so->close(s);
	so->close(compute);
}

/* Beside a thread the host must hear of an event in the middle of a chain when it happens, not when the whole chain has run. (The
 * hook runs the chain itself, in one go.) */
struct spin { double seconds; _Atomic int *ran; };

static bool spin(void *arg)
{
	struct spin *p = arg;
	double until = clock_now() + p->seconds;

	while (clock_now() < until)
		;
	(*p->ran)++;
	return true;
}

static void test_early_wake(void)
{
	struct stream *compute = so->open(dev, STREAM_COMPUTE), *s = so->open(dev, STREAM_COMM);
	struct event *e = so->event_open(dev);
	_Atomic int ran = 0;
	int seen;
	struct spin first = { 0.06, &ran }, p = { 0.01, &ran };

	so->call(s, spin, &first, sizeof(first));
	so->record(e, s);
	for (int i = 0; i < 20; i++)
		so->call(s, spin, &p, sizeof(p));
	so->wait(compute, e);
	seen = ran;
	so->sync(s);
	ok(seen < 15, "%s: of 20 operations behind the awaited event, %d ran before the host heard of it", driver, seen - 1);
	so->event_close(e);
	so->close(s);
	so->close(compute);
}

static void test_compute_stream(void)
{
	struct stream *compute = so->open(dev, STREAM_COMPUTE);
	struct event *e = so->event_open(dev);
	int log[2];
	_Atomic int count = 0;

	call_late(compute, 0.005, log, &count, 0);
	ok(count == 1, "%s: on the compute stream an operation has happened when the call returns", driver);
	so->record(e, compute);
	ok(so->done(e), "%s: so has an event", driver);
	so->sync(compute);
	so->event_close(e);
	so->close(compute);
}

int main(void)
{
	const struct device_ops *ops = device_find("cpu");

	for (int d = 0; d < 2; d++) {
		struct device_config config = { .threads = 1, .progress = d ? PROGRESS_HOOK : PROGRESS_THREAD, .conv = "auto" };

		driver = d ? "hook" : "thread";
		dev = ops->open(&config);
		so = dev->ops->stream;
		test_fifo();
		test_full_queue();
		test_events();
		test_many_streams();
		test_memory();
		test_copies();
		test_accounts();
		test_nested();
		if (d == 0)
			test_early_wake();
		test_compute_stream();
		ops->close(dev);
	}
	return done_testing();
}
