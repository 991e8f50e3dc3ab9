/*
 * core/cuda's convolutions on a machine without a GPU: the real conv.c, conv_select.c, conv_rules.c, conv_cache.c, conv_library.c,
 * cudnn_graph.c and cublas.c, with the real cuDNN up to the finished plan and the real descriptors of cuBLASLt. What only a GPU can do
 * is played (play_cuda.h, play_libraries.h). Results are compared with core/cpu's plain convolution. Built where cuDNN (9.8 or
 * later) is.
 *
 *     conv_check [test/h100.json]
 *
 * A plan takes a time that depends on its engine, so it is known which one must win.
 */
#include <float.h>
#include <unistd.h>

#include "../core/cpu/cpu.h"
#include "../core/cuda/conv_cache.h"
#include "../core/cuda/conv_select.h"
#include "play_libraries.h"
#include "tap.h"

/* ---- the device under test ---- */

static cudnnBackendDescriptor_t properties;

static void open_properties(const char *path)
{
	char text[16384];
	FILE *in = fopen(path, "r");
	size_t n = in ? fread(text, 1, sizeof(text), in) : 0;

	if (!n)
		die(STATUS_CONFIG, "%s cannot be read", path);
	fclose(in);
	CUDNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties));
	CUDNN(cudnnBackendSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)n, text));
	CUDNN(cudnnBackendFinalize(properties));
}

static void device_open(struct cuda_device *dev, enum precision precision)
{
	*dev = (struct cuda_device){ .name = "played GPU", .base = { .config = { .precision = precision, .deterministic = true },
		.activation = precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32 } };
	conv_library(dev)->target.properties = properties;
}

/* ---- tensors ---- */

struct tensors {
	size_t nx, nw, ny;
	float *x, *w, *b, *y, *dy, *dx, *dw, *db;
};

static float *random_floats(size_t n, unsigned seed)
{
	float *f = xaligned((n + 16) * sizeof(*f));

	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		f[i] = from_half(to_half((float)(seed >> 8) / (1 << 23) - 1));          /* both types hold it exactly */
	}
	return f;
}

static struct tensors tensors_of(const struct conv_desc *d)
{
	size_t taps = (size_t)d->kh * (size_t)d->kw, oh = (size_t)conv_out(d->h, d->kh, d->stride, d->pad);
	size_t ow = (size_t)conv_out(d->w, d->kw, d->stride, d->pad), n = (size_t)d->n, c = (size_t)d->c, out = (size_t)d->out;
	struct tensors t = { .nx = n * (size_t)d->h * (size_t)d->w * c, .nw = out * taps * c, .ny = n * oh * ow * out };

	t.x = random_floats(t.nx, 1), t.w = random_floats(t.nw, 2), t.b = random_floats(out, 3), t.dy = random_floats(t.ny, 4);
	t.y = random_floats(t.ny, 5), t.dx = random_floats(t.nx, 6), t.dw = random_floats(t.nw, 7), t.db = random_floats(out, 8);
	return t;
}

static void tensors_free(struct tensors *t)
{
	free(t->x), free(t->w), free(t->b), free(t->y), free(t->dy), free(t->dx), free(t->dw), free(t->db);
}

/* To the device's type, `pitch` channels a pixel. */
static void *pack_up(enum dtype type, const float *x, size_t pixels, int c, int pitch)
{
	char *p = xaligned(pixels * (size_t)pitch * sizeof(float) + 16);

	for (size_t i = 0; i < pixels * (size_t)pitch; i++)
		put(type, p, (int64_t)i, (int)(i % (size_t)pitch) < c ? x[i / (size_t)pitch * (size_t)c + i % (size_t)pitch] : 0);
	return p;
}

static void unpack(enum dtype type, const void *p, size_t n, float *x)
{
	for (size_t i = 0; i < n; i++)
		x[i] = get(type, p, (int64_t)i);
}

