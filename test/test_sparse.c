/*
 * Sparse vectors: exact top-k with error feedback, gTop-k's merge, and the small operations. Results must be the reference's bit
 * for bit; the reference is a plain sort. Beside that, nothing may get lost: what went out and what stayed behind is acc.
 */
#include "../core/clock.h"
#include "../core/cpu/cpu_sparse.h"
#include "ops_kit.h"

/* ---- kinds of data, each nasty in a way of its own ---- */

static float data_normal(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return (float)rng_normal(r); }
static float data_zero(struct rng *r, int64_t i, int64_t n) { (void)r; (void)i; (void)n; return 0; }
static float data_equal(struct rng *r, int64_t i, int64_t n) { (void)n; return (void)r, i % 2 ? 0.5f : -0.5f; }
static float data_ties(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return (float)((int)rng_below(r, 7) - 3); }
static float data_denormal(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return (float)((int)rng_below(r, 2001) - 1000) * 1e-45f; }
static float data_mostly_zero(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return rng_below(r, 1000) ? 0 : (float)rng_normal(r); }
static float data_rising(struct rng *r, int64_t i, int64_t n) { (void)r; return (float)i / (float)n; }
static float data_nan(struct rng *r, int64_t i, int64_t n) { (void)n; return i % 1000 == 17 ? NAN : i % 1000 == 18 ? -INFINITY : (float)rng_normal(r); }
/* all large values lie together, where only one or two samples fall */
static float data_hidden(struct rng *r, int64_t i, int64_t n) { return (float)rng_normal(r) * (i > n / 2 && i < n / 2 + n / 50 ? 1e6f : 1e-6f); }
/* layers of very different scale */
static float data_layers(struct rng *r, int64_t i, int64_t n) { return (float)(rng_normal(r) * exp(20.0 * (double)(i * 7 / n) / 7)); }

/* traps: large only where the sample looks (too few reach its bound), or only where it does not (far too many do) */
static uint8_t *looked_at;
static float data_looked_at(struct rng *r, int64_t i, int64_t n) { (void)n; return (float)(rng_normal(r) * (looked_at[i] ? 1e3 : 1)); }
static float data_overlooked(struct rng *r, int64_t i, int64_t n) { (void)n; return (float)(rng_normal(r) * (looked_at[i] ? 1e-3 : 1)); }

static const struct { const char *name; float (*at)(struct rng *, int64_t i, int64_t n); } kinds[] = {
	{ "normal", data_normal }, { "all zero", data_zero }, { "all equal", data_equal }, { "ties", data_ties },
	{ "denormals", data_denormal }, { "mostly zero", data_mostly_zero }, { "rising", data_rising }, { "NaN and infinity", data_nan },
	{ "hidden", data_hidden }, { "layers", data_layers }, { "looked at", data_looked_at },
	{ "overlooked", data_overlooked },
};

static const struct { int64_t n, k; } sizes[] = {
	{ 1, 1 }, { 2, 1 }, { 3, 3 }, { 15, 4 }, { 16, 16 }, { 17, 1 }, { 63, 20 }, { 64, 1 }, { 65, 64 }, { 129, 13 }, { 1000, 10 },
	{ 1000, 1000 }, { 50021, 1 }, { 50021, 500 }, { 50021, 49000 }, { 200003, 200 }, { 200003, 30000 },
};

struct topk_data {
	struct buffer in, residual, expect;
	struct sparse *out, *want;
	void *work;
	float *acc;
};

static bool same_bits(const void *a, const void *b, size_t bytes) { return !memcmp(a, b, bytes); }

/* out sorted, residual zero there, and acc in every other place. */
static bool conserved(const struct topk_data *t, int64_t n, int64_t k)
{
	int64_t j = 0;

	for (int64_t i = 0; i < n; i++) {
		if (j < k && t->out[j].index == i) {
			if (t->residual.x[i] != 0 || !same_bits(&t->out[j++].value, &t->acc[i], 4))
				return false;
		} else if (!same_bits(&t->residual.x[i], &t->acc[i], 4)) {
			return false;
		}
	}
	return j == k;
}

