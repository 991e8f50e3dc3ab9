/*
 * Layer operations of the CUDA device against the reference: ReLU, addition, dropout, pooling, the shortcut, the loss. Odd sizes,
 * odd alignments, everything that may be done in place, canaries around all arrays. Batch norm has a test of its own.
 */
#include "cuda_kit.h"

/* ---- ReLU, addition ---- */

enum { A, B, OUT, VECTORS };

static const char *const elementwise_name[] = {
	"relu", "relu in place", "relu backward", "relu backward, added", "relu backward in place", "add", "add and relu", "grad_add",
};
enum { ELEMENTWISE = sizeof(elementwise_name) / sizeof(elementwise_name[0]) };

static void elementwise(struct rig *r, int which, int64_t n, void *const v[])
{
	const struct nn_ops *o = r->nn;
	const float *dy = v[A];
	float *dx = v[OUT];

	switch (which) {
	case 0: o->relu_fwd(r->stream, n, v[A], v[OUT]); break;
	case 1: o->relu_fwd(r->stream, n, v[A], v[A]); break;
	case 2: o->relu_bwd(r->stream, n, v[A], v[B], v[OUT], false); break;
	case 3: o->relu_bwd(r->stream, n, v[A], v[B], v[OUT], true); break;
	case 4: o->relu_bwd(r->stream, n, v[A], v[B], v[B], false); break;
	case 5: o->add_fwd(r->stream, n, v[A], v[B], false, v[OUT]); break;
	case 6: o->add_fwd(r->stream, n, v[A], v[B], true, v[OUT]); break;
	case 7:
		for (int64_t i = 0; r == &ref && i < n; i++)
			dx[i] += dy[i];
		if (r != &ref)
			o->grad_add(r->stream, n, v[A], v[OUT]);
	}
}

static void test_elementwise(struct rig *r)
{
	static const int64_t sizes[] = { 1, 5, 16, 31, 33, 1000, 70001 };

	for (int which = 0; which < ELEMENTWISE; which++) {
		double worst = 0;

		for (int i = 0; i < 2 * 7; i++) {
			struct array a[VECTORS];
			void *got[VECTORS], *want[VECTORS];

			for (int j = 0; j < VECTORS; j++) {
				a[j] = array_open(r, ACTIVATION, sizes[i / 2], i % 2 ? j : 0);
				fill(&a[j], (uint32_t)j, 0, 1);
				a[j].want[a[j].n / 2] = 0;
				push(&a[j]);
				got[j] = on_device(&a[j]);
				want[j] = a[j].want;
			}
			elementwise(r, which, sizes[i / 2], got);
			elementwise(&ref, which, sizes[i / 2], want);
			for (int j = 0; j < VECTORS; j++) {
				worse(&worst, error_of(&a[j], 1));
				array_close(&a[j]);
			}
		}
		ok(worst <= 0, "%s: %s, error %.2g", r->name, elementwise_name[which], worst);
	}
}

static void test_relu_nan(struct rig *r)
{
	struct array x = array_open(r, ACTIVATION, 20, 0);

	fill(&x, 1, -5, 1);
	x.want[3] = x.want[18] = NAN;
	push(&x);
	r->nn->relu_fwd(r->stream, 20, on_device(&x), on_device(&x));
	ok(pull(&x) && isnan(x.got[3]) && isnan(x.got[18]) && x.got[4] == 0, "%s: a NaN gets through ReLU", r->name);
	array_close(&x);
}

/* ---- dropout ---- */

/* How many elements are not what the reference made of them: a mask is right or wrong. */
static int64_t dropout_differs(struct rig *r, struct array *x, struct array *y, int64_t n, float p, int64_t step, uint32_t layer,
                               bool in_place)
{
	void *at = r->ops->mem->alloc(r->dev, sizeof(step));
	int64_t bad = 0;

	fill(x, 1, 3, 0.1);
	push(x);
	fill(y, 2, 0, 1);
	push(y);
	r->ops->mem->set(r->stream, at, &step, sizeof(step));
	r->nn->dropout(r->stream, n, p, 42, at, layer, on_device(x), on_device(in_place ? x : y));
	ref.nn->dropout(ref.stream, n, p, 42, &step, layer, x->want, (in_place ? x : y)->want);
	bad += !pull(x) + !pull(y);
	for (int64_t i = 0; i < x->n; i++) {
		float want = r->half ? from_half(to_half(y->want[i])) : y->want[i];

		bad += y->got[i] != want || (y->got[i] == 0) != (y->want[i] == 0);
	}
	r->ops->mem->free(r->dev, at);
	return bad;
}