/* All three directions as a layer would ask for them. */
static void run_device(struct cuda_device *dev, struct conv_plan *plan, const struct conv_desc *d, struct tensors *t, bool accumulate)
{
	enum dtype type = dev->base.activation;
	struct stream *s = cuda_stream_ops.open(&dev->base, STREAM_COMPUTE);
	void *x = pack_up(type, t->x, t->nx / (size_t)d->c, d->c, conv_pitch(d)), *y = pack_up(type, t->y, t->ny, 1, 1);
	void *dy = pack_up(type, t->dy, t->ny, 1, 1), *dx = pack_up(type, t->dx, t->nx, 1, 1);

	half_base = t->w;
	half = pack_up(DTYPE_BF16, t->w, t->nw, 1, 1);
	cuda_conv_fwd(s, plan, x, t->w, t->b, y);
	if (conv_pitch(d) == d->c)
		cuda_conv_bwd_data(s, plan, dy, t->w, dx, accumulate);
	cuda_conv_bwd_filter(s, plan, x, dy, t->dw, t->db);
	unpack(type, y, t->ny, t->y);
	unpack(type, dx, t->nx, t->dx);
	free(x), free(y), free(dy), free(dx), free(half);
	cuda_stream_ops.close(s);
}

static void run_plain(const struct conv_desc *d, struct tensors *t, bool accumulate)
{
	struct cpu_device dev = { .base.config = { .threads = 1, .conv = "reference" }, .threads = 1 };
	struct conv_desc dense = *d;
	struct conv_plan *plan;

	dense.pitch = 0;
	plan = conv_reference.plan(&dev, &dense);
	conv_reference.fwd(&dev, plan, t->x, t->w, d->bias ? t->b : NULL, t->y);
	if (conv_pitch(d) == d->c)
		conv_reference.bwd_data(&dev, plan, t->dy, t->w, t->dx, accumulate);
	conv_reference.bwd_filter(&dev, plan, t->x, t->dy, t->dw, d->bias ? t->db : NULL);
	conv_reference.release(plan);
}

static double difference(const float *got, const float *want, size_t n)
{
	double error = 0, norm = 1e-30;

	for (size_t i = 0; i < n; i++) {
		error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
		norm += (double)want[i] * want[i];
	}
	error = sqrt(error / norm);
	return isnan(error) ? INFINITY : error;
}

/* The worst of y, dx, dw and db. */
static double error_of(struct cuda_device *dev, const struct conv_desc *d, bool accumulate, char name[160])
{
	struct conv_plan *plan = cuda_conv_plan(&dev->base, d);
	struct tensors got = tensors_of(d), want = tensors_of(d);
	double e[4], worst = 0;

	run_device(dev, plan, d, &got, accumulate);
	run_plain(d, &want, accumulate);
	e[0] = difference(got.y, want.y, got.ny);
	e[1] = difference(got.dx, want.dx, got.nx);
	e[2] = difference(got.dw, want.dw, got.nw);
	e[3] = d->bias ? difference(got.db, want.db, (size_t)d->out) : 0;
	for (int i = 0; i < 4; i++)
		if (!(e[i] <= worst))
			worst = e[i];
	snprintf(name, 160, "%s", cuda_conv_name(plan));
	cuda_conv_release(&dev->base, plan);
	tensors_free(&got);
	tensors_free(&want);
	return worst;
}

/* ---- tests ---- */

/* n h w c, out kh kw stride pad, bias, pitch (0: c) */
static const struct conv_desc shapes[] = {
	{ 2, 8, 8, 16, 16, 3, 3, 1, 1, true, 0 },
	{ 3, 5, 7, 16, 32, 3, 3, 1, 1, false, 0 },
	{ 2, 8, 8, 16, 32, 3, 3, 2, 1, true, 0 },
	{ 3, 8, 8, 32, 64, 1, 1, 2, 0, false, 0 },
	{ 2, 6, 6, 8, 8, 3, 3, 1, 0, false, 0 },
	{ 2, 9, 7, 3, 16, 3, 3, 1, 1, false, 8 },       /* images */
	{ 2, 9, 7, 3, 16, 3, 3, 1, 1, true, 4 },
	{ 1, 16, 15, 3, 8, 7, 7, 2, 3, false, 8 },
	{ 2, 7, 6, 1, 6, 5, 5, 1, 2, true, 8 },
	{ 2, 5, 6, 4, 12, 3, 2, 1, 1, true, 0 },        /* a kernel that is not square */
	{ 6, 1, 1, 64, 10, 1, 1, 1, 0, true, 0 },      /* linear layers */
	{ 3, 1, 1, 24, 100, 1, 1, 1, 0, false, 0 },
	{ 5, 2, 3, 16, 33, 2, 3, 1, 0, true, 0 },
	{ 2, 4, 4, 3, 10, 4, 4, 1, 0, true, 8 },        /* of an image */
};

