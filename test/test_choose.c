/*
 * Choosing by a threshold: select() must be the reference's bit for bit and keep its contract; the bound of Gaussian-k; lists with
 * holes; clipping.
 */
#include "../core/clock.h"
#include "ops_kit.h"
#include "choose_kit.h"

static const char *select_case(struct rig *r, struct rig *ref, int64_t n, int64_t k, enum choose_kind kind, float least)
{
	struct buffer in = buffer_open(n, 1), residual = buffer_open(n, 2), expect = buffer_open(n, 0), acc = buffer_open(n, 0);
	struct sparse *out = calloc((size_t)k + 1, sizeof(*out)), *want = calloc((size_t)k + 1, sizeof(*want));
	size_t work_size = r->ops->sparse->work_size(n, k);
	void *work = malloc(work_size + 64), *work_ref = malloc(ref->ops->sparse->work_size(n, k));
	const char *wrong = NULL;
	struct rng rng;

	rng_init(&rng, 21, RNG_TEST, (uint64_t)n, (uint32_t)kind);
	memset((char *)work + work_size, 0x5a, 64);
	out[k].index = 4711;
	for (int64_t i = 0; i < n; i++) {
		in.x[i] = choose_value(kind, &rng, i);
		residual.x[i] = expect.x[i] = kind == CHOOSE_NORMAL ? choose_value(kind, &rng, i) : 0;
		acc.x[i] = residual.x[i] + in.x[i];
	}
	r->ops->sparse->select(r->stream, n, k, &least, in.x, residual.x, out, work);
	ref->ops->sparse->select(ref->stream, n, k, &least, in.x, expect.x, want, work_ref);
	wrong = choose_verdict(n, k, least, acc.x, residual.x, out);
	if (memcmp(out, want, (size_t)k * sizeof(*out)) || memcmp(residual.x, expect.x, (size_t)n * 4))
		wrong = "not as the reference";
	for (int i = 0; i < 64; i++)
		wrong = ((char *)work)[work_size + (size_t)i] != 0x5a ? "more work than work_size" : wrong;
	if (!buffer_intact(&in) || !buffer_intact(&residual) || out[k].index != 4711)
		wrong = "wrote outside";
	buffer_close(&in);
	buffer_close(&residual);
	buffer_close(&expect);
	buffer_close(&acc);
	free(out);
	free(want);
	free(work);
	free(work_ref);
	return wrong;
}

static void test_select(struct rig *r, struct rig *ref)
{
	for (int kind = 0; kind < CHOOSE_KINDS; kind++) {
		const char *wrong = NULL;
		int i = 0, b = 0;

		for (; i < CHOOSE_SIZES && !wrong; i++)
			for (b = 0; b < CHOOSE_BOUNDS && !wrong; b++)
				if (choose_size[i].n < 100000 || b % CHOOSE_KINDS == kind || (r->dev->config.threads == 2 && kind == CHOOSE_NORMAL))
					wrong = select_case(r, ref, choose_size[i].n, choose_size[i].k, (enum choose_kind)kind, choose_bound[b]);
		ok(!wrong, "%s: select, %s%s%s", r->name, choose_name[kind], wrong ? ": " : "", wrong ? wrong : "");
		if (wrong)
			printf("# n = %lld, k = %lld, bound %g\n", (long long)choose_size[i - 1].n, (long long)choose_size[i - 1].k,
			       (double)choose_bound[b - 1]);
	}
}

/* Normal data about a mean: as many as wished for, within the third that the corrections leave; and as the reference. Of one vector:
 * what it is of that vector and zeros. */
