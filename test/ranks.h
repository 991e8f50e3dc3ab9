/*
 * TAP over many ranks: a claim holds if it holds on every rank; rank 0 prints. The verdicts travel over a communicator (and a
 * device) of their own, and whoever failed says so himself on stderr and in his exit status, so that a broken collective cannot
 * turn a failure into a success.
 */
#ifndef RANKS_H
#define RANKS_H

#include "../comm/comm.h"
#include "../core/die.h"
#include "../core/rng.h"
#include "tap.h"

static struct world world;
static struct comm *verdicts;

/* NULL: there is no such device; errors_text() says why. */
static inline struct device *open_device(const char *name, enum progress progress)
{
	struct device_config config = {
		.threads = 1, .progress = progress, .conv = "auto", .precision = PRECISION_FP32, .index = -1, .local_rank = world.local_rank,
	};
	const struct device_ops *ops = device_find(name);

	return ops ? ops->open(&config) : NULL;
}

static inline void ranks_open(void)
{
	if (world_open(&world, "auto")) {
		fprintf(stderr, "%s", errors_text());
		exit(STATUS_COMM);
	}
	verdicts = comm_open(&world, open_device("reference", PROGRESS_HOOK));
}

/* Says on every rank whether all of them agree. */
__attribute__((format(printf, 2, 3))) static inline bool all_ok(bool condition, const char *fmt, ...)
{
	double failed = !condition;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!condition)
		fprintf(stderr, "# rank %d: %s\n", world.rank, text);
	comm_host_reduce(verdicts, &failed, 1, REDUCE_SUM);
	if (!condition && world.rank != 0)
		tap_failed++;
	if (world.rank == 0)
		ok(failed == 0 && condition, "P=%d: %s", world.size, text);
	return failed == 0;
}

static inline void all_skip(const char *what, const char *why)
{
	if (world.rank == 0)
		skip(what, why);
}

/* FNV-1a: enough to see whether all ranks hold the same bits. */
static inline uint64_t hash_bytes(const void *data, size_t bytes)
{
	const unsigned char *p = data;
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < bytes; i++)
		h = (h ^ p[i]) * 1099511628211u;
	return h;
}

static inline bool same_everywhere(const void *data, size_t bytes)
{
	uint64_t mine = hash_bytes(data, bytes), *all = xcalloc((size_t)world.size, sizeof(*all));
	bool same = true;

	comm_host_gather(verdicts, &mine, all, sizeof(mine));
	for (int r = 0; r < world.size; r++)
		same = same && all[r] == mine;
	free(all);
	return same;
}

static inline double sum_everywhere(double value)
{
	comm_host_reduce(verdicts, &value, 1, REDUCE_SUM);
	return value;
}

static inline double most_everywhere(double value)
{
	comm_host_reduce(verdicts, &value, 1, REDUCE_MAX);
	return value;
}

static inline int ranks_close(void)
{
	struct device *dev = verdicts->device;

	comm_barrier(verdicts);
	comm_close(verdicts);
	dev->ops->close(dev);
	world_close(&world);
	return world.rank == 0 ? done_testing() : tap_failed != 0;
}

#endif
