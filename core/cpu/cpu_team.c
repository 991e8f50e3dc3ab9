/*
 * How a loop is cut for the team: one contiguous slice a thread, so that the same thread count always computes the same sums in
 * the same order, and each slice in pieces, between which thread 0 lets the communication stream advance.
 */
#include "cpu_ops.h"

/* Waking the team costs some microseconds: below this many floats one thread is as fast. */
static const int64_t PARALLEL_FLOATS = 1 << 15;
static const int64_t PIECE_FLOATS = 1 << 15;

int cpu_team(const struct cpu_device *dev, int64_t floats) { return floats < PARALLEL_FLOATS ? 1 : dev->threads; }

static void walk(struct cpu_device *dev, int64_t from, int64_t to, int64_t piece, cpu_slice_fn *fn, const void *args)
{
	for (int64_t i = from; i < to; i += piece) {
		fn(args, i, i + piece < to ? i + piece : to);
		cpu_poll(dev);
	}
}

void cpu_for(struct cpu_device *dev, int team, int64_t n, int64_t unit, int64_t floats, cpu_slice_fn *fn, const void *args)
{
	int64_t piece = PIECE_FLOATS / (unit * floats) * unit;

	if (piece < unit)
		piece = unit;
	if (team == 1 || n * floats < PARALLEL_FLOATS) {
		walk(dev, 0, n, piece, fn, args);
		return;
	}
#pragma omp parallel for num_threads(team) schedule(static)
	for (int t = 0; t < team; t++) {
		int64_t from, to;

		cpu_slice(n, team, t, unit, &from, &to);
		walk(dev, from, to, piece, fn, args);
	}
}