static void test_dropout(struct rig *r)
{
	static const int64_t sizes[] = { 1, 3, 4, 63, 65, 127, 100003 };
	enum { MOST = 100003 };
	int64_t bad = 0, count = 0;

	for (int i = 0; i < 2 * 7; i++) {
		struct array x = array_open(r, ACTIVATION, MOST, i % 2), y = array_open(r, ACTIVATION, MOST, 2 * (i % 2));

		bad += dropout_differs(r, &x, &y, sizes[i / 2], 0.3f, 5000000000 + i, 7, false);
		count = 0;
		for (int64_t j = 0; j < MOST; j++)
			count += y.got[j] == 0;
		array_close(&x);
		array_close(&y);
	}
	ok(bad == 0, "%s: dropout drops what the reference drops (%lld differ)", r->name, (long long)bad);
	near((double)count / MOST, 0.3, 0.006, "share of elements dropped");
	for (int i = 0; i < 4; i++) {
		struct array x = array_open(r, ACTIVATION, 1000, 0), y = array_open(r, ACTIVATION, 1000, 0);
		int64_t differ = dropout_differs(r, &x, &y, 1000, i % 2 ? 0 : 0.5f, 3, 1, i / 2);

		for (int64_t j = 0; i / 2 && j < 1000; j++)
			differ += x.got[j] != (r->half ? from_half(to_half(x.want[j])) : x.want[j]);
		ok(differ == 0, "%s: dropout of %s%s", r->name, i % 2 ? "nothing" : "half", i / 2 ? ", in place" : "");
		array_close(&x);
		array_close(&y);
	}
}

/* ---- pooling, shortcut ---- */

static const struct pool_desc pools[] = {
	{ 2, 8, 8, 5, 2, 2, 0, true }, { 2, 7, 9, 16, 3, 2, 1, true }, { 1, 5, 5, 40, 3, 1, 1, true }, { 3, 9, 8, 19, 3, 2, 0, true },
	{ 5, 32, 32, 16, 2, 2, 0, true }, { 4, 15, 15, 20, 3, 2, 1, true }, { 2, 16, 16, 64, 3, 2, 1, true }, { 3, 5, 6, 512, 2, 2, 0, true },
	{ 2, 11, 10, 8, 5, 3, 2, true }, { 7, 1, 1, 10, 1, 1, 0, true }, { 2, 20, 20, 3, 15, 5, 7, true }, { 2, 9, 9, 200, 2, 3, 0, true },
	{ 2, 8, 8, 5, 2, 2, 0, false }, { 2, 7, 9, 16, 3, 2, 1, false }, { 6, 4, 4, 512, 4, 1, 0, false }, { 2, 19, 19, 3, 19, 1, 0, false },
	{ 300, 7, 7, 10, 7, 1, 0, false }, { 3, 8, 8, 64, 8, 8, 0, false }, { 2, 11, 10, 8, 5, 3, 2, false }, { 2, 13, 13, 200, 3, 1, 1, false },
	{ 2, 9, 9, 1, 2, 3, 0, false },
};
enum { POOLS = sizeof(pools) / sizeof(pools[0]) };

