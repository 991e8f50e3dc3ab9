/*
 * Vector operations and images of the CUDA device against the reference, and images against the CPU's own data/augment.c. All sizes
 * from one element up, all alignments, in place where that is allowed, canaries around all arrays.
 */
#include "../core/cpu/cpu_ops.h"
#include "../data/augment.h"
#include "cuda_kit.h"

/* ---- vectors ---- */

enum { VECTORS = 7 };

static const struct hyper hypers[] = {
	{ .lr = 0.05f, .momentum = 0.9f, .weight_decay = 0.01f },
	{ .lr = 0.05f, .momentum = 0.9f, .weight_decay = 0.01f, .first = 1 },
	{ .lr = 0.05f, .momentum = 0.9f, .weight_decay = 0.01f, .nesterov = 1 },
	{ .lr = 0.05f, .weight_decay = 0.01f },
	{ .lr = 0.05f, .weight_decay = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-6f, .correct1 = 0.271f, .correct2 = 0.0297f },
};
enum { SGD, SGD_FIRST, SGD_NESTEROV, SGD_PLAIN, ADAMW, HYPERS };

/* A device and its hyper blocks. */
struct side {
	const struct vec_ops *o;
	struct stream *s;
	const struct hyper *h;
};

typedef void case_fn(const struct side *, int64_t n, float *const v[]);

static void scale(const struct side *d, int64_t n, float *const v[]) { d->o->scale(d->s, n, 0.7f, v[0], v[1]); }
static void scale_self(const struct side *d, int64_t n, float *const v[]) { d->o->scale(d->s, n, -3, v[0], v[0]); }
static void axpby(const struct side *d, int64_t n, float *const v[]) { d->o->axpby(d->s, n, 0.7f, v[0], -1.5f, v[1]); }
static void axpby_0(const struct side *d, int64_t n, float *const v[]) { d->o->axpby(d->s, n, 0.7f, v[0], 0, v[1]); }
static void diff(const struct side *d, int64_t n, float *const v[]) { d->o->diff(d->s, n, v[0], v[1], v[2]); }
static void diff_x(const struct side *d, int64_t n, float *const v[]) { d->o->diff(d->s, n, v[0], v[1], v[0]); }
static void diff_z(const struct side *d, int64_t n, float *const v[]) { d->o->diff(d->s, n, v[0], v[1], v[1]); }
static void adopt(const struct side *d, int64_t n, float *const v[]) { d->o->adopt(d->s, n, v[0], v[1], v[2]); }
static void merge(const struct side *d, int64_t n, float *const v[]) { d->o->merge(d->s, n, v[0], v[1], v[2], v[3]); }
static void sgd(const struct side *d, int64_t n, float *const v[]) { d->o->sgd(d->s, n, d->h + SGD, v[0], v[1], v[2], v[3], v[4]); }

static void sgd_self(const struct side *d, int64_t n, float *const v[])
{
	d->o->sgd(d->s, n, d->h + SGD, v[0], v[1], v[2], v[1], v[2]);
}

static void sgd_first(const struct side *d, int64_t n, float *const v[])
{
	d->o->sgd(d->s, n, d->h + SGD_FIRST, v[0], v[1], v[2], v[1], v[2]);
}

static void sgd_nesterov(const struct side *d, int64_t n, float *const v[])
{
	d->o->sgd(d->s, n, d->h + SGD_NESTEROV, v[0], v[1], v[2], v[3], v[2]);
}

static void sgd_plain(const struct side *d, int64_t n, float *const v[])
{
	d->o->sgd(d->s, n, d->h + SGD_PLAIN, v[0], NULL, v[1], NULL, v[1]);
}

/* Second moments are not negative. */
static void make_positive(const struct side *d, int64_t n, float *v, const float *other)
{
	d->o->scale(d->s, n, 0, v, v);
	d->o->reduce(d->s, n, DTYPE_F32, REDUCE_MAX, other, v);
}