static void test_bound(struct rig *r, struct rig *ref)
{
	static const struct { int64_t n, k; double mean; int power; bool fits; } cases[] = {
		{ 1, 1, 0, 1, false }, { 5, 2, 0, 1, false }, { 1000, 1000, 0, 1, true }, { 50021, 500, 0, 1, true }, { 200003, 200, 0, 1, true },
		{ 200003, 2000, 0.5, 1, false }, { 200003, 50000, 0, 1, true }, { 200003, 2000, 0, 3, false }, { 200003, 200, 0, 3, false },
	};
	double worst = 0;
	int misfits = 0;

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		int64_t n = cases[c].n, k = cases[c].k, reach = 0;
		struct buffer x = buffer_open(n, 1), y = buffer_open(n, 3);
		float least = -1, want = -1, alone = -1, ref_alone = -1, want_alone = -1;
		struct rng rng;

		rng_init(&rng, 22, RNG_TEST, (uint64_t)c, 0);
		for (int64_t i = 0; i < n; i++) {
			double v = rng_normal(&rng);

			x.x[i] = (float)(cases[c].mean + pow(fabs(v), cases[c].power) * (v < 0 ? -1 : 1));
			y.x[i] = (float)(0.1 * rng_normal(&rng));
		}
		r->ops->sparse->normal_bound(r->stream, n, k, x.x, y.x, &least);
		ref->ops->sparse->normal_bound(ref->stream, n, k, x.x, y.x, &want);
		for (int64_t i = 0; i < n; i++)
			reach += fabsf(x.x[i] + y.x[i]) >= least;
		r->ops->sparse->normal_bound(r->stream, n, k, x.x, NULL, &alone);
		ref->ops->sparse->normal_bound(ref->stream, n, k, x.x, NULL, &ref_alone);
		memset(y.x, 0, (size_t)n * sizeof(float));
		ref->ops->sparse->normal_bound(ref->stream, n, k, x.x, y.x, &want_alone);
		worst = fmax(worst, fabs((double)least - want) / (want > 0 ? want : 1));
		worst = fmax(worst, fabs((double)alone - want_alone) / (want_alone > 0 ? want_alone : 1));
		misfits += ref_alone != want_alone;
		misfits += cases[c].fits && (3 * reach < 2 * k || 3 * reach > 4 * k);
		buffer_close(&x);
		buffer_close(&y);
	}
	ok(worst <= 3e-7, "%s: normal_bound, error %.1e", r->name, worst);
	ok(misfits == 0, "%s: of normal data about k reach it, within a third", r->name);
}

/* The reference's bits; and within four standard deviations of 64 hits, as many as wished for. */
static void test_sample(struct rig *r, struct rig *ref)
{
	int wrong = 0, misfits = 0;

	for (int c = 0; c < CHOOSE_SIZES * CHOOSE_KINDS; c++) {
		int64_t n = choose_size[c / CHOOSE_KINDS].n, k = choose_size[c / CHOOSE_KINDS].k, reach = 0;
		enum choose_kind kind = (enum choose_kind)(c % CHOOSE_KINDS);
		struct buffer x = buffer_open(n, 1), y = buffer_open(n, 2);
		void *work = malloc(r->ops->sparse->work_size(n, k)), *work_ref = malloc(ref->ops->sparse->work_size(n, k));
		float least = -1, want = -1, alone = -1, want_alone = -1;
		struct rng rng;

		rng_init(&rng, 24, RNG_TEST, (uint64_t)c, 0);
		for (int64_t i = 0; i < n; i++) {
			x.x[i] = choose_value(kind, &rng, i);
			y.x[i] = 0.5f * choose_value(kind, &rng, i + 1);
		}
		r->ops->sparse->sample_bound(r->stream, n, k, x.x, y.x, &least, work);
		ref->ops->sparse->sample_bound(ref->stream, n, k, x.x, y.x, &want, work_ref);
		r->ops->sparse->sample_bound(r->stream, n, k, x.x, NULL, &alone, work);
		ref->ops->sparse->sample_bound(ref->stream, n, k, x.x, NULL, &want_alone, work_ref);
		wrong += memcmp(&least, &want, 4) || memcmp(&alone, &want_alone, 4) || !buffer_intact(&x) || !buffer_intact(&y);
		for (int64_t i = 0; i < n; i++)
			reach += fabsf(x.x[i] + y.x[i]) >= least;
		misfits += kind == CHOOSE_NORMAL && n > 50000 && !(2 * reach > k && reach < 2 * k);
		buffer_close(&x);
		buffer_close(&y);
		free(work);
		free(work_ref);
	}
	ok(wrong == 0, "%s: sample_bound as the reference, of one vector and of two", r->name);
	ok(misfits == 0, "%s: about k of normal data reach it", r->name);
}

