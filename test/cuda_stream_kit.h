/*
 * What the tests of the CUDA device's streams share: the device with its two streams, through device.h alone; delays, copies of what is in
 * its memory, and the ends of programs that die.
 */
#ifndef CUDA_STREAM_KIT_H
#define CUDA_STREAM_KIT_H

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/backend.h"
#include "../core/clock.h"
#include "../core/device.h"
#include "../core/die.h"
#include "tap.h"

static struct device *dev;
static const struct mem_ops *mem;
static const struct stream_ops *so;
static struct stream *compute, *comm;

/* ---- floats on the device ---- */

static inline float *device_floats(int64_t n) { return mem->alloc(dev, (size_t)n * sizeof(float)); }
static inline void put(float *x, const float *host, int64_t n) { mem->copy(compute, x, host, (size_t)n * sizeof(float), COPY_TO_DEVICE); }

static inline void get(struct stream *s, void *host, const void *x, size_t bytes)
{
	mem->copy(s, host, x, bytes, COPY_TO_HOST);
	so->sync(s);
}

static inline float get_float(struct stream *s, const float *x)
{
	float v;

	get(s, &v, x, sizeof(v));
	return v;
}

/* ---- a stream that is busy for so long ---- */

struct late { double seconds, until; };

static inline bool late(void *arg)
{
	struct late *l = arg;

	if (l->until == 0)
		l->until = clock_now() + l->seconds;
	return clock_now() >= l->until;
}

static inline void delay(struct stream *s, double seconds) { so->call(s, late, &(struct late){ seconds, 0 }, sizeof(struct late)); }

/* ---- opening ---- */

/* Before all else: false if there is no CUDA device in this program; the test has said so. */
static inline bool backend_is_there(void)
{
	const char *why;
	bool there;

	unsetenv("COCOD_CUDA_SYNC");
	unsetenv("COCOD_CUDA_MANAGED");
	there = backend_open(&why);
	if (!there)
		printf("1..0 # SKIP no CUDA device: %s\n", why);
	return there;
}

static inline struct device *open_device(int index)
{
	const struct device_ops *ops = device_find("cuda");

	return ops ? ops->open(&(struct device_config){ .threads = 1, .conv = "auto", .index = index, .deterministic = true }) : NULL;
}

static inline void open_all(void)
{
	dev = open_device(-1);
	if (!dev)
		return;
	mem = dev->ops->mem;
	so = dev->ops->stream;
	compute = so->open(dev, STREAM_COMPUTE);
	comm = so->open(dev, STREAM_COMM);
}

static inline void close_all(void)
{
	so->close(comm);
	so->close(compute);
	dev->ops->close(dev);
}

/* False if it cannot be opened; the test has said so. */
static inline bool open_or_skip(void)
{
	open_all();
	if (dev)
		return true;
	skip("the CUDA device", "it cannot be opened");
	printf("# %s", errors_text());
	return false;
}

/* ---- ends ---- */

/* Before this process has opened the device: a GPU does not survive a fork. */
static inline void dies(void (*how)(void), const char *words, const char *claim)
{
	char text[2000] = "";
	size_t n = 0;
	ssize_t got;
	int ends[2], status = 0;
	pid_t pid;

	if (pipe(ends) || (pid = fork()) < 0) {
		ok(false, "%s: cannot fork", claim);
		return;
	}
	if (pid == 0) {
		dup2(ends[1], 2);
		open_all();
		if (!dev)
			_exit(99);
		how();
		_exit(0);
	}
	close(ends[1]);
	while (n < sizeof(text) - 1 && (got = read(ends[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
		skip(claim, "the CUDA device cannot be opened");
	else
		ok(WIFEXITED(status) && WEXITSTATUS(status) == STATUS_FAILURE && strstr(text, words), "%s: %.*s", claim,
		   (int)strcspn(text, "\n"), text);
}

#endif
