/*
 * Convolutions and linear layers of the CUDA device against the reference's: every direction, written and added, with and without
 * bias, images with padded channels; captured and replayed; with parameters that change their place. Errors are Euclidean, of whole
 * tensors, since cuDNN sums in its own order.
 */
#include "cuda_kit.h"

enum { FLOATS_APART = 16 };     /* tensors of an arena begin at multiples of it */

struct tensors {
	struct rig *r;
	struct conv_desc d;
	struct conv_plan *plan, *plain;
	struct array x, y, dy, dx, dw, db;
	float *image;                   /* x without the channels that pad it */
	float *w, *b;                   /* parameters, as the device sees them: w rounded if activations are */
	float *arena;                   /* w and b in device memory */
	int64_t nw, arena_n;
};

static void random_floats(float *f, int64_t n, uint32_t which)
{
	struct rng rng;

	rng_init(&rng, 7, RNG_TEST, which, 0);
	for (int64_t i = 0; i < n; i++)
		f[i] = (float)rng_u32(&rng) / 0x1p31f - 1;
}

/* New parameters, in device memory and ready. */
static void parameters(struct tensors *t, float *arena, uint32_t which)
{
	struct rig *r = t->r;
	float *host = calloc((size_t)t->arena_n, sizeof(*host));

	t->arena = arena;
	random_floats(host, t->arena_n, which);
	r->ops->mem->copy(r->stream, arena, host, (size_t)t->arena_n * sizeof(*host), COPY_TO_DEVICE);
	r->nn->prepare(r->stream, t->arena_n, arena);
	r->ops->stream->sync(r->stream);
	for (int64_t i = 0; i < t->nw; i++)
		t->w[i] = r->half ? from_half(to_half(host[i])) : host[i];
	memcpy(t->b, host + t->arena_n - t->d.out, (size_t)t->d.out * sizeof(*host));
	free(host);
}

static struct tensors tensors_open(struct rig *r, const struct conv_desc *d)
{
	struct tensors t = { .r = r, .d = *d };
	struct conv_desc dense = *d;
	int64_t pixels = (int64_t)d->n * d->h * d->w, pitch = conv_pitch(d);
	int64_t ny = (int64_t)d->n * conv_out(d->h, d->kh, d->stride, d->pad) * conv_out(d->w, d->kw, d->stride, d->pad) * d->out;

	dense.pitch = 0;
	t.plan = r->nn->conv_plan(r->dev, d);
	t.plain = ref.nn->conv_plan(ref.dev, &dense);
	t.nw = (int64_t)d->out * d->kh * d->kw * d->c;
	t.arena_n = (t.nw + FLOATS_APART - 1) / FLOATS_APART * FLOATS_APART + d->out;
	t.w = calloc((size_t)t.nw, sizeof(float));
	t.b = calloc((size_t)d->out, sizeof(float));
	t.image = calloc((size_t)(pixels * d->c), sizeof(float));
	t.x = array_open(r, ACTIVATION, pixels * pitch, 0);
	t.y = array_open(r, ACTIVATION, ny, 0);
	t.dy = array_open(r, ACTIVATION, ny, 0);
	t.dx = array_open(r, ACTIVATION, pixels * d->c, 0);
	t.dw = array_open(r, FLOATS, t.nw, 0);
	t.db = array_open(r, FLOATS, d->out, 0);
	fill(&t.x, 1, 0, 1);
	for (int64_t i = 0; i < t.x.n; i++)
		if (i % pitch >= d->c)
			t.x.want[i] = 0;
	push(&t.x);
	for (int64_t i = 0; i < pixels * d->c; i++)
		t.image[i] = t.x.want[i / d->c * pitch + i % d->c];
	fill(&t.dy, 2, 0, 1);
	push(&t.dy);
	parameters(&t, r->ops->mem->alloc(r->dev, (size_t)t.arena_n * sizeof(float)), 3);
	return t;
}

static void tensors_close(struct tensors *t)
{
	struct rig *r = t->r;

	r->ops->mem->free(r->dev, t->arena);
	array_close(&t->x), array_close(&t->y), array_close(&t->dy), array_close(&t->dx), array_close(&t->dw), array_close(&t->db);
	free(t->w), free(t->b), free(t->image);
	r->nn->conv_release(r->dev, t->plan);
	ref.nn->conv_release(ref.dev, t->plain);
}