/* Without anything to add: choosing from the vector as it is. */
static void test_alone(struct rig *r, struct rig *ref)
{
	int wrong = 0;

	for (int c = 0; c < CHOOSE_SIZES * CHOOSE_KINDS; c++) {
		int64_t n = choose_size[c / CHOOSE_KINDS].n, k = choose_size[c / CHOOSE_KINDS].k;
		struct buffer x = buffer_open(n, 1), want = buffer_open(n, 0);
		struct sparse *out = calloc((size_t)k, sizeof(*out)), *list = calloc((size_t)k, sizeof(*list));
		void *work = malloc(r->ops->sparse->work_size(n, k)), *work_ref = malloc(ref->ops->sparse->work_size(n, k));
		const float least = 1;
		struct rng rng;

		if (n > 100000 && (r->dev->config.threads == 3 || c % 3))
			n /= 10, k = k / 10;
		rng_init(&rng, 25, RNG_TEST, (uint64_t)c, 0);
		for (int64_t i = 0; i < n; i++)
			x.x[i] = want.x[i] = choose_value((enum choose_kind)(c % CHOOSE_KINDS), &rng, i);
		for (int way = 0; way < 2; way++) {
			if (way) {
				r->ops->sparse->select(r->stream, n, k, &least, NULL, x.x, out, work);
				ref->ops->sparse->select(ref->stream, n, k, &least, NULL, want.x, list, work_ref);
			} else {
				r->ops->sparse->topk(r->stream, n, k, NULL, x.x, out, work);
				ref->ops->sparse->topk(ref->stream, n, k, NULL, want.x, list, work_ref);
			}
			wrong += memcmp(out, list, (size_t)k * sizeof(*out)) || !buffer_intact(&x);
			for (int64_t i = 0; i < n; i++)
				wrong += x.x[i] != want.x[i] && !isnan(want.x[i]);
		}
		buffer_close(&x);
		buffer_close(&want);
		free(out);
		free(list);
		free(work);
		free(work_ref);
	}
	ok(wrong == 0, "%s: topk and select with nothing to add, as the reference", r->name);
}

static void test_lists(struct rig *r, struct rig *ref)
{
	const struct sparse list[4] = { { 1, 2 }, { 3, -1 }, { SPARSE_HOLE, 0 }, { SPARSE_HOLE, 0 } };
	float y[5] = { 1, 1, 1, 1, 1 }, z[5] = { 1, 1, 1, 1, 1 };

	r->ops->sparse->scatter_add(r->stream, 4, 0.5f, list, y);
	ref->ops->sparse->scatter_add(ref->stream, 4, 0.5f, list, z);
	ok(!memcmp(y, z, sizeof(y)) && y[1] == 2 && y[3] == 0.5f && y[0] == 1, "%s: scatter_add passes over holes", r->name);
	r->ops->sparse->clear(r->stream, 4, list, y);
	ref->ops->sparse->clear(ref->stream, 4, list, z);
	ok(!memcmp(y, z, sizeof(y)) && y[1] == 0 && y[3] == 0 && y[0] == 1 && y[4] == 1, "%s: clear", r->name);
}

static void test_clip(struct rig *r, struct rig *ref)
{
	static const int64_t lengths[] = { 1, 15, 16, 1000, 100003 };
	double worst = 0;
	int wrong = 0;

	for (int i = 0; i < 10; i++) {
		int64_t n = lengths[i / 2];
		struct buffer x = buffer_open(n, 1), y = buffer_open(n, 2), want = buffer_open(n, 0);

		fill(x.x, n, (uint32_t)i, 0.5, 1);
		r->ops->vec->clip(r->stream, n, i % 2 ? 0.1f : 1e6f, x.x, y.x);
		ref->ops->vec->clip(ref->stream, n, i % 2 ? 0.1f : 1e6f, x.x, want.x);
		worst = fmax(worst, distance(y.x, want.x, n, 1e-9));
		wrong += i % 2 == 0 && memcmp(y.x, x.x, (size_t)n * 4);
		r->ops->vec->clip(r->stream, n, i % 2 ? 0.1f : 1e6f, x.x, x.x);
		wrong += memcmp(y.x, x.x, (size_t)n * 4) != 0;
		wrong += !buffer_intact(&x) || !buffer_intact(&y);
		buffer_close(&x);
		buffer_close(&y);
		buffer_close(&want);
	}
	ok(worst <= 3e-7 && wrong == 0, "%s: clip, in place as well; what is short stays as it is: error %.1e", r->name, worst);
}

