/*
 * Radix selection: the 31 bits of the k-th largest magnitude are found from the top in three rounds of 11, 10 and 10, each
 * with a histogram of the elements that agree so far. Linear whatever the data: no pivot can be unlucky.
 */
#include "cpu_select.h"

enum { ROUNDS = 3, BINS = 2048 };

static const int shift_of[ROUNDS] = { 20, 10, 0 };
static const uint32_t bins_of[ROUNDS] = { 2048, 1024, 1024 };

struct search {
	uint32_t prefix, mask;          /* magnitudes that agree: (bits & mask) == prefix */
	int64_t k;                      /* rank among those */
	uint32_t count[BINS];
};

static void search_begin(struct search *s, int round)
{
	memset(s->count, 0, bins_of[round] * sizeof(s->count[0]));
}

static inline void search_see(struct search *s, int round, uint32_t bits)
{
	if ((bits & s->mask) == s->prefix)
		s->count[bits >> shift_of[round] & (bins_of[round] - 1)]++;
}

/* Goes from the largest bin down to the one that holds the k-th. */
static void search_narrow(struct search *s, int round)
{
	uint32_t bin = bins_of[round] - 1;

	for (; bin > 0 && s->count[bin] < s->k; bin--)
		s->k -= s->count[bin];
	s->prefix |= bin << shift_of[round];
	s->mask |= (bins_of[round] - 1) << shift_of[round];
}

struct cut cut_list(int64_t n, int64_t k, const struct sparse *list)
{
	struct search s = { .k = k };

	for (int round = 0; round < ROUNDS; round++) {
		search_begin(&s, round);
		for (int64_t i = 0; i < n; i++)
			search_see(&s, round, magnitude_bits(list[i].value));
		search_narrow(&s, round);
	}
	return (struct cut){ s.prefix, s.k };
}

struct cut cut_vector(int64_t n, int64_t k, const float *x)
{
	struct search s = { .k = k };

	for (int round = 0; round < ROUNDS; round++) {
		search_begin(&s, round);
		for (int64_t i = 0; i < n; i++)
			search_see(&s, round, magnitude_bits(x[i]));
		search_narrow(&s, round);
	}
	return (struct cut){ s.prefix, s.k };
}
