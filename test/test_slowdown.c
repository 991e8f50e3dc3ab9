/*
 * A slower rank: the pause is as long as said, what waits and what others compute is not multiplied, and communication goes on in it.
 * A busy machine has a few tries. On $COCOD_TEST_DEVICE, if it is given.
 */
#include <string.h>
#include <time.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/slowdown.h"
#include "tap.h"

enum { TRIES = 10 };

static struct device *dev;
static struct stream *compute, *comm;
static bool behind;             /* the device runs behind the host */
static volatile double sink;

static struct device *open_device(enum progress progress)
{
	const char *wish = getenv("COCOD_TEST_DEVICE");
	struct device_config config = { .threads = 1, .progress = progress, .conv = "auto", .precision = PRECISION_FP32, .index = -1 };
	const struct device_ops *ops = device_find(wish ? wish : "cpu");
	struct device *d = ops ? ops->open(&config) : NULL;

	if (!d)
		die(STATUS_FAILURE, "%s", errors_text());
	return d;
}

/* Computing that takes so long: on a device that runs behind, a host function of that length stands for it. */
static bool is_over(void *args)
{
	double *a = args;

	if (a[1] == 0)
		a[1] = clock_now() + a[0];
	return clock_now() >= a[1];
}

static void work(double seconds)
{
	double args[2] = { seconds, 0 }, begin = clock_cpu();

	if (behind) {
		dev->ops->stream->call(compute, is_over, args, sizeof(args));
		return;
	}
	while (clock_cpu() - begin < seconds)
		sink = sink * 0.999 + 1;
}

/* Seconds from the end of the work to the end of the pause; on a device that runs behind, less what the work takes. */
static double pause_of(double factor, double seconds, double *counted)
{
	struct slowdown s = { .factor = factor };
	double begin, c;

	slowdown_begin(&s, dev, compute);
	begin = clock_now();
	work(seconds);
	begin = behind ? begin + seconds : clock_now();
	c = slowdown_end(&s, dev, compute);
	dev->ops->stream->sync(compute);
	if (counted)
		*counted = c;
	return clock_now() - begin;
}

/* The work is processor time, so a busy machine can only make a pause longer. */
static void test_length(double factor)
{
	double least = INFINITY, want = (factor - 1) * 0.02;

	for (int i = 0; i < TRIES && least > 1.2 * want; i++)
		least = fmin(least, pause_of(factor, 0.02, NULL));
	ok(least > 0.95 * want && least <= 1.2 * want + 1e-3, "factor %g: 20 ms of computing, then a pause of %.1f ms", factor, 1e3 * least);
}

/* A pass that mostly waits for an event of the communication stream. */
static void test_waiting(void)
{
	const struct stream_ops *ops = dev->ops->stream;
	struct event *event = ops->event_open(dev);
	double delay[2] = { 0.06, 0 }, took = 1;

	for (int i = 0; i < TRIES && took > 0.2; i++) {
		struct slowdown s = { .factor = 11 };
		double begin = clock_now();

		slowdown_begin(&s, dev, compute);
		work(0.004);
		ops->call(comm, is_over, delay, sizeof(delay));
		ops->record(event, comm);
		ops->wait(compute, event);
		slowdown_end(&s, dev, compute);
		took = clock_now() - begin;
	}
	ok(took < 0.2, "60 ms of waiting and 4 of computing, 11 times slower: %.0f ms, not 700", 1e3 * took);
	ops->event_close(event);
}

/* Like messages: has to be asked again and again, and takes a millisecond each time. */
struct asking {
	int times;
	bool *done;
};

static bool ask(void *args)
{
	struct asking *a = args;
	double until = clock_now() + 1e-3;

	while (clock_now() < until)
		;
	*a->done = --a->times == 0;
	return *a->done;
}

static void test_progress(const char *driver)
{
	bool done = false;
	double taken = 1, counted = 0;

	for (int i = 0; i < TRIES && !(done && fabs(taken - counted) < 1e-3); i++) {
		struct asking a = { 10, &done };

		dev->ops->stream->sync(comm);
		done = false;
		dev->ops->stream->call(comm, ask, &a, sizeof(a));
		taken = dev->ops->stream->waited(compute);
		pause_of(21, 0.005, &counted);
		taken = dev->ops->stream->waited(compute) - taken;
	}
	ok(done, "%s: communication goes on in the pause", driver);
	ok(fabs(taken - counted) < 1e-3, "  and does not count as taken from computing (%.1f ms)", 1e3 * taken);
}

int main(void)
{
	for (int d = 0; d < 2; d++) {
		enum progress progress = d ? PROGRESS_HOOK : PROGRESS_THREAD;

		dev = open_device(progress);
		compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
		comm = dev->ops->stream->open(dev, STREAM_COMM);
		behind = !dev->ops->stream->progress;
		test_length(3);
		test_length(1.5);
		test_length(1);
		if (!behind) {
			test_waiting();
			test_progress(d ? "hook" : "thread");
		}
		dev->ops->stream->sync(comm);
		dev->ops->stream->close(comm);
		dev->ops->stream->close(compute);
		dev->ops->close(dev);
		if (behind)
			break;
	}
	return done_testing();
}
