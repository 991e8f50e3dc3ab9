/*
 * Choosing by a threshold and drawn places on the CUDA device: select() and the drawn places must be the reference's bit for bit; the
 * bound of Gaussian-k, lists with holes, clipping.
 */
#include "cuda_kit.h"
#include "choose_kit.h"

/* n bytes of any kind on the device. */
static void *upload(struct rig *r, const void *content, size_t size)
{
	void *p = r->ops->mem->alloc(r->dev, size);

	if (content)
		r->ops->mem->copy(r->stream, p, content, size, COPY_TO_DEVICE);
	r->ops->stream->sync(r->stream);
	return p;
}

static void download(struct rig *r, void *content, const void *p, size_t size)
{
	r->ops->mem->copy(r->stream, content, p, size, COPY_TO_HOST);
	r->ops->stream->sync(r->stream);
}

static bool same_lists(const struct sparse *a, const struct sparse *b, int64_t k)
{
	int64_t bad = 0;

	for (int64_t j = 0; j < k; j++)
		bad += a[j].index != b[j].index || (a[j].value != b[j].value && !(isnan(a[j].value) && isnan(b[j].value)));
	return bad == 0;
}

static const char *select_case(struct rig *r, int64_t n, int64_t k, enum choose_kind kind, float least, int shift)
{
	struct array in = array_open(r, FLOATS, n, shift), residual = array_open(r, FLOATS, n, shift);
	float *acc = malloc((size_t)n * sizeof(float)), *bound = upload(r, &least, sizeof(least));
	struct sparse *got = calloc((size_t)k, sizeof(*got)), *want = calloc((size_t)k, sizeof(*want));
	void *work = upload(r, NULL, r->ops->sparse->work_size(n, k)), *work_ref = malloc(ref.ops->sparse->work_size(n, k));
	struct sparse *out = upload(r, NULL, (size_t)k * sizeof(*out));
	const char *wrong;
	struct rng rng;

	rng_init(&rng, 21, RNG_TEST, (uint64_t)n, (uint32_t)kind);
	for (int64_t i = 0; i < n; i++) {
		in.want[i] = choose_value(kind, &rng, i);
		residual.want[i] = kind == CHOOSE_NORMAL ? choose_value(kind, &rng, i) : 0;
		acc[i] = residual.want[i] + in.want[i];
	}
	push(&in);
	push(&residual);
	r->ops->sparse->select(r->stream, n, k, bound, on_device(&in), on_device(&residual), out, work);
	ref.ops->sparse->select(ref.stream, n, k, &least, in.want, residual.want, want, work_ref);
	download(r, got, out, (size_t)k * sizeof(*got));
	wrong = !pull(&residual) ? "wrote outside" : choose_verdict(n, k, least, acc, residual.got, got);
	if (!same_lists(got, want, k))
		wrong = "not as the reference";
	array_close(&in);
	array_close(&residual);
	r->ops->mem->free(r->dev, bound);
	r->ops->mem->free(r->dev, work);
	r->ops->mem->free(r->dev, out);
	free(acc);
	free(got);
	free(want);
	free(work_ref);
	return wrong;
}

static void test_select(struct rig *r)
{
	for (int kind = 0; kind < CHOOSE_KINDS; kind++) {
		const char *wrong = NULL;
		int i = 0, b = 0;

		for (; i < CHOOSE_SIZES && !wrong; i++)
			for (b = 0; b < CHOOSE_BOUNDS && !wrong; b++)
				if (choose_size[i].n < 10000 || b % CHOOSE_KINDS == (kind + i) % CHOOSE_KINDS)
					wrong = select_case(r, choose_size[i].n, choose_size[i].k, (enum choose_kind)kind, choose_bound[b], b % 3);
		ok(!wrong, "select, %s%s%s", choose_name[kind], wrong ? ": " : "", wrong ? wrong : "");
		if (wrong)
			printf("# n = %lld, k = %lld, bound %g\n", (long long)choose_size[i - 1].n, (long long)choose_size[i - 1].k,
			       (double)choose_bound[b - 1]);
	}
}

