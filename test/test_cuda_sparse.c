/*
 * Sparse vectors on the CUDA device: exact top-k with error feedback, gTop-k's merge, and the small operations. Results must be the
 * reference's, a plain sort's: the same indices, the same bits (of a NaN: a NaN). Beside that, nothing may get lost: what went out
 * and what stayed behind is acc. What a sample misleads is tried on purpose.
 */
#define HOST_DEVICE __attribute__((unused)) static inline
#include "../core/formulas.h"
#include "cuda_kit.h"

/* ---- kinds of data, each nasty in a way of its own ---- */

/* Large only where the sample looks (too few reach its bound), or only where it does not (far too many do). */
static uint8_t *looked_at;

static float data_normal(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return (float)rng_normal(r); }
static float data_zero(struct rng *r, int64_t i, int64_t n) { (void)r; (void)n; return i % 3 ? 0 : -0.0f; }
static float data_equal(struct rng *r, int64_t i, int64_t n) { (void)r; (void)n; return i % 2 ? 0.5f : -0.5f; }
static float data_ties(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return (float)((int)rng_below(r, 7) - 3); }
static float data_rising(struct rng *r, int64_t i, int64_t n) { (void)r; return (float)i / (float)n; }
static float data_falling(struct rng *r, int64_t i, int64_t n) { (void)r; return (float)(i - n) / (float)n; }
static float data_uniform(struct rng *r, int64_t i, int64_t n) { (void)i; (void)n; return (float)rng_uniform(r); }
static float data_layers(struct rng *r, int64_t i, int64_t n) { return (float)(rng_normal(r) * exp(20.0 * (double)(i * 7 / n) / 7)); }
static float data_looked_at(struct rng *r, int64_t i, int64_t n) { (void)n; return (float)(rng_normal(r) * (looked_at[i] ? 1e3 : 1)); }
static float data_overlooked(struct rng *r, int64_t i, int64_t n) { (void)n; return (float)(rng_normal(r) * (looked_at[i] ? 1e-3 : 1)); }

static float data_denormal(struct rng *r, int64_t i, int64_t n)
{
	(void)i;
	(void)n;
	return (float)((int)rng_below(r, 2001) - 1000) * 1e-45f;
}

static float data_mostly_zero(struct rng *r, int64_t i, int64_t n)
{
	(void)i;
	(void)n;
	return rng_below(r, 1000) ? 0 : (float)rng_normal(r);
}

static float data_heavy(struct rng *r, int64_t i, int64_t n)
{
	(void)i;
	(void)n;
	return (float)tan(3.14159 * (rng_uniform(r) - 0.5));    /* Cauchy's */
}

static float data_nan(struct rng *r, int64_t i, int64_t n)
{
	(void)n;
	return i % 1000 == 17 ? NAN : i % 1000 == 18 ? -INFINITY : (float)rng_normal(r);
}

/* All large values lie together. */
static float data_hidden(struct rng *r, int64_t i, int64_t n)
{
	return (float)rng_normal(r) * (i > n / 2 && i < n / 2 + n / 50 ? 1e6f : 1e-6f);
}

/* Large in the last element of each place that a plain stride would visit. */
static float data_periodic(struct rng *r, int64_t i, int64_t n)
{
	int64_t stride = n / TOPK_SAMPLES < 2 ? 2 : n / TOPK_SAMPLES;

	return (float)rng_normal(r) * (i % stride ? 1e-3f : 1);
}

enum { NORMAL, HEAVY, UNIFORM, LAYERS, LOOKED_AT, OVERLOOKED };

static const struct { const char *name; float (*at)(struct rng *, int64_t i, int64_t n); } kinds[] = {
	[NORMAL] = { "normal", data_normal }, [HEAVY] = { "heavy tails", data_heavy }, [UNIFORM] = { "uniform", data_uniform },
	[LAYERS] = { "layers of very different scale", data_layers }, [LOOKED_AT] = { "large where the sample looks", data_looked_at },
	[OVERLOOKED] = { "small where the sample looks", data_overlooked }, { "all zero", data_zero }, { "all equal", data_equal },
	{ "ties", data_ties }, { "denormals", data_denormal }, { "mostly zero", data_mostly_zero }, { "rising", data_rising },
	{ "falling", data_falling }, { "NaN and infinity", data_nan }, { "large ones together", data_hidden },
	{ "large ones on a stride", data_periodic },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* From 4 samples' worth of elements on, and up to a quarter of them, there is a sample. Each kind takes one of the last seven. */
static const struct { int64_t n, k; } sizes[] = {
	{ 1, 1 }, { 2, 1 }, { 3, 3 }, { 15, 4 }, { 32, 32 }, { 33, 1 }, { 65, 64 }, { 1000, 10 }, { 1024, 1024 }, { 1025, 7 },
	{ 4097, 4000 }, { 50021, 1 }, { 50021, 500 }, { 262144, 262 }, { 270001, 1 }, { 270001, 27000 },
	{ 262143, 262 }, { 300007, 299 }, { 300007, 75001 }, { 300007, 75002 }, { 300007, 300007 },
};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), SOME = 7 };

