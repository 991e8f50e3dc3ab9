/* Vector operations: all instruction sets and thread counts against the reference, the reference against definitions and PyTorch. */
#include "ops_kit.h"

enum { VECTORS = 7 };

static struct hyper hyper = {
	.lr = 0.05f, .momentum = 0.9f, .weight_decay = 0.01f, .nesterov = 0, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-6f,
	.correct1 = 0.271f, .correct2 = 0.0297f, .first = 0,
};
static struct hyper hyper_first, hyper_nesterov, hyper_plain;

/* Each case runs one operation on the seven vectors v, in place or not; afterwards all of them must be the same on both devices. */
typedef void case_fn(const struct vec_ops *, struct stream *, int64_t n, float *const v[]);

static void scale(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->scale(s, n, 0.7f, v[0], v[1]); }
static void scale_self(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->scale(s, n, -3, v[0], v[0]); }
static void axpby(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->axpby(s, n, 0.7f, v[0], -1.5f, v[1]); }
static void axpby_0(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->axpby(s, n, 0.7f, v[0], 0, v[1]); }
static void diff(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->diff(s, n, v[0], v[1], v[2]); }
static void diff_x(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->diff(s, n, v[0], v[1], v[0]); }
static void diff_z(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->diff(s, n, v[0], v[1], v[1]); }
static void adopt(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->adopt(s, n, v[0], v[1], v[2]); }
static void merge(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[]) { o->merge(s, n, v[0], v[1], v[2], v[3]); }

static void sgd(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->sgd(s, n, &hyper, v[0], v[1], v[2], v[3], v[4]);
}

static void sgd_self(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->sgd(s, n, &hyper, v[0], v[1], v[2], v[1], v[2]);
}

static void sgd_first(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->sgd(s, n, &hyper_first, v[0], v[1], v[2], v[1], v[2]);
}

static void sgd_nesterov(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->sgd(s, n, &hyper_nesterov, v[0], v[1], v[2], v[3], v[2]);
}

static void sgd_plain(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->sgd(s, n, &hyper_plain, v[0], NULL, v[1], NULL, v[1]);
}

static void adamw(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->scale(s, n, 0, v[2], v[2]);          /* second moments are not negative */
	o->reduce(s, n, DTYPE_F32, REDUCE_MAX, v[3], v[2]);
	o->adamw(s, n, &hyper, v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
}

static void adamw_self(const struct vec_ops *o, struct stream *s, int64_t n, float *const v[])
{
	o->scale(s, n, 0, v[2], v[2]);
	o->reduce(s, n, DTYPE_F32, REDUCE_MAX, v[3], v[2]);
	o->adamw(s, n, &hyper, v[0], v[1], v[2], v[3], v[1], v[2], v[3]);
}

static const struct { const char *name; case_fn *run; } cases[] = {
	{ "scale", scale }, { "scale in place", scale_self }, { "axpby", axpby }, { "axpby with b = 0", axpby_0 }, { "diff", diff },
	{ "diff into x", diff_x }, { "diff into z", diff_z }, { "adopt", adopt }, { "merge", merge }, { "sgd", sgd },
	{ "sgd in place", sgd_self }, { "sgd, first step", sgd_first }, { "sgd, Nesterov", sgd_nesterov },
	{ "sgd without momentum", sgd_plain }, { "adamw", adamw }, { "adamw in place", adamw_self },
};

static const int64_t sizes[] = { 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 100, 1023, 70001 };

static double run_case(struct rig *r, struct rig *reference, case_fn *run, int64_t n)
{
	struct buffer got[VECTORS], want[VECTORS];
	float *g[VECTORS], *w[VECTORS];
	double worst = 0;

	for (int i = 0; i < VECTORS; i++) {
		got[i] = buffer_open(n, i % 3);
		want[i] = buffer_open(n, 0);
		g[i] = got[i].x;
		w[i] = want[i].x;
		fill(g[i], n, (uint32_t)i, 0, 1);
		memcpy(w[i], g[i], (size_t)n * sizeof(float));
	}
	run(r->ops->vec, r->stream, n, g);
	run(reference->ops->vec, reference->stream, n, w);
	for (int i = 0; i < VECTORS; i++) {
		double d = distance(g[i], w[i], n, 1);

		if (!(d <= worst))
			worst = d;
		if (!buffer_intact(&got[i]))
			worst = INFINITY;
		buffer_close(&got[i]);
		buffer_close(&want[i]);
	}
	return worst;
}

static void test_parity(struct rig *r, struct rig *reference)
{
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		double worst = 0;

		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			double d = run_case(r, reference, cases[c].run, sizes[i]);

			if (!(d <= worst))
				worst = d;
		}
		ok(worst <= 1e-6, "%s: %s as the reference, error %.2g", r->name, cases[c].name, worst);
	}
}