static const char *precision_words(enum precision p) { return p == PRECISION_BF16 ? "bf16" : p == PRECISION_TF32 ? "tf32" : "fp32"; }

static void test_results(struct cuda_device *dev)
{
	enum precision precision = dev->base.config.precision;
	double tolerance = precision == PRECISION_BF16 ? 4e-3 : 1e-6;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int accumulate = 0; accumulate < 2; accumulate++) {
			const struct conv_desc *d = &shapes[i];
			char name[160];
			double error = error_of(dev, d, accumulate, name);

			ok(error <= tolerance, "%s %dx%dx%dx%d (%d) > %d, %dx%d, stride %d, pad %d%s%s: error %.1e by %s",
			   precision_words(precision), d->n, d->h, d->w, d->c, conv_pitch(d), d->out, d->kh, d->kw, d->stride, d->pad,
			   d->bias ? ", bias" : "", accumulate ? ", +=" : "", error, name);
		}
}

static void test_cache(struct cuda_device *dev, enum precision precision)
{
	const struct conv_desc d = { 2, 8, 8, 16, 16, 3, 3, 1, 1, true, 0 };
	struct conv_problem p = { CONV_FPROP, d, dev->base.activation, DTYPE_F32 };
	struct conv_plan *plan;
	struct conv_choice choice, again;
	int before = play.executions;

	plan = cuda_conv_plan(&dev->base, &d);
	cuda_conv_release(&dev->base, plan);
	ok(play.executions == before, "%s: a shape that was measured is not measured again", precision_words(precision));
	choice = conv_select(dev->conv, &p);
	again = conv_select(dev->conv, &p);
	ok(choice.execution && choice.execution == again.execution, "%s: equal convolutions share an engine", precision_words(precision));
	conv_choice_release(&again);
	again = choice;
	conv_choice_release(&choice);
	cuda_conv_library_close(dev);
	device_open(dev, precision);
	choice = conv_select(dev->conv, &p);
	ok(play.executions == before && !strcmp(choice.engine, again.engine) && choice.us == again.us,
	   "%s: nor in the next run: engine %s, %.1f us", precision_words(precision), choice.engine, (double)choice.us);
	conv_choice_release(&choice);
}

/* Each on a shape of its own, which no run before has measured. */
static void test_choice(struct cuda_device *dev)
{
	struct conv_problem p = { CONV_FPROP, { 2, 12, 12, 16, 24, 3, 3, 1, 1, false, 0 }, DTYPE_BF16, DTYPE_F32 };
	struct conv_choice c;
	float before;
	double error;
	char name[160];
	int executions;

	play.fastest = 1e9f;
	c = conv_select(dev->conv, &p);
	ok(c.execution && fabsf(c.us - play.fastest) < 0.01f, "the fastest wins: %s, %.1f us", c.engine, (double)c.us);
	play.broken = atoi(c.engine);
	conv_choice_release(&c);
	p.shape.n = 3;
	c = conv_select(dev->conv, &p);
	ok(c.execution && atoi(c.engine) != play.broken, "an engine that refuses to run (%d) is passed over: %s", play.broken, c.engine);
	play.broken = -1;
	conv_choice_release(&c);

	p.shape.n = 4;
	p.direction = CONV_DGRAD_ADD;
	play.deaf = true;
	c = conv_select(dev->conv, &p);
	ok(!c.execution, "an engine that does not add is found out");
	executions = play.executions;
	cuda_conv_library_close(dev);
	device_open(dev, PRECISION_BF16);
	c = conv_select(dev->conv, &p);
	ok(!c.execution && play.executions == executions && conv_known(dev->conv, &p) == FLT_MAX, "and known in the next run");
	error = error_of(dev, &p.shape, true, name);
	ok(error <= 4e-3, "and the gradient is added all the same: error %.1e", error);
	play.deaf = false;

	p.shape.n = 5;
	p.direction = CONV_FPROP;
	play.full = true;
	before = conv_known(dev->conv, &p);
	c = conv_select(dev->conv, &p);
	ok(c.execution && c.us == 0 && before == 0 && conv_known(dev->conv, &p) == 0,
	   "without memory to measure the first is taken, and not kept: %s", c.engine);
	conv_choice_release(&c);
	error = error_of(dev, &p.shape, true, name);
	ok(error <= 4e-3, "which is right all the same: error %.1e by %s", error, name);
	play.full = false;
}