/* `variant`: 1: ties, and gradients are added; 2: odd alignment. Returns how many maxima are at the wrong place. */
static int64_t pool_once(struct rig *r, const struct pool_desc *d, int variant, double *worst)
{
	int64_t in = (int64_t)d->n * d->h * d->w * d->c, bad = 0;
	int64_t out = (int64_t)d->n * conv_out(d->h, d->kernel, d->stride, d->pad) * conv_out(d->w, d->kernel, d->stride, d->pad) * d->c;
	int odd = variant / 2;
	struct array x = array_open(r, ACTIVATION, in, odd), y = array_open(r, ACTIVATION, out, 2 * odd);
	struct array dx = array_open(r, ACTIVATION, in, 3 * odd), index = array_open(r, BYTES, out, odd);
	uint8_t *where = calloc((size_t)out, 1);

	fill(&x, 1, 0, 1);
	for (int64_t j = 0; j < in && variant % 2; j++)
		x.want[j] = rintf(x.want[j]);
	fill(&dx, 2, 0, 1);
	push(&x);
	push(&y);
	push(&dx);
	push(&index);
	r->nn->pool_fwd(r->stream, d, on_device(&x), on_device(&y), d->max ? on_device(&index) : NULL);
	ref.nn->pool_fwd(ref.stream, d, x.want, y.want, d->max ? where : NULL);
	worse(worst, error_of(&y, 1));
	bad += !pull(&index);
	for (int64_t j = 0; j < out; j++)
		bad += index.got[j] != where[j];
	fill(&y, 3, 0, 1);
	push(&y);
	r->nn->pool_bwd(r->stream, d, on_device(&y), on_device(&index), on_device(&dx), variant % 2);
	ref.nn->pool_bwd(ref.stream, d, y.want, where, dx.want, variant % 2);
	worse(worst, error_of(&dx, 1));
	array_close(&x);
	array_close(&y);
	array_close(&dx);
	array_close(&index);
	free(where);
	return bad;
}

static void test_pool(struct rig *r)
{
	static const struct pool_desc many = { 65541, 1, 2, 1, 1, 1, 0, true };         /* more images than a grid has rows */
	double largest = 0, average = 0;
	int64_t bad = 0;

	for (int i = 0; i < 4 * POOLS; i++)
		bad += pool_once(r, &pools[i / 4], i % 4, pools[i / 4].max ? &largest : &average);
	bad += pool_once(r, &many, 0, &largest);
	ok(bad == 0, "%s: pooling: the same maxima, ties as well (%lld differ)", r->name, (long long)bad);
	ok(largest <= 0, "%s: maximum pooling, error %.2g", r->name, largest);
	ok(average <= 1e-6, "%s: average pooling, error %.2g", r->name, average);
}

static void test_pool_nan(struct rig *r)
{
	static const struct pool_desc d = { 1, 4, 4, 8, 2, 2, 0, true };
	struct array x = array_open(r, ACTIVATION, 128, 0), y = array_open(r, ACTIVATION, 32, 0), index = array_open(r, BYTES, 32, 0);

	fill(&x, 1, 0, 1);
	x.want[8] = NAN;                /* window 0, position 1, channel 0 */
	push(&x);
	push(&y);
	push(&index);
	r->nn->pool_fwd(r->stream, &d, on_device(&x), on_device(&y), on_device(&index));
	ok(pull(&y) && pull(&index) && isnan(y.got[0]) && index.got[0] == 1 && !isnan(y.got[1]), "%s: a NaN gets through pooling",
	   r->name);
	array_close(&x);
	array_close(&y);
	array_close(&index);
}

static void test_shortcut(struct rig *r)
{
	static const int shape[][5] = {
		{ 2, 8, 8, 16, 32 }, { 3, 7, 5, 3, 8 }, { 1, 1, 1, 4, 4 }, { 4, 32, 32, 16, 33 }, { 2, 9, 8, 64, 128 }, { 2, 5, 5, 8, 12 },
		{ 3, 6, 6, 1, 2 },
	};
	double worst = 0;

	for (int i = 0; i < 4 * 7; i++) {
		const int *s = shape[i / 4];
		int64_t in = (int64_t)s[0] * s[1] * s[2] * s[3], out = (int64_t)s[0] * ((s[1] + 1) / 2) * ((s[2] + 1) / 2) * s[4];
		struct array x = array_open(r, ACTIVATION, in, i & 1), dx = array_open(r, ACTIVATION, in, i & 1);
		struct array y = array_open(r, ACTIVATION, out, 0);

		fill(&x, 1, 0, 1);
		fill(&y, 3, 0, 1);
		fill(&dx, 2, 0, 1);
		push(&x);
		push(&y);
		push(&dx);
		r->nn->shortcut_bwd(r->stream, s[0], s[1], s[2], s[3], s[4], on_device(&y), on_device(&dx), i & 2);
		ref.nn->shortcut_bwd(ref.stream, s[0], s[1], s[2], s[3], s[4], y.want, dx.want, i & 2);
		worse(&worst, error_of(&dx, 1));
		r->nn->shortcut_fwd(r->stream, s[0], s[1], s[2], s[3], s[4], on_device(&x), on_device(&y));
		ref.nn->shortcut_fwd(ref.stream, s[0], s[1], s[2], s[3], s[4], x.want, y.want);
		worse(&worst, error_of(&y, 1));
		array_close(&x);
		array_close(&y);
		array_close(&dx);
	}
	ok(worst <= 0, "%s: option A shortcut, error %.2g", r->name, worst);
}

