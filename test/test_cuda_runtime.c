/*
 * Memory, streams, events, graphs and the bf16 copies of parameters on the CUDA device, through device.h alone: on a GPU, or on the
 * emulated one.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/backend.h"
#include "../core/clock.h"
#include "../core/die.h"
#include "../core/device.h"
#include "tap.h"

static struct device *dev;
static const struct mem_ops *mem;
static const struct stream_ops *so;
static struct stream *compute, *comm;

/* ---- helpers ---- */

static float *device_floats(int64_t n) { return mem->alloc(dev, (size_t)n * sizeof(float)); }
static void put(float *x, const float *host, int64_t n) { mem->copy(compute, x, host, (size_t)n * sizeof(float), COPY_TO_DEVICE); }

static void get(struct stream *s, void *host, const void *x, size_t bytes)
{
	mem->copy(s, host, x, bytes, COPY_TO_HOST);
	so->sync(s);
}

static float get_float(struct stream *s, const float *x)
{
	float v;

	get(s, &v, x, sizeof(v));
	return v;
}

static void sleep_ms(int ms) { nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL); }

struct late { double seconds, until; };

static bool late(void *arg)
{
	struct late *l = arg;

	if (l->until == 0)
		l->until = clock_now() + l->seconds;
	return clock_now() >= l->until;
}

static void delay(struct stream *s, double seconds) { so->call(s, late, &(struct late){ seconds, 0 }, sizeof(struct late)); }

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

/*
 * ---- the clocks ----
 *
 * On a loaded machine everything takes longer, but never more than the host's clock says less what was spent otherwise for sure.
 */

static double began, counted;

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

/* ---- graphs ---- */

enum { N = 1000 };

/* x = 2 x + y; copy of it; zero of a part: all that may be recorded. */
static void piece(float *x, float *y, float *z)
{
	dev->ops->vec->axpby(compute, N, 1, y, 2, x);
	mem->copy(compute, z, x, N * sizeof(float), COPY_DEVICE);
	mem->zero(compute, z + 10, 20 * sizeof(float));
}

static bool same(const float *a, const float *b, float *one, float *two)
{
	get(compute, one, a, N * sizeof(float));
	get(compute, two, b, N * sizeof(float));
	return !memcmp(one, two, N * sizeof(float));
}

static void test_graph(void)
{
	float *x = device_floats(N), *y = device_floats(N), *z = device_floats(N), *x2 = device_floats(N), *z2 = device_floats(N);
	float *host = xcalloc(N, sizeof(float)), *other = xcalloc(N, sizeof(float));
	struct graph *g;

	for (int i = 0; i < N; i++)
		host[i] = (float)i;
	put(x, host, N);
	put(x2, host, N);
	put(y, host, N);
	so->capture_begin(compute);
	piece(x, y, z);
	g = so->capture_end(compute);
	ok(same(x, x2, host, other), "what is recorded does not run");
	for (int i = 0; i < 3; i++) {
		mem->set(compute, y + 7, &(float){ (float)(100 * i) }, sizeof(float));
		so->replay(compute, g);
	}
	for (int i = 0; i < 3; i++) {
		mem->set(compute, y + 7, &(float){ (float)(100 * i) }, sizeof(float));
		piece(x2, y, z2);
	}
	ok(same(x, x2, host, other) && same(z, z2, host, other), "three replays are three runs, with a value set in front of each");
	ok(host[10] == 0 && host[29] == 0 && host[30] == 30 * 15 && host[7] == 2 * (2 * (2 * 7 + 0) + 100) + 200, "to the number");
	so->graph_free(g);
	so->graph_free(NULL);
	mem->free(dev, x);
	mem->free(dev, y);
	mem->free(dev, z);
	mem->free(dev, x2);
	mem->free(dev, z2);
	free(host);
	free(other);
}

/* ---- bf16 copies: a layer of 8 × 8 weights whose input is (1, 0, 0, …) puts out the first of its weights ---- */

enum { ARENA = 128, WEIGHTS = 64 };

static struct conv_plan *plan;
static float *arena, *gradient;
static struct hyper *hyper;
static void *in, *out;

/* w[at] as layers see it. */
static float seen(int at)
{
	const struct nn_ops *nn = dev->ops->nn;
	float *wide = device_floats(8), v;

	nn->prepare(compute, ARENA, arena);
	nn->conv_fwd(compute, plan, in, arena + at, NULL, out);
	nn->to_f32(compute, 8, out, wide);
	v = get_float(compute, wide);
	mem->free(dev, wide);
	return v;
}

static void update(int from, int n)
{
	dev->ops->vec->sgd(compute, n, hyper, gradient + from, NULL, arena + from, NULL, arena + from);
}

static void check(const char *what)
{
	float host[ARENA];
	int bad = 0;

	get(compute, host, arena, sizeof(host));
	for (int i = 0; i + WEIGHTS <= ARENA; i += 16)
		bad += seen(i) != host[i];
	ok(bad == 0, "layers see the parameters %s", what);
}

