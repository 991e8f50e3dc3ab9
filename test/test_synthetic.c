/* Synthetic images: reproducible to the byte, of any shape, and with something in them to learn. */
#include "data_test.h"

/* FNV-1a: a change of one byte anywhere, on any machine, shows. */
static uint64_t fingerprint(const struct dataset *d)
{
	const uint8_t *p = d->memory;
	uint64_t hash = 0xcbf29ce484222325u;

	for (int64_t n = (d->train.count + d->test.count) * (d->h * d->w * d->c + 1); n > 0; n--)
		hash = (hash ^ *p++) * 0x100000001b3u;
	return hash;
}

/* Share of test images whose nearest training image, pixel by pixel, is of their class. */
static double nearest_neighbour(const struct dataset *d)
{
	int pixels = d->h * d->w * d->c, right = 0;

	for (int64_t i = 0; i < d->test.count; i++) {
		int64_t best = INT64_MAX, at = 0;

		for (int64_t j = 0; j < d->train.count; j++) {
			int64_t sum = 0;

			for (int p = 0; p < pixels; p++) {
				int e = d->test.image[i * pixels + p] - d->train.image[j * pixels + p];

				sum += e * e;
			}
			if (sum < best) {
				best = sum;
				at = j;
			}
		}
		right += d->train.label[at] == d->test.label[i];
	}
	return (double)right / (double)d->test.count;
}

static void test_synthetic(void)
{
	uint64_t first, second;
	struct dataset d;
	double share;

	if (!opens(&d, "synthetic", "synthetic", NULL))
		return;
	ok(d.train.count == 4096 && d.test.count == 1024 && d.h == 32 && d.w == 32 && d.c == 3 && d.classes == 10, "  its default shape");
	first = fingerprint(&d);
	ok(first == 0x4963fa948dddbc37u, "  the same bytes on every machine: %016llx", (unsigned long long)first);
	dataset_close(&d);
	open_with(&d, "synthetic", NULL, NULL, NULL);
	ok(fingerprint(&d) == first, "  the same again");
	dataset_close(&d);
	open_with(&d, "synthetic", NULL, "data.seed=2", NULL);
	ok(fingerprint(&d) != first, "  another seed, other images");
	dataset_close(&d);
	open_with(&d, "synthetic", NULL, "data.images=100", "data.test_images=10");
	second = fingerprint(&d);
	ok(d.train.count == 100 && d.test.count == 10, "  as many as asked for");
	dataset_close(&d);
	open_with(&d, "auto", "/no/such/folder", "data.images=100", "data.test_images=10");
	ok(fingerprint(&d) == second && !strcmp(d.def->name, "synthetic"), "auto makes the same ones");
	dataset_close(&d);
	open_with(&d, "synthetic", NULL, "data.size=20", "data.channels=1");
	ok(d.h == 20 && d.w == 20 && d.c == 1, "data.size and data.channels");
	dataset_close(&d);
	for (int i = 0; dataset_list[i]; i++) {
		size_of(&d, dataset_list[i]->name);
		ok(d.h > 0 && d.w == d.h && d.c > 0 && d.classes == 10 && d.train.count > d.test.count && d.test.count > 0 && !d.memory,
		   "%s is %d x %d x %d, %lld + %lld, without opening it", dataset_list[i]->name, d.h, d.w, d.c, (long long)d.train.count,
		   (long long)d.test.count);
		dataset_close(&d);
	}
	open_with(&d, "synthetic", NULL, "data.classes=3", "data.test_images=100");
	share = nearest_neighbour(&d);
	ok(d.train.label[3] == 0 && d.train.label[5] == 2 && d.classes == 3, "data.classes");
	ok(share > 0.5, "training images tell something about test images: the nearest is of the same class in %.2f (chance 0.33)", share);
	dataset_close(&d);
}

int main(void)
{
	begin();
	test_synthetic();
	return end();
}
