/* The time of a compressor's kernels, found among its messages: with kernels that are pauses, so that what must come out is known. */
#include <math.h>

#include "../comm/compress/kernels.h"
#include "../core/clock.h"
#include "ranks.h"

enum { RANGES = 2, N = 1 << 18 };
static const double LONG = 60e-3, SHORT = 10e-3;        /* far more than a message takes here */

static struct comm *comm;
static double longest;                                  /* kernels, this rank's */

struct pause {
	double seconds, until;
};

static bool pause_over(void *arg)
{
	struct pause *p = arg;

	if (p->until == 0)
		p->until = clock_now() + p->seconds;
	return clock_now() >= p->until;
}

/* In each range another rank is slow, and the others wait for its message. */
static void average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct pause p = { (c->comm->rank - range->offset) % c->comm->size == 0 ? longest : SHORT, 0 };
	int right = (c->comm->rank + 1) % c->comm->size, left = (c->comm->rank + c->comm->size - 1) % c->comm->size;

	c->comm->device->ops->stream->call(c->comm->stream, pause_over, &p, sizeof(p));
	if (c->comm->size > 1)
		comm_exchange(c->comm, right, in, N * 4, left, out, N * 4);
}

static void test_pauses(void)
{
	static const struct compress_ops ops = { .name = "pauses", .average = average };
	const struct comm_ops *before = comm->ops;
	const struct mem_ops *mem = comm->device->ops->mem;
	struct range range[RANGES] = { { .offset = 0, .n = 1 }, { .offset = 1, .n = 1 } };
	struct compress c = { .ops = &ops, .comm = comm };
	float *in = mem->alloc(comm->device, N * 4), *out = mem->alloc(comm->device, N * 4);
	double mine = 0, all[16] = { 0 }, want = comm->size > 1 ? LONG + SHORT : LONG + LONG, worst = 0;
	int64_t sent;

	longest = LONG;
	sent = comm->bytes_sent;
	for (int i = 0; i < 5 && !(mine >= want && mine < want + 0.6 * LONG); i++)      /* a loaded machine may need several tries */
		mine = compress_kernels(&c, range, RANGES, in, out);
	all_ok(mine >= want && mine < want + 0.6 * LONG, "%.1f ms of kernels: at least %.0f; with what others are waited for, %.0f", 1e3 * mine,
	       1e3 * want, 2e3 * LONG);
	comm_host_gather(comm, &mine, all, sizeof(mine));
	for (int r = 0; r < comm->size; r++)
		worst = fmax(worst, fabs(all[r] - mine));
	all_ok(worst == 0, "all ranks have the same number");
	all_ok(comm->ops == before, "the transport is as it was");
	all_ok(comm->bytes_sent - sent < N, "what was measured is not counted as sent");
	longest = comm->rank == 0 ? 2 * LONG : SHORT;           /* one slow rank: all go by it */
	mine = compress_kernels(&c, range, 1, in, out);
	all_ok(mine >= 2 * LONG, "%.1f ms on the slowest rank", 1e3 * mine);
	mem->free(comm->device, in);
	mem->free(comm->device, out);
}

int main(void)
{
	static const enum progress drivers[] = { PROGRESS_HOOK, PROGRESS_THREAD };

	ranks_open();
	for (int i = 0; i < 2; i++) {
		struct device *dev = open_device("cpu", drivers[i]);

		CHECK(dev);
		comm = comm_open(&world, dev);
		test_pauses();
		comm_close(comm);
		dev->ops->close(dev);
	}
	return ranks_close();
}
