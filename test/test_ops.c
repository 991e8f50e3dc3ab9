/*
 * Layer operations of the CPU device against the reference: all instruction sets, one to three threads, odd sizes, every aliasing
 * that device.h allows, canaries around all outputs. Convolutions have a test of their own.
 */
#include "ops_kit.h"

static void worse(double *worst, double d)
{
	if (!(d <= *worst))
		*worst = d;
}

/* ---- batch norm ---- */

enum { GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR, MEAN, INVSTD, DGAMMA, DBETA, CHANNEL_ARRAYS };
enum { X, Y, RESIDUAL, DY, DX, DRESIDUAL, PIXEL_ARRAYS };

struct bn_case {
	struct bn_desc d;
	struct buffer p[PIXEL_ARRAYS], c[CHANNEL_ARRAYS];
};

static struct bn_case bn_open(const struct bn_desc *d, double mean, double deviation)
{
	struct bn_case b = { .d = *d };

	for (int i = 0; i < PIXEL_ARRAYS; i++) {
		b.p[i] = buffer_open(d->pixels * d->c, i % 3);
		fill(b.p[i].x, b.p[i].n, (uint32_t)i, i == X ? mean : 0, i == X ? deviation : 1);
	}
	for (int i = 0; i < CHANNEL_ARRAYS; i++) {
		b.c[i] = buffer_open(d->c, i % 2);
		fill(b.c[i].x, d->c, 100 + (uint32_t)i, i == RUNNING_VAR ? 2 : 0.5, 0.2);
	}
	return b;
}

static void bn_close(struct bn_case *b)
{
	for (int i = 0; i < PIXEL_ARRAYS; i++)
		buffer_close(&b->p[i]);
	for (int i = 0; i < CHANNEL_ARRAYS; i++)
		buffer_close(&b->c[i]);
}

/* The largest distance of any array, infinite if a canary died. */
static double bn_distance(const struct bn_case *got, const struct bn_case *want)
{
	double worst = 0;

	for (int i = 0; i < PIXEL_ARRAYS; i++)
		worse(&worst, buffer_intact(&got->p[i]) ? distance(got->p[i].x, want->p[i].x, want->p[i].n, 1) : INFINITY);
	for (int i = 0; i < CHANNEL_ARRAYS; i++)
		worse(&worst, buffer_intact(&got->c[i]) ? distance(got->c[i].x, want->c[i].x, want->c[i].n, 1e-3) : INFINITY);
	return worst;
}

static void bn_train(struct rig *r, struct bn_case *b, bool residual)
{
	r->ops->nn->bn_train(r->stream, &b->d, b->p[X].x, residual ? b->p[RESIDUAL].x : NULL, b->c[GAMMA].x, b->c[BETA].x,
	                     b->c[RUNNING_MEAN].x, b->c[RUNNING_VAR].x, b->c[MEAN].x, b->c[INVSTD].x, b->p[Y].x);
}

static void bn_infer(struct rig *r, struct bn_case *b, bool residual, bool in_place)
{
	r->ops->nn->bn_infer(r->stream, &b->d, b->p[X].x, residual ? b->p[RESIDUAL].x : NULL, b->c[GAMMA].x, b->c[BETA].x,
	                     b->c[RUNNING_MEAN].x, b->c[RUNNING_VAR].x, b->p[in_place ? X : Y].x);
}

/* dx: a vector of its own, added to, or dy; dresidual: none, dy, a vector of its own, added to; no dx at all. */
static const struct bn_mode { const char *name; int dx, dresidual; bool add_dx, add_dresidual; } bn_modes[] = {
	{ "dx", DX, -1, false, false }, { "dx +=", DX, -1, true, false }, { "dx = dy", DY, -1, false, false },
	{ "dx, dz in dy", DX, DY, false, false }, { "dx +=, dz in dy", DX, DY, true, false },
	{ "dx, dresidual", DX, DRESIDUAL, false, false }, { "dx +=, dresidual +=", DX, DRESIDUAL, true, true },
	{ "dx = dy, dresidual +=", DY, DRESIDUAL, false, true }, { "dresidual alone", -1, DRESIDUAL, false, false },
};

static void bn_bwd(struct rig *r, struct bn_case *b, const struct bn_mode *m)
{
	r->ops->nn->bn_bwd(r->stream, &b->d, b->p[X].x, b->p[Y].x, b->c[GAMMA].x, b->c[MEAN].x, b->c[INVSTD].x, b->p[DY].x,
	                   m->dx < 0 ? NULL : b->p[m->dx].x, m->add_dx, m->dresidual < 0 ? NULL : b->p[m->dresidual].x,
	                   m->add_dresidual, b->c[DGAMMA].x, b->c[DBETA].x);
}

