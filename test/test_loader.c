/*
 * The loader: order, shards, batches and augmentation, on a data set whose images tell who they are (the first four bytes are the
 * sample's number), so that any error of order shows.
 */
#include <string.h>

#include "../core/die.h"
#include "../core/rng.h"
#include "../data/augment.h"
#include "../data/loader.h"
#include "tap.h"

enum { COUNT = 1003, SIDE = 8, CHANNELS = 3, PIXELS = SIDE * SIDE * CHANNELS };

static uint8_t images[COUNT * PIXELS], labels[COUNT];

static struct dataset numbered(int pad, bool flip)
{
	struct dataset d = { .h = SIDE, .w = SIDE, .c = CHANNELS, .classes = 7, .pad = pad, .flip = flip };

	for (int i = 0; i < COUNT; i++) {
		uint8_t *image = images + i * PIXELS;

		for (int j = 0; j < PIXELS; j++)
			image[j] = (uint8_t)(1 + (i * 31 + j * 7 + j * j) % 255);
		image[0] = (uint8_t)i;
		image[1] = (uint8_t)(i >> 8);
		labels[i] = (uint8_t)(i % 7);
	}
	for (int k = 0; k < CHANNELS; k++) {
		d.mean[k] = 0.25f + 0.125f * (float)k;
		d.std[k] = 0.5f + 0.25f * (float)k;
	}
	d.train = d.test = (struct split){ COUNT, images, labels };
	return d;
}

static float normalised(const struct dataset *d, int k, int value)
{
	return (float)((value / 255.0 - (double)d->mean[k]) / (double)d->std[k]);
}

static struct loader *open_train(const struct dataset *d, int workers, int worker, const int *batch, int prefetch, bool cyclic)
{
	struct loader_config c = {
		.seed = 42, .train = true, .augment = true, .workers = workers, .worker = worker, .batch = batch,
		.prefetch = prefetch, .cyclic = cyclic,
	};

	return loader_open(d, &d->train, &c);
}

/* ---- order and shards ---- */

static bool is_permutation(const uint32_t *order, int64_t count)
{
	bool *seen = xcalloc((size_t)count, sizeof *seen), good = true;

	for (int64_t i = 0; i < count; i++) {
		good = good && order[i] < count && !seen[order[i]];
		if (order[i] < count)
			seen[order[i]] = true;
	}
	free(seen);
	return good;
}

static void test_order(void)
{
	static uint32_t a[COUNT], b[COUNT];
	int64_t first_sum = 0;
	int fixed = 0, equal = 0;

	for (int64_t n = 1; n <= 5; n++) {
		loader_order(1, 0, n, a);
		ok(is_permutation(a, n), "the order of %d samples is a permutation", (int)n);
	}
	loader_order(1, 0, COUNT, a);
	loader_order(1, 0, COUNT, b);
	ok(is_permutation(a, COUNT) && !memcmp(a, b, sizeof a), "the order of %d is a permutation, the same each time", COUNT);
	for (int i = 0; i < COUNT; i++)
		fixed += a[i] == (uint32_t)i;
	ok(fixed < 12, "it is shuffled: %d samples stay in place", fixed);
	loader_order(1, 1, COUNT, b);
	for (int i = 0; i < COUNT; i++)
		equal += a[i] == b[i];
	ok(is_permutation(b, COUNT) && equal < 12, "another epoch has another order: %d equal", equal);
	loader_order(2, 0, COUNT, b);
	ok(is_permutation(b, COUNT) && memcmp(a, b, sizeof a), "another seed has another order");
	for (int e = 0; e < 4000; e++) {
		loader_order(7, e, 9, a);
		first_sum += a[0];
	}
	near((double)first_sum / 4000, 4, 0.2, "the first of 9 is uniform: mean");        /* its deviation is 0.041 */
}

/* Disjoint, complete, contiguous, in ratio, and with enough for floor(count / total) whole batches. */
static bool shards_are_right(int64_t count, int workers, const int *batch)
{
	int64_t end = 0, total = 0;

	for (int i = 0; i < workers; i++)
		total += batch[i];
	for (int i = 0; i < workers; i++) {
		int64_t from, to;
		double share = (double)count * batch[i] / (double)total;

		loader_shard(count, workers, batch, i, &from, &to);
		if (from != end || to < from || to - from < count / total * batch[i] || !(fabs((double)(to - from) - share) < 1))
			return false;
		end = to;
	}
	return end == count;
}

