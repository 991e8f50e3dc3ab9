/*
 * The virtual clock: times of streams and events, with both drivers of the CPU's communication stream. What holds for one must hold for
 * the other, and the wall clock has no say in it: the communication stream is held up by a gate where that could matter.
 */
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/die.h"
#include "../core/timeline.h"
#include "tap.h"

static struct device *dev;
static const struct stream_ops *so;
static const char *driver;

static double now(const struct stream *s) { return timeline_account(s).now; }

static bool gate_open(void *arg) { return atomic_load(*(_Atomic bool **)arg); }
static void call_gate(struct stream *s, _Atomic bool *open) { so->call(s, gate_open, &open, sizeof(open)); }

struct look {
	const struct stream *s;
	double *at;
};

static bool look(void *arg)
{
	struct look *l = arg;

	*l->at = now(l->s);
	return true;
}

/* Where a stream has got to when it comes to this point of its queue. */
static void call_look(struct stream *s, double *at)
{
	struct look l = { s, at };

	so->call(s, look, &l, sizeof(l));
}

static void test_order(struct stream *compute, struct stream *comm)
{
	struct event *ready = so->event_open(dev), *done = so->event_open(dev);
	struct timeline_account a;

	timeline_spend(compute, 1);
	so->record(ready, compute);
	timeline_spend(compute, 0.5);
	so->wait(comm, ready);
	timeline_spend(comm, 2);
	so->record(done, comm);
	so->wait(compute, done);
	so->sync(comm);
	ok(now(comm) == 3, "%s: what waits for an event begins when it happened: %g", driver, now(comm));
	a = timeline_account(compute);
	ok(a.now == 3 && a.busy == 1.5 && a.waited == 1.5, "%s: and computing stands still for the rest: %g = %g + %g", driver, a.now, a.busy, a.waited);
	so->wait(comm, ready);
	so->sync(comm);
	ok(now(comm) == 3, "%s: an event of the past costs nothing", driver);
	timeline_spend(compute, -1);
	timeline_spend(compute, 0);
	ok(now(compute) == 3, "%s: no time runs backwards", driver);
	so->event_close(ready);
	so->event_close(done);
}

/* Recorded again before a stream that is held up has seen the first record. */
static void test_records(struct stream *compute, struct stream *comm)
{
	struct event *e = so->event_open(dev);
	_Atomic bool open = false;
	double first = -1, second = -1, begin = now(compute);

	call_gate(comm, &open);
	timeline_spend(compute, 1);
	so->record(e, compute);
	so->wait(comm, e);
	call_look(comm, &first);
	timeline_spend(compute, 1);
	so->record(e, compute);
	so->wait(comm, e);
	call_look(comm, &second);
	atomic_store(&open, true);
	so->sync(comm);
	ok(first == begin + 1 && second == begin + 2, "%s: each wait means the record before it: %g, %g", driver, first - begin, second - begin);
	so->event_close(e);
}

static void test_pause(struct stream *compute, struct stream *comm)
{
	struct event *e = so->event_open(dev), *later = so->event_open(dev);
	struct timeline_account before, after;

	timeline_spend(comm, 5);
	so->record(e, comm);
	before = timeline_account(compute);
	timeline_pause(dev, true);
	timeline_spend(compute, 7);
	so->wait(compute, e);
	so->record(later, compute);
	ok(!timeline_of(compute), "%s: a paused stream has no time to spend", driver);
	timeline_pause(dev, false);
	after = timeline_account(compute);
	ok(after.now == before.now && after.busy == before.busy && after.waited == before.waited, "%s: a pause takes no time", driver);
	so->wait(comm, later);
	so->wait(compute, e);
	so->sync(comm);
	ok(now(compute) == now(comm) && now(compute) > before.now, "%s: what is on its way meanwhile keeps its time", driver);
	so->event_close(e);
	so->event_close(later);
}

static void test_unwatched(struct stream *compute)
{
	struct stream *other = so->open(dev, STREAM_COMPUTE);
	struct event *e = so->event_open(dev);
	double begin = now(compute);

	timeline_spend(other, 3);
	so->record(e, other);
	so->wait(compute, e);
	ok(now(compute) == begin && now(other) == 0 && !timeline_of(other) && !timeline_watches(other), "%s: a stream that is not watched has no time, nor have its events",
	   driver);
	so->record(e, compute);
	so->wait(other, e);
	ok(now(other) == 0, "%s: and gets none", driver);
	so->event_close(e);
	so->close(other);
}

/* Further behind than an event remembers: the program ends, rather than tell a wrong time. */
static void test_overrun(void)
{
	struct stream *compute = so->open(dev, STREAM_COMPUTE), *comm = so->open(dev, STREAM_COMM);
	struct event *e = so->event_open(dev);
	static _Atomic bool open;

	fclose(stderr);
	timeline_watch(compute);
	timeline_watch(comm);
	call_gate(comm, &open);
	so->record(e, compute);
	so->wait(comm, e);
	for (int i = 0; i < 1024; i++)
		so->record(e, compute);
	atomic_store(&open, true);
	so->sync(comm);
	_exit(0);
}

static void open_device(enum progress progress)
{
	struct device_config config = { .threads = 1, .progress = progress, .conv = "auto" };

	dev = device_find("reference")->open(&config);
	timeline_open(dev);
	so = dev->ops->stream;
	driver = progress == PROGRESS_HOOK ? "hook" : "thread";
}

static void test_driver(enum progress progress)
{
	struct stream *compute, *comm;
	const struct device_ops *real;

	open_device(progress);
	compute = so->open(dev, STREAM_COMPUTE);
	comm = so->open(dev, STREAM_COMM);
	timeline_watch(compute);
	timeline_watch(comm);
	test_order(compute, comm);
	test_records(compute, comm);
	test_pause(compute, comm);
	test_unwatched(compute);
	so->close(compute);
	so->close(comm);
	real = device_find("reference");
	ok(dev->ops != real, "%s: the device's operations keep time", driver);
	timeline_close(dev);
	ok(dev->ops == real, "%s: until the clock is closed", driver);
	dev->ops->close(dev);
}

static void test_without(void)
{
	struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto" };
	struct stream *s;

	dev = device_find("reference")->open(&config);
	s = dev->ops->stream->open(dev, STREAM_COMPUTE);
	timeline_spend(s, 1);
	timeline_pause(dev, true);
	timeline_pause(dev, false);
	ok(now(s) == 0 && !timeline_of(s) && !timeline_watches(s), "without a virtual clock nothing keeps time");
	dev->ops->stream->close(s);
	timeline_close(dev);
	dev->ops->close(dev);
}

int main(void)
{
	int status = 0;

	if (fork() == 0) {
		open_device(PROGRESS_HOOK);
		test_overrun();
	}
	wait(&status);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == STATUS_FAILURE, "a stream that is too far behind is an error: status %d", WEXITSTATUS(status));
	test_driver(PROGRESS_THREAD);
	test_driver(PROGRESS_HOOK);
	test_without();
	return done_testing();
}