static const struct { int64_t pixels; int c; } bn_sizes[] = {
	{ 1, 5 }, { 2, 16 }, { 7, 1 }, { 37, 3 }, { 50, 8 }, { 64, 64 }, { 33, 20 }, { 21, 24 }, { 19, 33 }, { 300, 100 }, { 5, 512 },
	{ 9, 520 }, { 3, 1027 }, { 2501, 16 }, { 12001, 3 }, { 603, 64 },
};
enum { BN_SIZES = sizeof(bn_sizes) / sizeof(bn_sizes[0]) };

static void test_bn_forward(struct rig *r, struct rig *ref)
{
	double train = 0, infer = 0;

	for (int i = 0; i < 4 * BN_SIZES; i++) {
		struct bn_desc d = { bn_sizes[i / 4].pixels, bn_sizes[i / 4].c, 1e-5f, 0.1f, i & 1 };
		struct bn_case got = bn_open(&d, 0.3, 2), want = bn_open(&d, 0.3, 2);

		bn_train(r, &got, i & 2);
		bn_train(ref, &want, i & 2);
		worse(&train, bn_distance(&got, &want));
		bn_infer(r, &got, i & 2, i & 1);
		bn_infer(ref, &want, i & 2, i & 1);
		worse(&infer, bn_distance(&got, &want));
		bn_close(&got);
		bn_close(&want);
	}
	ok(train <= 2e-5, "%s: batch norm in training, error %.2g", r->name, train);
	ok(infer <= 2e-5, "%s: batch norm in evaluation, also in place, error %.2g", r->name, infer);
}

/* Backward gets the reference's y and moments on both devices: a value near 0 must not be masked differently. */
static void test_bn_backward(struct rig *r, struct rig *ref)
{
	for (size_t m = 0; m < sizeof(bn_modes) / sizeof(bn_modes[0]); m++) {
		double worst = 0;

		for (int i = 0; i < 2 * BN_SIZES; i++) {
			struct bn_desc d = { bn_sizes[i / 2].pixels, bn_sizes[i / 2].c, 1e-5f, 0.1f, i & 1 };
			struct bn_case got = bn_open(&d, 0.3, 2), want = bn_open(&d, 0.3, 2);

			if (d.pixels < 5)       /* 1 / deviation is huge there, and gradients are differences of huge numbers */
				d.epsilon = got.d.epsilon = want.d.epsilon = 0.5f;
			bn_train(ref, &want, true);
			bn_train(ref, &got, true);
			bn_bwd(r, &got, &bn_modes[m]);
			bn_bwd(ref, &want, &bn_modes[m]);
			worse(&worst, bn_distance(&got, &want));
			bn_close(&got);
			bn_close(&want);
		}
		ok(worst <= 2e-5, "%s: batch norm backward: %s, error %.2g", r->name, bn_modes[m].name, worst);
	}
}

/* A mean 10^5 times the deviation: E(x^2) - E(x)^2 in float would find nothing but noise. */
static void test_bn_hard(struct rig *r, struct rig *ref)
{
	struct bn_desc d = { 5000, 24, 1e-9f, 0.1f, false };
	struct bn_case got = bn_open(&d, 1000, 0.01), want = bn_open(&d, 1000, 0.01), again = bn_open(&d, 1000, 0.01);
	double invstd;
	bool same;

	bn_train(r, &got, false);
	bn_train(r, &again, false);
	bn_train(ref, &want, false);
	invstd = distance(got.c[INVSTD].x, want.c[INVSTD].x, d.c, 1);
	ok(invstd <= 1e-5 && distance(got.c[MEAN].x, want.c[MEAN].x, d.c, 1) <= 1e-7, "%s: mean >> deviation: 1/deviation off by %.2g",
	   r->name, invstd);
	ok(distance(got.p[Y].x, want.p[Y].x, want.p[Y].n, 1) <= 2e-3, "%s: mean >> deviation: normalised", r->name);
	same = !memcmp(got.p[Y].x, again.p[Y].x, (size_t)want.p[Y].n * 4) && !memcmp(got.c[INVSTD].x, again.c[INVSTD].x, (size_t)d.c * 4);
	ok(same, "%s: batch norm is deterministic", r->name);
	for (int64_t i = 0; i < want.p[X].n; i++)
		got.p[X].x[i] = 0.1f;
	bn_train(r, &got, false);
	ok(got.c[MEAN].x[3] == 0.1f && near(got.c[INVSTD].x[3], 1 / sqrt(1e-9), 1, "invstd of a constant"), "%s: a constant channel", r->name);
	got.p[X].x[24 * 77 + 5] = NAN;
	got.d.relu = true;
	bn_train(r, &got, false);
	ok(isnan(got.p[Y].x[5]) && isnan(got.c[INVSTD].x[5]) && !isnan(got.p[Y].x[6]), "%s: a NaN gets through batch norm and ReLU", r->name);
	bn_close(&got);
	bn_close(&want);
	bn_close(&again);
}

