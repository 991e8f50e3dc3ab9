/*
 * Convolutions: the plain C one against central differences, the fast ones against the plain one, on every instruction set that
 * this CPU has, with one thread and with two. Outputs lie between canaries; the scratchpad is filled with NaN before each call.
 */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "../core/cpu/cpu_conv.h"
#include "../core/cpu/kernel/isa.h"
#include "../core/die.h"
#include "tap.h"

/* Bounds on |got - want| / |want| (Euclidean, whole tensor). */
static const double TOLERANCE_DIRECT = 5e-6, TOLERANCE_WINOGRAD = 2e-5;

enum { CANARY = 16 };
static const float CANARY_VALUE = 12345.678f;

/* A tensor of n floats with canaries on both sides. */
struct buffer {
	size_t n;
	float *all, *data;
};

static struct buffer buffer_of(size_t n)
{
	struct buffer b = { .n = n, .all = xaligned((n + 2 * CANARY) * sizeof(float)) };

	b.data = b.all + CANARY;
	for (int i = 0; i < CANARY; i++)
		b.all[i] = b.data[n + i] = CANARY_VALUE;
	return b;
}

static void buffer_free(struct buffer *b) { free(b->all); }

static bool buffer_intact(const struct buffer *b)
{
	bool same = true;

	for (int i = 0; i < CANARY; i++)
		same &= b->all[i] == CANARY_VALUE && b->data[b->n + i] == CANARY_VALUE;
	return same;
}

static void buffer_random(struct buffer *b, unsigned seed)
{
	for (size_t i = 0; i < b->n; i++) {
		seed = seed * 1664525 + 1013904223;
		b->data[i] = (float)(seed >> 8) / (1 << 23) - 1;
	}
}

static double buffer_norm(const struct buffer *b)
{
	double sum = 0;

	for (size_t i = 0; i < b->n; i++)
		sum += (double)b->data[i] * b->data[i];
	return sqrt(sum);
}

/* |a - b| / |b|; NaN if something is NaN. */
static double difference(const struct buffer *a, const struct buffer *b)
{
	double sum = 0;

	for (size_t i = 0; i < b->n; i++)
		sum += ((double)a->data[i] - b->data[i]) * ((double)a->data[i] - b->data[i]);
	return sqrt(sum) / buffer_norm(b);
}

/* All tensors of one convolution. The gradients start as `before`, which is what accumulation adds to. */
struct tensors {
	struct buffer x, w, b, y, dy, dx, dw, db;
};

static struct tensors tensors_of(const struct conv_desc *d)
{
	size_t nx = (size_t)d->n * d->h * d->w * d->c, nw = (size_t)d->out * d->kh * d->kw * d->c;
	size_t ny = (size_t)d->n * conv_out(d->h, d->kh, d->stride, d->pad) * conv_out(d->w, d->kw, d->stride, d->pad) * d->out;
	struct tensors t = { buffer_of(nx), buffer_of(nw), buffer_of(d->out), buffer_of(ny), buffer_of(ny), buffer_of(nx),
		buffer_of(nw), buffer_of(d->out) };

	buffer_random(&t.x, 1), buffer_random(&t.w, 2), buffer_random(&t.b, 3), buffer_random(&t.dy, 4);
	return t;
}

static void tensors_free(struct tensors *t)
{
	buffer_free(&t->x), buffer_free(&t->w), buffer_free(&t->b), buffer_free(&t->y);
	buffer_free(&t->dy), buffer_free(&t->dx), buffer_free(&t->dw), buffer_free(&t->db);
}

static bool tensors_intact(const struct tensors *t)
{
	return buffer_intact(&t->x) && buffer_intact(&t->w) && buffer_intact(&t->b) && buffer_intact(&t->y) &&
	       buffer_intact(&t->dy) && buffer_intact(&t->dx) && buffer_intact(&t->dw) && buffer_intact(&t->db);
}

static void spoil_scratch(struct cpu_device *dev) { memset(dev->scratch, 0xff, dev->scratch_bytes); }