/* ---- element-wise reductions of all types ---- */

static void expect_reduce(struct rig *r, enum reduce op, const char *name)
{
	enum { N = 40003 };
	static float f[2][N];
	static double d[2][N];
	static int64_t l[2][N];
	int wrong = 0;

	for (int i = 0; i < N; i++) {
		f[0][i] = (float)(i * 37 % 101 - 50);
		f[1][i] = (float)(i * 53 % 97 - 48);
		l[0][i] = (int64_t)f[0][i] * ((int64_t)1 << 40);
		l[1][i] = (int64_t)f[1][i] * ((int64_t)1 << 40);
		d[0][i] = (double)l[0][i] + 1;
		d[1][i] = (double)l[1][i] + 3;
	}
	r->ops->vec->reduce(r->stream, N, DTYPE_F32, op, f[0], f[1]);
	r->ops->vec->reduce(r->stream, N, DTYPE_F64, op, d[0], d[1]);
	r->ops->vec->reduce(r->stream, N, DTYPE_I64, op, l[0], l[1]);
	for (int i = 0; i < N; i++) {
		int a = i * 37 % 101 - 50, b = i * 53 % 97 - 48;
		bool first = op == REDUCE_MAX ? a > b : a < b;
		int64_t sum = a + b, pick = first ? a : b;
		double da = (double)a * 0x1p40 + 1, db = (double)b * 0x1p40 + 3;

		wrong += f[1][i] != (float)(op == REDUCE_SUM ? sum : pick);
		wrong += l[1][i] != (op == REDUCE_SUM ? sum : pick) * ((int64_t)1 << 40);
		wrong += d[1][i] != (op == REDUCE_SUM ? da + db : op == REDUCE_MAX ? fmax(da, db) : fmin(da, db));
	}
	ok(wrong == 0, "%s: reduce %s of float, double, int64", r->name, name);
}

static void test_reduce(struct rig *r, struct rig *reference)
{
	(void)reference;
	expect_reduce(r, REDUCE_SUM, "sum");
	expect_reduce(r, REDUCE_MAX, "max");
	expect_reduce(r, REDUCE_MIN, "min");
}

/* ---- against PyTorch 1.13: four steps on four parameters with these gradients ---- */

static const float start[4] = { 0.5f, -1.25f, 2.0f, -0.03f };
static const float gradient[4][4] = {
	{ 0.3f, -0.7f, 0.05f, 1.5f }, { -0.2f, 0.4f, 0.9f, -0.6f }, { 0.11f, 0, -1.3f, 0.25f }, { 0.8f, -0.35f, 0.02f, -0.9f },
};
/* torch.optim.SGD(lr=0.1, weight_decay=0.01), the same with momentum=0.9, and with nesterov=True; x after each step */
static const float torch_sgd[3][4][4] = {
	{ { 0.469500005f, -1.17875004f, 1.99300003f, -0.179969996f }, { 0.48903051f, -1.21757126f, 1.90100706f, -0.119790025f },
	  { 0.477541476f, -1.21635365f, 2.02910614f, -0.144670233f }, { 0.397063941f, -1.18013728f, 2.0250771f, -0.0545255616f } },
	{ { 0.469500005f, -1.17875004f, 1.99300003f, -0.179969996f }, { 0.461580515f, -1.15344632f, 1.89470708f, -0.254763007f },
	  { 0.442991376f, -1.12951946f, 1.9343487f, -0.346821964f }, { 0.345818162f, -1.07185578f, 1.96609175f, -0.3393282f } },
	{ { 0.44205001f, -1.11462498f, 1.98670006f, -0.314942986f }, { 0.454505116f, -1.13079464f, 1.80625534f, -0.321820289f },
	  { 0.426348984f, -1.1082021f, 1.97021127f, -0.429181844f }, { 0.25850749f, -1.02028084f, 1.99485373f, -0.331781447f } },
};
/* torch.optim.AdamW(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1) */
static const float torch_adamw[4][4] = {
	{ 0.489500016f, -1.23874998f, 1.98800004f, -0.0399699993f }, { 0.487565309f, -1.23538756f, 1.97821069f, -0.0433860905f },
	{ 0.484143734f, -1.23251057f, 1.97804797f, -0.0469605699f }, { 0.4773781f, -1.22772801f, 1.97748339f, -0.0467031822f },
};

