/*
 * Matrices of low rank on the CUDA device, beside the reference: the products, and Gram-Schmidt on vectors that are dependent or no
 * numbers. Twice the same must give the same bits.
 */
#include "cuda_kit.h"

static const struct { int64_t rows, cols; int rank; } sizes[] = {
	{ 1, 1, 1 }, { 2, 3, 1 }, { 3, 17, 2 }, { 10, 64, 3 }, { 16, 27, 4 }, { 33, 100, 5 }, { 64, 576, 2 }, { 7, 5000, 6 }, { 129, 255, 8 },
	{ 64, 64, 33 },
};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct matrices {
	struct array in, m, p, q, own, out;
};

static struct matrices matrices_open(struct rig *r, int i)
{
	int64_t rows = sizes[i].rows, cols = sizes[i].cols;
	int rank = sizes[i].rank;
	struct matrices t = {
		array_open(r, FLOATS, rows * cols, i % 3), array_open(r, FLOATS, rows * cols, 0), array_open(r, FLOATS, rows * rank, 1),
		array_open(r, FLOATS, cols * rank, 0), array_open(r, FLOATS, cols * rank, 2), array_open(r, FLOATS, rows * cols, 0),
	};
	struct array *all[] = { &t.in, &t.m, &t.p, &t.q, &t.own, &t.out };

	for (uint32_t a = 0; a < 6; a++) {
		fill(all[a], a, 0, 1);
		push(all[a]);
	}
	return t;
}

static void matrices_close(struct matrices *t)
{
	struct array *all[] = { &t->in, &t->m, &t->p, &t->q, &t->own, &t->out };

	for (int a = 0; a < 6; a++)
		array_close(all[a]);
}

/* Every operation gets the reference's inputs, so that an error is its own. */
static void test_products(struct rig *r)
{
	double right = 0, left = 0, expand = 0;

	for (int i = 0; i < SIZES; i++) {
		int64_t rows = sizes[i].rows, cols = sizes[i].cols;
		int rank = sizes[i].rank;
		struct matrices t = matrices_open(r, i);

		r->ops->lowrank->right(r->stream, rows, cols, rank, on_device(&t.in), on_device(&t.m), on_device(&t.q), on_device(&t.p));
		ref.ops->lowrank->right(ref.stream, rows, cols, rank, t.in.want, t.m.want, t.q.want, t.p.want);
		worse(&right, error_of(&t.p, 1));
		worse(&right, error_of(&t.m, 1));
		push(&t.p);
		push(&t.m);
		r->ops->lowrank->left(r->stream, rows, cols, rank, on_device(&t.m), on_device(&t.p), on_device(&t.q));
		ref.ops->lowrank->left(ref.stream, rows, cols, rank, t.m.want, t.p.want, t.q.want);
		worse(&left, error_of(&t.q, 1));
		push(&t.q);
		r->ops->lowrank->expand(r->stream, rows, cols, rank, on_device(&t.p), on_device(&t.q), on_device(&t.own), on_device(&t.m),
		                        on_device(&t.out));
		ref.ops->lowrank->expand(ref.stream, rows, cols, rank, t.p.want, t.q.want, t.own.want, t.m.want, t.out.want);
		worse(&expand, error_of(&t.m, 1));
		worse(&expand, error_of(&t.out, 1));
		matrices_close(&t);
	}
	ok(right <= 1e-6, "m += in, p = m q, error %.1e", right);
	ok(left <= 1e-6, "q = m^T p, error %.1e", left);
	ok(expand <= 1e-6, "out = p q^T, m -= p own^T, error %.1e", expand);
}

enum { ROWS = 700, RANK = 5, KINDS = 5 };

static void vectors_of(int kind, struct array *p)
{
	fill(p, 9, 0, 1);
	for (int i = 0; i < ROWS; i++) {
		float *v = p->want + i, *second = v + ROWS, *third = v + 2 * ROWS;

		switch (kind) {
		case 1: *second = 3 * *v; break;
		case 2: *third = *v - 2 * *second; break;
		case 3: *v = 0; *third = 0; break;
		case 4: *second = i == 50 ? NAN : *second; break;
		}
	}
	push(p);
}

static void test_orthonormalise(struct rig *r)
{
	static const char *const name[KINDS] = { "random", "twice the same", "a sum of others", "zero", "no numbers" };

	for (int kind = 0; kind < KINDS; kind++) {
		struct array p = array_open(r, FLOATS, ROWS * RANK, 1), again = array_open(r, FLOATS, ROWS * RANK, 0);
		double off = 0, error = 0;

		vectors_of(kind, &p);
		vectors_of(kind, &again);
		r->ops->lowrank->orthonormalise(r->stream, ROWS, RANK, on_device(&p));
		r->ops->lowrank->orthonormalise(r->stream, ROWS, RANK, on_device(&again));
		ref.ops->lowrank->orthonormalise(ref.stream, ROWS, RANK, p.want);
		worse(&error, error_of(&p, 1));
		pull(&again);
		for (int k = 0; k < RANK; k++)
			for (int l = 0; l <= k; l++) {
				double sum = k == l ? -1 : 0;

				for (int i = 0; i < ROWS; i++)
					sum += (double)p.got[k * ROWS + i] * p.got[l * ROWS + i];
				worse(&off, fabs(sum));
			}
		ok(off <= 3e-7 && error <= 1e-6, "Gram-Schmidt, %s: orthonormal but for %.1e, error %.1e", name[kind], off, error);
		ok(!memcmp(p.got, again.got, ROWS * RANK * sizeof(float)), "Gram-Schmidt, %s: the same bits again", name[kind]);
		array_close(&p);
		array_close(&again);
	}
}

/* Activations do not come into it. */
static void tests(struct rig *r)
{
	if (r->half)
		return;
	test_products(r);
	test_orthonormalise(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