static void adamw(const struct side *d, int64_t n, float *const v[])
{
	make_positive(d, n, v[2], v[3]);
	d->o->adamw(d->s, n, d->h + ADAMW, v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
}

static void adamw_self(const struct side *d, int64_t n, float *const v[])
{
	make_positive(d, n, v[2], v[3]);
	d->o->adamw(d->s, n, d->h + ADAMW, v[0], v[1], v[2], v[3], v[1], v[2], v[3]);
}

static const struct { const char *name; case_fn *run; } cases[] = {
	{ "scale", scale }, { "scale in place", scale_self }, { "axpby", axpby }, { "axpby with b = 0", axpby_0 }, { "diff", diff },
	{ "diff into x", diff_x }, { "diff into z", diff_z }, { "adopt", adopt }, { "merge", merge }, { "sgd", sgd },
	{ "sgd in place", sgd_self }, { "sgd, first step", sgd_first }, { "sgd, Nesterov", sgd_nesterov },
	{ "sgd without momentum", sgd_plain }, { "adamw", adamw }, { "adamw in place", adamw_self },
};

static const int64_t sizes[] = { 1, 3, 4, 7, 8, 15, 16, 17, 33, 1023, 70001, 300000 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* shift: how far vector j lies off the alignment, in elements: 0, 1: all alike, 2: each its own way. */
static double run_case(const struct side *got, struct rig *r, case_fn *run, int64_t n, int shift)
{
	const struct side want = { ref.ops->vec, ref.stream, hypers };
	struct array a[VECTORS];
	float *on[VECTORS], *off[VECTORS];
	double worst = 0;

	for (int j = 0; j < VECTORS; j++) {
		a[j] = array_open(r, FLOATS, n, shift == 2 ? j % 4 : shift);
		fill(&a[j], (uint32_t)j, 0, 1);
		if (run == axpby_0 && j == 1)
			a[j].want[n / 2] = NAN;         /* is not looked at */
		push(&a[j]);
		on[j] = on_device(&a[j]);
		off[j] = a[j].want;
	}
	run(got, n, on);
	run(&want, n, off);
	for (int j = 0; j < VECTORS; j++) {
		worse(&worst, error_of(&a[j], 1));
		array_close(&a[j]);
	}
	return worst;
}

static void test_parity(struct rig *r)
{
	struct hyper *h = r->ops->mem->alloc(r->dev, sizeof(hypers));
	const struct side side = { r->ops->vec, r->stream, h };

	for (int i = 0; i < HYPERS; i++)
		r->ops->mem->set(r->stream, h + i, &hypers[i], sizeof(hypers[i]));
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		double worst = 0;

		for (int i = 0; i < SIZES; i++)
			for (int shift = 0; shift < 3; shift++)
				worse(&worst, run_case(&side, r, cases[c].run, sizes[i], shift));
		ok(worst <= 3e-7, "%s: %s as the reference, error %.2g", r->name, cases[c].name, worst);
	}
	r->ops->mem->free(r->dev, h);
}

/* Sums and picks are exact: bit for bit, element by element. */
static int64_t reduce_differs(struct rig *r, enum dtype type, enum reduce op, int64_t n, int shift)
{
	size_t size = dtype_size(type), bytes_each = size * (size_t)(n + 4);
	char *dev = r->ops->mem->alloc(r->dev, 2 * bytes_each), *host = malloc(2 * bytes_each), *got = malloc(2 * bytes_each);
	int64_t bad;

	for (int64_t i = 0; i < 2 * (n + 4); i++) {
		int v = (int)(i * 37 % 101 - i * 53 % 97);
		float f = (float)v;
		double d = v * 0x1p40 + 3;
		int64_t l = v * ((int64_t)1 << 40) + 3;

		memcpy(host + (size_t)i * size, type == DTYPE_F32 ? (void *)&f : type == DTYPE_F64 ? (void *)&d : (void *)&l, size);
	}
	r->ops->mem->copy(r->stream, dev, host, 2 * bytes_each, COPY_TO_DEVICE);
	r->ops->vec->reduce(r->stream, n, type, op, dev + (size_t)shift * size, dev + bytes_each + (size_t)(shift / 2) * size);
	ref.ops->vec->reduce(ref.stream, n, type, op, host + (size_t)shift * size, host + bytes_each + (size_t)(shift / 2) * size);
	r->ops->mem->copy(r->stream, got, dev, 2 * bytes_each, COPY_TO_HOST);
	r->ops->stream->sync(r->stream);
	bad = memcmp(got, host, 2 * bytes_each) != 0;
	r->ops->mem->free(r->dev, dev);
	free(host);
	free(got);
	return bad;
}

static void test_reduce(struct rig *r)
{
	static const char *const names[] = { [REDUCE_SUM] = "sum", [REDUCE_MAX] = "max", [REDUCE_MIN] = "min" };

	for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++) {
		int64_t bad = 0;

		for (int type = DTYPE_F32; type <= DTYPE_I64; type++)
			for (int i = 0; i < SIZES; i++)
				for (int shift = 0; shift < 4; shift++)
					bad += reduce_differs(r, (enum dtype)type, (enum reduce)op, sizes[i], shift);
		r->ops->vec->reduce(r->stream, 0, DTYPE_F32, (enum reduce)op, NULL, NULL);
		ok(bad == 0, "%s: reduce %s of float, double, int64", r->name, names[op]);
	}
}