/* Runs both devices; returns what is wrong, or NULL. */
static const char *topk_case(struct rig *r, struct rig *ref, int64_t n, int64_t k, int kind, bool residual)
{
	struct topk_data t = { buffer_open(n, 1), buffer_open(n, 2), buffer_open(n, 0), NULL, NULL, NULL, NULL };
	struct rng rng;
	const char *wrong = NULL;
	size_t list = (size_t)(k + 1) * sizeof(struct sparse), work = r->ops->sparse->work_size(n, k);
	size_t work_ref = ref->ops->sparse->work_size(n, k);

	looked_at = calloc(1, (size_t)n);
	for (int64_t i = 0, m = cpu_topk_samples(n, k); i < m; i++)
		looked_at[cpu_topk_place(n, m, i)] = 1;
	t.out = calloc(1, list);
	t.want = calloc(1, list);
	t.work = malloc((work > work_ref ? work : work_ref) + 64);
	t.acc = malloc((size_t)n * sizeof(float));
	t.out[k].index = 0xabcdef;
	memset((char *)t.work + work, 0x5a, 64);
	rng_init(&rng, 11, RNG_TEST, (uint64_t)n, (uint32_t)kind);
	for (int64_t i = 0; i < n; i++) {
		t.in.x[i] = kinds[kind].at(&rng, i, n);
		t.residual.x[i] = t.expect.x[i] = residual ? kinds[kind].at(&rng, n - 1 - i, n) : 0;
		t.acc[i] = t.residual.x[i] + t.in.x[i];
	}
	r->ops->sparse->topk(r->stream, n, k, t.in.x, t.residual.x, t.out, t.work);
	for (int i = 0; i < 64; i++)
		if (((unsigned char *)t.work)[work + (size_t)i] != 0x5a)
			wrong = "more work than work_size";
	ref->ops->sparse->topk(ref->stream, n, k, t.in.x, t.expect.x, t.want, t.work);
	if (!same_bits(t.out, t.want, (size_t)k * sizeof(struct sparse)))
		wrong = "other choice than the reference";
	else if (!same_bits(t.residual.x, t.expect.x, (size_t)n * 4))
		wrong = "other residual than the reference";
	else if (!conserved(&t, n, k))
		wrong = "something got lost";
	if (!buffer_intact(&t.in) || !buffer_intact(&t.residual) || t.out[k].index != 0xabcdef)
		wrong = "wrote outside";
	buffer_close(&t.in);
	buffer_close(&t.residual);
	buffer_close(&t.expect);
	free(t.out);
	free(t.want);
	free(t.work);
	free(t.acc);
	free(looked_at);
	return wrong;
}

static void test_topk(struct rig *r, struct rig *ref)
{
	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
		const char *wrong = NULL;
		int64_t n = 0, k = 0;

		for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]) && !wrong; i++) {
			n = sizes[i / 2].n;
			k = sizes[i / 2].k;
			if (n > 40000 && (r->dev->config.threads == 3 || (n > 100000 && i % 2 == 0)))
				continue;
			wrong = topk_case(r, ref, n, k, (int)kind, i % 2);
		}
		ok(!wrong, "%s: top-k, %s%s%s", r->name, kinds[kind].name, wrong ? ": " : "", wrong ? wrong : "");
		if (wrong)
			printf("# n = %lld, k = %lld\n", (long long)n, (long long)k);
	}
}

/* ---- lists ---- */

static int64_t random_list(struct rng *rng, int64_t k, uint32_t step, struct sparse *out)
{
	uint32_t index = 0;

	for (int64_t j = 0; j < k; j++) {
		index += 1 + rng_below(rng, step);
		out[j] = (struct sparse){ index, (float)((int)rng_below(rng, 9) - 4) * 0.5f };
	}
	return index;
}

static void test_merge(struct rig *r, struct rig *ref)
{
	static const int64_t lengths[] = { 1, 2, 3, 17, 1000 };
	enum { MOST = 1000 };
	static struct sparse a[MOST], b[MOST], got[MOST], want[MOST];
	void *work = malloc(ref->ops->sparse->work_size(4 * MOST, MOST) + r->ops->sparse->work_size(4 * MOST, MOST));
	struct rng rng;
	int wrong = 0;

	rng_init(&rng, 5, RNG_TEST, 0, 0);
	for (int i = 0; i < 200; i++) {
		int64_t k = lengths[i % 5];

		random_list(&rng, k, 1 + rng_below(&rng, 4), a);
		random_list(&rng, k, 1 + rng_below(&rng, 4), b);
		if (i % 7 == 0)
			memcpy(b, a, sizeof(a));
		r->ops->sparse->merge(r->stream, k, a, b, got, work);
		ref->ops->sparse->merge(ref->stream, k, a, b, want, work);
		wrong += !same_bits(got, want, (size_t)k * sizeof(*got));
	}
	ok(wrong == 0, "%s: merge as the reference, with ties and sums of zero", r->name);
	free(work);
}

