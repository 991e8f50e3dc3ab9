/*
 * Who owns which sample: every partition is complete, disjoint, of the right sizes and the same each time; alpha is what it says; and
 * a loader on it gives each worker its own samples, at any point of a run the same ones.
 */
#include <string.h>

#include "../core/die.h"
#include "../core/rng.h"
#include "../data/loader.h"
#include "../data/partition.h"
#include "tap.h"

enum { COUNT = 5003, SIDE = 2, PIXELS = SIDE * SIDE, CLASSES = 10 };

static uint8_t images[COUNT * PIXELS], labels[COUNT];
static const int equal[8] = { 8, 8, 8, 8, 8, 8, 8, 8 }, unequal[8] = { 7, 1, 16, 3, 3, 40, 2, 5 };

/* Labels at random, class 0 three times as frequent, class 7 missing. */
static struct dataset labelled(void)
{
	struct dataset d = { .h = SIDE, .w = SIDE, .c = 1, .classes = CLASSES, .mean = { 0.5f }, .std = { 1 } };
	struct rng rng;

	rng_init(&rng, 1, RNG_TEST, 0, 0);
	for (int i = 0; i < COUNT; i++) {
		uint32_t label = rng_below(&rng, CLASSES + 2);

		labels[i] = label >= CLASSES || label == 7 ? 0 : (uint8_t)label;
		images[i * PIXELS] = (uint8_t)i;
	}
	d.train = d.test = (struct split){ COUNT, images, labels };
	return d;
}

static struct partition_rule rule(enum partition_kind kind, double alpha, uint64_t seed)
{
	return (struct partition_rule){ kind, alpha, seed };
}

/* Every sample once, shards of the sizes of iid, the table of labels true. */
static bool is_right(const struct partition *p, const struct dataset *d, const int *batch)
{
	bool *seen = xcalloc(COUNT, sizeof(*seen)), good = p->from[0] == 0 && p->from[p->workers] == COUNT;

	for (int w = 0; w < p->workers; w++) {
		int64_t from, to, count[CLASSES] = { 0 };

		loader_shard(COUNT, p->workers, batch, w, &from, &to);
		good = good && p->from[w] == from && p->from[w + 1] == to;
		for (int64_t i = p->from[w]; i < p->from[w + 1]; i++) {
			good = good && p->sample[i] < COUNT && !seen[p->sample[i]];
			seen[p->sample[i] % COUNT] = true;
			count[d->train.label[p->sample[i]]]++;
		}
		good = good && !memcmp(count, p->count + w * CLASSES, sizeof(count));
	}
	free(seen);
	return good;
}

static void test_shape(const struct dataset *d)
{
	static const double alphas[] = { 1e-3, 0.05, 0.3, 1, 100, 1e9 };

	for (int workers = 1; workers <= 8; workers++)
		for (int u = 0; u < 2; u++) {
			const int *batch = u ? unequal : equal;
			struct partition p, again;
			struct partition_rule r = rule(PARTITION_SORTED, 1, 3);
			bool right, same = true, ordered = true;

			partition_open(&p, &r, &d->train, CLASSES, workers, batch);
			right = is_right(&p, d, batch);
			for (int i = 1; i < COUNT; i++)
				ordered = ordered && labels[p.sample[i - 1]] <= labels[p.sample[i]];
			partition_close(&p);
			for (int a = 0; a < 6; a++) {
				r = rule(PARTITION_DIRICHLET, alphas[a], 3);
				partition_open(&p, &r, &d->train, CLASSES, workers, batch);
				partition_open(&again, &r, &d->train, CLASSES, workers, batch);
				right = right && is_right(&p, d, batch);
				same = same && !memcmp(p.sample, again.sample, COUNT * sizeof(*p.sample));
				partition_close(&p);
				partition_close(&again);
			}
			ok(right, "%d workers, %s batches: complete, disjoint, sizes in ratio, for every alpha", workers, u ? "unequal" : "equal");
			ok(same && ordered, "  the same each time; sorted is sorted");
		}
}

static double skew_of(const struct dataset *d, enum partition_kind kind, double alpha, uint64_t seed, int workers, const int *batch)
{
	struct partition_rule r = rule(kind, alpha, seed);
	struct partition p;
	double skew;

	partition_open(&p, &r, &d->train, CLASSES, workers, batch);
	skew = partition_skew(&p);
	partition_close(&p);
	return skew;
}