/* ---- what layers see of parameters that were written ---- */

enum { IN = 64, OUT = 40, PARAMETERS = IN * OUT };

/* A linear layer of unit vectors shows its weights: does it see those that are in the arena, rounded as activations are? */
static int64_t unseen(struct rig *r, struct conv_plan *plan, struct array *unit, struct array *x, int64_t offset)
{
	struct array y = array_open(r, ACTIVATION, IN * OUT, 0);
	int64_t bad = 0;

	push(&y);
	r->nn->prepare(r->stream, x->n, on_device(x));
	r->nn->conv_fwd(r->stream, plan, on_device(unit), (float *)on_device(x) + offset, NULL, on_device(&y));
	bad += !pull(&y) + !pull(x);
	for (int i = 0; i < IN; i++)
		for (int o = 0; o < OUT; o++) {
			float w = x->got[offset + o * IN + i];

			bad += y.got[i * OUT + o] != (r->half ? from_half(to_half(w)) : w);
		}
	array_close(&y);
	return bad;
}

static void write_parameters(struct rig *r, int way, const struct hyper *h, struct array v[4], int64_t from, int64_t n)
{
	const struct vec_ops *o = r->ops->vec;
	float *x = (float *)on_device(&v[0]) + from, *a = (float *)on_device(&v[1]) + from, *b = (float *)on_device(&v[2]) + from;
	float *c = (float *)on_device(&v[3]) + from;

	switch (way) {
	case 0: o->sgd(r->stream, n, h + SGD, a, b, x, b, x); break;
	case 1: o->sgd(r->stream, n, h + SGD_PLAIN, a, NULL, x, NULL, x); break;
	case 2: o->adamw(r->stream, n, h + ADAMW, a, b, c, x, b, c, x); break;
	case 3: o->adopt(r->stream, n, a, b, x); break;
	case 4: o->merge(r->stream, n, a, x, b, c); break;
	case 5: o->scale(r->stream, n, 0.3f, a, x); break;
	case 6: o->axpby(r->stream, n, 0.3f, a, 2, x); break;
	case 7: o->diff(r->stream, n, a, x, x); break;
	case 8: o->reduce(r->stream, n, DTYPE_F32, REDUCE_SUM, a, x); break;
	case 9: r->ops->mem->copy(r->stream, x, a, (size_t)n * sizeof(float), COPY_DEVICE); break;
	}
}

