/*
 * Fashion-MNIST, in the idx files of MNIST, gzipped or plain. (H. Xiao, K. Rasul, R. Vollgraf: "Fashion-MNIST: a novel image dataset
 * for benchmarking machine learning algorithms", arXiv 1708.07747.) MNIST and its other relatives have the same names and layout
 * and can be given by data.dir.
 *
 * An idx file is big-endian 32-bit words, a magic number (0, 0, type of an element, number of dimensions) and the dimensions, then
 * the elements. Ours are unsigned bytes: images are count x 28 x 28, labels are count.
 *
 * Random crops pad by 2: the clothes fill their frames, 4 of 28 would cut sleeves and soles off.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "../core/config.h"
#include "../core/die.h"
#include "dataset.h"
#include "options.h"

enum { SIDE = 28, CLASSES = 10, MOST = 100000000, USUAL_TRAIN = 60000, USUAL_TEST = 10000 };

static const char system_dir[] = "/usr/share/datasets/fashion-mnist";
static const char where[] = "Debian: apt-get install dataset-fashion-mnist; else get the four files from "
	"https://github.com/zalandoresearch/fashion-mnist and say in data.dir where they are";

/* An open file; its path is for messages. */
struct idx {
	char *path;
	gzFile file;
	int64_t count;          /* the first dimension */
};

/* In the order in which dataset_allocate() lays out what is in them. */
enum which { TRAIN_IMAGES, TEST_IMAGES, TRAIN_LABELS, TEST_LABELS, FILES };
static const struct {
	const char *name;
	uint32_t dims;
} kind[FILES] = {
	{ "train-images-idx3-ubyte", 3 }, { "t10k-images-idx3-ubyte", 3 }, { "train-labels-idx1-ubyte", 1 }, { "t10k-labels-idx1-ubyte", 1 },
};

static const char *data_dir(const struct config *config)
{
	return config_has(config, "data.dir") ? config_string(config, "data.dir") : system_dir;
}

/* The plain file or the gzipped one, whichever is there; NULL: none. */
static char *find_file(const char *dir, const char *name)
{
	static const char *const suffix[] = { "", ".gz" };

	for (int i = 0; i < 2; i++) {
		char *path = xasprintf("%s/%s%s", dir, name, suffix[i]);

		if (!access(path, F_OK))
			return path;
		free(path);
	}
	return NULL;
}

static bool present(const struct config *config)
{
	for (int i = 0; i < FILES; i++) {
		char *path = find_file(data_dir(config), kind[i].name);

		free(path);
		if (!path)
			return false;
	}
	return true;
}

/* ---- one file ---- */

/* `got` is what gzread() said instead of `want`: zlib's or the system's words, or just how much there was. */
static int short_read(const struct idx *f, const char *what, int64_t want, int64_t got)
{
	int code;
	const char *words = gzerror(f->file, &code);

	if (code == Z_ERRNO)
		return error("%s: cannot be read: %s", f->path, strerror(errno));
	if (code != Z_OK && code != Z_BUF_ERROR && code != Z_STREAM_END)
		error("%s: damaged gzip data: %s", f->path, words);
	else
		error("%s: truncated: expected %lld bytes of %s, found %lld", f->path, (long long)want, what, (long long)got);
	return hint("%s", where);
}

static int64_t read_some(const struct idx *f, uint8_t *to, int64_t bytes)
{
	int64_t got = 0;

	while (got < bytes) {
		unsigned piece = bytes - got < 1 << 24 ? (unsigned)(bytes - got) : 1u << 24;
		int n = gzread(f->file, to + got, piece);

		if (n <= 0)
			break;
		got += n;
	}
	return got;
}