/* Runs all three directions. */
static void run(struct cpu_device *dev, struct conv_plan *plan, struct tensors *t, bool accumulate)
{
	bool bias = plan->desc.bias;

	buffer_random(&t->y, 5), buffer_random(&t->dx, 6), buffer_random(&t->dw, 7), buffer_random(&t->db, 8);
	spoil_scratch(dev);
	plan->impl->fwd(dev, plan, t->x.data, t->w.data, bias ? t->b.data : NULL, t->y.data);
	spoil_scratch(dev);
	plan->impl->bwd_data(dev, plan, t->dy.data, t->w.data, t->dx.data, accumulate);
	spoil_scratch(dev);
	plan->impl->bwd_filter(dev, plan, t->x.data, t->dy.data, t->dw.data, bias ? t->db.data : NULL);
}

static struct cpu_device device_of(enum cpu_isa isa, int threads)
{
	struct cpu_device dev = { .base.config = { .threads = threads, .conv = "auto" }, .isa = isa, .threads = threads };

	omp_set_num_threads(threads);
	cpu_scratch_reserve(&dev, 4096);
	return dev;
}

/* ---- the plain one, by central differences ---- */

/* The loss sum(dy * y); it is linear in x, w and b, so a central difference with any step is exact but for rounding. */
static double loss(struct cpu_device *dev, struct conv_plan *plan, struct tensors *t)
{
	double sum = 0;

	plan->impl->fwd(dev, plan, t->x.data, t->w.data, plan->desc.bias ? t->b.data : NULL, t->y.data);
	for (size_t i = 0; i < t->y.n; i++)
		sum += (double)t->dy.data[i] * t->y.data[i];
	return sum;
}

/* |numerical - gradient| / |numerical| over every element of `of`. */
static double gradient_error(struct cpu_device *dev, struct conv_plan *plan, struct tensors *t, struct buffer *of, const struct buffer *gradient)
{
	struct buffer numerical = buffer_of(of->n);
	double error;

	for (size_t i = 0; i < of->n; i++) {
		float kept = of->data[i];
		double up, down;

		of->data[i] = kept + 1;
		up = loss(dev, plan, t);
		of->data[i] = kept - 1;
		down = loss(dev, plan, t);
		of->data[i] = kept;
		numerical.data[i] = (float)((up - down) / 2);
	}
	error = difference(gradient, &numerical);
	buffer_free(&numerical);
	return error;
}

static void test_reference(void)
{
	static const struct conv_desc descs[] = {
		{ .n = 2, .h = 5, .w = 4, .c = 3, .out = 4, .kh = 3, .kw = 3, .stride = 1, .pad = 1, .bias = true },
		{ .n = 2, .h = 6, .w = 5, .c = 2, .out = 3, .kh = 3, .kw = 2, .stride = 2, .pad = 1 },
		{ .n = 1, .h = 8, .w = 9, .c = 1, .out = 2, .kh = 5, .kw = 5, .stride = 3, .pad = 2, .bias = true },
		{ .n = 3, .h = 2, .w = 3, .c = 4, .out = 5, .kh = 2, .kw = 3, .stride = 1, .pad = 0, .bias = true },
	};
	struct cpu_device dev = device_of(ISA_BASE, 1);

	for (size_t i = 0; i < sizeof(descs) / sizeof(descs[0]); i++) {
		struct conv_plan *plan = conv_reference.plan(&dev, &descs[i]);
		struct tensors t = tensors_of(&descs[i]);

		run(&dev, plan, &t, false);
		ok(gradient_error(&dev, plan, &t, &t.x, &t.dx) < 1e-5, "plain C %zu: the data's gradient is the central difference", i);
		ok(gradient_error(&dev, plan, &t, &t.w, &t.dw) < 1e-5, "plain C %zu: the filter's gradient is the central difference", i);
		if (descs[i].bias)
			ok(gradient_error(&dev, plan, &t, &t.b, &t.db) < 1e-5, "plain C %zu: the bias' gradient is the central difference", i);
		ok(buffer_norm(&t.dx) > 0.1 && buffer_norm(&t.dw) > 0.1, "plain C %zu: the gradients are not zero", i);
		if (i == 0) {
			t.dw.data[7] += 0.01f * (float)buffer_norm(&t.dw);
			ok(!(gradient_error(&dev, plan, &t, &t.w, &t.dw) < 1e-5), "one wrong element of a gradient is noticed");
			memmove(t.dx.data, t.dx.data + 1, (t.dx.n - 1) * sizeof(float));
			ok(!(gradient_error(&dev, plan, &t, &t.x, &t.dx) < 1e-5), "a gradient that is shifted by one element is noticed");
		}
		ok(tensors_intact(&t), "plain C %zu: nothing written out of bounds", i);
		tensors_free(&t);
		plan->impl->release(plan);
	}
	free(dev.scratch);
}

