/* The line through the times of messages: exact where there is an answer, and found again where messages are made as slow as a line says. */
#include <math.h>

#include "../comm/fit.h"
#include "../comm/topology/topology.h"
#include "../core/clock.h"
#include "ranks.h"

static struct comm *comm;
static int P;

static bool close_by(double got, double want, double relative) { return fabs(got - want) <= relative * fabs(want); }

static void test_lines(void)
{
	static const double bytes[] = { 4096, 32768, 262144, 2097152 };
	const double alpha = 50e-6, beta = 0.8e-9;
	double seconds[4];
	struct fit f;

	for (int i = 0; i < 4; i++)
		seconds[i] = alpha + beta * bytes[i];
	f = fit_line(bytes, seconds, 4);
	all_ok(close_by(f.latency, alpha, 1e-9) && close_by(f.per_byte, beta, 1e-9) && f.error < 1e-9 && f.points == 4, "four points on a line: %g s, %g s/byte",
	       f.latency, f.per_byte);
	f = fit_line(bytes, seconds, 2);
	all_ok(close_by(f.latency, alpha, 1e-9) && close_by(f.per_byte, beta, 1e-9), "two points");
	f = fit_line(bytes, seconds, 1);
	all_ok(close_by(f.latency, seconds[0], 1e-9) && f.per_byte == 0, "one point is a latency");
	for (int i = 0; i < 4; i++)
		seconds[i] *= i % 2 ? 1.1 : 0.9;
	f = fit_line(bytes, seconds, 4);
	all_ok(close_by(f.latency, alpha, 0.2) && close_by(f.per_byte, beta, 0.2) && f.error > 0.05 && f.error < 0.25,
	       "a tenth of noise: short messages count as much as long ones, and the error says so: %.3f", f.error);
	for (int i = 0; i < 4; i++)
		seconds[i] = beta * bytes[i] - 1e-6;
	f = fit_line(bytes, seconds, 4);
	all_ok(f.latency == 0 && f.per_byte > 0, "no negative latency");
	for (int i = 0; i < 4; i++)
		seconds[i] = 1e-3 - 1e-11 * bytes[i];
	f = fit_line(bytes, seconds, 4);
	all_ok(f.per_byte == 0 && close_by(f.latency, 1e-3, 0.05), "no negative bandwidth");
}

static const double ALPHA = 3e-3, BETA = 20e-9;         /* far more than a message takes here */

static void slow_exchange(struct comm *c, void *buffer, int64_t bytes)
{
	c->delay = ALPHA + BETA * (double)bytes;
	comm_delay(c);
	c->delay = 0;
	fit_exchange(c, buffer, bytes);
}

/* A link that lets the first bytes after a pause pass at full speed: `full` is when it would have sent all it was given, had it begun
 * with nothing saved up. */
static void shaped_exchange(struct comm *c, void *buffer, int64_t bytes)
{
	static const double BURST = 8192;
	static double full, end;
	double now = clock_now(), begin = fmax(now, end);

	full = fmax(full, now - BURST * BETA) + BETA * (double)bytes;
	end = fmax(begin, full);
	c->delay = end - begin;
	comm_delay(c);
	c->delay = 0;
	fit_exchange(c, buffer, bytes);
}

static void test_shaped(void)
{
	struct fit f = comm_fit(comm, shaped_exchange, 1 << 18);

	all_ok(P == 1 || f.per_byte > 0.7 * BETA, "a link that passes 8 KB at full speed: %.3g s/byte, in the long run %.3g", f.per_byte, BETA);
	all_ok(P == 1 || f.latency + f.per_byte * 4096 < 8 * BETA * 4096, "  and several short ones are not taken for one: %.3g s", f.latency + f.per_byte * 4096);
}

static void test_measured(void)
{
	int64_t before = comm->bytes_sent;
	struct fit f = comm_fit(comm, slow_exchange, 1 << 18), all[8] = { 0 };
	double worst = 0;

	if (P == 1) {
		all_ok(f.points == 0 && f.latency == 0, "one rank: nothing is measured");
		return;
	}
	for (int bytes = 4096; bytes <= 1 << 18; bytes *= 64)   /* other programs can only make it slower */
		all_ok(f.latency + f.per_byte * bytes >= 0.8 * (ALPHA + BETA * bytes), "a slow link is seen: %d bytes in %.3g s, at least %.3g, within %.0f %%",
		       bytes, f.latency + f.per_byte * bytes, ALPHA + BETA * bytes, 100 * f.error);
	comm_host_gather(comm, &f, all, sizeof(f));
	for (int r = 0; r < P; r++)
		worst = fmax(worst, fabs(all[r].latency - f.latency) + fabs(all[r].per_byte - f.per_byte));
	all_ok(worst == 0, "all ranks have the same line");
	f = comm_fit(comm, fit_allreduce, 1 << 20);
	all_ok(f.points >= 1 && f.latency >= 0 && f.per_byte >= 0 && f.latency + f.per_byte > 0, "an all-reduce: %.3g s, %.3g s/byte, %d sizes, within %.0f %%",
	       f.latency, f.per_byte, f.points, 100 * f.error);
	all_ok(comm->bytes_sent - before <= 2 * 8 * (int64_t)sizeof(f), "what was measured is not counted as sent");
}

int main(void)
{
	struct device *dev;

	ranks_open();
	P = world.size;
	dev = open_device("cpu", PROGRESS_HOOK);
	CHECK(dev);
	comm = comm_open(&world, dev);
	test_lines();
	test_measured();
	test_shaped();
	comm_close(comm);
	dev->ops->close(dev);
	return ranks_close();
}