static void test_shadow(struct rig *r)
{
	static const char *const ways[] = { "sgd", "plain sgd", "adamw", "adopt", "merge", "scale", "axpby", "diff", "reduce", "copy" };
	const struct conv_desc desc = { .n = IN, .h = 1, .w = 1, .c = IN, .pitch = IN, .out = OUT, .kh = 1, .kw = 1, .stride = 1 };
	struct conv_plan *plan = r->nn->conv_plan(r->dev, &desc);
	struct hyper *h = r->ops->mem->alloc(r->dev, sizeof(hypers));
	struct array unit = array_open(r, ACTIVATION, IN * IN, 0), v[4];
	enum { N = PARAMETERS + 200, OFFSET = 64 };

	for (int i = 0; i < HYPERS; i++)
		r->ops->mem->set(r->stream, h + i, &hypers[i], sizeof(hypers[i]));
	for (int i = 0; i < IN; i++)
		unit.want[i * IN + i] = 1;
	push(&unit);
	for (int j = 0; j < 4; j++) {
		v[j] = array_open(r, FLOATS, N, 0);
		fill(&v[j], (uint32_t)j, j == 3 ? 5 : 0, 1);
		push(&v[j]);
	}
	for (int way = 0; way < 10; way++) {
		int64_t bad = unseen(r, plan, &unit, &v[0], OFFSET);

		write_parameters(r, way, h, v, 0, N);
		bad += unseen(r, plan, &unit, &v[0], OFFSET);
		write_parameters(r, way, h, v, 0, 801);         /* piece by piece, off the alignment */
		write_parameters(r, way, h, v, 801, 402);
		write_parameters(r, way, h, v, 1203, N - 1203);
		bad += unseen(r, plan, &unit, &v[0], OFFSET);
		write_parameters(r, way, h, v, 100, 7);         /* a part alone */
		bad += unseen(r, plan, &unit, &v[0], OFFSET);
		ok(bad == 0, "%s: layers see what %s wrote", r->name, ways[way]);
	}
	for (int j = 0; j < 4; j++)
		array_close(&v[j]);
	array_close(&unit);
	r->nn->conv_release(r->dev, plan);
	r->ops->mem->free(r->dev, h);
}

/* ---- images ---- */

static void test_pitch(struct rig *r)
{
	size_t size = dtype_size(r->dev->activation);
	int wrong = 0;

	for (int c = 1; c < 70; c++) {
		int pitch = r->nn->input_pitch(r->dev, c);

		wrong += pitch < c || (c < 8 && (size_t)pitch * size % 16) || (c >= 8 && pitch != c);
	}
	ok(wrong == 0 && r->nn->input_pitch(r->dev, 3) == (r->half ? 8 : 4), "%s: pixels of few channels fill 16 bytes", r->name);
}

static void test_convert(struct rig *r)
{
	static const struct { int64_t pixels; int c, pitch; } shapes[] = {
		{ 1, 1, 1 }, { 5, 3, 3 }, { 7, 3, 8 }, { 1000, 1, 4 }, { 333, 5, 8 }, { 70, 10, 10 }, { 9, 3, 5 }, { 2000, 16, 16 }, { 4097, 3, 4 },
	};
	int64_t bad = 0;

	for (int i = 0; i < 3 * 9; i++) {
		int64_t pixels = shapes[i / 3].pixels;
		int c = shapes[i / 3].c, pitch = shapes[i / 3].pitch;
		struct array x = array_open(r, FLOATS, pixels * c, i % 3), y = array_open(r, ACTIVATION, pixels * pitch, i % 3 / 2);
		struct array back = array_open(r, FLOATS, pixels * pitch, i % 3);

		fill(&x, 1, 0, 1);
		fill(&y, 2, 0, 1);
		fill(&back, 3, 0, 1);
		push(&x);
		push(&y);
		push(&back);
		r->nn->from_f32(r->stream, pixels, c, pitch, on_device(&x), on_device(&y));
		r->nn->to_f32(r->stream, pixels * pitch, on_device(&y), on_device(&back));
		bad += !pull(&x) + !pull(&y) + !pull(&back);
		for (int64_t p = 0; p < pixels; p++)
			for (int k = 0; k < pitch; k++) {
				float want = k < c ? x.want[p * c + k] : 0;

				want = r->half ? from_half(to_half(want)) : want;
				bad += y.got[p * pitch + k] != want || back.got[p * pitch + k] != want;
			}
		array_close(&x);
		array_close(&y);
		array_close(&back);
	}
	ok(bad == 0, "%s: from fp32 and back, zeros behind the channels", r->name);
}

struct shape {
	int n, h, w, c, pitch, pad;
	bool flip;
};

enum { STORED = 7, EPOCH = 3, SEED = 9 };