/* ---- ReLU, addition ---- */

enum { A, B, OUT, VECTORS };

static void elementwise(struct rig *r, int which, int64_t n, float *const v[])
{
	const struct nn_ops *o = r->ops->nn;

	switch (which) {
	case 0: o->relu_fwd(r->stream, n, v[A], v[OUT]); break;
	case 1: o->relu_fwd(r->stream, n, v[A], v[A]); break;
	case 2: o->relu_bwd(r->stream, n, v[A], v[B], v[OUT], false); break;
	case 3: o->relu_bwd(r->stream, n, v[A], v[B], v[OUT], true); break;
	case 4: o->relu_bwd(r->stream, n, v[A], v[B], v[B], false); break;
	case 5: o->add_fwd(r->stream, n, v[A], v[B], false, v[OUT]); break;
	case 6: o->add_fwd(r->stream, n, v[A], v[B], true, v[OUT]); break;
	}
}

static void test_elementwise(struct rig *r, struct rig *ref)
{
	static const int64_t sizes[] = { 1, 5, 16, 31, 33, 1000, 70001 };
	int wrong = 0;

	for (int i = 0; i < 7 * 7; i++) {
		struct buffer got[VECTORS], want[VECTORS];
		float *g[VECTORS], *w[VECTORS];
		int64_t n = sizes[i / 7];

		for (int j = 0; j < VECTORS; j++) {
			got[j] = buffer_open(n, j);
			want[j] = buffer_open(n, 0);
			g[j] = got[j].x;
			w[j] = want[j].x;
			fill(g[j], n, (uint32_t)j, 0, 1);
			g[j][n / 2] = 0;
			memcpy(w[j], g[j], (size_t)n * 4);
		}
		elementwise(r, i % 7, n, g);
		elementwise(ref, i % 7, n, w);
		for (int j = 0; j < VECTORS; j++) {
			wrong += !(distance(g[j], w[j], n, 1) <= 0) || !buffer_intact(&got[j]);
			buffer_close(&got[j]);
			buffer_close(&want[j]);
		}
	}
	ok(wrong == 0, "%s: ReLU and addition, also in place", r->name);
}

/* ---- pooling, shortcut ---- */

static const struct pool_desc pools[] = {
	{ 2, 8, 8, 5, 2, 2, 0, true }, { 2, 7, 9, 16, 3, 2, 1, true }, { 1, 5, 5, 40, 3, 1, 1, true }, { 3, 9, 8, 19, 3, 2, 0, true },
	{ 5, 32, 32, 17, 2, 2, 0, true }, { 2, 8, 8, 5, 2, 2, 0, false }, { 2, 7, 9, 16, 3, 2, 1, false }, { 6, 4, 4, 512, 4, 1, 0, false },
	{ 2, 19, 19, 3, 19, 1, 0, false }, { 4, 15, 15, 20, 3, 2, 1, true },
};

