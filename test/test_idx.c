/*
 * Fashion-MNIST: plain and gzipped idx files are read as they are, and each kind of bad file gives one message that says what was
 * expected, what was found and where to get it.
 */
#include "data_test.h"

enum { TRAIN = 30, TEST = 12, PIXELS = 28 * 28 };
enum { TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS, FILES };
static const char *const idx_name[FILES] = {
	"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
};

/* A whole file in memory; tests spoil it before it is written. */
struct content {
	uint8_t data[16 + TRAIN * PIXELS + 1];
	size_t bytes;
};

static void put_word(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void make_idx(struct content *c, int which)
{
	uint32_t count = which < TEST_IMAGES ? TRAIN : TEST;
	bool is_images = which == TRAIN_IMAGES || which == TEST_IMAGES;

	memset(c, 0, sizeof *c);
	put_word(c->data, is_images ? 0x803 : 0x801);
	put_word(c->data + 4, count);
	put_word(c->data + 8, 28);
	put_word(c->data + 12, 28);
	c->bytes = is_images ? 16 + count * PIXELS : 8 + count;
	for (size_t i = is_images ? 16 : 8; i < c->bytes; i++)
		c->data[i] = (uint8_t)(is_images ? i * 13 + i / 100 + (size_t)which : (i + (size_t)which) % 10);
}

static void write_idx(int which, const struct content *c, bool gzip)
{
	char *gz = xasprintf("%s.gz", idx_name[which]);

	remove_file(idx_name[which]);
	remove_file(gz);
	if (gzip)
		write_gzip(gz, c->data, c->bytes);
	else
		write_file(idx_name[which], c->data, c->bytes);
	free(gz);
}

static void write_good_idx(bool gzip)
{
	struct content c;

	for (int i = 0; i < FILES; i++) {
		make_idx(&c, i);
		write_idx(i, &c, gzip);
	}
}

static bool same_split(const struct split *s, int images, int labels, int64_t count)
{
	struct content x, y;

	make_idx(&x, images);
	make_idx(&y, labels);
	return s->count == count && !memcmp(s->image, x.data + 16, (size_t)count * PIXELS) && !memcmp(s->label, y.data + 8, (size_t)count);
}

static void test_idx_good(void)
{
	struct dataset d;

	for (int gzip = 0; gzip <= 1; gzip++) {
		write_good_idx(gzip);
		if (!opens(&d, gzip ? "gzip" : "plain", "fashion-mnist", folder))
			continue;
		ok(same_split(&d.train, TRAIN_IMAGES, TRAIN_LABELS, TRAIN), "  training images and labels as written");
		ok(same_split(&d.test, TEST_IMAGES, TEST_LABELS, TEST), "  test images and labels as written");
		ok(d.h == 28 && d.w == 28 && d.c == 1 && d.classes == 10 && !strcmp(d.def->name, "fashion-mnist"), "  its shape");
		dataset_close(&d);
	}
	ok(!open_with(&d, "fashion-mnist", folder, "data.images=7", "data.test_images=5"), "idx: opens with limits");
	ok(same_split(&d.train, TRAIN_IMAGES, TRAIN_LABELS, 7) && same_split(&d.test, TEST_IMAGES, TEST_LABELS, 5), "  the first ones are used");
	dataset_close(&d);
	ok(!open_with(&d, "auto", folder, NULL, NULL) && !strcmp(d.def->name, "fashion-mnist"), "auto takes fashion-mnist if it is there");
	dataset_close(&d);
}

/* One mistake a row: in `file`, at offset `at`, a byte or a word becomes `value`; then it is cut to or filled up by `bytes`. */
struct spoiled {
	const char *claim;
	int file, at, width;
	uint32_t value;
	int bytes;                      /* > 0: this long; < 0: so many more; 0: as it was */
	const char *found[3];           /* all must be in the message */
};

static const struct spoiled spoiled_idx[] = {
	{ "images: wrong magic", TRAIN_IMAGES, 0, 4, 0x00000801, 0, { "train-images", "expected magic 0x00000803", "found 0x00000801" } },
	{ "labels: wrong magic", TEST_LABELS, 0, 4, 0x00000d01, 0, { "t10k-labels", "expected magic 0x00000801", "found 0x00000d01" } },
	{ "images: wrong height", TEST_IMAGES, 8, 4, 32, 0, { "t10k-images", "28 x 28", "32 x 28" } },
	{ "images: wrong width", TRAIN_IMAGES, 12, 4, 27, 0, { "train-images", "28 x 28", "28 x 27" } },
	{ "images: count 0", TRAIN_IMAGES, 4, 4, 0, 0, { "train-images", "expected 1 to", "0" } },
	{ "images: a count beyond belief", TRAIN_IMAGES, 4, 4, 0xffffffff, 0, { "train-images", "expected 1 to", "4294967295" } },
	{ "labels: fewer than images", TRAIN_LABELS, 4, 4, 29, 8 + 29, { "30 images", "29 labels", "train-labels" } },
	{ "test labels: more than images", TEST_LABELS, 4, 4, 13, 8 + 13, { "12 images", "13 labels", "t10k-labels" } },
	{ "images: empty file", TRAIN_IMAGES, 0, 0, 0, 1, { "train-images", "truncated: expected 16 bytes of header", "found 1" } },
	{ "labels: half a header", TRAIN_LABELS, 0, 0, 0, 5, { "train-labels", "truncated: expected 8 bytes of header", "found 5" } },
	{ "images: truncated", TRAIN_IMAGES, 0, 0, 0, 1016, { "train-images", "expected 23520 bytes of pixels", "found 1000" } },
	{ "labels: truncated", TEST_LABELS, 0, 0, 0, 19, { "t10k-labels", "expected 12 bytes of labels", "found 11" } },
	{ "images: trailing bytes", TEST_IMAGES, 0, 0, 0, -1, { "t10k-images", "expected 9408 bytes of pixels", "found more" } },
	{ "labels: trailing bytes", TRAIN_LABELS, 0, 0, 0, -1, { "train-labels", "expected 30 bytes of labels", "found more" } },
	{ "labels: out of range", TRAIN_LABELS, 8 + 17, 1, 10, 0, { "train-labels", "label 17 is 10", "expected 0 to 9" } },
};


static void test_idx_bad(void)
{
	for (size_t i = 0; i < sizeof spoiled_idx / sizeof *spoiled_idx; i++)
		for (int gzip = 0; gzip <= 1; gzip++) {
			const struct spoiled *s = &spoiled_idx[i];
			struct content c;

			write_good_idx(gzip);
			make_idx(&c, s->file);
			if (s->width == 4)
				put_word(c.data + s->at, s->value);
			else if (s->width)
				c.data[s->at] = (uint8_t)s->value;
			c.bytes = s->bytes > 0 ? (size_t)s->bytes : c.bytes + (size_t)-s->bytes;
			write_idx(s->file, &c, gzip);
			refused(s->claim, "fashion-mnist", folder, NULL, s->found);
		}
}

/* Damage of the compressed file itself: cut in the middle, or one bit of the data wrong (the checksum tells). */
static void test_gzip_bad(void)
{
	struct content c;
	static uint8_t packed[sizeof c.data + 1000];
	char *path = path_of("train-images-idx3-ubyte.gz");
	size_t bytes;
	FILE *f;

	write_good_idx(true);
	f = fopen(path, "rb");
	CHECK(f);
	bytes = fread(packed, 1, sizeof packed, f);
	fclose(f);
	write_file("train-images-idx3-ubyte.gz", packed, bytes / 2);
	refused("gzip, cut in the middle", "fashion-mnist", folder, NULL, FOUND("train-images", "truncated"));
	packed[bytes - 6] ^= 1;
	write_file("train-images-idx3-ubyte.gz", packed, bytes);
	refused("gzip, wrong checksum", "fashion-mnist", folder, NULL, FOUND("train-images", "damaged gzip"));
	free(path);
}

static void test_idx_missing(void)
{
	struct dataset d;

	write_good_idx(false);
	refused("more than there is", "fashion-mnist", folder, "data.images=31", FOUND("data.images = 31", "has 30", "0 for all"));
	remove_file(idx_name[TEST_LABELS]);
	refused("one file missing", "fashion-mnist", folder, NULL, FOUND("missing: 1 of 4", folder, "apt-get"));
	refused("no folder", "fashion-mnist", "/no/such/folder", NULL, FOUND("missing: 4 of 4", "/no/such/folder", "https://"));
	ok(!open_with(&d, "auto", folder, NULL, NULL) && !strcmp(d.def->name, "synthetic"), "auto takes synthetic if a file is missing");
	dataset_close(&d);
}

static void test_real_fashion(void)
{
	int64_t count[10] = { 0 };
	double sum = 0, squares = 0;
	bool good = true;
	struct dataset d;

	if (access("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", R_OK)) {
		skip("real Fashion-MNIST", "Debian package dataset-fashion-mnist is not installed");
		return;
	}
	if (!opens(&d, "real Fashion-MNIST, no data.dir", "fashion-mnist", NULL))
		return;
	for (int64_t i = 0; i < d.train.count; i++)
		count[d.train.label[i]]++;
	for (int c = 0; c < 10; c++)
		good = good && count[c] == 6000;
	ok(good && d.train.count == 60000 && d.test.count == 10000, "  60,000 and 10,000 images, 6,000 a class");
	for (int64_t i = 0; i < d.train.count * PIXELS; i++) {
		double v = d.train.image[i] / 255.0;

		sum += v;
		squares += v * v;
	}
	sum /= (double)d.train.count * PIXELS;
	near(sum, (double)d.mean[0], 1e-4, "  mean");
	near(sqrt(squares / ((double)d.train.count * PIXELS) - sum * sum), (double)d.std[0], 1e-4, "  deviation");
	dataset_close(&d);
}

int main(void)
{
	begin();
	test_idx_good();
	test_idx_bad();
	test_gzip_bad();
	test_idx_missing();
	for (int i = 0; i < FILES; i++)
		remove_file(idx_name[i]);
	test_real_fashion();
	return end();
}