/* Of workers who get 1/P each of a class, whatever it is, nothing is misplaced; of workers who have no label in common, 1 - 1/P. */
static void test_alpha(const struct dataset *d)
{
	for (int u = 0; u < 2; u++) {
		const int *batch = u ? unequal : equal;
		double mean[4] = { 0 };
		static const double alphas[] = { 1e9, 10, 0.3, 0.01 };

		for (int a = 0; a < 4; a++)
			for (uint64_t seed = 1; seed <= 20; seed++)
				mean[a] += skew_of(d, PARTITION_DIRICHLET, alphas[a], seed, 5, batch) / 20;
		ok(mean[0] < 0.006, "%s: alpha → ∞: every worker has the whole's mixture (skew %.4f)", u ? "unequal" : "equal", mean[0]);
		ok(mean[0] < mean[1] && mean[1] < mean[2] && mean[2] < mean[3], "  less alpha, more skew: %.3f, %.3f, %.3f, %.3f", mean[0], mean[1],
		   mean[2], mean[3]);
		ok(mean[1] > 0.03 && mean[1] < 0.2 && mean[2] > 0.3 && mean[2] < 0.6, "  as much as is to be expected");
		ok(mean[3] > (u ? 0.4 : 0.55), "  alpha → 0: hardly a label in common");
	}
	near(skew_of(d, PARTITION_SORTED, 1, 1, 5, equal), 0.65, 0.06, "sorted: two or three labels each, skew");
	ok(skew_of(d, PARTITION_IID, 1, 1, 5, equal) == 0, "iid: none");
}

/* Before balancing nothing but the margins tells apart what seeds give: they must differ, and a worker must not always get the same. */
static void test_seed(const struct dataset *d)
{
	struct partition_rule r = rule(PARTITION_DIRICHLET, 0.3, 1);
	double mean[4] = { 0 };
	struct partition p, q;
	int moved = 0;

	partition_open(&p, &r, &d->train, CLASSES, 4, equal);
	r.seed = 2;
	partition_open(&q, &r, &d->train, CLASSES, 4, equal);
	for (int i = 0; i < COUNT; i++)
		moved += p.sample[i] != q.sample[i];
	ok(moved > COUNT / 2 && memcmp(p.count, q.count, 4 * CLASSES * sizeof(*p.count)), "another seed: other mixtures, other samples");
	partition_close(&p);
	partition_close(&q);
	/* With equal mixtures only the dealing within a class can tell two seeds apart. */
	r.alpha = 1e9;
	partition_open(&p, &r, &d->train, CLASSES, 4, equal);
	r.seed = 1;
	partition_open(&q, &r, &d->train, CLASSES, 4, equal);
	for (int i = moved = 0; i < COUNT; i++)
		moved += p.sample[i] != q.sample[i];
	ok(moved > COUNT / 2, "  also where the mixtures are the same: %d of %d samples lie elsewhere", moved, COUNT);
	partition_close(&p);
	partition_close(&q);
	r.alpha = 0.3;
	for (r.seed = 1; r.seed <= 300; r.seed++) {
		partition_open(&p, &r, &d->train, CLASSES, 4, equal);
		for (int w = 0; w < 4; w++)
			mean[w] += (double)p.count[w * CLASSES + 3] / 300;
		partition_close(&p);
	}
	/* The deviation of the mean of 300 is about 7 images. */
	for (int w = 1; w < 4; w++)
		near(mean[w], mean[0], 35, "over 300 seeds all workers get the same share of a class");
}

/* The odds between two workers for two classes are those that were drawn: balancing scales rows and columns, nothing else. Seen where
 * both margins are symmetrical: two workers, two classes of the same size. */
static void test_balance(void)
{
	enum { N = 4000 };
	static uint8_t two[N];
	struct split split = { N, images, two };
	int extreme = 0, middle = 0;
	bool mirrored = true;

	for (int i = 0; i < N; i++)
		two[i] = i % 2;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct partition_rule r = rule(PARTITION_DIRICHLET, 0.1, seed);
		struct partition p;

		partition_open(&p, &r, &split, 2, 2, equal);
		mirrored = mirrored && p.count[0] + p.count[1] == N / 2 && p.count[0] + p.count[2] == N / 2 && p.count[0] == p.count[3];
		extreme += p.count[0] < N / 20 || p.count[0] > N / 2 - N / 20;
		middle += p.count[0] > N / 5 && p.count[0] < N / 2 - N / 5;
		partition_close(&p);
	}
	ok(mirrored, "two workers, two classes: what one has of a class, the other has of the other");
	/* The odds are the root of the odds ratio of two Beta(0.1, 0.1): seldom within 2 to 3, mostly beyond 9. */
	ok(extreme > 100 && middle < 50, "  alpha 0.1: %d of 200 nearly all or nothing, %d nearly half", extreme, middle);
}

