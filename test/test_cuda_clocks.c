/*
 * The clocks of the CUDA device's streams: how long communication was at work, how long computing stood still for it.
 *
 * On a loaded machine everything takes longer, but never more than the host's clock says less what was spent otherwise for sure.
 */
#include <time.h>

#include "cuda_stream_kit.h"

static double began, counted;

static void sleep_ms(int ms) { nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL); }

/* Begins to count: of the device by `seconds`, and of the host. */
static void watch(struct stream *s, double (*seconds)(const struct stream *))
{
	so->sync(s);
	counted = seconds(s);
	began = clock_now();
}

/* Since watch(), `least` seconds at least were counted, and at least `otherwise` seconds were not. */
static void within(struct stream *s, double (*seconds)(const struct stream *), double least, double otherwise, const char *claim)
{
	double passed_by, got;

	so->sync(s);
	passed_by = clock_now() - began;
	got = seconds(s) - counted;
	ok(got >= least && got <= passed_by - otherwise, "%s: %.1f of %.1f ms", claim, got * 1e3, passed_by * 1e3);
}

static void test_busy(void)
{
	struct event *e = so->event_open(dev);
	double active = 0;
	int samples = 0;
	float *x = device_floats(1 << 16);

	watch(comm, so->busy);
	sleep_ms(30);
	delay(comm, 0.06);                      /* no wait in front: the first operation starts the clock */
	so->record(e, comm);
	while (!so->done(e)) {
		samples++;
		active += so->active(comm);
		sleep_ms(2);
	}
	sleep_ms(30);
	within(comm, so->busy, 0.058, 0.058, "60 ms at work between idle times, busy");
	ok(samples > 3 && active >= 0.5 * samples && !so->active(comm), "active in %.0f of %d looks, not after", active, samples);

	watch(comm, so->busy);
	delay(compute, 0.06);
	so->record(e, compute);
	so->wait(comm, e);
	active = 0;
	for (int i = 0; i < 8; i++) {
		active += so->active(comm);
		sleep_ms(2);
	}
	delay(comm, 0.02);
	so->record(e, comm);
	within(comm, so->busy, 0.019, 0.055, "waiting 60 ms for an event, then 20 ms at work, busy");
	ok(active == 0, "and not active while it waited");

	watch(comm, so->busy);
	delay(comm, 0.02);                      /* nothing is recorded behind it */
	sleep_ms(5);                            /* host functions run one at a time: let it be the first */
	delay(compute, 0.06);
	so->record(e, compute);
	so->wait(comm, e);
	delay(comm, 0.02);
	within(comm, so->busy, 0.039, 0.04, "20 ms at work, 60 ms waiting, 20 ms at work, busy");

	watch(comm, so->busy);
	for (int i = 0; i < 10; i++)
		dev->ops->vec->scale(comm, 1 << 16, 0.5f, x, x);
	so->record(e, comm);
	within(comm, so->busy, 1e-6, 0, "ten kernels alone, busy");
	ok(so->busy(compute) == 0 && so->waited(comm) == 0 && !so->active(compute),
	   "the compute stream is never busy, the communication stream never waits");
	mem->free(dev, x);
	so->event_close(e);
}

/* How long the compute stream stood still for a communication of so many seconds. */
static double wait_for(struct event *e, double seconds)
{
	double before = so->waited(compute);

	delay(comm, seconds);
	so->record(e, comm);
	so->wait(compute, e);
	so->wait(compute, e);
	so->sync(compute);
	return so->waited(compute) - before;
}

static void test_waited(void)
{
	struct event *e = so->event_open(dev), *early = so->event_open(dev);
	double one, three, ratio = 0;

	watch(compute, so->waited);
	sleep_ms(20);
	one = wait_for(e, 0.04);
	within(compute, so->waited, 0.035, 0.02, "the compute stream waited for 40 ms");
	for (int i = 0; i < 5 && !(ratio > 2.5 && ratio < 3.5); i++) {  /* a loaded machine may need several tries */
		one = wait_for(e, 0.03);
		three = wait_for(e, 0.09);
		ratio = three / one;
	}
	ok(ratio > 2.5 && ratio < 3.5, "for three times the delay %.2f times as long", ratio);

	watch(compute, so->waited);
	so->record(early, comm);
	delay(comm, 0.04);
	so->record(e, comm);
	so->wait(compute, e);
	for (int i = 0; i < 700; i++)           /* more than are kept at a time, while the first is not over */
		so->wait(compute, early);
	within(compute, so->waited, 0.035, 0, "40 ms, and 700 waits more for what has happened, waited");
	so->event_close(early);
	so->event_close(e);
}

int main(void)
{
	if (!backend_is_there())
		return 0;
	if (!open_or_skip())
		return done_testing();
	test_busy();
	test_waited();
	close_all();
	return done_testing();
}