/* ---- memory on the device, bytes of any kind, with a margin behind ---- */

struct block {
	size_t size;
	char *dev, *host;
};

static struct block block_open(struct rig *r, size_t size, const void *content)
{
	struct block b = { size, r->ops->mem->alloc(r->dev, size + MARGIN), malloc(size + MARGIN) };

	memset(b.host, CANARY, size + MARGIN);
	if (content)
		memcpy(b.host, content, size);
	r->ops->mem->copy(r->stream, b.dev, b.host, size + MARGIN, COPY_TO_DEVICE);
	r->ops->stream->sync(r->stream);
	return b;
}

/* Downloads to b->host; false: written behind the end. */
static bool block_pull(struct rig *r, struct block *b)
{
	int bad = 0;

	r->ops->mem->copy(r->stream, b->host, b->dev, b->size + MARGIN, COPY_TO_HOST);
	r->ops->stream->sync(r->stream);
	for (size_t i = 0; i < MARGIN; i++)
		bad += (unsigned char)b->host[b->size + i] != CANARY;
	return bad == 0;
}

static void block_close(struct rig *r, struct block *b)
{
	r->ops->mem->free(r->dev, b->dev);
	free(b->host);
}

/* ---- top-k ---- */

static bool same_value(float a, float b) { return !memcmp(&a, &b, 4) || (isnan(a) && isnan(b)); }

static int64_t values_differ(const float *a, const float *b, int64_t n)
{
	int64_t bad = 0;

	for (int64_t i = 0; i < n; i++)
		bad += !same_value(a[i], b[i]);
	return bad;
}

static int64_t lists_differ(const struct sparse *a, const struct sparse *b, int64_t k)
{
	int64_t bad = 0;

	for (int64_t j = 0; j < k; j++)
		bad += a[j].index != b[j].index || !same_value(a[j].value, b[j].value);
	return bad;
}

/* out sorted, residual zero there, and acc in every other place. */
static bool conserved(const struct sparse *out, const float *residual, const float *acc, int64_t n, int64_t k)
{
	int64_t j = 0;

	for (int64_t i = 0; i < n; i++) {
		if (j < k && out[j].index == i) {
			if (residual[i] != 0 || !same_value(out[j++].value, acc[i]))
				return false;
		} else if (!same_value(residual[i], acc[i])) {
			return false;
		}
	}
	return j == k;
}

struct trial {
	int64_t n, k;
	int kind, shift;
	bool residual;          /* or all that is left from before is zero */
	uint32_t listed;        /* found out: how many candidates were listed; the first word of the scratch (core/cuda/select.cuh) */
};

static void fill_trial(const struct trial *t, struct array *in, struct array *residual, float *acc)
{
	struct rng rng;

	rng_init(&rng, 11, RNG_TEST, (uint64_t)t->n, (uint32_t)t->kind);
	looked_at = calloc(1, (size_t)t->n);
	for (int64_t i = 0; t->n >= TOPK_SAMPLES && i < TOPK_SAMPLES; i++)
		looked_at[sample_place(t->n, TOPK_SAMPLES, i)] = 1;
	for (int64_t i = 0; i < t->n; i++) {
		in->want[i] = kinds[t->kind].at(&rng, i, t->n);
		residual->want[i] = t->residual ? 0.25f * kinds[t->kind].at(&rng, i, t->n) : 0;
		acc[i] = residual->want[i] + in->want[i];
	}
	free(looked_at);
}