/* By hand, on either device. */
static void expect_lists(struct rig *r)
{
	const struct sparse a[3] = { { 2, 5 }, { 7, -1 }, { 9, 2 } }, b[3] = { { 2, -5 }, { 8, 1 }, { 9, 3 } };
	struct sparse out[3], twice[3];
	uint8_t alive[3] = { 1, 1, 0 }, all[3] = { 1, 1, 1 };
	const uint8_t kept[3] = { 0, 1, 1 };
	float y[10] = { 0 };
	uint64_t work[4096];
	bool small = r->ops->sparse->work_size(10, 3) <= sizeof(work);
	void *room = small ? (void *)work : malloc(r->ops->sparse->work_size(10, 3));

	r->ops->sparse->merge(r->stream, 3, a, b, out, room);
	ok(out[0].index == 7 && out[0].value == -1 && out[1].index == 8 && out[1].value == 1 && out[2].index == 9 && out[2].value == 5,
	   "%s: merge keeps the largest sums, sorted by index", r->name);
	r->ops->sparse->scale(r->stream, 3, 2, a, twice);
	r->ops->sparse->scatter_add(r->stream, 3, -0.5f, twice, y);
	ok(twice[1].index == 7 && twice[1].value == -2 && y[2] == -5 && y[7] == 1 && y[9] == -2 && y[8] == 0,
	   "%s: scale and scatter_add", r->name);
	r->ops->sparse->scale(r->stream, 3, 0.5f, twice, twice);
	ok(same_bits(twice, a, sizeof(a)), "%s: scale in place", r->name);
	r->ops->sparse->survive(r->stream, 3, a, out, NULL, alive);
	ok(!alive[0] && alive[1] && !alive[2], "%s: survive: in the list, and alive before", r->name);
	r->ops->sparse->survive(r->stream, 3, a, out, kept, all);
	ok(!all[0] && !all[1] && all[2], "%s: survive: in the list, and alive there", r->name);
	memset(y, 0, sizeof(y));
	r->ops->sparse->put_back(r->stream, 3, a, alive, y);
	ok(y[2] == 5 && y[7] == 0 && y[9] == 2, "%s: put_back returns what died", r->name);
	if (!small)
		free(room);
}

static void test_lists(struct rig *r, struct rig *ref)
{
	expect_lists(r);
	expect_lists(ref);
}

/* ---- values in half as many bits ---- */

/* All halves, their neighbours, the middles between them and the floats beside these; and any float. */
static void hard_values(enum half_type half, struct sparse *list, int64_t k)
{
	struct rng rng;

	rng_init(&rng, 13, RNG_TEST, (uint64_t)half, 0);
	for (int64_t j = 0; j < k; j++) {
		uint32_t bits = rng_u32(&rng), step = half == HALF_FP16 ? 12 : 15;

		list[j].index = (uint32_t)j;
		memcpy(&list[j].value, &bits, 4);
		if (j % 4 == 0 || half == HALF_BF16) {          /* on or beside a middle */
			bits = bits >> step << step;
			bits += j % 3 == 0 ? 1 : j % 3 == 1 ? 0 : (uint32_t)-1;
			memcpy(&list[j].value, &bits, 4);
		}
		if (half == HALF_FP16 && j % 2)                 /* where halves are: 2^-26 to 2^17 */
			list[j].value = ldexpf(1 + (float)(rng_u32(&rng) >> 20) / 4096, (int)rng_below(&rng, 43) - 26) * (j % 8 < 4 ? 1 : -1);
		if (isnan(list[j].value) || isinf(list[j].value))
			list[j].value = 0;
	}
}