/* Large enough that the first proposals want more workspace than there is. Nothing is executed. */
static void test_workspace(struct cuda_device *dev)
{
	struct conv_problem p = { CONV_FPROP, { 512, 32, 32, 64, 128, 1, 1, 2, 0, false, 0 }, DTYPE_F32, DTYPE_F32 };
	struct conv_choice c;

	play.full = true;
	for (int i = 0; i < CONV_DIRECTIONS; i++) {
		if (i == CONV_DGRAD_ADD)
			continue;       /* never unseen */
		p.direction = (enum conv_direction)i;
		c = conv_select(dev->conv, &p);
		ok(c.execution && c.workspace <= CUDA_SCRATCH, "%s of a large batch fits into the scratch: engine %s, %lld KB", conv_direction_name[i],
		   c.engine, (long long)c.workspace / 1024);
		conv_choice_release(&c);
	}
	play.full = false;
}

static void test_stale(struct cuda_device *dev)
{
	struct conv_problem p = { CONV_FPROP, { 2, 8, 8, 16, 16, 3, 3, 1, 1, true, 0 }, DTYPE_BF16, DTYPE_F32 };
	struct conv_choice c = conv_select(dev->conv, &p);
	static const char *const bad[] = { "9999", "62:2=99", "62:9999=1", "62;2=1", "62:2=1,", "4:2" };
	char good[ENGINE_TEXT], key[] = "fprop 2x8x8x16 16x3x3 s1 p1 bf16 deterministic";
	int before = play.executions;

	snprintf(good, sizeof(good), "%s", c.engine);
	conv_choice_release(&c);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		conv_cache_add(dev->conv->cache, key, bad[i], 1);
		c = conv_select(dev->conv, &p);
		ok(c.execution && play.executions > before && !strcmp(c.engine, good), "a kept \"%s\" is measured anew", bad[i]);
		before = play.executions;
		conv_choice_release(&c);
	}
}

int main(int argc, char **argv)
{
	static const enum precision precisions[] = { PRECISION_BF16, PRECISION_TF32, PRECISION_FP32 };
	char folder[] = "/tmp/conv_check.XXXXXX", *command;

	if (cudnnGetVersion() < 90800) {
		skip("convolutions by cuDNN", "cuDNN is older than 9.8 and cannot plan for a GPU that is not there");
		return done_testing();
	}
	CHECK(mkdtemp(folder));
	setenv("XDG_CACHE_HOME", folder, 1);
	open_properties(argc > 1 ? argv[1] : "test/h100.json");
	for (int i = 0; i < 3; i++) {
		struct cuda_device dev;

		device_open(&dev, precisions[i]);
		test_results(&dev);
		test_cache(&dev, precisions[i]);
		if (precisions[i] == PRECISION_BF16) {
			test_choice(&dev);
			test_stale(&dev);
		}
		if (precisions[i] == PRECISION_FP32)
			test_workspace(&dev);
		cuda_conv_library_close(&dev);
	}
	command = xasprintf("rm -r %s", folder);
	CHECK(!system(command));
	free(command);
	return done_testing();
}
