/*
 * The order in which slices of gradients go (schedule/priority.c): worked out by hand, at its limits, and whatever the buckets are: each
 * float once, a bucket's slices in its order, and nothing overtaken that is more urgent and ready. What a plan costs that was made for
 * another network.
 */
#include <string.h>

#include "../comm/schedule/schedule.h"
#include "../core/die.h"
#include "../core/option.h"
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

/* ---- a plan for another network than there is ---- */

enum { LAYERS = 20 };

/* Weights of a layer, the first layer first. */
static const struct { const char *name; int layers; int64_t n[LAYERS]; } models[] = {
	{ "resnet18", 18, { 1728, 36864, 36864, 36864, 36864, 73728, 147456, 147456, 147456, 294912, 589824, 589824, 589824, 1179648, 2359296,
	                    2359296, 2359296, 5120 } },
	{ "vgg16, imagenet", 16, { 1728, 36864, 73728, 147456, 294912, 589824, 589824, 1179648, 2359296, 2359296, 2359296, 2359296, 2359296,
	                           102760448, 16777216, 4096000 } },
	{ "alexnet", 8, { 23232, 307200, 663552, 884736, 589824, 37748736, 16777216, 4096000 } },
};
enum { MODELS = sizeof(models) / sizeof(*models) };

/* Buckets of 4 MB or of one layer. Returns how many. */
static int make_model(int model, struct tensor_info tensor[LAYERS], struct range bucket[LAYERS])
{
	int count = 0;
	int64_t offset = 0;

	for (int i = 0; i < models[model].layers; i++) {
		int64_t n = models[model].n[models[model].layers - 1 - i];

		tensor[i] = (struct tensor_info){ .dims = 4, .offset = offset, .n = n };
		if (!count || bucket[count - 1].n + n > 1000000)
			bucket[count++] = (struct range){ offset, 0, &tensor[i], 0 };
		bucket[count - 1].n += n;
		bucket[count - 1].tensors++;
		offset += n;
	}
	return count;
}

/* Backward takes 1, forward 1/2. From the start of one to the end of the other, if slices go as planned for `share` where the network
 * sends `real` of the model during backward. */
static double step_by(const struct range *bucket, int count, double share, double real)
{
	int64_t total = bucket[count - 1].offset + bucket[count - 1].n;
	struct slice *slice;
	int slices = schedule_slices(bucket, count, total / 200, share, &slice), layers = 0, so_far = 0;
	double ready[LAYERS], landed[LAYERS] = { 0 }, now = 0;

	for (int b = 0; b < count; b++)
		layers += bucket[b].tensors;
	for (int b = 0; b < count; b++)
		ready[b] = (so_far += bucket[b].tensors) / (double)layers;
	for (int i = 0; i < slices; i++) {
		int b = slice[i].bucket;

		landed[b] = now = fmax(now, ready[b]) + (double)slice[i].range.n / (real * (double)total);
	}
	now = 1;
	for (int b = count - 1; b >= 0; b--)
		now = fmax(now, landed[b]) + 0.5 * bucket[b].tensors / layers;
	free(slice);
	return now;
}

/* How much longer a step takes at the worst, whatever the network, than by the best of the plans. */
static double price(const struct range *bucket, int count, double share)
{
	static const double plans[] = { 0.1, 0.25, 0.5, 0.7, 1, 2, 1000 };
	double worst = 0;

	for (double real = 0.05; real < 5; real *= 1.1) {
		double best = step_by(bucket, count, real, real);

		for (size_t i = 0; i < sizeof(plans) / sizeof(*plans); i++)
			best = fmin(best, step_by(bucket, count, plans[i], real));
		worst = fmax(worst, step_by(bucket, count, share, real) / best);
	}
	return worst;
}

static double default_share(void)
{
	for (const struct option *o = schedule_policies; o->key; o++)
		if (!strcmp(o->key, "backward_share"))
			return strtod(o->value, NULL);
	return -1;
}

static void test_default(void)
{
	double share = default_share();

	for (int m = 0; m < MODELS; m++) {
		struct tensor_info tensor[LAYERS];
		struct range bucket[LAYERS];
		int count = make_model(m, tensor, bucket);
		double own = price(bucket, count, share);

		ok(own < 1.1 && own < price(bucket, count, 0.4) && own < price(bucket, count, 1.2),
		   "%s: planned for a share of %g, a step is at most %.3f times as long as by the best plan, whatever the network", models[m].name, share, own);
	}
}

int main(void)
{
	test_by_hand();
	test_any();
	test_default();
	return done_testing();
}