static void test_shards(void)
{
	static const int equal[7] = { 4, 4, 4, 4, 4, 4, 4 }, unequal[7] = { 7, 1, 16, 3, 3, 40, 2 };

	for (int workers = 1; workers <= 7; workers++) {
		bool good = true;

		for (int64_t count = 1; count < 300; count++)
			good = good && shards_are_right(count, workers, equal) && shards_are_right(count, workers, unequal);
		good = good && shards_are_right(60000, workers, unequal) && shards_are_right(1281167, workers, unequal);
		ok(good, "%d workers: shards are disjoint, complete and in ratio", workers);
	}
}

/* ---- an epoch over all workers ---- */

struct seen {
	int times[COUNT];
	float image[COUNT][PIXELS];
};

static bool same_image(const float *a, const float *b)
{
	return !memcmp(a, b, PIXELS * sizeof *a);
}

/* Runs one epoch of one worker, notes its samples; checks labels and positions. Returns the number of batches, -1: wrong. */
static int64_t epoch_of(struct loader *l, int64_t epoch, int batch, struct seen *s)
{
	struct batch b;
	int64_t steps = 0;

	for (loader_start(l, epoch, 0); loader_next(l, &b); steps++) {
		if (b.count != batch || b.epoch != epoch || b.step != steps)
			return -1;
		for (int i = 0; i < b.count; i++) {
			if (b.sample[i] < 0 || b.sample[i] >= COUNT || b.label[i] != b.sample[i] % 7)
				return -1;
			s->times[b.sample[i]]++;
			memcpy(s->image[b.sample[i]], b.image + i * PIXELS, PIXELS * sizeof(float));
		}
	}
	return loader_next(l, &b) ? -1 : steps;
}

static void test_epoch(const struct dataset *d, const int *batch, const char *kind)
{
	static struct seen alone, together;
	int one = 1;
	struct loader *l = open_train(d, 1, 0, &one, 0, false);

	memset(&alone, 0, sizeof alone);
	epoch_of(l, 3, 1, &alone);
	loader_close(l);
	for (int workers = 1; workers <= 7; workers++) {
		int64_t total = 0;
		int samples = 0;
		bool steps_good = true, images_good = true, once = true;

		for (int i = 0; i < workers; i++)
			total += batch[i];
		memset(&together, 0, sizeof together);
		for (int i = 0; i < workers; i++) {
			l = open_train(d, workers, i, batch, i % 3, false);
			steps_good = steps_good && loader_steps(l) == COUNT / total;
			steps_good = steps_good && epoch_of(l, 3, batch[i], &together) == COUNT / total;
			loader_close(l);
		}
		for (int i = 0; i < COUNT; i++) {
			samples += together.times[i];
			once = once && together.times[i] <= 1;
			images_good = images_good && (!together.times[i] || same_image(together.image[i], alone.image[i]));
		}
		ok(steps_good, "%s batches, %d workers: %d whole batches each", kind, workers, (int)(COUNT / total));
		ok(once && samples == COUNT / total * total, "  no sample twice, %d of %d used", samples, COUNT);
		ok(images_good, "  a sample gets the same crop whoever loads it");
	}
}

/* ---- prefetch and restart ---- */

static bool same_batch(const struct batch *a, const struct batch *b, int n)
{
	return a->count == b->count && a->epoch == b->epoch && a->step == b->step && !memcmp(a->label, b->label, (size_t)n * 4) &&
	       !memcmp(a->sample, b->sample, (size_t)n * 8) && !memcmp(a->image, b->image, (size_t)n * PIXELS * 4);
}

/* The next `count` batches of both are equal, to the bit. */
static bool in_step(struct loader *a, struct loader *b, int count, int n)
{
	struct batch x, y;

	for (int i = 0; i < count; i++)
		if (!loader_next(a, &x) || !loader_next(b, &y) || !same_batch(&x, &y, n))
			return false;
	return true;
}

