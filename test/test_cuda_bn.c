/*
 * Batch norm of the CUDA device against the reference: all shapes that cut the columns differently, every aliasing that device.h
 * allows, means far from 0.
 */
#include "cuda_kit.h"

enum { GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR, MEAN, INVSTD, DGAMMA, DBETA, CHANNEL_ARRAYS };
enum { X, Y, RESIDUAL, DY, DX, DRESIDUAL, PIXEL_ARRAYS };

struct bn_case {
	struct rig *r;
	struct bn_desc d;
	struct array p[PIXEL_ARRAYS], c[CHANNEL_ARRAYS];
};

/* `odd`: some arrays are not aligned for 16-byte accesses. */
static void bn_open(struct bn_case *b, struct rig *r, const struct bn_desc *d, bool odd, double mean, double deviation)
{
	*b = (struct bn_case){ .r = r, .d = *d };
	for (int i = 0; i < PIXEL_ARRAYS; i++) {
		b->p[i] = array_open(r, ACTIVATION, d->pixels * d->c, odd && i % 2);
		fill(&b->p[i], (uint32_t)i, i == X ? mean : 0, i == X ? deviation : 1);
		push(&b->p[i]);
	}
	for (int i = 0; i < CHANNEL_ARRAYS; i++) {
		b->c[i] = array_open(r, FLOATS, d->c, odd && i % 3 == 1);
		fill(&b->c[i], 100 + (uint32_t)i, i == RUNNING_VAR ? 2 : 0.5, 0.2);
		push(&b->c[i]);
	}
}

static void bn_close(struct bn_case *b)
{
	for (int i = 0; i < PIXEL_ARRAYS; i++)
		array_close(&b->p[i]);
	for (int i = 0; i < CHANNEL_ARRAYS; i++)
		array_close(&b->c[i]);
}

static double bn_error(struct bn_case *b)
{
	double worst = 0;

	for (int i = 0; i < PIXEL_ARRAYS; i++)
		worse(&worst, error_of(&b->p[i], 1));
	for (int i = 0; i < CHANNEL_ARRAYS; i++)
		worse(&worst, error_of(&b->c[i], 1e-3));
	return worst;
}

/* The arrays' pointers as one of the two devices knows them. */
static void bn_pointers(struct bn_case *b, bool reference, void *p[PIXEL_ARRAYS], float *c[CHANNEL_ARRAYS])
{
	for (int i = 0; i < PIXEL_ARRAYS; i++)
		p[i] = reference ? b->p[i].want : on_device(&b->p[i]);
	for (int i = 0; i < CHANNEL_ARRAYS; i++)
		c[i] = reference ? b->c[i].want : on_device(&b->c[i]);
}

static void bn_train(struct bn_case *b, bool reference, bool residual)
{
	struct rig *r = reference ? &ref : b->r;
	void *p[PIXEL_ARRAYS];
	float *c[CHANNEL_ARRAYS];

	bn_pointers(b, reference, p, c);
	r->nn->bn_train(r->stream, &b->d, p[X], residual ? p[RESIDUAL] : NULL, c[GAMMA], c[BETA], c[RUNNING_MEAN], c[RUNNING_VAR],
	                c[MEAN], c[INVSTD], p[Y]);
}

static void bn_infer(struct bn_case *b, bool reference, bool residual, bool in_place)
{
	struct rig *r = reference ? &ref : b->r;
	void *p[PIXEL_ARRAYS];
	float *c[CHANNEL_ARRAYS];

	bn_pointers(b, reference, p, c);
	r->nn->bn_infer(r->stream, &b->d, p[X], residual ? p[RESIDUAL] : NULL, c[GAMMA], c[BETA], c[RUNNING_MEAN], c[RUNNING_VAR],
	                p[in_place ? X : Y]);
}

/* dx: a vector of its own, added to, or dy; dresidual: none, dy, a vector of its own, added to; no dx at all. */
static const struct bn_mode { const char *name; int dx, dresidual; bool add_dx, add_dresidual; } bn_modes[] = {
	{ "dx", DX, -1, false, false }, { "dx +=", DX, -1, true, false }, { "dx = dy", DY, -1, false, false },
	{ "dx, dz in dy", DX, DY, false, false }, { "dx +=, dz in dy", DX, DY, true, false },
	{ "dx, dresidual", DX, DRESIDUAL, false, false }, { "dx +=, dresidual +=", DX, DRESIDUAL, true, true },
	{ "dx = dy, dresidual", DY, DRESIDUAL, false, false }, { "dx = dy, dresidual +=", DY, DRESIDUAL, false, true },
	{ "dresidual alone", -1, DRESIDUAL, false, false }, { "dresidual += alone", -1, DRESIDUAL, false, true },
};
enum { BN_MODES = sizeof(bn_modes) / sizeof(bn_modes[0]) };