/* ---- the loss ---- */

enum { MOST_ROWS = 600 };

/* On the device, with labels and statistics in its memory; adds to *stats. */
static void softmax(struct rig *r, int n, int classes, struct array *x, const int32_t *label, float scale, struct array *dx,
                    struct loss_stats *stats)
{
	const struct mem_ops *mem = r->ops->mem;
	void *labels = mem->alloc(r->dev, sizeof(*label) * (size_t)n), *sums = mem->alloc(r->dev, sizeof(*stats));

	mem->copy(r->stream, labels, label, sizeof(*label) * (size_t)n, COPY_TO_DEVICE);
	mem->copy(r->stream, sums, stats, sizeof(*stats), COPY_TO_DEVICE);
	r->nn->softmax_xent(r->stream, n, classes, on_device(x), labels, scale, dx ? on_device(dx) : NULL, sums);
	mem->copy(r->stream, stats, sums, sizeof(*stats), COPY_TO_HOST);
	r->ops->stream->sync(r->stream);
	mem->free(r->dev, labels);
	mem->free(r->dev, sums);
}

static void test_softmax(struct rig *r)
{
	static const int shape[][2] = {
		{ 1, 2 }, { 5, 10 }, { 128, 10 }, { 70, 1000 }, { 300, 3 }, { 33, 1 }, { 9, 200 }, { 64, 31 }, { 64, 32 }, { MOST_ROWS, 33 },
	};
	double gradient = 0, loss = 0;
	int wrong = 0, again = 0;

	for (int i = 0; i < 3 * 10; i++) {
		int n = shape[i / 3][0], classes = shape[i / 3][1];
		struct array x = array_open(r, ACTIVATION, (int64_t)n * classes, i & 1);
		struct array dx = array_open(r, ACTIVATION, (int64_t)n * classes, 0);
		struct loss_stats got = { 1, 2, 3 }, want = got, twice = got, start = got;
		int32_t label[MOST_ROWS];

		fill(&x, 1, 0, i % 3 == 1 ? 1e4 : 2);           /* exp of the large ones would overflow */
		for (int64_t j = 0; i % 3 == 2 && j < x.n; j++)
			x.want[j] = rintf(x.want[j]);           /* ties */
		push(&x);
		push(&dx);
		for (int j = 0; j < n; j++)
			label[j] = n > 1 && j % 5 == 4 ? -1 : j * 7 % classes;
		softmax(r, n, classes, &x, label, 0.25f, &dx, &got);
		ref.nn->softmax_xent(ref.stream, n, classes, x.want, label, 0.25f, dx.want, &want);
		worse(&gradient, error_of(&dx, 0.25));
		worse(&loss, fabs(got.loss - want.loss) / want.loss);
		wrong += got.correct != want.correct || got.count != want.count || got.count != 3 + n - (n > 1 ? n / 5 : 0);
		softmax(r, n, classes, &x, label, 0.25f, NULL, &twice);
		again += memcmp(&got, &twice, sizeof(got)) != 0 || memcmp(&got, &start, sizeof(got)) == 0;
		array_close(&x);
		array_close(&dx);
	}
	ok(wrong == 0, "%s: softmax: correct and counted as by the reference, ties as well", r->name);
	ok(gradient <= 1e-6, "%s: softmax: gradient, error %.2g", r->name, gradient);
	ok(loss <= 2e-7, "%s: softmax: loss, error %.2g", r->name, loss);
	ok(again == 0, "%s: softmax without a gradient gives the same statistics, bit for bit", r->name);
}