static bool has_dx(const struct tensors *t) { return conv_pitch(&t->d) == t->d.c; }

/* Results start as something, which accumulation adds to. */
static void begin(struct tensors *t)
{
	struct array *result[] = { &t->y, &t->dx, &t->dw, &t->db };

	for (uint32_t i = 0; i < 4; i++) {
		fill(result[i], 4 + i, 0, 1);
		push(result[i]);
	}
}

static void run(struct tensors *t, bool accumulate)
{
	struct rig *r = t->r;
	const float *bias = t->d.bias ? t->arena + t->arena_n - t->d.out : NULL;
	float *db = t->d.bias ? on_device(&t->db) : NULL;

	r->nn->conv_fwd(r->stream, t->plan, on_device(&t->x), t->arena, bias, on_device(&t->y));
	r->nn->conv_bwd_filter(r->stream, t->plan, on_device(&t->x), on_device(&t->dy), on_device(&t->dw), db);
	if (has_dx(t))
		r->nn->conv_bwd_data(r->stream, t->plan, on_device(&t->dy), t->arena, on_device(&t->dx), accumulate);
}

static void run_plain(struct tensors *t, bool accumulate)
{
	ref.nn->conv_fwd(ref.stream, t->plain, t->image, t->w, t->b, t->y.want);
	ref.nn->conv_bwd_filter(ref.stream, t->plain, t->image, t->dy.want, t->dw.want, t->db.want);
	if (has_dx(t))
		ref.nn->conv_bwd_data(ref.stream, t->plain, t->dy.want, t->w, t->dx.want, accumulate);
}

/* |got - want| / |want|; infinite if something is not a number or was written outside. */
static double distance(struct array *a)
{
	double error = 0, norm = 0;

	if (!pull(a))
		return INFINITY;
	for (int64_t i = 0; i < a->n; i++) {
		error += ((double)a->got[i] - a->want[i]) * ((double)a->got[i] - a->want[i]);
		norm += (double)a->want[i] * a->want[i];
	}
	error = sqrt(error / norm);
	return isnan(error) ? INFINITY : error;
}

static double worst_of(struct tensors *t)
{
	struct array *result[] = { &t->y, &t->dx, &t->dw, &t->db };
	double worst = 0;

	for (int i = 0; i < 4; i++)
		worse(&worst, distance(result[i]));
	worse(&worst, error_of(&t->x, 1));      /* inputs are left alone */
	worse(&worst, error_of(&t->dy, 1));
	return worst;
}

static double tolerance(const struct rig *r) { return r->half ? 4e-3 : 1e-5; }

