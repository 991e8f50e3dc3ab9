/*
 * Matrices of low rank: the products beside the reference, Gram-Schmidt's invariants on vectors that are nearly dependent, dependent,
 * zero, tiny or no numbers, and what has been taken out of a matrix of that rank: all of it.
 */
#include "../core/clock.h"
#include "ops_kit.h"

static const struct { int64_t rows, cols; int rank; } sizes[] = {
	{ 1, 1, 1 }, { 2, 3, 1 }, { 3, 17, 2 }, { 10, 64, 3 }, { 16, 27, 4 }, { 33, 100, 5 }, { 64, 576, 2 }, { 7, 5000, 6 }, { 129, 255, 8 },
	{ 301, 1031, 1 }, { 64, 64, 33 },
};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct matrices {
	struct buffer in, m, p, q, own, out;
};

static struct matrices matrices_open(int64_t rows, int64_t cols, int rank, int shift)
{
	struct matrices t = { buffer_open(rows * cols, shift), buffer_open(rows * cols, shift), buffer_open(rows * rank, 1),
	                      buffer_open(cols * rank, 2), buffer_open(cols * rank, 3), buffer_open(rows * cols, 0) };

	fill(t.in.x, t.in.n, 1, 0, 1);
	fill(t.m.x, t.m.n, 2, 0, 1);
	fill(t.p.x, t.p.n, 3, 0, 1);
	fill(t.q.x, t.q.n, 4, 0, 1);
	fill(t.own.x, t.own.n, 5, 0, 1);
	fill(t.out.x, t.out.n, 6, 0, 1);
	return t;
}

static bool matrices_close(struct matrices *t)
{
	struct buffer *all[] = { &t->in, &t->m, &t->p, &t->q, &t->own, &t->out };
	bool intact = true;

	for (int i = 0; i < 6; i++) {
		intact = buffer_intact(all[i]) && intact;
		buffer_close(all[i]);
	}
	return intact;
}

static void test_products(struct rig *r, struct rig *ref)
{
	double right = 0, left = 0, expand = 0, added = 0;
	bool intact = true;

	for (int i = 0; i < SIZES; i++) {
		int64_t rows = sizes[i].rows, cols = sizes[i].cols;
		int rank = sizes[i].rank;
		struct matrices a = matrices_open(rows, cols, rank, i % 4), b = matrices_open(rows, cols, rank, 0);

		r->ops->lowrank->right(r->stream, rows, cols, rank, a.in.x, a.m.x, a.q.x, a.p.x);
		ref->ops->lowrank->right(ref->stream, rows, cols, rank, b.in.x, b.m.x, b.q.x, b.p.x);
		right = fmax(right, distance(a.p.x, b.p.x, b.p.n, 1));
		added = fmax(added, distance(a.m.x, b.m.x, b.m.n, 1));
		r->ops->lowrank->left(r->stream, rows, cols, rank, a.m.x, b.p.x, a.q.x);
		ref->ops->lowrank->left(ref->stream, rows, cols, rank, b.m.x, b.p.x, b.q.x);
		left = fmax(left, distance(a.q.x, b.q.x, b.q.n, 1));
		r->ops->lowrank->expand(r->stream, rows, cols, rank, b.p.x, b.q.x, a.own.x, a.m.x, a.out.x);
		ref->ops->lowrank->expand(ref->stream, rows, cols, rank, b.p.x, b.q.x, b.own.x, b.m.x, b.out.x);
		expand = fmax(expand, fmax(distance(a.m.x, b.m.x, b.m.n, 1), distance(a.out.x, b.out.x, b.out.n, 1)));
		intact = matrices_close(&a) && matrices_close(&b) && intact;
	}
	ok(right <= 1e-6 && added == 0, "%s: m += in, p = m q, error %.1e", r->name, right);
	ok(left <= 1e-6, "%s: q = m^T p, error %.1e", r->name, left);
	ok(expand <= 1e-6, "%s: out = p q^T, m -= p own^T, error %.1e", r->name, expand);
	ok(intact, "%s: nothing is written outside", r->name);
}

/* ---- Gram-Schmidt ---- */

/* The largest |p_k . p_l - (k == l)|. */
static double apart(int64_t n, int rank, const float *p)
{
	double most = 0;

	for (int k = 0; k < rank; k++)
		for (int l = 0; l <= k; l++) {
			double sum = k == l ? -1 : 0;

			for (int64_t i = 0; i < n; i++)
				sum += (double)p[k * n + i] * p[l * n + i];
			most = isnan(sum) ? INFINITY : fmax(most, fabs(sum));
		}
	return most;
}

enum { ROWS = 100, RANK = 5 };

/* Kinds of vectors; what must remain of the span of the first ones is tested below. */
static void vectors_of(int kind, float *p)
{
	fill(p, ROWS * RANK, 9, 0, 1);
	for (int i = 0; i < ROWS; i++) {
		float *second = &p[1 * ROWS + i], *third = &p[2 * ROWS + i];

		switch (kind) {
		case 1: *second = 3 * p[i]; break;
		case 2: *third = p[i] - 2 * *second; break;
		case 3: *second = p[i] + 1e-3f * *second; *third = p[i] + 1e-4f * *third; break;
		case 4: *second = p[i] * (1 + 1e-7f * (float)(i % 2)); break;
		case 5: *second = 0; *third = 0; break;
		case 6: p[i] = 0; break;
		case 7: *second = i == 50 ? NAN : *second; *third = i == 3 ? INFINITY : *third; break;
		case 8: p[i] *= 1e-30f; *second *= 1e-38f; *third *= 1e30f; break;
		}
	}
}

