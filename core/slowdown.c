/*
 * Slower ranks: see slowdown.h.
 *
 * A CPU computes in its calls: the time of the pass is this thread's processor time, but no more than the wall clock went on without
 * waiting; so that neither other processes on the core nor waiting for communication is multiplied. Where the computing thread drives
 * communication, it does so in the pause.
 *
 * A device that runs behind the host gets two host functions on its compute stream, one in front of the pass that looks at the clock
 * and one behind it that waits. CUDA runs all host functions of a process on one thread: with comm.transport = "mpi" messages stand
 * still during the pause, with NCCL they do not.
 *
 * The update of the weights is not slowed down, and S-SGD's buckets have left when the pause begins: a rank that is really slower
 * would send them later.
 */
#include <time.h>

#include "clock.h"
#include "slowdown.h"

static bool runs_behind(const struct device *dev) { return !dev->ops->stream->progress; }

static bool look_at_clock(void *args)
{
	struct slowdown *s = *(struct slowdown **)args;

	s->began = clock_now();
	s->until = 0;
	return true;
}

static bool pause_over(void *args)
{
	struct slowdown *s = *(struct slowdown **)args;
	double now = clock_now();

	if (s->until == 0)
		s->until = now + (s->factor - 1) * (now - s->began);
	return now >= s->until;
}

static void queue(struct slowdown *s, struct device *dev, struct stream *compute, host_fn *fn)
{
	dev->ops->stream->call(compute, fn, &s, sizeof(s));
}

void slowdown_begin(struct slowdown *s, struct device *dev, struct stream *compute)
{
	if (s->factor <= 1)
		return;
	if (runs_behind(dev)) {
		queue(s, dev, compute, look_at_clock);
		return;
	}
	s->began = clock_now();
	s->cpu = clock_cpu();
	s->waited = dev->ops->stream->waited(compute);
}

static void sleep_for(double seconds)
{
	nanosleep(&(struct timespec){ 0, (long)(seconds * 1e9) }, NULL);
}

double slowdown_end(struct slowdown *s, struct device *dev, struct stream *compute)
{
	double waited, computing, now, cpu;

	if (s->factor <= 1)
		return 0;
	if (runs_behind(dev)) {
		queue(s, dev, compute, pause_over);
		return 0;
	}
	cpu = clock_cpu() - s->cpu;
	now = clock_now();
	waited = dev->ops->stream->waited(compute);
	computing = now - s->began - (waited - s->waited);
	computing = cpu < computing ? cpu : computing;
	s->until = now + (s->factor - 1) * (computing > 0 ? computing : 0);
	for (double left; (left = s->until - clock_now()) > 0;) {
		dev->ops->stream->progress(dev);
		sleep_for(left < 100e-6 ? left : 100e-6);
	}
	return dev->ops->stream->waited(compute) - waited;
}