static void bn_bwd(struct bn_case *b, bool reference, const struct bn_mode *m)
{
	struct rig *r = reference ? &ref : b->r;
	void *p[PIXEL_ARRAYS];
	float *c[CHANNEL_ARRAYS];

	bn_pointers(b, reference, p, c);
	r->nn->bn_bwd(r->stream, &b->d, p[X], p[Y], c[GAMMA], c[MEAN], c[INVSTD], p[DY], m->dx < 0 ? NULL : p[m->dx], m->add_dx,
	              m->dresidual < 0 ? NULL : p[m->dresidual], m->add_dresidual, c[DGAMMA], c[DBETA]);
}

/* The last ones have more rows than blocks at their usual size. */
static const struct { int64_t pixels; int c; } bn_sizes[] = {
	{ 1, 5 }, { 2, 16 }, { 7, 1 }, { 37, 3 }, { 50, 8 }, { 64, 64 }, { 33, 20 }, { 21, 24 }, { 19, 33 }, { 300, 100 }, { 5, 512 },
	{ 9, 520 }, { 3, 1027 }, { 2501, 16 }, { 12001, 3 }, { 603, 64 }, { 1000, 10 }, { 700, 200 }, { 20000, 1 }, { 517, 512 },
	{ 6000, 64 }, { 2050, 1027 },
};
enum { BN_SIZES = sizeof(bn_sizes) / sizeof(bn_sizes[0]), BN_LARGE = 2 };

/* Would this only take time? A few channels are read one by one, aligned or not; and the large ones are run only `once`. */
static bool bn_again(int size, bool odd, bool once)
{
	return (odd && bn_sizes[size].c % 4) || (size >= BN_SIZES - BN_LARGE && !once);
}

static void test_bn_forward(struct rig *r)
{
	double train = 0, infer = 0;

	for (int i = 0; i < 8 * BN_SIZES; i++) {
		struct bn_desc d = { bn_sizes[i / 8].pixels, bn_sizes[i / 8].c, 1e-5f, 0.1f, i & 1 };
		struct bn_case b;

		if (bn_again(i / 8, i & 4, i % 8 == 3))
			continue;
		bn_open(&b, r, &d, i & 4, 0.3, 2);
		bn_train(&b, false, i & 2);
		bn_train(&b, true, i & 2);
		worse(&train, bn_error(&b));
		for (int j = 0; j < CHANNEL_ARRAYS; j++)
			push(&b.c[j]);
		bn_infer(&b, false, i & 2, i & 1);
		bn_infer(&b, true, i & 2, i & 1);
		worse(&infer, bn_error(&b));
		bn_close(&b);
	}
	ok(train <= 4e-6, "%s: batch norm in training, error %.2g", r->name, train);
	ok(infer <= 2e-6, "%s: batch norm in evaluation, also in place, error %.2g", r->name, infer);
}

/* Backward gets the reference's y and moments on both devices: a value near 0 must not be masked differently. */
static void test_bn_backward(struct rig *r)
{
	for (int m = 0; m < BN_MODES; m++) {
		double worst = 0;

		for (int i = 0; i < 4 * BN_SIZES; i++) {
			struct bn_desc d = { bn_sizes[i / 4].pixels, bn_sizes[i / 4].c, 1e-5f, 0.1f, i & 1 };
			struct bn_case b;

			if ((i + i / 4 + m) % 2 || bn_again(i / 4, i & 2, i % 4 == 1 && (m == 6 || m == 3)))
				continue;
			if (d.pixels < 5)       /* 1 / deviation is huge there, and gradients are differences of huge numbers */
				d.epsilon = 0.5f;
			bn_open(&b, r, &d, i & 2, 0.3, 2);
			bn_train(&b, true, true);
			for (int j = 0; j < PIXEL_ARRAYS; j++)
				push(&b.p[j]);
			for (int j = 0; j < CHANNEL_ARRAYS; j++)
				push(&b.c[j]);
			bn_bwd(&b, false, &bn_modes[m]);
			bn_bwd(&b, true, &bn_modes[m]);
			worse(&worst, bn_error(&b));
			bn_close(&b);
		}
		ok(worst <= 4e-6, "%s: batch norm backward: %s, error %.2g", r->name, bn_modes[m].name, worst);
	}
}