/* ---- the loader ---- */

static struct loader *open_loader(const struct dataset *d, const struct partition *p, int workers, int worker, const int *batch, int prefetch)
{
	struct loader_config c = {
		.seed = 42, .train = true, .workers = workers, .worker = worker, .batch = batch, .partition = p, .prefetch = prefetch, .cyclic = true,
	};

	return loader_open(d, &d->train, &c);
}

/* An epoch of all workers: only own samples, none twice, whole batches, labels true. first: one worker's samples in order. */
static bool epoch_is_right(const struct dataset *d, const struct partition *p, const int *batch, int64_t epoch, int64_t first[COUNT])
{
	int owner[COUNT], times[COUNT] = { 0 };
	bool good = true;

	for (int w = 0; w < p->workers; w++)
		for (int64_t i = p->from[w]; i < p->from[w + 1]; i++)
			owner[p->sample[i]] = w;
	for (int w = 0; w < p->workers; w++) {
		struct loader *l = open_loader(d, p, p->workers, w, batch, w % 3);
		int64_t steps = loader_steps(l), at = 0;
		struct batch b;

		loader_start(l, epoch, 0);
		for (int64_t s = 0; s < steps && loader_next(l, &b); s++)
			for (int i = 0; i < b.count; i++) {
				good = good && b.count == batch[w] && b.epoch == epoch && owner[b.sample[i]] == w && !times[b.sample[i]]++ &&
				       b.label[i] == labels[b.sample[i]];
				if (w == 0)
					first[at++] = b.sample[i];
			}
		loader_close(l);
	}
	return good;
}

static void test_loader(const struct dataset *d, int workers, const int *batch)
{
	static int64_t epoch0[COUNT], epoch1[COUNT];
	struct partition_rule r = rule(PARTITION_DIRICHLET, 0.3, 5);
	struct loader *through, *again;
	struct batch a, b;
	struct partition p;
	bool good, same = true;
	int worker = workers - 1;
	int64_t steps;

	partition_open(&p, &r, &d->train, CLASSES, workers, batch);
	good = epoch_is_right(d, &p, batch, 0, epoch0) && epoch_is_right(d, &p, batch, 1, epoch1);
	ok(good, "%d workers: a worker loads its own samples, each once an epoch", workers);
	ok(memcmp(epoch0, epoch1, sizeof(epoch0)), "  in another order each epoch");
	through = open_loader(d, &p, workers, worker, batch, 2);
	steps = loader_steps(through);
	loader_start(through, 0, 0);
	for (int64_t t = 0; t < 3 * steps; t++) {
		loader_next(through, &a);
		if (t % 7 && t % steps)
			continue;
		again = open_loader(d, &p, workers, worker, batch, (int)(t % 3));
		loader_start(again, t / steps, t % steps);
		same = loader_next(again, &b) && same;
		same = same && a.epoch == b.epoch && a.step == b.step && !memcmp(a.sample, b.sample, (size_t)batch[worker] * sizeof(*a.sample)) &&
		       !memcmp(a.image, b.image, (size_t)batch[worker] * PIXELS * sizeof(float));
		loader_close(again);
	}
	ok(same, "  restarted anywhere in three epochs it gives the same batch");
	loader_close(through);
	partition_close(&p);
}

/* Without a partition, and with that of iid, a run is what it always was: the permutation of all samples, cut. */
static void test_iid(const struct dataset *d)
{
	static uint32_t order[COUNT];
	struct partition_rule r = rule(PARTITION_IID, 1, 5);
	struct partition p;
	bool same = true;

	partition_open(&p, &r, &d->train, CLASSES, 3, unequal);
	loader_order(42, 2, COUNT, order);
	for (int w = 0; w < 3; w++) {
		struct loader *l = open_loader(d, w ? &p : NULL, 3, w, unequal, 0);
		int64_t from, to;
		struct batch b;

		loader_shard(COUNT, 3, unequal, w, &from, &to);
		loader_start(l, 2, 0);
		for (int64_t s = 0; s < loader_steps(l); s++) {
			loader_next(l, &b);
			for (int i = 0; i < b.count; i++)
				same = same && b.sample[i] == order[from + s * unequal[w] + i];
		}
		loader_close(l);
	}
	ok(same, "iid: each epoch a cut of one permutation of all samples");
	partition_close(&p);
}

int main(void)
{
	struct dataset d = labelled();

	test_shape(&d);
	test_alpha(&d);
	test_seed(&d);
	test_balance();
	test_loader(&d, 4, equal);
	test_loader(&d, 8, unequal);
	test_iid(&d);
	return done_testing();
}