/* The batch by data/augment.c, pixels spread to the pitch. Every fifth sample is empty. */
static void draw_batch(const struct shape *d, struct augment *a, const uint8_t *image, struct image_draw *draw, float *want)
{
	int pixels = d->h * d->w;
	float *out = calloc((size_t)(pixels * d->c), sizeof(*out));

	for (int n = 0; n < d->n; n++) {
		uint32_t sample = (uint32_t)(n * 5 + 2) % STORED;
		struct crop crop = { 0, 0, false };

		if (a->pad || a->flip)
			crop = augment_draw(a, SEED, EPOCH, sample);
		draw[n] = (struct image_draw){ sample, (int16_t)crop.dy, (int16_t)crop.dx, crop.flip, n % 5 == 4 };
		augment_image(a, SEED, EPOCH, sample, image + sample * (uint32_t)(pixels * d->c), out);
		for (int p = 0; p < pixels; p++)
			for (int k = 0; k < d->c; k++)
				want[(n * pixels + p) * d->pitch + k] = draw[n].empty ? 0 : out[p * d->c + k];
	}
	free(out);
}

static void *upload(struct rig *r, const void *host, size_t size)
{
	void *dev = r->ops->mem->alloc(r->dev, size);

	r->ops->mem->copy(r->stream, dev, host, size, COPY_TO_DEVICE);
	r->ops->stream->sync(r->stream);
	return dev;
}

/* Elements that differ from data/augment.c's, on the CUDA device and on the reference. */
static int64_t augment_differs(struct rig *r, const struct shape *d)
{
	const struct augment_desc desc = { d->n, d->h, d->w, d->c, d->pitch, d->pad };
	struct dataset set = { .h = d->h, .w = d->w, .c = d->c, .pad = d->pad, .flip = d->flip, .mean = { 0.3f, 0.4f, 0.5f, 0.6f },
	                       .std = { 0.2f, 0.25f, 0.3f, 0.1f } };
	size_t stored = (size_t)(STORED * d->h * d->w * d->c), table = (size_t)d->c * 256 * sizeof(float);
	int64_t count = (int64_t)d->n * d->h * d->w * d->pitch, bad = 0;
	struct image_draw *draw = calloc((size_t)d->n, sizeof(*draw));
	uint8_t *image = malloc(stored);
	struct array y = array_open(r, ACTIVATION, count, 0);
	float *expect = calloc((size_t)count, sizeof(float));
	struct augment a;
	void *dev[3];

	augment_init(&a, &set, true);
	for (size_t i = 0; i < stored; i++)
		image[i] = (uint8_t)(i * 2654435761u >> 13);
	draw_batch(d, &a, image, draw, expect);
	fill(&y, 1, 0, 1);
	push(&y);
	dev[0] = upload(r, image, stored);
	dev[1] = upload(r, a.table, table);
	dev[2] = upload(r, draw, (size_t)d->n * sizeof(*draw));
	r->nn->augment(r->stream, &desc, dev[0], dev[1], dev[2], on_device(&y));
	reference_augment(ref.stream, &desc, image, a.table, draw, y.want);
	bad += !pull(&y);
	for (int64_t i = 0; i < count; i++)
		bad += y.want[i] != expect[i] || y.got[i] != (r->half ? from_half(to_half(expect[i])) : expect[i]);
	for (int i = 0; i < 3; i++)
		r->ops->mem->free(r->dev, dev[i]);
	array_close(&y);
	augment_release(&a);
	free(draw);
	free(image);
	free(expect);
	return bad;
}

static void test_augment(struct rig *r)
{
	static const struct shape shapes[] = {
		{ 6, 32, 32, 3, 8, 4, true }, { 5, 28, 28, 1, 8, 4, false }, { 7, 9, 11, 3, 4, 2, true }, { 3, 1, 1, 1, 1, 0, true },
		{ 12, 5, 7, 3, 3, 9, true }, { 9, 8, 6, 4, 8, 1, true }, { 4, 17, 16, 2, 5, 3, true }, { 5, 20, 20, 3, 8, 0, false },
		{ 11, 3, 40, 3, 16, 2, true }, { 1, 33, 31, 3, 4, 0, true },
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct shape *d = &shapes[i];
		int64_t bad = augment_differs(r, d);

		ok(bad == 0, "%s: %d images of %dx%dx%d, pad %d%s, pitch %d, as data/augment.c makes them", r->name, d->n, d->h, d->w,
		   d->c, d->pad, d->flip ? ", flips" : "", d->pitch);
	}
}

static void tests(struct rig *r)
{
	if (!r->half) {
		test_parity(r);
		test_reduce(r);
	}
	test_shadow(r);
	test_pitch(r);
	test_convert(r);
	test_augment(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