/* Many threads, and all that reach the bound, fewer than k, lie where one of them looks: more than its part of the room. */
static void test_crowded(void)
{
	enum { N = 1000000, K = 100000, REACH = 95000 };
	struct rig r = rig_open("cpu", "", 6);
	struct buffer in = buffer_open(N, 0), residual = buffer_open(N, 0), acc = buffer_open(N, 0);
	struct sparse *out = calloc(K, sizeof(*out));
	void *work = malloc(r.ops->sparse->work_size(N, K));
	const char *wrong;
	float least = 1;

	for (int64_t i = 0; i < N; i++) {
		in.x[i] = acc.x[i] = i < REACH ? 2 : 0.5f;
		residual.x[i] = 0;
	}
	r.ops->sparse->select(r.stream, N, K, &least, in.x, residual.x, out, work);
	wrong = choose_verdict(N, K, least, acc.x, residual.x, out);
	ok(!wrong, "six threads, one of which finds all%s%s", wrong ? ": " : "", wrong ? wrong : "");
	buffer_close(&in);
	buffer_close(&residual);
	buffer_close(&acc);
	free(out);
	free(work);
	rig_close(&r);
}

/* Not a test: how far the passes are from merely reading and writing the vectors. */
static void show_speed(void)
{
	struct rig r = rig_open("cpu", "", 1);
	int64_t n = 4 << 20, k = n / 1000;
	struct buffer in = buffer_open(n, 0), residual = buffer_open(n, 0);
	struct sparse *out = malloc((size_t)k * sizeof(*out));
	void *work = malloc(r.ops->sparse->work_size(n, k));
	double best[4] = { 1e9, 1e9, 1e9, 1e9 };
	float least, *value = malloc((size_t)k * sizeof(float));

	fill(in.x, n, 1, 0, 1);
	fill(residual.x, n, 2, 0, 1);
	for (int i = 0; i < 5; i++) {
		double t[5] = { clock_now() };

		r.ops->vec->axpby(r.stream, n, 1, in.x, 0.5f, residual.x);
		t[1] = clock_now();
		r.ops->sparse->normal_bound(r.stream, n, k, in.x, residual.x, &least);
		t[2] = clock_now();
		r.ops->sparse->select(r.stream, n, k, &least, in.x, residual.x, out, work);
		t[3] = clock_now();
		r.ops->sparse->take_drawn(r.stream, n, k, &(struct draw){ 1, (uint64_t)i }, 1, residual.x, value);
		t[4] = clock_now();
		for (int j = 0; j < 4; j++)
			best[j] = fmin(best[j], t[j + 1] - t[j]);
	}
	printf("# %lld at 0.1 %%: normal_bound %.2f ms, select %.2f ms, take_drawn %.2f ms; one y = a x + b y %.2f ms\n", (long long)n,
	       best[1] * 1e3, best[2] * 1e3, best[3] * 1e3, best[0] * 1e3);
	free(out);
	free(work);
	free(value);
	buffer_close(&in);
	buffer_close(&residual);
	rig_close(&r);
}

int main(void)
{
	for_all_rigs(test_select);
	for_all_rigs(test_bound);
	for_all_rigs(test_sample);
	for_all_rigs(test_alone);
	for_all_rigs(test_lists);
	for_all_rigs(test_clip);
	if (!getenv("TSAN") || *getenv("TSAN") != '1')
		test_crowded();
	show_speed();
	return done_testing();
}
