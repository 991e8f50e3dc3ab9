/*
 * Graphs on the CUDA device, and the bf16 copies of parameters that layers read: whatever changes the parameters, in a graph or not, layers
 * see it.
 */
#include "cuda_stream_kit.h"

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

int main(void)
{
	if (!backend_is_there())
		return 0;
	dies(read_stale, "nn->prepare() was not called", "a layer reads parameters that have changed");
	if (!open_or_skip())
		return done_testing();
	test_graph();
	test_shadows();
	close_all();
	return done_testing();
}