/* Once on each device; returns what is wrong, or NULL. */
static const char *run_trial(struct rig *r, struct trial *t)
{
	int64_t n = t->n, k = t->k;
	struct array in = array_open(r, FLOATS, n, t->shift), residual = array_open(r, FLOATS, n, t->shift * 3 % 4);
	struct block out = block_open(r, (size_t)k * sizeof(struct sparse), NULL);
	struct block work = block_open(r, r->ops->sparse->work_size(n, k), NULL);
	struct sparse *want = calloc((size_t)k, sizeof(*want)), *got = (void *)out.host;
	void *work_ref = malloc(ref.ops->sparse->work_size(n, k));
	float *acc = malloc((size_t)n * sizeof(float));
	const char *wrong = NULL;

	fill_trial(t, &in, &residual, acc);
	push(&in);
	push(&residual);
	r->ops->sparse->topk(r->stream, n, k, on_device(&in), on_device(&residual), (struct sparse *)out.dev, work.dev);
	ref.ops->sparse->topk(ref.stream, n, k, in.want, residual.want, want, work_ref);
	if (!pull(&in) || !pull(&residual) || !block_pull(r, &out) || !block_pull(r, &work))
		wrong = "wrote outside";
	else if (lists_differ(got, want, k))
		wrong = "other choice than the reference";
	else if (values_differ(residual.got, residual.want, n))
		wrong = "other residual than the reference";
	else if (values_differ(in.got, in.want, n) || !conserved(got, residual.got, acc, n, k))
		wrong = "something got lost";
	memcpy(&t->listed, work.host, sizeof(t->listed));
	array_close(&in);
	array_close(&residual);
	block_close(r, &out);
	block_close(r, &work);
	free(want);
	free(work_ref);
	free(acc);
	return wrong;
}

static void test_topk(struct rig *r)
{
	for (int kind = 0; kind < KINDS; kind++) {
		struct trial t = { .kind = kind };
		const char *wrong = NULL;

		for (int i = 0; i < SIZES && !wrong; i++) {
			if (i >= SIZES - SOME && i % SOME != kind % SOME)
				continue;
			t.n = sizes[i].n;
			t.k = sizes[i].k;
			t.shift = (i + kind) % 3 ? 0 : kind % 4;
			t.residual = (i + kind) % 2;
			wrong = run_trial(r, &t);
		}
		ok(!wrong, "top-k, %s%s%s", kinds[kind].name, wrong ? ": " : "", wrong ? wrong : "");
		if (wrong)
			printf("# n = %lld, k = %lld, shift %d\n", (long long)t.n, (long long)t.k, t.shift);
	}
}