static void test_bound(struct rig *r)
{
	static const struct { int64_t n, k; double scale; } cases[] = { { 1, 1, 1 }, { 5, 2, 1 }, { 1000, 1000, 1 }, { 50021, 500, 1 }, { 300007, 300, 4 } };
	double worst = 0;

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		size_t c = i / 2;
		struct array x = array_open(r, FLOATS, cases[c].n, 0), y = array_open(r, FLOATS, cases[c].n, 1);
		float *least = upload(r, NULL, sizeof(*least)), got, want;

		fill(&x, 1, 0.1, 1);
		fill(&y, 2, 0, 0.2);
		for (int64_t j = 0; j < cases[c].n; j += 7)
			x.want[j] *= (float)cases[c].scale;
		push(&x);
		push(&y);
		r->ops->sparse->normal_bound(r->stream, cases[c].n, cases[c].k, on_device(&x), i % 2 ? on_device(&y) : NULL, least);
		ref.ops->sparse->normal_bound(ref.stream, cases[c].n, cases[c].k, x.want, i % 2 ? y.want : NULL, &want);
		download(r, &got, least, sizeof(got));
		worse(&worst, fabs((double)got - want) / (want > 0 ? want : 1));
		array_close(&x);
		array_close(&y);
		r->ops->mem->free(r->dev, least);
	}
	ok(worst <= 3e-7, "normal_bound, of one vector and of two, error %.1e", worst);
}

/* The bound from a sample, and what is chosen by it where there is nothing to add. */
static void test_sample(struct rig *r)
{
	int wrong = 0;

	for (int c = 0; c < CHOOSE_SIZES * CHOOSE_KINDS; c++) {
		int64_t n = choose_size[c / CHOOSE_KINDS].n, k = choose_size[c / CHOOSE_KINDS].k;
		struct array x = array_open(r, FLOATS, n, c % 4), y = array_open(r, FLOATS, n, 1);
		void *work = upload(r, NULL, r->ops->sparse->work_size(n, k)), *work_ref = malloc(ref.ops->sparse->work_size(n, k));
		struct sparse *got = calloc((size_t)k, sizeof(*got)), *want = calloc((size_t)k, sizeof(*want));
		struct sparse *out = upload(r, NULL, (size_t)k * sizeof(*out));
		float *least = upload(r, NULL, sizeof(*least)), bound = -1, bound_ref = -1;
		const float *second = c % 2 ? on_device(&y) : NULL;
		struct rng rng;

		rng_init(&rng, 24, RNG_TEST, (uint64_t)c, 0);
		for (int64_t i = 0; i < n; i++) {
			x.want[i] = choose_value((enum choose_kind)(c % CHOOSE_KINDS), &rng, i);
			y.want[i] = choose_value(CHOOSE_NORMAL, &rng, i);
		}
		push(&x);
		push(&y);
		r->ops->sparse->sample_bound(r->stream, n, k, on_device(&x), second, least, work);
		ref.ops->sparse->sample_bound(ref.stream, n, k, x.want, second ? y.want : NULL, &bound_ref, work_ref);
		download(r, &bound, least, sizeof(bound));
		wrong += bound != bound_ref && !(isnan(bound) && isnan(bound_ref));
		if (c % 3) {
			r->ops->sparse->select(r->stream, n, k, least, NULL, on_device(&x), out, work);
			ref.ops->sparse->select(ref.stream, n, k, &bound_ref, NULL, x.want, want, work_ref);
		} else {
			r->ops->sparse->topk(r->stream, n, k, NULL, on_device(&x), out, work);
			ref.ops->sparse->topk(ref.stream, n, k, NULL, x.want, want, work_ref);
		}
		download(r, got, out, (size_t)k * sizeof(*got));
		wrong += !pull(&x) || !same_lists(got, want, k);
		for (int64_t i = 0; i < n; i++)
			wrong += x.got[i] != x.want[i] && !(isnan(x.got[i]) && isnan(x.want[i]));
		array_close(&x);
		array_close(&y);
		r->ops->mem->free(r->dev, work);
		r->ops->mem->free(r->dev, out);
		r->ops->mem->free(r->dev, least);
		free(work_ref);
		free(got);
		free(want);
	}
	ok(wrong == 0, "sample_bound, and topk and select with nothing to add, as the reference");
}