static void test_prefetch(const struct dataset *d)
{
	static const int batch[2] = { 30, 20 };

	for (int prefetch = 1; prefetch <= 5; prefetch += 2) {
		struct loader *plain = open_train(d, 2, 1, batch, 0, true), *ahead = open_train(d, 2, 1, batch, prefetch, true);

		loader_start(plain, 0, 0);
		loader_start(ahead, 0, 0);
		ok(in_step(plain, ahead, 70, 20), "prefetch %d: 3.5 epochs are equal to those without", prefetch);
		loader_close(plain);
		loader_close(ahead);
	}
}

static void test_restart(const struct dataset *d)
{
	static const int batch[2] = { 30, 20 };
	struct loader *through = open_train(d, 2, 0, batch, 2, true);
	struct batch b;
	bool good = true;

	ok(loader_steps(through) == 20, "a step of 50 samples: 20 steps an epoch");
	loader_start(through, 0, 0);
	for (int i = 0; i < 47; i++)
		loader_next(through, &b);
	for (int prefetch = 0; prefetch <= 2; prefetch++) {
		struct loader *again = open_train(d, 2, 0, batch, prefetch, true);

		loader_start(again, 2, 7 + prefetch);
		ok(in_step(through, again, 1, 30), "restarted at (2, %d), prefetch %d: as if run through", 7 + prefetch, prefetch);
		loader_close(again);
	}
	loader_start(through, 0, 20);
	ok(loader_next(through, &b) && b.epoch == 1 && b.step == 0, "the step after an epoch's last is the next epoch's first");
	for (int i = 0; i < 200; i++) {
		int64_t epoch = i % 3, step = i % 20;

		loader_start(through, epoch, step);
		for (int j = 0; j < i % 4; j++)
			good = good && loader_next(through, &b) && b.epoch * 20 + b.step == epoch * 20 + step + j;
	}
	ok(good, "200 restarts in the middle of everything drop what was prefetched");
	loader_close(through);
	through = open_train(d, 2, 0, batch, 3, true);
	loader_close(through);
	ok(true, "a loader that was never started can be closed");
}

static void test_end(const struct dataset *d)
{
	int batch = 100;
	struct batch b;

	for (int prefetch = 0; prefetch <= 2; prefetch += 2) {
		struct loader *l = open_train(d, 1, 0, &batch, prefetch, false);
		int n = 0;

		loader_start(l, 5, 8);
		while (loader_next(l, &b))
			n++;
		ok(n == 2 && !loader_next(l, &b), "prefetch %d: not cyclic: two batches are left of 10, then none", prefetch);
		loader_start(l, 6, 0);
		ok(loader_next(l, &b) && b.epoch == 6, "  until started again");
		ok(loader_waited(l) >= 0, "  it tells how long was waited");
		loader_close(l);
	}
}

/* ---- evaluation ---- */

static void test_evaluation(const struct dataset *d)
{
	static int batch[8] = { 64, 64, 10, 64, 64, 64, 64, 64 };
	struct dataset few = *d;

	few.test.count = 5;
	for (int workers = 1; workers <= 8; workers++) {
		const struct dataset *set = workers == 8 ? &few : d;    /* with 8 workers: fewer samples than workers */
		int times[COUNT] = { 0 };
		bool good = true, once = true, plain = true;

		for (int i = 0; i < workers; i++) {
			struct loader_config c = { .workers = workers, .worker = i, .batch = batch, .prefetch = i % 3, .augment = true };
			struct loader *l = loader_open(set, &set->test, &c);
			struct batch b;
			int64_t steps = 0;

			for (loader_start(l, 9, 3); loader_next(l, &b); steps++)
				for (int j = 0; j < batch[i]; j++) {
					int64_t s = b.sample[j];

					good = good && (j < b.count ? s >= 0 && b.label[j] == s % 7 : s == -1 && b.label[j] == -1);
					if (s < 0)
						continue;
					times[s]++;
					plain = plain && b.image[j * PIXELS] == normalised(d, 0, (int)(s & 255));
				}
			good = good && steps == loader_steps(l);
			loader_close(l);
		}
		for (int i = 0; i < COUNT; i++)
			once = once && times[i] == (i < set->test.count);
		ok(once, "evaluation on %d workers: every one of %d samples exactly once", workers, (int)set->test.count);
		ok(good, "  filler has label and sample -1, the others their own");
		ok(plain, "  images are not augmented");
	}
}