/* ---- the fast ones ---- */

/* n h w c, out kh kw stride pad, bias. Winograd takes 3x3 of stride 1 where both channel counts are multiples of the vector. */
static const struct conv_desc shapes[] = {
	{ 1, 4, 4, 16, 16, 3, 3, 1, 1, false, 0 },
	{ 2, 8, 8, 16, 16, 3, 3, 1, 1, true, 0 },
	{ 3, 5, 7, 16, 32, 3, 3, 1, 1, true, 0 },
	{ 2, 9, 6, 32, 16, 3, 3, 1, 1, false, 0 },
	{ 5, 13, 11, 48, 64, 3, 3, 1, 1, true, 0 },
	{ 4, 16, 16, 32, 32, 3, 3, 1, 1, false, 0 },
	{ 2, 32, 32, 64, 64, 3, 3, 1, 1, false, 0 },
	{ 1, 3, 3, 64, 32, 3, 3, 1, 1, true, 0 },
	{ 2, 7, 10, 16, 16, 3, 3, 1, 0, true, 0 },
	{ 2, 6, 5, 32, 48, 3, 3, 1, 2, false, 0 },
	{ 3, 4, 4, 160, 144, 3, 3, 1, 1, true, 0 },        /* pieces of weights that are not whole */
	{ 5, 4, 4, 256, 272, 3, 3, 1, 1, false, 0 },
	{ 2, 8, 8, 8, 8, 3, 3, 1, 1, true, 0 },
	{ 2, 9, 9, 24, 8, 3, 3, 1, 1, true, 0 },
	{ 3, 6, 6, 4, 12, 3, 3, 1, 1, false, 0 },
	{ 4, 2, 2, 64, 64, 3, 3, 1, 1, true, 0 },
	{ 2, 1, 1, 32, 32, 3, 3, 1, 1, true, 0 },
	{ 2, 8, 8, 16, 32, 3, 3, 2, 1, true, 0 },
	{ 3, 7, 9, 32, 16, 3, 3, 2, 1, false, 0 },
	{ 2, 5, 5, 24, 40, 3, 3, 2, 1, false, 0 },
	{ 2, 8, 6, 16, 32, 1, 1, 1, 0, false, 0 },
	{ 3, 8, 8, 32, 64, 1, 1, 2, 0, true, 0 },
	{ 2, 5, 7, 8, 24, 1, 1, 2, 0, false, 0 },
	{ 5, 9, 8, 3, 16, 3, 3, 1, 1, false, 0 },
	{ 2, 8, 8, 3, 64, 3, 3, 1, 1, true, 0 },
	{ 2, 8, 8, 1, 6, 5, 5, 1, 2, true, 0 },
	{ 2, 33, 30, 3, 64, 7, 7, 2, 3, false, 0 },
	{ 3, 15, 17, 3, 24, 7, 7, 2, 3, true, 0 },
	{ 4, 1, 1, 64, 10, 1, 1, 1, 0, true, 0 },          /* linear layers */
	{ 3, 1, 1, 128, 100, 1, 1, 1, 0, false, 0 },
	{ 5, 2, 3, 16, 33, 2, 3, 1, 0, true, 0 },
	{ 2, 7, 7, 32, 40, 7, 7, 1, 0, true, 0 },
};

struct outcome {
	double worst;                   /* difference to the plain one */
	bool intact, repeatable;
};

