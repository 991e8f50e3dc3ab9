/*
 * The order in which slices of gradients go (schedule/priority.c): worked out by hand, at its limits, and whatever the buckets are: each
 * float once, a bucket's slices in its order, and nothing overtaken that is more urgent and ready.
 */
#include <string.h>

#include "../comm/schedule/schedule.h"
#include "../core/die.h"
#include "../core/rng.h"
#include "tap.h"

enum { MOST = 12 };

static struct tensor_info tensors[MOST];
static struct range buckets[MOST];

/* A bucket a tensor, a weight or not, of so many times 16 floats. */
static void make_buckets(int count, const int *units, const bool *weight)
{
	int64_t offset = 0;

	for (int b = 0; b < count; b++) {
		int64_t n = units[b] * ARENA_ALIGN;

		tensors[b] = (struct tensor_info){ .dims = weight[b] ? 4 : 1, .offset = offset, .n = n };
		buckets[b] = (struct range){ offset, n, &tensors[b], 1 };
		offset += n;
	}
}

/* As text: bucket and length of each slice, in units. */
static void expect(int count, int most, double share, const char *want, const char *what)
{
	struct slice *slice;
	char got[400] = "";
	int slices = schedule_slices(buckets, count, most * ARENA_ALIGN, share, &slice);

	for (int i = 0; i < slices; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%d:%d%s", i ? " " : "", slice[i].bucket, (int)(slice[i].range.n / ARENA_ALIGN),
		         slice[i].last ? "." : "");
	ok(!strcmp(got, want), "%s: %s", what, got);
	free(slice);
}

static void test_by_hand(void)
{
	make_buckets(3, (const int[]){ 4, 2, 2 }, (const bool[]){ true, true, true });
	expect(3, 2, 0.5, "0:2 1:2. 2:2. 0:2.", "the example of the file's head");
	expect(3, 2, 0, "0:2 2:2. 1:2. 0:2.", "a network that sends nothing during backward");
	expect(3, 2, 1000, "0:2 0:2. 1:2. 2:2.", "one that sends all of it at once: backward's order");
	expect(3, 100, 0.5, "0:4. 2:2. 1:2.", "whole buckets: nothing overtakes inside of one");
	expect(3, 3, 1000, "0:3 0:1. 1:2. 2:2.", "a bucket's last slice is what is left");
	/* Biases take no time: ready at 1/2, 1/2, 1, 1. A unit takes 1/4. */
	make_buckets(4, (const int[]){ 1, 1, 4, 2 }, (const bool[]){ true, false, true, false });
	expect(4, 1, 0.5, "1:1. 0:1. 3:1 3:1. 2:1 2:1 2:1 2:1.", "layers of a weight and a bias each");
}

static void test_any(void)
{
	bool whole = true, short_enough = true, urgent = true;
	struct rng rng;

	rng_init(&rng, 3, RNG_TEST, 0, 0);
	for (int run = 0; run < 300; run++) {
		int count = 1 + (int)rng_below(&rng, MOST), units[MOST], most = 1 + (int)rng_below(&rng, 6), slices;
		int64_t sent[MOST] = { 0 };
		bool weight[MOST];
		struct slice *slice;

		for (int b = 0; b < count; b++) {
			units[b] = 1 + (int)rng_below(&rng, 9);
			weight[b] = rng_below(&rng, 2);
		}
		make_buckets(count, units, weight);
		slices = schedule_slices(buckets, count, most * ARENA_ALIGN + (int64_t)rng_below(&rng, ARENA_ALIGN), rng_uniform(&rng) * 2, &slice);
		for (int i = 0; i < slices; i++) {
			const struct range *r = &slice[i].range, *b = &buckets[slice[i].bucket];

			whole = whole && r->offset == b->offset + sent[slice[i].bucket];
			sent[slice[i].bucket] += r->n;
			whole = whole && slice[i].last == (sent[slice[i].bucket] == b->n);
			short_enough = short_enough && r->n > 0 && r->n <= most * ARENA_ALIGN;
			/* Once the last bucket has begun, all are ready: urgency falls to the end. */
			if (i && sent[count - 1] > r->n)
				urgent = urgent && slice[i].bucket <= slice[i - 1].bucket;
		}
		for (int b = 0; b < count; b++)
			whole = whole && sent[b] == buckets[b].n;
		free(slice);
	}
	ok(whole, "300 plans: every float once, a bucket's slices in their order, the last one marked");
	ok(short_enough, "300 plans: no slice is longer than asked for");
	ok(urgent, "300 plans: behind backward the most urgent first");
}

int main(void)
{
	test_by_hand();
	test_any();
	return done_testing();
}