static void expect_torch(struct rig *r)
{
	static const char *const name[] = { "SGD", "SGD with momentum", "SGD with Nesterov's momentum" };
	struct hyper h = { .lr = 0.1f, .weight_decay = 0.01f };
	float x[4], v[4], m[4] = { 0 }, s[4] = { 0 };
	double worst = 0;

	for (int kind = 0; kind < 3; kind++, worst = 0) {
		memcpy(x, start, sizeof(x));
		for (int i = 0; i < 4; i++)
			v[i] = NAN;             /* the first step must not read it */
		h.momentum = kind ? 0.9f : 0;
		h.nesterov = kind == 2;
		for (int t = 0; t < 4; t++) {
			h.first = t == 0;
			r->ops->vec->sgd(r->stream, 4, &h, gradient[t], v, x, v, x);
			worst = fmax(worst, distance(x, torch_sgd[kind][t], 4, 1));
		}
		ok(worst <= 2e-7, "%s: %s as PyTorch, error %.2g", r->name, name[kind], worst);
	}
	h = (struct hyper){ .lr = 0.01f, .weight_decay = 0.1f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f };
	memcpy(x, start, sizeof(x));
	for (int t = 0; t < 4; t++) {
		h.correct1 = (float)(1 - pow(0.9, t + 1));
		h.correct2 = (float)(1 - pow(0.999, t + 1));
		r->ops->vec->adamw(r->stream, 4, &h, gradient[t], m, s, x, m, s, x);
		worst = fmax(worst, distance(x, torch_adamw[t], 4, 1));
	}
	ok(worst <= 3e-7, "%s: AdamW as PyTorch, error %.2g", r->name, worst);
}

/* CoCoD's merge, by its definition, with numbers that are exact in binary. */
static void expect_merge(struct rig *r)
{
	float avg[3] = { 0.25f, -1, 2 }, x[3] = { 3, 5, -4 }, z[3] = { 1, 1.5f, -2 }, d[3] = { 0.5f, -0.25f, 8 };

	r->ops->vec->merge(r->stream, 3, avg, x, z, d);
	ok(z[0] == 1.25f && z[1] == 0.5f && z[2] == 0 && x[0] == 2.75f && x[1] == 4.25f && x[2] == -10 && d[0] == 1.5f &&
	   d[1] == 3.75f && d[2] == -10, "%s: merge: z += avg, x += avg - d, d = x - z", r->name);
	r->ops->vec->adopt(r->stream, 3, avg, z, x);
	ok(z[0] == 1.5f && x[0] == 1.5f && z[2] == 2 && x[2] == 2, "%s: adopt: z += avg, x = z", r->name);
}

static void test_definitions(struct rig *r, struct rig *reference)
{
	expect_torch(r);
	expect_torch(reference);
	expect_merge(r);
	expect_merge(reference);
}

/* The same operations queued on a communication stream, driven by the hook. */
static void test_queued(struct rig *r, struct rig *reference)
{
	struct stream *comm = r->ops->stream->open(r->dev, STREAM_COMM);
	float x[5] = { 1, 2, 3, 4, 5 }, y[5] = { 0 };

	(void)reference;
	r->ops->vec->axpby(comm, 5, 2, x, 1, y);
	r->ops->vec->axpby(comm, 5, 1, x, -1, y);
	r->ops->stream->sync(comm);
	ok(y[0] == -1 && y[4] == -5, "%s: queued on the communication stream, in order", r->name);
	r->ops->stream->close(comm);
}

int main(void)
{
	hyper_first = hyper_nesterov = hyper_plain = hyper;
	hyper_first.first = 1;
	hyper_nesterov.nesterov = 1;
	hyper_plain.momentum = 0;
	for_all_rigs(test_parity);
	for_all_rigs(test_reduce);
	for_all_rigs(test_definitions);
	for_all_rigs(test_queued);
	return done_testing();
}