static void test_pool(struct rig *r, struct rig *ref)
{
	double worst = 0;
	int wrong = 0;

	for (size_t i = 0; i < 2 * sizeof(pools) / sizeof(pools[0]); i++) {
		const struct pool_desc *d = &pools[i / 2];
		int64_t in = (int64_t)d->n * d->h * d->w * d->c;
		int64_t out = (int64_t)d->n * conv_out(d->h, d->kernel, d->stride, d->pad) * conv_out(d->w, d->kernel, d->stride, d->pad) * d->c;
		struct buffer x = buffer_open(in, 1), y = buffer_open(out, 1), dx = buffer_open(in, 2), y2 = buffer_open(out, 0), dx2 = buffer_open(in, 0);
		uint8_t *index = calloc(2, (size_t)out + 8), *index2 = index + out + 8;

		memset(index + out, 0xee, 8);
		fill(x.x, in, 1, 0, 1);
		for (int64_t j = 0; j < in && i % 2; j++)
			x.x[j] = rintf(x.x[j]);                 /* ties */
		fill(dx.x, in, 2, 0, 1);
		fill(dx2.x, in, 2, 0, 1);
		r->ops->nn->pool_fwd(r->stream, d, x.x, y.x, d->max ? index : NULL);
		ref->ops->nn->pool_fwd(ref->stream, d, x.x, y2.x, d->max ? index2 : NULL);
		wrong += memcmp(index, index2, (size_t)out) != 0;
		worse(&worst, distance(y.x, y2.x, out, 1));
		r->ops->nn->pool_bwd(r->stream, d, y.x, index, dx.x, i % 2);
		ref->ops->nn->pool_bwd(ref->stream, d, y.x, index, dx2.x, i % 2);
		worse(&worst, distance(dx.x, dx2.x, in, 1));
		wrong += !buffer_intact(&y) || !buffer_intact(&dx) || index[out] != 0xee || index[out + 7] != 0xee;
		buffer_close(&x);
		buffer_close(&y);
		buffer_close(&dx);
		buffer_close(&y2);
		buffer_close(&dx2);
		free(index);
	}
	ok(wrong == 0, "%s: pooling: the same maxima, ties as well, nothing written outside", r->name);
	ok(worst <= 1e-5, "%s: pooling, error %.2g", r->name, worst);
}

static void test_shortcut(struct rig *r, struct rig *ref)
{
	static const int shape[][5] = { { 2, 8, 8, 16, 32 }, { 3, 7, 5, 3, 8 }, { 1, 1, 1, 4, 4 }, { 4, 32, 32, 16, 33 } };
	int wrong = 0;

	for (int i = 0; i < 8; i++) {
		const int *s = shape[i / 2];
		int64_t in = (int64_t)s[0] * s[1] * s[2] * s[3], out = (int64_t)s[0] * ((s[1] + 1) / 2) * ((s[2] + 1) / 2) * s[4];
		struct buffer x = buffer_open(in, 1), y = buffer_open(out, 1), dx = buffer_open(in, 2), y2 = buffer_open(out, 0), dx2 = buffer_open(in, 0);

		fill(x.x, in, 1, 0, 1);
		fill(dx.x, in, 2, 0, 1);
		fill(dx2.x, in, 2, 0, 1);
		r->ops->nn->shortcut_fwd(r->stream, s[0], s[1], s[2], s[3], s[4], x.x, y.x);
		ref->ops->nn->shortcut_fwd(ref->stream, s[0], s[1], s[2], s[3], s[4], x.x, y2.x);
		wrong += !(distance(y.x, y2.x, out, 1) <= 0);
		fill(y.x, out, 3, 0, 1);
		r->ops->nn->shortcut_bwd(r->stream, s[0], s[1], s[2], s[3], s[4], y.x, dx.x, i % 2);
		ref->ops->nn->shortcut_bwd(ref->stream, s[0], s[1], s[2], s[3], s[4], y.x, dx2.x, i % 2);
		wrong += !(distance(dx.x, dx2.x, in, 1) <= 0) || !buffer_intact(&y) || !buffer_intact(&dx);
		buffer_close(&x);
		buffer_close(&y);
		buffer_close(&dx);
		buffer_close(&y2);
		buffer_close(&dx2);
	}
	ok(wrong == 0, "%s: option A shortcut", r->name);
}

/* ---- dropout ---- */

static int64_t kept(const float *y, int64_t n)
{
	int64_t count = 0;

	for (int64_t i = 0; i < n; i++)
		count += y[i] != 0;
	return count;
}

