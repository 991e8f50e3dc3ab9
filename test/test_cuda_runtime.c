/* Memory, streams, events and host functions on the CUDA device, through device.h alone: on a GPU, or on the emulated one. */
#include <stdatomic.h>

#include "cuda_stream_kit.h"

/* Shut until the host opens it; for those who would wait for ever otherwise, 5 s. */
struct gate { _Atomic bool *open; double until; };

static bool passed(void *arg)
{
	struct gate *g = arg;

	if (g->until == 0)
		g->until = clock_now() + 5;
	return atomic_load(g->open) || clock_now() >= g->until;
}

static void shut(struct stream *s, _Atomic bool *open)
{
	atomic_store(open, false);
	so->call(s, passed, &(struct gate){ open, 0 }, sizeof(struct gate));
}

static bool set_flag(void *arg)
{
	**(volatile int **)arg = 1;
	return true;
}

struct note { int *log, *count; int value; char fill[100]; };

static bool note_down(void *arg)
{
	struct note *n = arg;

	n->log[(*n->count)++] = n->value;
	return true;
}

static bool alternate(void *arg)
{
	struct note *n = arg;

	return ++n->value % 3 == 0 && note_down(arg);
}

/* ---- memory ---- */

static void test_memory(void)
{
	static const size_t size[] = { 1, 3, 100, 4096, 65536, 65537, 3 << 20 };
	int bad = 0, unaligned = 0, dirty = 0;

	for (size_t i = 0; i < sizeof(size) / sizeof(*size); i++) {
		size_t n = size[i];
		unsigned char *x = mem->alloc(dev, n), *y = mem->alloc(dev, n), *pinned = mem->alloc_host(dev, n), *plain = xcalloc(n, 1);

		unaligned += (uintptr_t)x % 64 != 0 || (uintptr_t)pinned % 64 != 0;
		get(compute, plain, x, n);
		for (size_t k = 0; k < n; k++)
			dirty += plain[k] != 0 || pinned[k] != 0;
		for (size_t k = 0; k < n; k++)
			plain[k] = (unsigned char)(k * 7 + i);
		mem->copy(compute, x, plain, n, COPY_TO_DEVICE);
		mem->copy(compute, y, x, n, COPY_DEVICE);
		mem->copy(compute, pinned, y, n, COPY_TO_HOST);
		so->sync(compute);
		bad += memcmp(plain, pinned, n) != 0;
		memset(pinned, 0x5a, n);
		mem->copy(comm, x, pinned, n, COPY_TO_DEVICE);
		mem->zero(comm, y, n - n / 2);
		get(comm, plain, x, n);
		bad += memcmp(plain, pinned, n) != 0;
		get(comm, plain, y, n);
		for (size_t k = 0; k < n; k++)
			bad += plain[k] != (k < n - n / 2 ? 0 : (unsigned char)(k * 7 + i));
		mem->free(dev, x);
		mem->free(dev, y);
		mem->free_host(dev, pinned);
		free(plain);
	}
	ok(dirty == 0, "memory begins with zeros, on the device and on the host");
	ok(unaligned == 0, "and is aligned to 64 bytes");
	ok(bad == 0, "copies between device, pinned and pageable memory, and zero(), of 1 to 3145728 bytes on both streams");
	mem->free(dev, NULL);
	mem->free(dev, mem->alloc(dev, 0));
	ok(true, "memory of no bytes; freeing NULL");
}

static void test_set(void)
{
	unsigned char *x = mem->alloc(dev, 4096), value[128], got[4096], want[4096] = { 0 };
	int from[] = { 0, 129, 300, 1024, 2000 }, n[] = { 128, 1, 13, 64, 0 };

	delay(compute, 0.02);
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < n[i]; k++)
			want[from[i] + k] = value[k] = (unsigned char)(i * 50 + k + 1);
		mem->set(compute, x + from[i], value, (size_t)n[i]);
		memset(value, 0xee, sizeof(value));
	}
	get(compute, got, x, sizeof(got));
	ok(!memcmp(got, want, sizeof(got)), "set(): 0 to 128 bytes at any address, taken at the call, nothing beside them");
	mem->free(dev, x);
}

/* ---- order ---- */