static void test_halves(struct rig *r, struct rig *ref)
{
	enum { K = 20001 };
	static const float known[][3] = {       /* a value; as fp16; as bf16 */
		{ 1, 1, 1 }, { 1.00048828125f, 1, 1 }, { 1.00146484375f, 1.001953125f, 1 }, { -65519, -65504, -65536 }, { 1e6f, 65504, 999424 },
		{ 6e-8f, 5.9604645e-8f, 6.00703e-8f }, { 2.9802322e-8f, 0, 2.9802322e-8f }, { 0x1.8p-24f, 0x1p-23f, 0x1.8p-24f },
		{ 3.4028235e38f, 65504, 3.3895314e38f }, { -INFINITY, -INFINITY, -INFINITY }, { 0, 0, 0 }, { 1.01171875f, 1.01171875f, 1.015625f },
	};
	struct sparse *in = malloc(K * sizeof(*in)), *out = malloc(K * sizeof(*in)), *want = malloc(K * sizeof(*in));
	float *residual = malloc(K * sizeof(float)), *expect = malloc(K * sizeof(float));
	unsigned char *wire = malloc((size_t)sparse_half_bytes(K) + 4), *wire_ref = malloc((size_t)sparse_half_bytes(K));

	for (int half = HALF_FP16; half <= HALF_BF16; half++) {
		int64_t known_count = (int64_t)(sizeof(known) / sizeof(known[0])), bytes = sparse_half_bytes(K);
		bool right = true, kept = true;

		hard_values((enum half_type)half, in, K);
		for (int64_t j = 0; j < known_count; j++)
			in[j].value = known[j][0];
		for (int64_t j = 0; j < K; j++)
			residual[j] = expect[j] = j % 5 ? 0 : 0.25f;
		memset(wire + bytes, 0x5a, 4);
		r->ops->sparse->pack(r->stream, K, (enum half_type)half, in, residual, wire);
		ref->ops->sparse->pack(ref->stream, K, (enum half_type)half, in, expect, wire_ref);
		r->ops->sparse->unpack(r->stream, K, (enum half_type)half, wire, out);
		ref->ops->sparse->unpack(ref->stream, K, (enum half_type)half, wire, want);
		for (int64_t j = 0; j < known_count; j++)
			right = right && (out[j].value == known[j][half] || fabsf(out[j].value - known[j][half]) <= 1e-6f * fabsf(known[j][half]));
		for (int64_t j = known_count; j < K; j++)
			kept = kept && in[j].index == out[j].index &&
			       (j % 5 == 0 || fabsf(in[j].value) > 1e5f || (double)out[j].value + residual[j] == in[j].value);
		ok(same_bits(wire, wire_ref, (size_t)bytes) && same_bits(out, want, K * sizeof(*out)), "%s: %s, 20001 values on and beside what is "
		   "between two: the reference's bits", r->name, half == HALF_FP16 ? "fp16" : "bf16");
		ok(right, "%s: known values, the largest and the smallest", r->name);
		ok(kept && same_bits(residual + known_count, expect + known_count, (size_t)(K - known_count) * 4) && wire[bytes] == 0x5a,
		   "%s: sent + residual = value, exactly; nothing is written outside", r->name);
	}
	free(in);
	free(out);
	free(want);
	free(residual);
	free(expect);
	free(wire);
	free(wire_ref);
}

/* Not a test: how far top-k is from merely reading and writing the vectors. */
static void show_speed(void)
{
	struct rig r = rig_open("cpu", "", 1);
	int64_t n = 4 << 20, k = n / 1000;
	struct buffer in = buffer_open(n, 0), residual = buffer_open(n, 0);
	struct sparse *out = malloc((size_t)k * sizeof(*out));
	void *work = malloc(r.ops->sparse->work_size(n, k));
	double best[2] = { 1e9, 1e9 };

	fill(in.x, n, 1, 0, 1);
	fill(residual.x, n, 2, 0, 1);
	for (int i = 0; i < 5; i++) {
		double t0 = clock_now(), t1;

		r.ops->vec->axpby(r.stream, n, 1, in.x, 0.5f, residual.x);
		t1 = clock_now();
		r.ops->sparse->topk(r.stream, n, k, in.x, residual.x, out, work);
		best[0] = fmin(best[0], t1 - t0);
		best[1] = fmin(best[1], clock_now() - t1);
	}
	printf("# top-k of %lld at 0.1 %%: %.2f ms; one y = a x + b y of the same vectors: %.2f ms\n", (long long)n, best[1] * 1e3,
	       best[0] * 1e3);
	free(out);
	free(work);
	buffer_close(&in);
	buffer_close(&residual);
	rig_close(&r);
}

int main(void)
{
	for_all_rigs(test_topk);
	for_all_rigs(test_merge);
	for_all_rigs(test_lists);
	for_all_rigs(test_halves);
	show_speed();
	return done_testing();
}