static const char *const kind_name[] = { "random", "twice the same", "a sum of others", "nearly the same", "the same but for rounding", "zero",
	"zero from the start", "no numbers", "tiny and huge" };
enum { KINDS = sizeof(kind_name) / sizeof(kind_name[0]) };

static void test_orthonormalise(struct rig *r, struct rig *ref)
{
	for (int kind = 0; kind < KINDS; kind++) {
		struct buffer p = buffer_open(ROWS * RANK, 0), q = buffer_open(ROWS * RANK, 0);
		float *before = malloc(ROWS * RANK * sizeof(float));
		double off, angle = 1;

		vectors_of(kind, p.x);
		vectors_of(kind, q.x);
		memcpy(before, p.x, ROWS * RANK * sizeof(float));
		r->ops->lowrank->orthonormalise(r->stream, ROWS, RANK, p.x);
		ref->ops->lowrank->orthonormalise(ref->stream, ROWS, RANK, q.x);
		off = apart(ROWS, RANK, p.x);
		/* p_0 keeps its direction. */
		if (kind != 6) {
			double along = 0, length = 0;

			for (int i = 0; i < ROWS; i++) {
				along += (double)before[i] * p.x[i];
				length += (double)before[i] * before[i];
			}
			angle = along / sqrt(length);
		}
		ok(off <= 3e-7 && fabs(angle - 1) <= 1e-6, "%s: orthonormal, %s: %.1e", r->name, kind_name[kind], off);
		ok(!memcmp(p.x, q.x, ROWS * RANK * sizeof(float)) && buffer_intact(&p), "%s: the reference's bits, %s", r->name, kind_name[kind]);
		free(before);
		buffer_close(&p);
		buffer_close(&q);
	}
}

/* A matrix of rank r, projected on what its product with r random vectors spans, is itself; one of lower rank as well. The bound:
 * rounding of the products, 1e-7, times their condition, which for so few random vectors is a hundred at most. */
static void test_exact(struct rig *r, struct rig *ref)
{
	enum { COLS = 300, MOST = 4 };

	(void)ref;
	for (int rank = 1; rank <= MOST; rank++)
		for (int true_rank = 1; true_rank <= rank; true_rank++) {
			struct matrices t = matrices_open(ROWS, COLS, rank, 0);
			double error = 0, rest = 0;

			for (int64_t i = 0; i < ROWS; i++)
				for (int64_t j = 0; j < COLS; j++) {
					double sum = 0;

					for (int k = 0; k < true_rank; k++)
						sum += sin((double)((k + 1) * (i + 1))) * cos((double)((k + 2) * (j + 3)));
					t.in.x[i * COLS + j] = (float)sum;
					t.m.x[i * COLS + j] = 0;
				}
			r->ops->lowrank->right(r->stream, ROWS, COLS, rank, t.in.x, t.m.x, t.q.x, t.p.x);
			r->ops->lowrank->orthonormalise(r->stream, ROWS, rank, t.p.x);
			r->ops->lowrank->left(r->stream, ROWS, COLS, rank, t.m.x, t.p.x, t.q.x);
			r->ops->lowrank->expand(r->stream, ROWS, COLS, rank, t.p.x, t.q.x, t.q.x, t.m.x, t.out.x);
			error = distance(t.out.x, t.in.x, ROWS * COLS, 1);
			for (int64_t i = 0; i < ROWS * COLS; i++)
				rest = fmax(rest, fabs((double)t.m.x[i]));
			ok(error <= 5e-5 && rest <= 1e-4, "%s: rank %d takes all of a matrix of rank %d: error %.1e, left %.1e", r->name, rank,
			   true_rank, error, rest);
			matrices_close(&t);
		}
}

/* Not a test: how far the products are from reading and writing the matrix. */
static void show_speed(void)
{
	enum { COLS = 4608, LINES = 512, PAIR = 2 };
	struct rig r = rig_open("cpu", "", 1);
	struct matrices t = matrices_open(LINES, COLS, PAIR, 0);
	double best[5] = { 1e9, 1e9, 1e9, 1e9, 1e9 };

	for (int i = 0; i < 5; i++) {
		double t0[6];

		t0[0] = clock_now();
		r.ops->vec->axpby(r.stream, LINES * COLS, 1, t.in.x, 0.5f, t.m.x);
		t0[1] = clock_now();
		r.ops->lowrank->right(r.stream, LINES, COLS, PAIR, t.in.x, t.m.x, t.q.x, t.p.x);
		t0[2] = clock_now();
		r.ops->lowrank->orthonormalise(r.stream, LINES, PAIR, t.p.x);
		t0[3] = clock_now();
		r.ops->lowrank->left(r.stream, LINES, COLS, PAIR, t.m.x, t.p.x, t.q.x);
		t0[4] = clock_now();
		r.ops->lowrank->expand(r.stream, LINES, COLS, PAIR, t.p.x, t.q.x, t.q.x, t.m.x, t.out.x);
		t0[5] = clock_now();
		for (int k = 0; k < 5; k++)
			best[k] = fmin(best[k], t0[k + 1] - t0[k]);
	}
	printf("# 512 x 4608, rank 2: right %.2f ms, Gram-Schmidt %.2f, left %.2f, expand %.2f; one y = a x + b y: %.2f ms\n", best[1] * 1e3,
	       best[2] * 1e3, best[3] * 1e3, best[4] * 1e3, best[0] * 1e3);
	matrices_close(&t);
	rig_close(&r);
}

int main(void)
{
	for_all_rigs(test_products);
	for_all_rigs(test_orthonormalise);
	for_all_rigs(test_exact);
	show_speed();
	return done_testing();
}