static void test_dropout(struct rig *r, struct rig *ref)
{
	static const int64_t sizes[] = { 1, 3, 4, 63, 65, 127, 100003 };
	enum { MOST = 100003 };
	struct buffer x = buffer_open(MOST, 1), y = buffer_open(MOST, 2), z = buffer_open(MOST, 0);
	int64_t step = 5000000000, next = step + 1;
	int wrong = 0;

	fill(x.x, MOST, 1, 3, 0.1);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int64_t n = sizes[i];

		r->ops->nn->dropout(r->stream, n, 0.3f, 42, &step, 7, x.x, y.x);
		ref->ops->nn->dropout(ref->stream, n, 0.3f, 42, &step, 7, x.x, z.x);
		wrong += memcmp(y.x, z.x, (size_t)n * 4) != 0;
	}
	ok(wrong == 0 && buffer_intact(&y), "%s: dropout, bit for bit", r->name);
	near((double)kept(y.x, MOST) / MOST, 0.7, 0.006, "share of elements kept");
	r->ops->nn->dropout(r->stream, MOST, 0.3f, 42, &next, 7, x.x, z.x);
	wrong = memcmp(y.x, z.x, MOST * 4) == 0;
	r->ops->nn->dropout(r->stream, MOST, 0.3f, 42, &step, 8, x.x, z.x);
	wrong += memcmp(y.x, z.x, MOST * 4) == 0;
	r->ops->nn->dropout(r->stream, MOST, 0.3f, 43, &step, 7, x.x, z.x);
	wrong += memcmp(y.x, z.x, MOST * 4) == 0;
	ok(wrong == 0, "%s: dropout depends on step, layer and seed", r->name);
	memcpy(z.x, x.x, MOST * 4);
	r->ops->nn->dropout(r->stream, MOST, 0.3f, 42, &step, 7, z.x, z.x);
	ok(!memcmp(y.x, z.x, MOST * 4), "%s: dropout in place", r->name);
	r->ops->nn->dropout(r->stream, MOST, 0, 42, &step, 7, x.x, z.x);
	ok(!memcmp(x.x, z.x, MOST * 4), "%s: dropout of nothing", r->name);
	buffer_close(&x);
	buffer_close(&y);
	buffer_close(&z);
}

/* ---- the loss ---- */

static void test_softmax(struct rig *r, struct rig *ref)
{
	static const int shape[][2] = { { 1, 2 }, { 5, 10 }, { 128, 10 }, { 70, 1000 } };
	double worst = 0;
	int wrong = 0;

	for (int i = 0; i < 8; i++) {
		int n = shape[i / 2][0], classes = shape[i / 2][1];
		struct buffer x = buffer_open((int64_t)n * classes, 1), dx = buffer_open((int64_t)n * classes, 2), dx2 = buffer_open((int64_t)n * classes, 0);
		struct loss_stats got = { 1, 2, 3 }, want = got;
		int32_t label[128];

		fill(x.x, x.n, 1, 0, i % 2 ? 1e4 : 2);          /* exp of the large ones would overflow */
		for (int j = 0; j < n; j++)
			label[j] = n > 1 && j % 5 == 4 ? -1 : j * 7 % classes;
		r->ops->nn->softmax_xent(r->stream, n, classes, x.x, label, 0.25f, dx.x, &got);
		ref->ops->nn->softmax_xent(ref->stream, n, classes, x.x, label, 0.25f, dx2.x, &want);
		worse(&worst, distance(dx.x, dx2.x, dx.n, 0.25));
		worse(&worst, fabs(got.loss - want.loss) / want.loss);
		wrong += got.correct != want.correct || got.count != want.count || got.count != 3 + n - (n > 1 ? n / 5 : 0) || !buffer_intact(&dx);
		r->ops->nn->softmax_xent(r->stream, n, classes, x.x, label, 0, NULL, &got);
		worse(&worst, fabs(got.loss - 1 - 2 * (want.loss - 1)) / want.loss);
		buffer_close(&x);
		buffer_close(&dx);
		buffer_close(&dx2);
	}
	ok(wrong == 0 && worst <= 1e-6, "%s: softmax cross-entropy, error %.2g", r->name, worst);
}

static void test_nan_loss(struct rig *r, struct rig *ref)
{
	float x[6] = { 1, NAN, 2, -1, 0, 1 };
	int32_t label[2] = { 0, 2 };
	struct loss_stats got = { 0 }, want = { 0 };

	r->ops->nn->softmax_xent(r->stream, 2, 3, x, label, 0, NULL, &got);
	ref->ops->nn->softmax_xent(ref->stream, 2, 3, x, label, 0, NULL, &want);
	ok(isnan(got.loss) && isnan(want.loss), "%s: a NaN among the logits is a NaN loss", r->name);
	r->ops->nn->relu_fwd(r->stream, 6, x, x);
	ok(isnan(x[1]) && x[3] == 0, "%s: a NaN gets through ReLU", r->name);
}

int main(void)
{
	for_all_rigs(test_bn_forward);
	for_all_rigs(test_bn_backward);
	for_all_rigs(test_bn_hard);
	for_all_rigs(test_elementwise);
	for_all_rigs(test_pool);
	for_all_rigs(test_shortcut);
	for_all_rigs(test_dropout);
	for_all_rigs(test_softmax);
	for_all_rigs(test_nan_loss);
	return done_testing();
}