static void compare_once(struct cpu_device *dev, struct conv_plan *plan, struct tensors *want, bool accumulate, struct outcome *result)
{
	struct tensors got = tensors_of(&plan->desc), again = tensors_of(&plan->desc);
	double errors[4] = { 0 };

	run(dev, plan, &got, accumulate);
	run(dev, plan, &again, accumulate);
	errors[0] = difference(&got.y, &want->y);
	errors[1] = difference(&got.dx, &want->dx);
	errors[2] = difference(&got.dw, &want->dw);
	errors[3] = plan->desc.bias ? difference(&got.db, &want->db) : 0;
	for (int i = 0; i < 4; i++)
		if (!(errors[i] <= result->worst))
			result->worst = errors[i];
	result->intact &= tensors_intact(&got);
	result->repeatable &= !memcmp(got.y.data, again.y.data, got.y.n * 4) && !memcmp(got.dx.data, again.dx.data, got.dx.n * 4) &&
	                      !memcmp(got.dw.data, again.dw.data, got.dw.n * 4) && !memcmp(got.db.data, again.db.data, got.db.n * 4);
	tensors_free(&got);
	tensors_free(&again);
}

/* One shape: every instruction set, one and two threads, with and without accumulation. Returns how many plans there were. */
static int compare_shape(const struct conv_impl *impl, const struct conv_desc *d, struct outcome *result)
{
	struct cpu_device oracle = device_of(ISA_BASE, 1);
	struct conv_plan *plain = conv_reference.plan(&oracle, d);
	int plans = 0;

	for (int accumulate = 0; accumulate < 2; accumulate++) {
		struct tensors want = tensors_of(d);

		run(&oracle, plain, &want, accumulate);
		for (int isa = ISA_BASE; isa <= (int)isa_best(); isa++)
			for (int threads = 1; threads <= 2; threads++) {
				struct cpu_device dev = device_of(isa, threads);
				struct conv_plan *plan = impl->plan(&dev, d);

				if (plan) {
					compare_once(&dev, plan, &want, accumulate, result);
					impl->release(plan);
					plans++;
				}
				free(dev.scratch);
			}
		tensors_free(&want);
	}
	conv_reference.release(plain);
	free(oracle.scratch);
	return plans;
}

static void test_fast(const struct conv_impl *impl, double tolerance)
{
	double worst = 0;
	int plans = 0;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct conv_desc *d = &shapes[i];
		struct outcome result = { .intact = true, .repeatable = true };
		int taken = compare_shape(impl, d, &result);

		plans += taken;
		if (!taken)
			continue;
		if (!(result.worst <= worst))
			worst = result.worst;
		ok(result.worst <= tolerance && result.intact && result.repeatable,
		   "%s %dx%dx%dx%d > %d, %dx%d, stride %d, pad %d%s: error %.1e in %d plans%s%s", impl->name, d->n, d->h, d->w, d->c, d->out,
		   d->kh, d->kw, d->stride, d->pad, d->bias ? ", bias" : "", result.worst, taken,
		   result.intact ? "" : ", OUT OF BOUNDS", result.repeatable ? "" : ", NOT REPEATABLE");
	}
	if (!plans)
		skip(impl->name, "not compiled in");
	else
		ok(worst > 0, "%s: the worst error is %.1e, and not exactly the plain result", impl->name, worst);
}

/* ---- the choice ---- */

static const char *chosen(const char *conv, bool reference, const struct conv_desc *d)
{
	struct cpu_device dev = device_of(isa_best(), 1);
	struct conv_plan *plan;
	const char *name;

	dev.base.config.conv = conv;
	dev.reference = reference;
	plan = cpu_conv_plan(&dev.base, d);
	name = plan->impl->name;
	cpu_conv_release(&dev.base, plan);
	free(dev.scratch);
	return name;
}