/* ---- augmentation against a plain recomputation ---- */

/* A pixel of the augmented image, from the definition: pad with black, cut out at (dy, dx), mirror. */
static float expected(const struct dataset *d, int64_t sample, struct crop crop, int y, int x, int k)
{
	int sy = y + crop.dy - d->pad, sx = (crop.flip ? SIDE - 1 - x : x) + crop.dx - d->pad;
	bool inside = sy >= 0 && sy < SIDE && sx >= 0 && sx < SIDE;

	return normalised(d, k, inside ? images[((sample * SIDE + sy) * SIDE + sx) * CHANNELS + k] : 0);
}

static void test_augment(int pad, bool flip)
{
	struct dataset d = numbered(pad, flip);
	struct augment a;
	int drawn[2 * 8 + 1] = { 0 }, flips = 0, batch = 17;
	struct loader *l = open_train(&d, 1, 0, &batch, 0, false);
	struct batch b;
	bool good = true, spread = true;

	augment_init(&a, &d, true);
	for (loader_start(l, 4, 0); loader_next(l, &b);)
		for (int i = 0; i < b.count; i++) {
			struct crop crop = augment_draw(&a, 42, 4, b.sample[i]);

			drawn[crop.dy]++;
			drawn[crop.dx]++;
			flips += crop.flip;
			for (int j = 0; j < PIXELS; j++)
				good = good && b.image[i * PIXELS + j] == expected(&d, b.sample[i], crop, j / CHANNELS / SIDE,
										     j / CHANNELS % SIDE, j % CHANNELS);
		}
	for (int i = 0; i <= 2 * pad; i++)
		spread = spread && drawn[i] > 2006 / (2 * pad + 1) * 2 / 3;
	ok(good, "pad %d, flip %d: every pixel as by definition", pad, flip);
	ok(spread, "  every place of the window is drawn about as often");
	ok(flip ? flips > 420 && flips < 580 : flips == 0, "  %d of %d are mirrored", flips, COUNT);
	augment_release(&a);
	loader_close(l);
}

static void test_channels(void)
{
	for (int c = 1; c <= 4; c++) {
		struct dataset d = { .h = 3, .w = 5, .c = c, .mean = { 0.5f, 0.25f, 0, 1 }, .std = { 1, 0.5f, 2, 0.25f } };
		struct augment a;
		uint8_t image[60];
		float out[60];
		bool good = true;

		for (int i = 0; i < 60; i++)
			image[i] = (uint8_t)(i * 37);
		augment_init(&a, &d, true);
		augment_image(&a, 1, 0, 0, image, out);
		for (int i = 0; i < 15 * c; i++)
			good = good && out[i] == normalised(&d, i % c, image[i]);
		ok(good, "%d channels: each by its own mean and deviation", c);
		augment_release(&a);
	}
}

static void test_too_few(const struct dataset *d)
{
	static const int batch[2] = { 1000, 4 };

	ok(!open_train(d, 2, 0, batch, 1, true), "one step of all workers takes more than there is: no loader");
	ok(strstr(errors_text(), "1003") && strstr(errors_text(), "1004") && strstr(errors_text(), "hint:"), "  and a message: %.60s",
	   errors_text());
	errors_clear();
}

int main(void)
{
	static const int equal[7] = { 9, 9, 9, 9, 9, 9, 9 }, unequal[7] = { 7, 1, 16, 3, 3, 40, 2 };
	struct dataset d = numbered(2, true);

	test_order();
	test_shards();
	test_epoch(&d, equal, "equal");
	test_epoch(&d, unequal, "unequal");
	test_prefetch(&d);
	test_restart(&d);
	test_end(&d);
	test_evaluation(&d);
	test_augment(2, true);
	test_augment(0, true);
	test_augment(3, false);
	test_augment(8, true);
	test_channels();
	test_too_few(&d);
	return done_testing();
}
