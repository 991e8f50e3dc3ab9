/* Philox against the known answers that its authors publish with Random123, and what is drawn from it. */
#include <string.h>

#include "../core/rng.h"
#include "tap.h"

static const struct {
	uint32_t counter[4], key[2], out[4];
} known[] = {
	{ { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
	{ { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
	  { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
	{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
	  { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
};

static void test_known(void)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		uint32_t out[4];

		philox4x32(known[i].counter, known[i].key, out);
		ok(!memcmp(out, known[i].out, sizeof out), "philox4x32-10, known answer %zu: %08x %08x %08x %08x", i, out[0], out[1],
		   out[2], out[3]);
	}
}

/* The first words of a stream. */
static void draw(uint32_t word[8], uint64_t seed, enum rng_purpose purpose, uint64_t a, uint32_t b)
{
	struct rng r;

	rng_init(&r, seed, purpose, a, b);
	for (int i = 0; i < 8; i++)
		word[i] = rng_u32(&r);
}

static void test_streams(void)
{
	static const struct {
		uint64_t seed;
		enum rng_purpose purpose;
		uint64_t a;
		uint32_t b;
		const char *what;
	} other[] = {
		{ 2, RNG_TEST, 3, 4, "seed" },
		{ 1 + (1ull << 32), RNG_TEST, 3, 4, "the seed's high half" },
		{ 1, RNG_INIT, 3, 4, "purpose" },
		{ 1, RNG_TEST, 4, 4, "a" },
		{ 1, RNG_TEST, 3 + (1ull << 32), 4, "a's high half" },
		{ 1, RNG_TEST, 3, 5, "b" },
		{ 1, RNG_TEST, 4, 3, "a and b swapped" },
	};
	uint32_t first[8], again[8];

	draw(first, 1, RNG_TEST, 3, 4);
	draw(again, 1, RNG_TEST, 3, 4);
	ok(!memcmp(first, again, sizeof first), "the same stream again gives the same words");
	for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
		int same = 0;

		draw(again, other[i].seed, other[i].purpose, other[i].a, other[i].b);
		for (int j = 0; j < 8; j++)
			for (int k = 0; k < 8; k++)
				same += first[j] == again[k];
		ok(!same, "another stream for another %s", other[i].what);
	}
}

/* Chi-square of `bins` equally likely bins, as a distance from its mean in standard deviations. */
static double deviation(const int *count, int bins, int total)
{
	double expected = (double)total / bins, sum = 0;

	for (int i = 0; i < bins; i++)
		sum += (count[i] - expected) * (count[i] - expected) / expected;
	return (sum - (bins - 1)) / sqrt(2.0 * (bins - 1));
}

static void test_below(void)
{
	enum { DRAWS = 300000 };
	struct rng r;
	int count[7] = { 0 }, thirds[3] = { 0 };
	bool inside = true;

	rng_init(&r, 5, RNG_TEST, 0, 0);
	for (int i = 0; i < DRAWS; i++) {
		uint32_t small = rng_below(&r, 7), large = rng_below(&r, 3u << 30);

		inside &= small < 7 && large < 3u << 30;
		count[small % 7]++;
		thirds[large % 3]++;
	}
	ok(inside, "rng_below stays below");
	near(deviation(count, 7, DRAWS), 0, 4, "rng_below(7) is uniform, in standard deviations");
	/* A plain multiply without rejection gives every third number twice as often as the others. */
	near(deviation(thirds, 3, DRAWS), 0, 4, "rng_below(3 * 2^30) is uniform, in standard deviations");
	ok(rng_below(&r, 1) == 0, "rng_below(1) is 0");
}

static void test_floats(void)
{
	enum { DRAWS = 400000, BINS = 64 };
	struct rng r;
	int count[BINS] = { 0 };
	double sum = 0, squares = 0, cubes = 0, fourths = 0, u;
	bool inside = true, finite = true;

	rng_init(&r, 9, RNG_TEST, 1, 2);
	for (int i = 0; i < DRAWS; i++) {
		u = rng_uniform(&r);
		inside &= u >= 0 && u < 1;
		count[(int)(u * BINS) % BINS]++;
	}
	ok(inside, "rng_uniform is in [0, 1)");
	near(deviation(count, BINS, DRAWS), 0, 4, "rng_uniform is uniform, in standard deviations");
	for (int i = 0; i < DRAWS; i++) {
		double x = rng_normal(&r);

		finite &= isfinite(x);
		sum += x;
		squares += x * x;
		cubes += x * x * x;
		fourths += x * x * x * x;
	}
	ok(finite, "rng_normal is finite");
	near(sum / DRAWS, 0, 4 / sqrt(DRAWS), "mean of rng_normal");
	near(squares / DRAWS, 1, 4 * sqrt(2.0 / DRAWS), "variance of rng_normal");
	near(cubes / DRAWS, 0, 4 * sqrt(15.0 / DRAWS), "third moment of rng_normal");
	near(fourths / DRAWS, 3, 4 * sqrt(96.0 / DRAWS), "fourth moment of rng_normal");
}

int main(void)
{
	test_known();
	test_streams();
	test_below();
	test_floats();
	return done_testing();
}
