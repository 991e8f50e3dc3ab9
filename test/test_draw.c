/*
 * Drawn places: k distinct ones of n, each as likely as any other, the same bits on every kind of CPU; and what is taken from them
 * comes back where it was.
 */
#define HOST_DEVICE __attribute__((unused)) static inline
#include "../core/draw.h"
#include "ops_kit.h"

static const struct { int64_t n, k; } sizes[] = {
	{ 1, 1 }, { 2, 1 }, { 5, 3 }, { 16, 16 }, { 17, 16 }, { 1000, 1 }, { 1000, 10 }, { 1000, 999 }, { 1000, 1000 }, { 50021, 501 },
};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* The j-th place of a draw, in the words of the header. */
static int64_t place(const struct draw_plan *p, int64_t j)
{
	uint32_t word[DRAW_BLOCK];

	draw_words(p, j / DRAW_BLOCK, word);
	return draw_place(p, j, word[j % DRAW_BLOCK]);
}

static void test_places(void)
{
	int wrong = 0;

	for (int i = 0; i < SIZES; i++)
		for (uint64_t round = 0; round < 20; round++) {
			struct draw_plan p = draw_plan_of(&(struct draw){ 7, round }, sizes[i].n, sizes[i].k);
			uint8_t *taken = calloc((size_t)sizes[i].n, 1);

			for (int64_t j = 0; j < sizes[i].k; j++) {
				int64_t at = place(&p, j);

				wrong += at < 0 || at >= sizes[i].n || taken[at]++;
			}
			free(taken);
		}
	ok(wrong == 0, "places are inside and distinct");
}

/* How often each of n places is taken in many rounds: chi-square of n - 1 degrees of freedom, at most 4 deviations too large. */
static void test_chances(void)
{
	enum { N = 37, K = 5, ROUNDS = 20000 };
	double count[N] = { 0 }, expected = (double)ROUNDS * K / N, chi = 0, bound = N - 1 + 4 * sqrt(2.0 * (N - 1)), same = 0;

	for (uint64_t round = 0; round < ROUNDS; round++) {
		struct draw_plan p = draw_plan_of(&(struct draw){ 3, round }, N, K), q = draw_plan_of(&(struct draw){ 4, round }, N, K);

		for (int64_t j = 0; j < K; j++) {
			count[place(&p, j)]++;
			same += place(&p, j) == place(&q, j);
		}
	}
	for (int i = 0; i < N; i++)
		chi += (count[i] - expected) * (count[i] - expected) / expected;
	ok(chi <= bound, "37 places, 5 taken, 20000 times: all equally often, chi-square %.1f (at most %.1f)", chi, bound);
	ok(fabs(same / ROUNDS / K - 1.0 / N) < 0.005, "another seed draws other places");
}

static void test_device(struct rig *r, struct rig *ref)
{
	int wrong = 0, outside = 0, lost = 0;

	for (int i = 0; i < SIZES; i++) {
		int64_t n = sizes[i].n, k = sizes[i].k;
		struct buffer x = buffer_open(n, 1), want = buffer_open(n, 0), value = buffer_open(k, 2), values = buffer_open(k, 0),
		              before = buffer_open(n, 0);
		struct draw draw = { 99, 1000000007ull * (uint64_t)i };

		fill(x.x, n, (uint32_t)i, 0, 1);
		memcpy(want.x, x.x, (size_t)n * 4);
		memcpy(before.x, x.x, (size_t)n * 4);
		r->ops->sparse->take_drawn(r->stream, n, k, &draw, 0.3f, x.x, value.x);
		ref->ops->sparse->take_drawn(ref->stream, n, k, &draw, 0.3f, want.x, values.x);
		wrong += memcmp(x.x, want.x, (size_t)n * 4) || memcmp(value.x, values.x, (size_t)k * 4);
		r->ops->sparse->add_drawn(r->stream, n, k, &draw, 1, value.x, x.x);
		ref->ops->sparse->add_drawn(ref->stream, n, k, &draw, 1, values.x, want.x);
		wrong += memcmp(x.x, want.x, (size_t)n * 4) != 0;
		for (int64_t j = 0; j < n; j++)
			lost += x.x[j] != before.x[j] && x.x[j] != 0.3f * before.x[j];
		outside += !buffer_intact(&x) || !buffer_intact(&value);
		buffer_close(&x);
		buffer_close(&want);
		buffer_close(&value);
		buffer_close(&values);
		buffer_close(&before);
	}
	ok(wrong == 0 && outside == 0, "%s: take_drawn and add_drawn as the reference", r->name);
	ok(lost == 0, "%s: what is put back is where it was", r->name);
}

int main(void)
{
	test_places();
	test_chances();
	for_all_rigs(test_device);
	return done_testing();
}