/* n h w c, out kh kw stride pad, bias, pitch */
static const struct conv_desc shapes[] = {
	{ 2, 8, 8, 16, 16, 3, 3, 1, 1, true, 0 },
	{ 3, 5, 7, 16, 32, 3, 3, 1, 1, false, 0 },
	{ 2, 16, 16, 64, 64, 3, 3, 1, 1, false, 0 },
	{ 2, 8, 8, 16, 32, 3, 3, 2, 1, true, 0 },
	{ 3, 7, 9, 32, 16, 3, 3, 2, 1, false, 0 },
	{ 2, 8, 6, 16, 32, 1, 1, 1, 0, false, 0 },
	{ 3, 8, 8, 32, 64, 1, 1, 2, 0, true, 0 },       /* the shortcut of a residual block */
	{ 5, 4, 4, 128, 136, 3, 3, 1, 1, false, 0 },
	{ 2, 7, 10, 8, 24, 3, 3, 1, 0, true, 0 },
	{ 2, 6, 5, 24, 8, 3, 3, 1, 2, false, 0 },
	{ 4, 2, 2, 64, 64, 3, 3, 1, 1, true, 0 },
	{ 2, 9, 8, 5, 7, 3, 3, 1, 1, true, 0 },         /* channels that are no multiple of anything */
	{ 3, 6, 6, 4, 12, 3, 3, 1, 1, false, 0 },
	{ 5, 9, 8, 3, 16, 3, 3, 1, 1, false, 8 },       /* images */
	{ 2, 9, 8, 3, 64, 3, 3, 1, 1, true, 4 },
	{ 2, 33, 30, 3, 64, 7, 7, 2, 3, false, 8 },
	{ 2, 8, 8, 1, 6, 5, 5, 1, 2, true, 8 },
	{ 4, 1, 1, 64, 10, 1, 1, 1, 0, true, 0 },       /* linear layers */
	{ 3, 1, 1, 128, 100, 1, 1, 1, 0, false, 0 },
	{ 5, 2, 3, 16, 33, 2, 3, 1, 0, true, 0 },
	{ 2, 7, 7, 32, 40, 7, 7, 1, 0, true, 0 },
	{ 3, 4, 4, 3, 10, 4, 4, 1, 0, true, 8 },        /* on an image */
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static void test_shape(struct rig *r, const struct conv_desc *d)
{
	struct tensors t = tensors_open(r, d);
	float *y = calloc((size_t)t.y.n, sizeof(*y)), *dw = calloc((size_t)t.dw.n, sizeof(*dw));
	double worst = 0;
	bool same = true;

	for (int accumulate = 0; accumulate < 2; accumulate++) {
		begin(&t);
		run_plain(&t, accumulate);
		run(&t, accumulate);
		worse(&worst, worst_of(&t));
	}
	for (int again = 0; again < 3; again++) {
		begin(&t);
		run(&t, false);
		pull(&t.y), pull(&t.dw);
		same &= !again || (!memcmp(y, t.y.got, (size_t)t.y.n * 4) && !memcmp(dw, t.dw.got, (size_t)t.dw.n * 4));
		memcpy(y, t.y.got, (size_t)t.y.n * 4);
		memcpy(dw, t.dw.got, (size_t)t.dw.n * 4);
	}
	ok(worst <= tolerance(r) && same, "%s: %dx%dx%dx%d (%d) > %d, %dx%d, stride %d, pad %d%s: error %.1e%s by %s", r->name, d->n, d->h, d->w,
	   d->c, conv_pitch(d), d->out, d->kh, d->kw, d->stride, d->pad, d->bias ? ", bias" : "", worst, same ? "" : ", NOT REPEATABLE",
	   r->nn->conv_name(t.plan));
	free(y), free(dw);
	tensors_close(&t);
}

/* One that was captured does the same whenever it is replayed, with what then lies at its addresses. */
static void test_capture(struct rig *r, const struct conv_desc *d)
{
	struct tensors t = tensors_open(r, d);
	struct graph *graph;
	double worst = 0;

	begin(&t);
	run(&t, true);          /* the first run may load code */
	r->ops->stream->capture_begin(r->stream);
	run(&t, true);
	graph = r->ops->stream->capture_end(r->stream);
	for (uint32_t i = 0; i < 3; i++) {
		fill(&t.dy, 10 + i, 0, 1);
		push(&t.dy);
		begin(&t);
		run_plain(&t, true);
		r->ops->stream->replay(r->stream, graph);
		worse(&worst, worst_of(&t));
	}
	ok(worst <= tolerance(r), "%s: captured and replayed, %d > %d channels, %dx%d: error %.1e", r->name, d->c, d->out, d->kh, d->kw, worst);
	r->ops->stream->graph_free(graph);
	tensors_close(&t);
}

/* Evaluation looks at other parameters with the same plans. */
static void test_places(struct rig *r, const struct conv_desc *d)
{
	struct tensors t = tensors_open(r, d);
	float *arena[2] = { t.arena, r->ops->mem->alloc(r->dev, (size_t)t.arena_n * sizeof(float)) };
	double worst = 0;

	for (uint32_t i = 0; i < 4; i++) {
		parameters(&t, arena[i % 2], 20 + i);
		begin(&t);
		run_plain(&t, false);
		run(&t, false);
		worse(&worst, worst_of(&t));
	}
	ok(worst <= tolerance(r), "%s: parameters in two places, %d > %d channels, %dx%d: error %.1e", r->name, d->c, d->out, d->kh, d->kw, worst);
	r->ops->mem->free(r->dev, arena[0]);
	t.arena = arena[1];
	tensors_close(&t);
}

static void tests(struct rig *r)
{
	static const int some[] = { 0, 6, 11, 13, 17 };

	r->dev->config.deterministic = true;            /* read when something is planned */
	for (int i = 0; i < SHAPES; i++)
		test_shape(r, &shapes[i]);
	for (int i = 0; i < 5; i++) {
		test_capture(r, &shapes[some[i]]);
		test_places(r, &shapes[some[i]]);
	}
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