static uint32_t word(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int read_header(struct idx *f, uint32_t dims)
{
	uint8_t header[16];
	int64_t bytes = 4 + 4 * (int64_t)dims, got = read_some(f, header, bytes);
	uint32_t magic = 0x0800 | dims;

	if (got < bytes)
		return short_read(f, "header", bytes, got);
	if (word(header) != magic) {
		error("%s: expected magic 0x%08x (idx, unsigned bytes, %u dimension%s), found 0x%08x", f->path, magic, dims,
		      dims > 1 ? "s" : "", word(header));
		return hint("%s", where);
	}
	f->count = word(header + 4);
	if (f->count < 1 || f->count > MOST) {
		error("%s: expected 1 to %d images, found a count of %lld", f->path, MOST, (long long)f->count);
		return hint("%s", where);
	}
	if (dims == 3 && (word(header + 8) != SIDE || word(header + 12) != SIDE)) {
		error("%s: expected images of %d x %d, found %u x %u", f->path, SIDE, SIDE, word(header + 8), word(header + 12));
		return hint("%s", where);
	}
	return 0;
}

/* All that follows the header; what comes after it is too much. Reading one byte more also makes zlib verify the checksum. */
static int read_body(const struct idx *f, const char *what, uint8_t *to, int64_t bytes)
{
	int64_t got = read_some(f, to, bytes);
	uint8_t more;
	int n;

	if (got < bytes)
		return short_read(f, what, bytes, got);
	n = gzread(f->file, &more, 1);
	if (n < 0)
		return short_read(f, what, bytes, got);
	if (n) {
		error("%s: expected %lld bytes of %s after the header, found more", f->path, (long long)bytes, what);
		return hint("the file is damaged: %s", where);
	}
	return 0;
}

static int check_labels(const struct idx *f, const uint8_t *label)
{
	for (int64_t i = 0; i < f->count; i++)
		if (label[i] >= CLASSES) {
			error("%s: label %lld is %d, expected 0 to %d", f->path, (long long)i, label[i], CLASSES - 1);
			return hint("the file is damaged: %s", where);
		}
	return 0;
}

/* ---- the four of them ---- */

static int open_files(struct idx *f, const char *dir)
{
	int missing = 0;

	for (int i = 0; i < FILES; i++) {
		f[i].path = find_file(dir, kind[i].name);
		missing += !f[i].path;
	}
	if (missing) {
		error("fashion-mnist: expected train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
		      "t10k-labels-idx1-ubyte (or .gz) in %s; missing: %d of %d", dir, missing, FILES);
		return hint("%s", where);
	}
	for (int i = 0; i < FILES; i++) {
		f[i].file = gzopen(f[i].path, "rb");
		if (!f[i].file)
			return error("%s: %s", f[i].path, strerror(errno));
		if (read_header(&f[i], kind[i].dims))
			return -1;
	}
	return 0;
}

static int check_counts(const struct idx *images, const struct idx *labels)
{
	if (images->count == labels->count)
		return 0;
	error("%s has %lld images, but %s has %lld labels: expected as many", images->path, (long long)images->count,
	      labels->path, (long long)labels->count);
	return hint("%s", where);
}

static int read_files(struct dataset *d, const struct idx *f)
{
	uint8_t *to = d->memory;

	for (int i = 0; i < FILES; i++) {
		bool images = kind[i].dims == 3;
		int64_t bytes = f[i].count * (images ? SIDE * SIDE : 1);

		if (read_body(&f[i], images ? "pixels" : "labels", to, bytes))
			return -1;
		if (!images && check_labels(&f[i], to))
			return -1;
		to += bytes;
	}
	return 0;
}

/* The first `limit` images only; all were read and checked. */
static int cut(struct split *s, const struct config *config, const char *key, const struct idx *f)
{
	int64_t limit = config_int(config, key);

	if (limit > s->count) {
		error("%s: %s = %lld, but %s has %lld images", config_origin(config, key), key, (long long)limit, f->path,
		      (long long)s->count);
		return hint("0 for all of them");
	}
	if (limit)
		s->count = limit;
	return 0;
}

static void size_fashion_mnist(struct dataset *d, const struct config *config)
{
	int64_t train = config_int(config, "data.images"), test = config_int(config, "data.test_images");

	d->h = d->w = SIDE;
	d->c = 1;
	d->classes = CLASSES;
	d->train.count = train ? train : USUAL_TRAIN;
	d->test.count = test ? test : USUAL_TEST;
}

static int open_fashion_mnist(struct dataset *d, const struct config *config)
{
	struct idx f[FILES] = { 0 };
	int result = -1;

	size_fashion_mnist(d, config);
	d->mean[0] = 0.2860f;
	d->std[0] = 0.3530f;
	d->pad = 2;
	d->flip = true;
	if (open_files(f, data_dir(config)))
		goto out;
	if (check_counts(&f[TRAIN_IMAGES], &f[TRAIN_LABELS]) || check_counts(&f[TEST_IMAGES], &f[TEST_LABELS]))
		goto out;
	if (dataset_allocate(d, f[TRAIN_IMAGES].count, f[TEST_IMAGES].count) || read_files(d, f))
		goto out;
	if (cut(&d->train, config, "data.images", &f[TRAIN_IMAGES]) || cut(&d->test, config, "data.test_images", &f[TEST_IMAGES]))
		goto out;
	result = 0;
out:
	for (int i = 0; i < FILES; i++) {
		if (f[i].file)
			gzclose(f[i].file);
		free(f[i].path);
	}
	return result;
}

static const struct option options[] = {
	OPTION_IMAGES("0", MOST),
	OPTION_TEST_IMAGES("0", MOST),
	{ 0 },
};

const struct dataset_def dataset_fashion_mnist = {
	.name = "fashion-mnist",
	.help = "Fashion-MNIST, idx files: 60,000 + 10,000 images of 28x28x1 in 10 classes; data.dir: /usr/share/datasets/fashion-mnist",
	.options = options, .present = present, .open = open_fashion_mnist, .size = size_fashion_mnist,
};
