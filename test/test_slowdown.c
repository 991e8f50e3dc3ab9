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
static double pause_in_step(struct slowdown s, int64_t step, double seconds, double *counted)
{
	double begin, c;

	slowdown_begin(&s, step, dev, compute);
	begin = clock_now();
	work(seconds);
	begin = behind ? begin + seconds : clock_now();
	c = slowdown_end(&s, dev, compute);
	dev->ops->stream->sync(compute);
	if (counted)
		*counted = c;
	return clock_now() - begin;
}

static double pause_of(double factor, double seconds, double *counted)
{
	return pause_in_step((struct slowdown){ .factor = factor }, 0, seconds, counted);
}

/* The work is processor time, so a busy machine can only make a pause longer. */
static void test_length(double factor)
{
	double least = INFINITY, want = (factor - 1) * 0.02;

	for (int i = 0; i < TRIES && least > 1.2 * want; i++)
		least = fmin(least, pause_of(factor, 0.02, NULL));
	ok(least > 0.95 * want && least <= 1.2 * want + 1e-3, "factor %g: 20 ms of computing, then a pause of %.1f ms", factor, 1e3 * least);
}

/* The pause of a step is as long as its own draw says. */
static void test_jittered_length(void)
{
	struct slowdown s = { .factor = 1, .jitter = 2, .seed = 3 };
	double least = INFINITY, want;
	int64_t step = 0;

	while (slowdown_factor(&s, step) < 2.5 || slowdown_factor(&s, step) > 4)
		step++;
	want = (slowdown_factor(&s, step) - 1) * 0.02;
	for (int i = 0; i < TRIES && least > 1.2 * want; i++)
		least = fmin(least, pause_in_step(s, step, 0.02, NULL));
	ok(least > 0.95 * want && least <= 1.2 * want + 1e-3, "jitter: 20 ms of computing, then a pause of %.1f ms, of %.1f that were drawn",
	   1e3 * least, 1e3 * want);
}

/* The numbers themselves: a half-normal distribution; other ones for another rank, step or seed; the same when asked again. */
static void test_jitter(void)
{
	enum { DRAWS = 20000 };
	struct slowdown s = { .factor = 3, .jitter = 0.5, .seed = 7, .rank = 2 }, other_rank = s, other_seed = s, even = s;
	double sum = 0, squares = 0, least = INFINITY, mean, deviation;
	int same = 0, again = 0;

	other_rank.rank = 3;
	other_seed.seed = 8;
	even.jitter = 0;
	for (int64_t t = 0; t < DRAWS; t++) {
		double f = slowdown_factor(&s, t);

		sum += f;
		squares += f * f;
		least = fmin(least, f);
		again += f == slowdown_factor(&s, t);
		same += f == slowdown_factor(&other_rank, t) || f == slowdown_factor(&other_seed, t) || f == slowdown_factor(&s, t + 1);
	}
	mean = sum / DRAWS;
	deviation = sqrt(squares / DRAWS - mean * mean);
	ok(fabs(mean / 3 - 1 - 0.5 * sqrt(2 / M_PI)) < 0.01 && fabs(mean - slowdown_mean(&s)) < 0.03,
	   "factor 3, jitter 0.5: %.3f on average, 3 (1 + 0.5 sqrt(2 / pi)) = %.3f", mean, slowdown_mean(&s));
	ok(fabs(deviation - 1.5 * sqrt(1 - 2 / M_PI)) < 0.02 && least >= 3 && least < 3.001, "  deviation %.3f, and never faster than the factor",
	   deviation);
	ok(again == DRAWS && same == 0, "  seed, rank and step decide, and nothing else");
	ok(slowdown_factor(&even, 5) == 3 && slowdown_mean(&even) == 3, "without jitter the factor is what it is");
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

		slowdown_begin(&s, 0, dev, compute);
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
	test_jitter();
	for (int d = 0; d < 2; d++) {
		enum progress progress = d ? PROGRESS_HOOK : PROGRESS_THREAD;

		dev = open_device(progress);
		compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
		comm = dev->ops->stream->open(dev, STREAM_COMM);
		behind = !dev->ops->stream->progress;
		test_length(3);
		test_length(1.5);
		test_length(1);
		test_jittered_length();
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