static void shadow_cases(void)
{
	struct graph *g;
	float host[ARENA];

	for (int i = 0; i < ARENA; i++)
		host[i] = (float)(i % 100) + 1;
	put(arena, host, ARENA);
	check("after a copy");
	update(0, ARENA);
	check("after an update of all");
	for (int i = 0; i < ARENA; i += 16)
		update(i, 16);
	check("after updates bucket by bucket");
	put(arena, host, ARENA);
	update(16, 16);
	check("after a copy, then an update of a part");
	update(0, 16);
	mem->set(compute, arena, &(float){ 40 }, sizeof(float));
	check("after an update, then set()");
	mem->zero(compute, arena + 16, 16 * sizeof(float));
	check("after zero() of a part");
	dev->ops->vec->scale(compute, ARENA, 2, arena, arena);
	check("after scale()");

	so->capture_begin(compute);
	update(0, 32);
	g = so->capture_end(compute);
	check("after a capture, which did nothing");
	so->replay(compute, g);
	check("after a replayed update of a part");
	put(arena, host, ARENA);
	so->replay(compute, g);
	check("after a copy, then the replay");
	so->graph_free(g);
	update(0, ARENA);
	update(0, ARENA);
	put(arena, host, ARENA);
	so->capture_begin(compute);
	mem->zero(compute, in, 0);
	so->graph_free(so->capture_end(compute));
	check("after a copy, then a capture of something else");
	so->capture_begin(compute);
	mem->zero(compute, arena, 16 * sizeof(float));
	g = so->capture_end(compute);
	check("after a capture with zero()");
	so->replay(compute, g);
	check("after its replay");
	update(0, ARENA);
	so->replay(compute, g);
	check("after another one, behind an update");
	so->graph_free(g);
}

static void test_shadows(void)
{
	struct conv_desc d = { .n = 1, .h = 1, .w = 1, .c = 8, .pitch = 8, .out = 8, .kh = 1, .kw = 1, .stride = 1 };
	const struct nn_ops *nn = dev->ops->nn;
	float one[8] = { 1 }, *wide = device_floats(8), ones[ARENA];
	int bad = 0;

	plan = nn->conv_plan(dev, &d);
	arena = device_floats(ARENA);
	gradient = device_floats(ARENA);
	hyper = mem->alloc(dev, sizeof(*hyper));
	in = mem->alloc(dev, 64);
	out = mem->alloc(dev, 64);
	put(wide, one, 8);
	nn->from_f32(compute, 1, 8, 8, wide, in);
	for (int i = 0; i < ARENA; i++)
		ones[i] = 1;
	put(gradient, ones, ARENA);
	mem->set(compute, hyper, &(struct hyper){ .lr = 1, .first = 1 }, sizeof(*hyper));
	shadow_cases();
	for (int i = 0; i < 20; i++) {
		mem->free(dev, arena);
		arena = device_floats(ARENA);   /* most likely at the same address */
		bad += seen(0) != 0;
		put(arena, ones, ARENA);
		bad += seen(0) != 1;
	}
	ok(bad == 0, "layers see the parameters in arenas that follow each other");
	mem->free(dev, arena);
	mem->free(dev, gradient);
	mem->free(dev, hyper);
	mem->free(dev, in);
	mem->free(dev, out);
	mem->free(dev, wide);
	nn->conv_release(dev, plan);
}

/* ---- opening, managed memory, ends ---- */

static struct device *open_device(int index)
{
	const struct device_ops *ops = device_find("cuda");

	return ops ? ops->open(&(struct device_config){ .threads = 1, .conv = "auto", .index = index, .deterministic = true }) : NULL;
}

static void open_all(void)
{
	dev = open_device(-1);
	if (!dev)
		return;
	mem = dev->ops->mem;
	so = dev->ops->stream;
	compute = so->open(dev, STREAM_COMPUTE);
	comm = so->open(dev, STREAM_COMM);
}

static void close_all(void)
{
	so->close(comm);
	so->close(compute);
	dev->ops->close(dev);
}

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

static void read_stale(void)
{
	struct conv_desc d = { .n = 1, .h = 1, .w = 1, .c = 8, .pitch = 8, .out = 8, .kh = 1, .kw = 1, .stride = 1 };
	float *x = device_floats(64);

	plan = dev->ops->nn->conv_plan(dev, &d);
	in = mem->alloc(dev, 64);
	dev->ops->nn->prepare(compute, 64, x);
	mem->zero(compute, x, 4);
	dev->ops->nn->conv_fwd(compute, plan, in, x, NULL, in);
}

/* Before this process has opened the device: a GPU does not survive a fork. */
static void dies(void (*how)(void), const char *words, const char *claim)
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

int main(void)
{
	const char *why;

	unsetenv("COCOD_CUDA_SYNC");
	unsetenv("COCOD_CUDA_MANAGED");
	if (!backend_open(&why)) {
		printf("1..0 # SKIP no CUDA device: %s\n", why);
		return 0;
	}
	dies(ask_too_much, "Use a smaller train.batch", "more memory than there is");
	dies(set_in_capture, "this must hold", "set() in a capture");
	dies(read_stale, "nn->prepare() was not called", "a layer reads parameters that have changed");
	dev = open_device(99);
	ok(!dev && errors_count() == 1 && strstr(errors_text(), "hint"), "a GPU that is not there is refused: %.*s",
	   (int)strcspn(errors_text(), "\n"), errors_text());
	errors_clear();
	open_all();
	if (!dev) {
		skip("the CUDA device", "it cannot be opened");
		printf("# %s", errors_text());
		return done_testing();
	}
	ok(dev->config.precision == PRECISION_BF16 && dev->activation == DTYPE_BF16 && dev->config.index >= 0 && dev->where[0], "opened: %s",
	   dev->ops->describe(dev));
	test_memory();
	test_set();
	test_events();
	test_calls();
	test_busy();
	test_waited();
	test_graph();
	test_shadows();
	close_all();
	test_managed();
	return done_testing();
}
