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
#include <math.h>

#include "clock.h"
#include "rng.h"
#include "slowdown.h"

double slowdown_factor(const struct slowdown *s, int64_t step)
{
	struct rng rng;

	if (s->jitter <= 0)
		return s->factor;
	rng_init(&rng, s->seed, RNG_JITTER, (uint64_t)step, (uint32_t)s->rank);
	return s->factor * (1 + s->jitter * fabs(rng_normal(&rng)));
}

double slowdown_mean(const struct slowdown *s)
{
	static const double mean_of_half_normal = 0.79788456080286535588;      /* sqrt(2 / pi) */

	return s->factor * (1 + s->jitter * mean_of_half_normal);
}

static bool runs_behind(const struct device *dev) { return !dev->ops->stream->progress; }

/* The host may have begun further steps when these two run: what differs from step to step comes as an argument. */
struct look {
	struct slowdown *s;
	double factor;
};

static bool look_at_clock(void *args)
{
	struct slowdown *s = ((struct look *)args)->s;

	s->began = clock_now();
	s->until = 0;
	return true;
}

static bool pause_over(void *args)
{
	struct look *look = args;
	struct slowdown *s = look->s;
	double now = clock_now();

	if (s->until == 0)
		s->until = now + (look->factor - 1) * (now - s->began);
	return now >= s->until;
}

static void queue(struct slowdown *s, struct device *dev, struct stream *compute, host_fn *fn)
{
	struct look look = { s, s->now };

	dev->ops->stream->call(compute, fn, &look, sizeof(look));
}

void slowdown_begin(struct slowdown *s, int64_t step, struct device *dev, struct stream *compute)
{
	s->now = slowdown_factor(s, step);
	if (s->now <= 1)
		return;
	if (runs_behind(dev)) {
		queue(s, dev, compute, look_at_clock);
		return;
	}
	s->began = clock_now();
	s->cpu = clock_cpu();
	s->waited = dev->ops->stream->waited(compute);
}

/* Nobody else puts anything on the queues while we rest, so a stream that is idle when we have asked it stays so. */
double slowdown_pause(struct device *dev, struct stream *compute, const struct stream *watch, double until)
{
	const struct stream_ops *ops = dev->ops->stream;
	bool drives = dev->config.progress == PROGRESS_HOOK;
	double before = ops->waited(compute), now;

	while ((now = clock_now()) < until) {
		double slice = !drives ? until - now : 1e-3;

		if (drives) {
			ops->progress(dev);
			slice = !watch || ops->active(watch) ? 100e-6 : 1e-3;
		}
		clock_sleep(fmin(until, now + slice));
	}
	return fmax(0, ops->waited(compute) - before - (now - until));
}

double slowdown_end(struct slowdown *s, struct device *dev, struct stream *compute)
{
	double waited, computing, now, cpu;

	if (s->now <= 1)
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
	s->until = now + (s->now - 1) * (computing > 0 ? computing : 0);
	return slowdown_pause(dev, compute, NULL, s->until);
}
