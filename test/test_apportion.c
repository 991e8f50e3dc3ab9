/* The method of the largest remainder: known cases, and what must hold for any weights. */
#include "../core/apportion.h"
#include "../core/die.h"
#include "../core/rng.h"
#include "tap.h"

enum { MOST = 16 };

static void test_case(const char *what, int64_t total, int n, const double *weight, const int64_t *want)
{
	int64_t share[MOST];
	bool good = true;

	apportion(total, n, weight, 1, share);
	for (int i = 0; i < n; i++)
		good = good && share[i] == want[i];
	ok(good, "%s", what);
	for (int i = 0; i < n && !good; i++)
		printf("# share %d is %lld, not %lld\n", i, (long long)share[i], (long long)want[i]);
}

static void test_known(void)
{
	test_case("equal weights, no remainder", 12, 3, (double[]){ 5, 5, 5 }, (int64_t[]){ 4, 4, 4 });
	test_case("equal weights: the first get what is over", 14, 4, (double[]){ 1, 1, 1, 1 }, (int64_t[]){ 4, 4, 3, 3 });
	test_case("one is three times slower", 48, 3, (double[]){ 300, 300, 100 }, (int64_t[]){ 21, 20, 7 });
	/* Quotas 4.7, 1.6, 1.58, 1.2, 0.61, 0.31: the last two get the least, the others share eight: 4.14, 1.41, 1.39, 1.06. */
	test_case("largest remainders", 10, 6, (double[]){ 47, 16, 15.8, 12, 6.1, 3.1 }, (int64_t[]){ 4, 2, 1, 1, 1, 1 });
	test_case("without a least the last would get none", 10, 3, (double[]){ 1000, 10, 1 }, (int64_t[]){ 8, 1, 1 });
	test_case("who gets the least leaves less for the others", 8, 4, (double[]){ 58, 22, 10, 1 }, (int64_t[]){ 4, 2, 1, 1 });
	test_case("and another one may then deserve less", 8, 4, (double[]){ 78, 13, 8, 1 }, (int64_t[]){ 5, 1, 1, 1 });
	test_case("as many as there are", 5, 5, (double[]){ 9, 1, 1, 1, 1 }, (int64_t[]){ 1, 1, 1, 1, 1 });
	test_case("one alone gets all", 7, 1, (double[]){ 1e-9 }, (int64_t[]){ 7 });
}

/* Sum exact, nobody below the least; who gets more than the least is within one of his quota among those. */
static void test_any(void)
{
	bool sums = true, least_kept = true, quota = true, monotone = true;
	struct rng rng;

	rng_init(&rng, 1, RNG_TEST, 0, 0);
	for (int round = 0; round < 20000; round++) {
		int n = 1 + (int)rng_below(&rng, MOST);
		int64_t least = rng_below(&rng, 4), total = n * least + rng_below(&rng, 200), share[MOST], sum = 0, rich = total;
		double weight[MOST], rich_weight = 0;

		for (int i = 0; i < n; i++)
			weight[i] = exp(6 * rng_uniform(&rng));
		apportion(total, n, weight, least, share);
		for (int i = 0; i < n; i++) {
			sum += share[i];
			least_kept = least_kept && share[i] >= least;
			if (share[i] > least)
				rich_weight += weight[i];
			else
				rich -= share[i];
			for (int j = 0; j < n; j++)
				monotone = monotone && (weight[i] < weight[j] || share[i] >= share[j]);
		}
		for (int i = 0; i < n; i++)
			if (share[i] > least)
				quota = quota && fabs((double)share[i] - (double)rich * weight[i] / rich_weight) < 2;
		sums = sums && sum == total;
	}
	ok(sums, "20000 draws: sums are exact");
	ok(least_kept, "  nobody gets less than the least");
	ok(monotone, "  who is faster gets no less");
	ok(quota, "  who gets more than the least is near his quota");
}

int main(void)
{
	test_known();
	test_any();
	return done_testing();
}