static void test_lists(struct rig *r)
{
	enum { N = 5000, K = 1300, REAL = 1000 };
	static struct sparse list[K];
	struct array y = array_open(r, FLOATS, N, 1);
	struct sparse *dev;
	double worst = 0;

	for (int j = 0; j < K; j++)
		list[j] = j < REAL ? (struct sparse){ (uint32_t)(5 * j), (float)(j % 17) - 8 } : (struct sparse){ SPARSE_HOLE, 0 };
	dev = upload(r, list, sizeof(list));
	fill(&y, 3, 0, 1);
	push(&y);
	r->ops->sparse->scatter_add(r->stream, K, 0.5f, dev, on_device(&y));
	ref.ops->sparse->scatter_add(ref.stream, K, 0.5f, list, y.want);
	worse(&worst, error_of(&y, 1));
	r->ops->sparse->clear(r->stream, K, dev, on_device(&y));
	ref.ops->sparse->clear(ref.stream, K, list, y.want);
	worse(&worst, error_of(&y, 1));
	ok(worst <= 2e-7, "scatter_add and clear pass over holes, error %.1e", worst);
	r->ops->mem->free(r->dev, dev);
	array_close(&y);
}

static void test_drawn(struct rig *r)
{
	static const struct { int64_t n, k; } size[] = { { 1, 1 }, { 17, 16 }, { 1000, 10 }, { 1000, 1000 }, { 50021, 5003 } };
	int wrong = 0;

	for (size_t c = 0; c < sizeof(size) / sizeof(size[0]); c++) {
		int64_t n = size[c].n, k = size[c].k;
		struct array x = array_open(r, FLOATS, n, 1), value = array_open(r, FLOATS, k, 2);
		struct draw draw = { 5, 77 + c };

		fill(&x, (uint32_t)c, 0, 1);
		push(&x);
		push(&value);
		r->ops->sparse->take_drawn(r->stream, n, k, &draw, 0.3f, on_device(&x), on_device(&value));
		ref.ops->sparse->take_drawn(ref.stream, n, k, &draw, 0.3f, x.want, value.want);
		wrong += !pull(&x) || memcmp(x.got, x.want, (size_t)n * 4) || !pull(&value) || memcmp(value.got, value.want, (size_t)k * 4);
		r->ops->sparse->add_drawn(r->stream, n, k, &draw, 1, on_device(&value), on_device(&x));
		ref.ops->sparse->add_drawn(ref.stream, n, k, &draw, 1, value.want, x.want);
		wrong += !pull(&x) || memcmp(x.got, x.want, (size_t)n * 4);
		array_close(&x);
		array_close(&value);
	}
	ok(wrong == 0, "take_drawn and add_drawn as the reference");
}