/* Is it the list that serves decent data, and are the traps traps? */
static void test_ways(struct rig *r)
{
	static const struct { int kind; int64_t k; bool least, most; } cases[] = {
		{ NORMAL, 299, true, true }, { HEAVY, 3000, true, true }, { UNIFORM, 299, true, true }, { LAYERS, 299, true, true },
		{ NORMAL, 30000, true, true }, { LOOKED_AT, 65436, false, true }, { OVERLOOKED, 299, true, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trial t = { .n = 300007, .k = cases[i].k, .kind = cases[i].kind };
		const char *wrong = run_trial(r, &t);

		ok(!wrong && (t.listed >= t.k) == cases[i].least && (t.listed < 3 * t.k) == cases[i].most,
		   "top-k, %s: %u candidates for k = %lld", kinds[t.kind].name, t.listed, (long long)t.k);
	}
}

static void test_again(struct rig *r)
{
	int64_t n = 270001, k = 2701;
	struct array in = array_open(r, FLOATS, n, 0), residual = array_open(r, FLOATS, n, 0);
	struct block out = block_open(r, (size_t)k * sizeof(struct sparse), NULL);
	struct block work = block_open(r, r->ops->sparse->work_size(n, k), NULL);
	char *first = malloc(out.size);
	float *left = malloc((size_t)n * sizeof(float));
	int different = 0;

	fill(&in, 1, 0, 1);
	for (int i = 0; i < 4; i++) {
		fill(&residual, 2, 0, 1);
		push(&in);
		push(&residual);
		r->ops->sparse->topk(r->stream, n, k, on_device(&in), on_device(&residual), (struct sparse *)out.dev, work.dev);
		different += !pull(&residual) || !block_pull(r, &out);
		if (i > 0)
			different += memcmp(first, out.host, out.size) || memcmp(left, residual.got, (size_t)n * sizeof(float));
		memcpy(first, out.host, out.size);
		memcpy(left, residual.got, (size_t)n * sizeof(float));
	}
	ok(different == 0, "top-k: the same bits every time");
	array_close(&in);
	array_close(&residual);
	block_close(r, &out);
	block_close(r, &work);
	free(first);
	free(left);
}

/* Densities change from epoch to epoch; scratch is made once, for the highest. */
static void test_work_size(struct rig *r)
{
	static const int64_t lengths[] = { 1, 1000, 262143, 262144, 11173962, 138357544, 4294967295 };
	int wrong = 0;

	for (int i = 0; i < 7; i++) {
		size_t last = 0;

		for (double density = 1e-7; density < 1.5; density *= 1.3) {
			int64_t n = lengths[i], k = (int64_t)fmin(fmax(1, density * (double)n), (double)n);
			size_t size = k <= 2147483647 ? r->ops->sparse->work_size(n, k) : SIZE_MAX;

			wrong += size < last;
			last = size;
		}
	}
	ok(wrong == 0, "work_size does not fall when k grows; %.2f MB for 0.1 %% of 11 million",
	   (double)r->ops->sparse->work_size(11173962, 11173) / 1e6);
}

/* ---- lists ---- */

enum { MOST = 20000 };

static void random_list(struct rng *rng, int64_t k, uint32_t step, struct sparse *out)
{
	uint32_t index = rng_below(rng, step);

	for (int64_t j = 0; j < k; j++) {
		out[j] = (struct sparse){ index, (float)((int)rng_below(rng, 9) - 4) * 0.5f };
		index += 1 + rng_below(rng, step);
	}
}

static void test_merge(struct rig *r)
{
	static const int64_t lengths[] = { 1, 2, 3, 17, 31, 32, 33, 511, 512, 513, 1000, 5001, MOST };
	static struct sparse a[MOST], b[MOST], want[MOST];
	void *work_ref = malloc(ref.ops->sparse->work_size(MOST, MOST));
	struct rng rng;
	int wrong = 0;

	rng_init(&rng, 5, RNG_TEST, 0, 0);
	for (int i = 0; i < 5 * 13; i++) {
		int64_t k = lengths[i / 5];
		size_t size = (size_t)k * sizeof(struct sparse);
		struct block dev_a, dev_b, out = block_open(r, size, NULL), work = block_open(r, r->ops->sparse->work_size(MOST, k), NULL);

		random_list(&rng, k, 1 + rng_below(&rng, 4), a);
		random_list(&rng, k, 1 + rng_below(&rng, 4), b);
		if (i % 5 == 1)
			memcpy(b, a, size);             /* twins only */
		for (int64_t j = 0; i % 5 == 2 && j < k; j++)
			b[j].index = a[j].index + 200000;       /* none */
		if (i % 5 == 3)
			a[k / 2].value = NAN;
		dev_a = block_open(r, size, a);
		dev_b = block_open(r, size, b);
		r->ops->sparse->merge(r->stream, k, (void *)dev_a.dev, (void *)dev_b.dev, (void *)out.dev, work.dev);
		ref.ops->sparse->merge(ref.stream, k, a, b, want, work_ref);
		wrong += !block_pull(r, &out) || !block_pull(r, &work) || lists_differ((void *)out.host, want, k) != 0;
		wrong += !block_pull(r, &dev_a) || memcmp(dev_a.host, a, size) || !block_pull(r, &dev_b) || memcmp(dev_b.host, b, size);
		block_close(r, &dev_a);
		block_close(r, &dev_b);
		block_close(r, &out);
		block_close(r, &work);
	}
	ok(wrong == 0, "merge as the reference, with ties, twins, sums of zero and NaN");
	free(work_ref);
}

/* The small ones, against the reference; y is 4 MOST floats. */
static void test_lists(struct rig *r)
{
	static const int64_t lengths[] = { 1, 2, 31, 257, 5000, MOST };
	static struct sparse own[MOST], list[MOST], twice[MOST];
	static uint8_t alive[MOST], kept[MOST];
	double worst = 0;
	int wrong[3] = { 0 };
	struct rng rng;

	rng_init(&rng, 6, RNG_TEST, 0, 0);
	for (int i = 0; i < 3 * 6; i++) {
		int64_t k = lengths[i / 3];
		size_t size = (size_t)k * sizeof(struct sparse);
		struct array y = array_open(r, FLOATS, 4 * MOST, i % 3);
		struct block dev_own, dev_list, dev_alive, dev_kept, dev_twice = block_open(r, size, NULL);

		random_list(&rng, k, 3, own);
		random_list(&rng, k, 3, list);
		for (int64_t j = 0; j < k; j++) {
			alive[j] = rng_below(&rng, 4) > 0;
			kept[j] = rng_below(&rng, 3) > 0;
		}
		dev_own = block_open(r, size, own);
		dev_list = block_open(r, size, list);
		dev_alive = block_open(r, (size_t)k, alive);
		dev_kept = block_open(r, (size_t)k, kept);
		fill(&y, (uint32_t)i, 0, 1);
		push(&y);
		r->ops->sparse->scale(r->stream, k, 1.7f, (void *)dev_own.dev, (void *)dev_twice.dev);
		r->ops->sparse->scale(r->stream, k, -0.3f, (void *)dev_twice.dev, (void *)dev_twice.dev);
		r->ops->sparse->scatter_add(r->stream, k, 0.6f, (void *)dev_twice.dev, on_device(&y));
		r->ops->sparse->survive(r->stream, k, (void *)dev_own.dev, (void *)dev_list.dev, i % 2 ? (void *)dev_kept.dev : NULL,
		                        (void *)dev_alive.dev);
		r->ops->sparse->put_back(r->stream, k, (void *)dev_own.dev, (void *)dev_alive.dev, on_device(&y));
		ref.ops->sparse->scale(ref.stream, k, 1.7f, own, twice);
		ref.ops->sparse->scale(ref.stream, k, -0.3f, twice, twice);
		ref.ops->sparse->scatter_add(ref.stream, k, 0.6f, twice, y.want);
		ref.ops->sparse->survive(ref.stream, k, own, list, i % 2 ? kept : NULL, alive);
		ref.ops->sparse->put_back(ref.stream, k, own, alive, y.want);
		worse(&worst, error_of(&y, 1));
		wrong[0] += !block_pull(r, &dev_twice) || lists_differ((void *)dev_twice.host, twice, k);
		wrong[1] += !block_pull(r, &dev_alive) || memcmp(dev_alive.host, alive, (size_t)k);
		wrong[2] += !block_pull(r, &dev_own) || memcmp(dev_own.host, own, size) || !block_pull(r, &dev_list) ||
		            memcmp(dev_list.host, list, size);
		array_close(&y);
		block_close(r, &dev_own);
		block_close(r, &dev_list);
		block_close(r, &dev_alive);
		block_close(r, &dev_kept);
		block_close(r, &dev_twice);
	}
	ok(wrong[0] == 0, "scale, in place as well");
	ok(wrong[1] == 0, "survive: in the list, alive there, and alive before");
	ok(worst <= 2e-7, "scatter_add and put_back, error %.2g", worst);
	ok(wrong[2] == 0, "inputs stay as they are");
}

/* Values in half as many bits: the reference's, also where it is a tie, too large, tiny or no number. */
static void test_halves(struct rig *r)
{
	enum { K = 5001 };
	struct sparse *list = malloc(K * sizeof(*list)), *want = malloc(K * sizeof(*list));
	char *wire = malloc((size_t)sparse_half_bytes(K));
	struct rng rng;

	rng_init(&rng, 14, RNG_TEST, 0, 0);
	for (int half = HALF_FP16; half <= HALF_BF16; half++) {
		struct array residual = array_open(r, FLOATS, K, 1);
		struct block in, packed = block_open(r, (size_t)sparse_half_bytes(K), NULL), out = block_open(r, K * sizeof(*list), NULL);
		bool same, kept;

		for (int j = 0; j < K; j++) {
			uint32_t bits = rng_u32(&rng) >> 12 << 12;

			list[j].index = (uint32_t)j;
			memcpy(&list[j].value, &bits, 4);
			if (j % 3)
				list[j].value = ldexpf(1 + (float)(bits >> 19) / 8192, j % 45 - 27);
			if (isnan(list[j].value) || isinf(list[j].value))
				list[j].value = -0.0f;
		}
		in = block_open(r, K * sizeof(*list), list);
		fill(&residual, (uint32_t)half, 0, 1);
		push(&residual);
		r->ops->sparse->pack(r->stream, K, (enum half_type)half, (void *)in.dev, on_device(&residual), packed.dev);
		r->ops->sparse->unpack(r->stream, K, (enum half_type)half, packed.dev, (void *)out.dev);
		ref.ops->sparse->pack(ref.stream, K, (enum half_type)half, list, residual.want, wire);
		ref.ops->sparse->unpack(ref.stream, K, (enum half_type)half, wire, want);
		same = block_pull(r, &packed) && !memcmp(packed.host, wire, (size_t)sparse_half_bytes(K)) && block_pull(r, &out) &&
		       !lists_differ((void *)out.host, want, K);
		kept = error_of(&residual, 1) <= 1e-7;
		ok(same && kept, "%s: pack, unpack and what rounding leaves: the reference's", half == HALF_FP16 ? "fp16" : "bf16");
		block_close(r, &in);
		block_close(r, &packed);
		block_close(r, &out);
		array_close(&residual);
	}
	free(list);
	free(want);
	free(wire);
}

/* Activations do not come into it. */
static void tests(struct rig *r)
{
	if (r->half)
		return;
	test_topk(r);
	test_ways(r);
	test_again(r);
	test_work_size(r);
	test_merge(r);
	test_lists(r);
	test_halves(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