static void test_choice(void)
{
	static const struct conv_desc d = { .n = 2, .h = 8, .w = 8, .c = 16, .out = 16, .kh = 3, .kw = 3, .stride = 1, .pad = 1 };
	static const struct conv_desc small = { .n = 2, .h = 2, .w = 2, .c = 16, .out = 16, .kh = 3, .kw = 3, .stride = 1, .pad = 1 };
	static const struct conv_desc strided = { .n = 2, .h = 8, .w = 8, .c = 16, .out = 16, .kh = 3, .kw = 3, .stride = 2, .pad = 1 };
	bool have_dnnl = strcmp(dnnl_words(), "no oneDNN");

	ok(!strcmp(chosen("auto", false, &d), "winograd"), "auto takes Winograd for 3x3 of stride 1");
	ok(!strcmp(chosen("winograd", false, &d), "winograd"), "so does winograd");
	ok(strcmp(chosen("direct", false, &d), "winograd"), "direct does not");
	ok(!strcmp(chosen("reference", false, &d), "reference"), "reference is plain C");
	ok(!strcmp(chosen("auto", false, &small), have_dnnl ? "direct" : "winograd"), "auto takes oneDNN for images of 2x2, if it is there");
	ok(!strcmp(chosen("winograd", false, &small), "winograd"), "winograd insists on Winograd");
	ok(!strcmp(chosen("auto", false, &strided), have_dnnl ? "direct" : "reference"), "what is left goes to oneDNN, else to plain C");
	ok(!strcmp(chosen("auto", true, &d), "reference"), "the reference device is plain C");
}

/* ---- as the layers use it: through the tables of the devices ---- */

static struct tensors through_device(const char *name, const struct conv_desc *d)
{
	struct device_config config = { .threads = 2, .progress = PROGRESS_HOOK, .conv = "auto" };
	const struct device_ops *ops = device_find(name);
	struct device *dev = ops->open(&config);
	struct stream *stream = ops->stream->open(dev, STREAM_COMPUTE);
	struct conv_plan *plan = ops->nn->conv_plan(dev, d);
	struct tensors t = tensors_of(d);

	buffer_random(&t.dx, 6);
	ops->nn->conv_fwd(stream, plan, t.x.data, t.w.data, t.b.data, t.y.data);
	ops->nn->conv_bwd_data(stream, plan, t.dy.data, t.w.data, t.dx.data, true);
	ops->nn->conv_bwd_filter(stream, plan, t.x.data, t.dy.data, t.dw.data, t.db.data);
	ops->stream->sync(stream);
	ok(strlen(ops->nn->conv_name(plan)) > 0, "device %s serves this with: %s", name, ops->nn->conv_name(plan));
	ops->nn->conv_release(dev, plan);
	ops->stream->close(stream);
	ops->close(dev);
	return t;
}

static void test_devices(void)
{
	static const struct conv_desc descs[] = {
		{ .n = 4, .h = 12, .w = 10, .c = 32, .out = 16, .kh = 3, .kw = 3, .stride = 1, .pad = 1, .bias = true },
		{ .n = 3, .h = 12, .w = 10, .c = 16, .out = 32, .kh = 3, .kw = 3, .stride = 2, .pad = 1, .bias = true },
		{ .n = 6, .h = 1, .w = 1, .c = 64, .out = 10, .kh = 1, .kw = 1, .stride = 1, .pad = 0, .bias = true },
	};

	for (size_t i = 0; i < sizeof(descs) / sizeof(descs[0]); i++) {
		struct tensors want = through_device("reference", &descs[i]), got = through_device("cpu", &descs[i]);

		ok(difference(&got.y, &want.y) <= TOLERANCE_WINOGRAD && difference(&got.dx, &want.dx) <= TOLERANCE_WINOGRAD &&
		   difference(&got.dw, &want.dw) <= TOLERANCE_WINOGRAD && difference(&got.db, &want.db) <= TOLERANCE_WINOGRAD,
		   "devices cpu and reference agree on convolution %zu", i);
		tensors_free(&want);
		tensors_free(&got);
	}
}

int main(void)
{
	test_reference();
	test_choice();
	test_devices();
	test_fast(&conv_winograd, TOLERANCE_WINOGRAD);
	test_fast(&conv_dnnl, TOLERANCE_DIRECT);
	return done_testing();
}