/* Ok-Topk's: regions that are empty and that are too full, lists with holes at their end. */
static void test_regions(struct rig *r)
{
	enum { K = 3000, PARTS = 7, ROOM = 500, N = 4 * K };
	static struct sparse list[K], want[PARTS * ROOM], got[PARTS * ROOM];
	uint32_t bound[PARTS + 1], bound_ref[PARTS + 1];
	int wrong = 0;
	struct rng rng;

	rng_init(&rng, 33, RNG_TEST, 0, 0);
	for (int i = 0; i < 6; i++) {
		int64_t k = i < 2 ? 5 : K, room = i < 2 ? 1 : ROOM;
		struct array left = array_open(r, FLOATS, N, 1), result = array_open(r, FLOATS, N, 2);
		struct sparse *dev, *block = upload(r, NULL, sizeof(got));
		uint32_t *dev_bound = upload(r, NULL, sizeof(bound));
		float *least = upload(r, NULL, sizeof(*least)), least_got, least_ref;
		uint32_t index = 0;

		for (int64_t j = 0; j < k; j++)
			list[j] = (struct sparse){ index += 1 + rng_below(&rng, 3), (float)rng_normal(&rng) };
		for (int64_t j = 0; j < N; j++)
			result.want[j] = (float)rng_below(&rng, 2);
		push(&left);
		push(&result);
		dev = upload(r, list, (size_t)k * sizeof(*list));
		r->ops->sparse->quantiles(r->stream, k, dev, PARTS, least, dev_bound);
		ref.ops->sparse->quantiles(ref.stream, k, list, PARTS, &least_ref, bound_ref);
		download(r, &least_got, least, sizeof(least_got));
		download(r, bound, dev_bound, sizeof(bound));
		wrong += least_got != least_ref || memcmp(bound, bound_ref, sizeof(bound));
		for (int p = 1; p < PARTS && i % 2; p++)
			bound_ref[p] = bound_ref[p - 1] + (p % 3 ? rng_below(&rng, 2 * (uint32_t)k) : 0);
		for (int64_t j = k - k / 4; j < k && i % 3; j++)
			list[j] = (struct sparse){ SPARSE_HOLE, 0 };
		r->ops->mem->copy(r->stream, dev, list, (size_t)k * sizeof(*list), COPY_TO_DEVICE);
		r->ops->mem->copy(r->stream, dev_bound, bound_ref, sizeof(bound_ref), COPY_TO_DEVICE);
		r->ops->sparse->split(r->stream, k, dev, PARTS, dev_bound, room, block, on_device(&left));
		ref.ops->sparse->split(ref.stream, k, list, PARTS, bound_ref, room, want, left.want);
		download(r, got, block, (size_t)(PARTS * room) * sizeof(*got));
		wrong += !same_lists(got, want, PARTS * room) || error_of(&left, 1) != 0;
		r->ops->sparse->put_back_zero(r->stream, PARTS * room, block, on_device(&result), on_device(&left));
		ref.ops->sparse->put_back_zero(ref.stream, PARTS * room, want, result.want, left.want);
		wrong += error_of(&left, 1) != 0;
		array_close(&left);
		array_close(&result);
		r->ops->mem->free(r->dev, dev);
		r->ops->mem->free(r->dev, block);
		r->ops->mem->free(r->dev, dev_bound);
		r->ops->mem->free(r->dev, least);
	}
	ok(wrong == 0, "quantiles, split and put_back_zero as the reference");
}

static void test_clip(struct rig *r)
{
	double worst = 0;

	for (int i = 0; i < 8; i++) {
		struct array x = array_open(r, FLOATS, i < 4 ? 33 : 300007, i % 3);
		float most = i % 2 ? 0.1f : 1e6f;

		fill(&x, (uint32_t)i, 0.5, 1);
		push(&x);
		r->ops->vec->clip(r->stream, x.n, most, on_device(&x), on_device(&x));
		ref.ops->vec->clip(ref.stream, x.n, most, x.want, x.want);
		worse(&worst, error_of(&x, 1e-9));
		array_close(&x);
	}
	ok(worst <= 3e-7, "clip, error %.1e", worst);
}

/* Activations do not come into it. */
static void tests(struct rig *r)
{
	if (r->half)
		return;
	test_select(r);
	test_bound(r);
	test_sample(r);
	test_lists(r);
	test_drawn(r);
	test_regions(r);
	test_clip(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