/* A mean that is large against the deviation: E(x^2) - E(x)^2 in float would find nothing but noise. */
static void test_bn_hard(struct rig *r)
{
	static const struct { double mean, deviation; } hard[] = { { 100, 0.1 }, { 1000, 0.01 }, { -30, 1 } };

	for (int i = 0; i < 3; i++) {
		struct bn_desc d = { 5000, 24, 1e-9f, 0.1f, false };
		double ratio = fabs(hard[i].mean) / hard[i].deviation, mean, invstd;
		struct bn_case b;

		bn_open(&b, r, &d, false, hard[i].mean, hard[i].deviation);
		b.p[X].want[0] = 0;             /* the first pixel is not like the others: what is a mean relative to? */
		push(&b.p[X]);
		bn_train(&b, false, false);
		bn_train(&b, true, false);
		mean = error_of(&b.c[MEAN], 1e-3);
		invstd = error_of(&b.c[INVSTD], 1e-3);
		ok(mean <= 2e-7 && invstd <= 2e-6, "%s: mean %g, deviation %g: mean off by %.2g, 1/deviation by %.2g", r->name,
		   hard[i].mean, hard[i].deviation, mean, invstd);
		mean = error_of(&b.p[Y], 1);
		ok(mean <= 1e-7 * (ratio + 20), "%s: mean %g, deviation %g: normalised, error %.2g", r->name, hard[i].mean,
		   hard[i].deviation, mean);
		bn_close(&b);
	}
}

static void test_bn_special(struct rig *r)
{
	struct bn_desc d = { 5000, 24, 1e-9f, 0.1f, true };
	float constant = r->half ? from_half(to_half(0.1f)) : 0.1f;
	struct bn_case b;

	bn_open(&b, r, &d, false, 0, 1);
	for (int64_t i = 0; i < b.p[X].n; i++)
		b.p[X].want[i] = constant;
	push(&b.p[X]);
	bn_train(&b, false, false);
	pull(&b.c[MEAN]);
	pull(&b.c[INVSTD]);
	ok(b.c[MEAN].got[3] == constant && fabs(b.c[INVSTD].got[3] * sqrt(1e-9) - 1) <= 1e-6, "%s: a constant channel", r->name);
	b.p[X].want[24 * 77 + 5] = NAN;
	push(&b.p[X]);
	bn_train(&b, false, false);
	pull(&b.p[Y]);
	pull(&b.c[INVSTD]);
	ok(isnan(b.p[Y].got[5]) && isnan(b.c[INVSTD].got[5]) && !isnan(b.p[Y].got[6]), "%s: a NaN gets through batch norm and ReLU",
	   r->name);
	bn_close(&b);
}

/* The same bits twice: all arrays of two runs on the same inputs. */
static void test_bn_again(struct rig *r)
{
	struct bn_desc d = { 6007, 64, 1e-5f, 0.1f, true };
	struct bn_case a, b;
	int differ = 0;

	bn_open(&a, r, &d, false, 3, 1);
	bn_open(&b, r, &d, false, 3, 1);
	bn_train(&a, false, true);
	bn_bwd(&a, false, &bn_modes[6]);
	bn_train(&b, false, true);
	bn_bwd(&b, false, &bn_modes[6]);
	for (int i = 0; i < PIXEL_ARRAYS + CHANNEL_ARRAYS; i++) {
		struct array *p = i < PIXEL_ARRAYS ? &a.p[i] : &a.c[i - PIXEL_ARRAYS];
		struct array *q = i < PIXEL_ARRAYS ? &b.p[i] : &b.c[i - PIXEL_ARRAYS];

		pull(p);
		pull(q);
		differ += memcmp(p->image, q->image, front(p) + bytes(p) + MARGIN) != 0;
	}
	ok(differ == 0, "%s: batch norm gives the same bits twice", r->name);
	bn_close(&a);
	bn_close(&b);
}

static void tests(struct rig *r)
{
	test_bn_forward(r);
	test_bn_backward(r);
	test_bn_hard(r);
	test_bn_special(r);
	test_bn_again(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
