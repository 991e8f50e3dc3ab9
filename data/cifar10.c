/*
 * CIFAR-10, the official binary version: five files of training images and one of test images, each of 10,000 records of 3,073
 * bytes: the label, then the red, green and blue plane of 32 x 32. (A. Krizhevsky: "Learning multiple layers of features from tiny
 * images", 2009.) Planes become pixels here, once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/config.h"
#include "../core/die.h"
#include "dataset.h"
#include "options.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, RECORD = 1 + 3 * PLANE, RECORDS = 10000, FILES = 6, TRAIN_FILES = 5 };

static const char *const file_name[FILES] = {
	"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin",
};

static const char where[] = "get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there, "
	"or say in data.dir where it is";

static const char *data_dir(const struct config *config)
{
	return config_has(config, "data.dir") ? config_string(config, "data.dir") : "datasets";
}

/* The archive's own folder below data.dir, if any file is in it; else data.dir itself. */
static char *find_folder(const struct config *config)
{
	const char *dir = data_dir(config);
	bool found = false;

	for (int i = 0; i < FILES && !found; i++) {
		char *path = xasprintf("%s/cifar-10-batches-bin/%s", dir, file_name[i]);

		found = !access(path, F_OK);
		free(path);
	}
	return xasprintf("%s%s", dir, found ? "/cifar-10-batches-bin" : "");
}

/* All six are looked at, even if data.images needs fewer: a set with a wrong file is a wrong set. */
static int check_sizes(const char *folder)
{
	int missing = 0, before = errors_count();

	for (int i = 0; i < FILES; i++) {
		char *path = xasprintf("%s/%s", folder, file_name[i]);
		struct stat st;

		if (stat(path, &st))
			missing++;
		else if (st.st_size != (off_t)RECORDS * RECORD) {
			error("%s: expected %d bytes (%d records of %d), found %lld", path, RECORDS * RECORD, RECORDS, RECORD,
			      (long long)st.st_size);
			hint("the file is damaged or of another version: %s", where);
		}
		free(path);
	}
	if (missing) {
		error("cifar10: expected %s to %s and %s in %s; missing: %d of %d", file_name[0], file_name[TRAIN_FILES - 1],
		      file_name[TRAIN_FILES], folder, missing, FILES);
		hint("%s", where);
	}
	return errors_count() > before ? -1 : 0;
}

static int read_records(const char *path, FILE *f, int64_t count, uint8_t *image, uint8_t *label)
{
	uint8_t record[RECORD];

	for (int64_t i = 0; i < count; i++, image += 3 * PLANE) {
		if (fread(record, RECORD, 1, f) != 1)
			return error("%s: record %lld cannot be read: %s", path, (long long)i, ferror(f) ? strerror(errno) : "end of file");
		if (record[0] > 9) {
			error("%s: record %lld has label %d, expected 0 to 9", path, (long long)i, record[0]);
			return hint("the file is damaged or of another version: %s", where);
		}
		label[i] = record[0];
		for (int p = 0; p < PLANE; p++) {
			image[3 * p] = record[1 + p];
			image[3 * p + 1] = record[1 + PLANE + p];
			image[3 * p + 2] = record[1 + 2 * PLANE + p];
		}
	}
	return 0;
}

static int read_file(const char *folder, const char *name, int64_t count, uint8_t *image, uint8_t *label)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f = fopen(path, "rb");
	int result = f ? read_records(path, f, count, image, label) : error("%s: %s", path, strerror(errno));

	if (f)
		fclose(f);
	free(path);
	return result;
}

static int read_all(struct dataset *d, const char *folder)
{
	uint8_t *image = d->memory, *label = image + (d->train.count + d->test.count) * 3 * PLANE;

	for (int i = 0; i < FILES; i++) {
		int64_t left = i < TRAIN_FILES ? d->train.count - i * (int64_t)RECORDS : d->test.count;
		int64_t count = left < RECORDS ? left : RECORDS;

		if (count <= 0)
			continue;
		if (read_file(folder, file_name[i], count, image, label))
			return -1;
		image += count * 3 * PLANE;
		label += count;
	}
	return 0;
}

static void size_cifar10(struct dataset *d, const struct config *config)
{
	int64_t train = config_int(config, "data.images"), test = config_int(config, "data.test_images");

	d->h = d->w = SIDE;
	d->c = 3;
	d->classes = 10;
	d->train.count = train ? train : TRAIN_FILES * RECORDS;
	d->test.count = test ? test : RECORDS;
}

static int open_cifar10(struct dataset *d, const struct config *config)
{
	char *folder = find_folder(config);
	int result;

	size_cifar10(d, config);
	d->pad = 4;
	d->flip = true;
	memcpy(d->mean, (float[4]){ 0.4914f, 0.4822f, 0.4465f }, sizeof d->mean);
	memcpy(d->std, (float[4]){ 0.2470f, 0.2435f, 0.2616f }, sizeof d->std);
	result = check_sizes(folder);
	if (!result)
		result = dataset_allocate(d, d->train.count, d->test.count);
	if (!result)
		result = read_all(d, folder);
	free(folder);
	return result;
}

static bool present(const struct config *config)
{
	char *folder = find_folder(config);
	char *path = xasprintf("%s/%s", folder, file_name[0]);
	bool there = !access(path, R_OK);

	free(path);
	free(folder);
	return there;
}

static const struct option options[] = {
	OPTION_IMAGES("0", TRAIN_FILES * RECORDS),
	OPTION_TEST_IMAGES("0", RECORDS),
	{ 0 },
};

const struct dataset_def dataset_cifar10 = {
	.name = "cifar10", .help = "CIFAR-10, binary version: 50,000 + 10,000 images of 32x32x3 in 10 classes; data.dir: datasets",
	.options = options, .present = present, .open = open_cifar10, .size = size_cifar10,
};