static void test_softmax_nan(struct rig *r)
{
	static const int32_t label[2] = { 0, 2 }, none[2] = { 0, 3 };
	struct array x = array_open(r, ACTIVATION, 6, 0);
	struct loss_stats bad = { 0 }, outside = { 0 };

	fill(&x, 1, 0, 1);
	push(&x);
	softmax(r, 2, 3, &x, none, 1, NULL, &outside);
	x.want[1] = NAN;
	push(&x);
	softmax(r, 2, 3, &x, label, 1, NULL, &bad);
	ok(isnan(bad.loss), "%s: a NaN among the logits is a NaN loss", r->name);
	ok(isnan(outside.loss), "%s: a label that is no class is a NaN loss", r->name);
	array_close(&x);
}

/* ---- the bias of a convolution ---- */

/* A 1x1 convolution whose weights are zero: y is the bias, and db is the sum of dy over all pixels. */
static void bias_once(struct rig *r, const struct conv_desc *d, double *forward, double *backward)
{
	int64_t rows = (int64_t)d->n * d->h * d->w, weights = (int64_t)d->out * d->c;
	struct array x = array_open(r, ACTIVATION, rows * d->c, 0), b = array_open(r, FLOATS, d->out, 0);
	struct array y = array_open(r, ACTIVATION, rows * d->out, 0), db = array_open(r, FLOATS, d->out, 0);
	struct array dw = array_open(r, FLOATS, weights, 0);
	struct conv_plan *plan = r->nn->conv_plan(r->dev, d);
	float *w = r->ops->mem->alloc(r->dev, sizeof(*w) * (size_t)weights);    /* zeros */

	fill(&x, 1, 0, 1);
	fill(&b, 2, 0, 1);
	fill(&y, 3, 0.1, 1);
	push(&x);
	push(&b);
	push(&y);
	push(&db);
	if (r->nn->prepare)
		r->nn->prepare(r->stream, weights, w);
	r->nn->conv_bwd_filter(r->stream, plan, on_device(&x), on_device(&y), on_device(&dw), on_device(&db));
	for (int c = 0; c < d->out; c++) {
		double sum = 0;

		for (int64_t i = c; i < y.n; i += d->out)
			sum += y.want[i];
		db.want[c] = (float)sum;
	}
	worse(backward, error_of(&db, sqrt((double)rows)));
	r->nn->conv_fwd(r->stream, plan, on_device(&x), w, on_device(&b), on_device(&y));
	for (int64_t i = 0; i < y.n; i++)
		y.want[i] = b.want[i % d->out];
	worse(forward, error_of(&y, 1));
	r->ops->stream->sync(r->stream);
	r->nn->conv_release(r->dev, plan);
	array_close(&x);
	r->ops->mem->free(r->dev, w);
	array_close(&b);
	array_close(&y);
	array_close(&dw);
	array_close(&db);
}

static void test_bias(struct rig *r)
{
	static const int shape[][4] = {         /* n, h, w, out */
		{ 1, 1, 1, 1 }, { 5, 1, 1, 10 }, { 200, 1, 1, 1000 }, { 1, 2, 2, 3 }, { 3, 7, 5, 16 }, { 2, 9, 9, 200 }, { 2, 8, 8, 512 },
		{ 8, 16, 16, 64 }, { 5, 33, 31, 1 }, { 3, 20, 20, 30 }, { 2, 5, 5, 1027 },
	};
	double forward = 0, backward = 0;

	for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
		const int *s = shape[i];
		struct conv_desc d = { s[0], s[1], s[2], .c = 8, .pitch = 8, .out = s[3], .kh = 1, .kw = 1, .stride = 1, .bias = true };

		bias_once(r, &d, &forward, &backward);
	}
	ok(forward <= 0, "%s: bias of a convolution, error %.2g", r->name, forward);
	ok(backward <= 1e-6, "%s: gradient of the bias, error %.2g", r->name, backward);
}

static void tests(struct rig *r)
{
	test_elementwise(r);
	test_relu_nan(r);
	test_dropout(r);
	test_pool(r);
	test_pool_nan(r);
	test_shortcut(r);
	test_softmax(r);
	test_softmax_nan(r);
	test_bias(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