static void test_events(void)
{
	struct event *e = so->event_open(dev), *f = so->event_open(dev);
	float *x = device_floats(4), one = 1, two = 2, got;
	_Atomic bool open;
	bool early;
	double start;

	so->wait(compute, e);
	so->wait(comm, e);
	so->sync(compute);
	so->sync(comm);
	ok(so->done(e), "an event that was never recorded has happened, and nobody waits for it");

	start = clock_now();
	shut(comm, &open);
	mem->set(comm, x, &one, sizeof(one));
	so->record(e, comm);
	so->wait(compute, e);
	mem->copy(compute, x + 1, x, sizeof(float), COPY_DEVICE);
	so->record(f, compute);
	early = !so->done(e) && !so->done(f);
	so->record(e, compute);                 /* the wait above means the record before it */
	atomic_store(&open, true);
	got = get_float(compute, x + 1);
	ok(early && clock_now() - start < 5, "the host goes on at once, and sees that nothing has happened yet");
	ok(got == 1 && so->done(e) && so->done(f), "what is behind a wait runs after what is in front of the record");

	start = clock_now();
	shut(comm, &open);
	mem->set(comm, x, &two, sizeof(two));
	got = get_float(compute, x);
	ok(got == 1 && clock_now() - start < 5, "streams without events do not wait for each other");
	atomic_store(&open, true);
	so->sync(comm);
	ok(get_float(compute, x) == 2, "sync() waits for all that is queued");
	mem->free(dev, x);
	so->event_close(e);
	so->event_close(f);
}

/* ---- host functions ---- */

static void test_calls(void)
{
	enum { MANY = 1000 };
	int *log = xcalloc(MANY, sizeof(int)), count = 0, bad = 0;
	volatile int flag = 0, *where = &flag;
	double start = clock_now();

	for (int i = 0; i < MANY; i++)
		so->call(comm, note_down, &(struct note){ log, &count, i, "" }, sizeof(struct note));
	so->sync(comm);
	for (int i = 0; i < MANY; i++)
		bad += log[i] != i;
	ok(count == MANY && bad == 0, "%d host functions run once each, in their order (%.1f µs each)", MANY,
	   (clock_now() - start) / MANY * 1e6);

	count = 0;
	delay(comm, 0.03);
	for (int i = 0; i < MANY; i++)          /* so many that the host is held up until the first can run */
		so->call(comm, alternate, &(struct note){ log, &count, 3 * i, "" }, sizeof(struct note));
	so->sync(comm);
	bad = 0;
	for (int i = 0; i < MANY; i++)
		bad += log[i] != 3 * i + 3;
	ok(count == MANY && bad == 0, "the same behind a delay: each is asked until it says yes, with arguments of its own");

	so->call(compute, set_flag, &where, sizeof(where));
	so->sync(compute);
	ok(flag == 1, "a host function on the compute stream");
	free(log);
}

/* ---- managed memory, ends ---- */

/* What tests made for a CPU do: look at once. */
static void test_managed(void)
{
	float *x;

	setenv("COCOD_CUDA_MANAGED", "1", 1);
	open_all();
	unsetenv("COCOD_CUDA_MANAGED");
	if (!dev) {
		skip("managed memory", "this GPU cannot share it with the host at any time");
		errors_clear();
		return;
	}
	x = device_floats(1000);
	x[999] = 21;
	dev->ops->vec->scale(compute, 1000, 2, x, x);
	ok(dev->host_memory && x[999] == 42, "managed memory: the host reads the result of an operation right after it");
	mem->free(dev, x);
	close_all();
}

static void ask_too_much(void) { mem->alloc(dev, (size_t)1 << 50); }

static void set_in_capture(void)
{
	float *x = device_floats(1);

	so->capture_begin(compute);
	mem->set(compute, x, x, 0);
}

int main(void)
{
	if (!backend_is_there())
		return 0;
	dies(ask_too_much, "Use a smaller train.batch", "more memory than there is");
	dies(set_in_capture, "this must hold", "set() in a capture");
	dev = open_device(99);
	ok(!dev && errors_count() == 1 && strstr(errors_text(), "hint"), "a GPU that is not there is refused: %.*s",
	   (int)strcspn(errors_text(), "\n"), errors_text());
	errors_clear();
	if (!open_or_skip())
		return done_testing();
	ok(dev->config.precision == PRECISION_BF16 && dev->activation == DTYPE_BF16 && dev->config.index >= 0 && dev->where[0], "opened: %s",
	   dev->ops->describe(dev));
	test_memory();
	test_set();
	test_events();
	test_calls();
	close_all();
	test_managed();
	return done_testing();
}
