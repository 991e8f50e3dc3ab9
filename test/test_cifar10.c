/*
 * CIFAR-10: files of the binary layout are read as they are; a wrong size, a wrong label or a missing file is one clear message. The
 * real files are looked for in $COCOD_DATA and two places more, else their test is skipped.
 */
#include "data_test.h"

enum { RECORD = 3073, RECORDS = 10000, CIFAR_BYTES = RECORD * RECORDS };

static uint8_t cifar_byte(int file, int record, int i)
{
	return (uint8_t)(i ? file * 101 + record * 17 + record / 256 + i * 3 + i / 1024 * 50 : (record + file) % 10);
}

static void cifar_name(int file, char *name, size_t size)
{
	if (file < 5)
		snprintf(name, size, "cifar-10-batches-bin/data_batch_%d.bin", file + 1);
	else
		snprintf(name, size, "cifar-10-batches-bin/test_batch.bin");
}

static void write_cifar(int file, size_t bytes, int bad_label_at)
{
	static uint8_t data[CIFAR_BYTES + 1];
	char name[64];

	for (int r = 0; r < RECORDS; r++)
		for (int i = 0; i < RECORD; i++)
			data[r * RECORD + i] = cifar_byte(file, r, i);
	if (bad_label_at >= 0)
		data[bad_label_at * RECORD] = 10;
	cifar_name(file, name, sizeof name);
	write_file(name, data, bytes);
}

static bool cifar_split_good(const struct split *s, int first_file, int64_t count)
{
	bool good = s->count == count;

	for (int64_t n = 0; n < count && good; n += n % 997 ? 1 : 13) {
		int file = first_file + (int)(n / RECORDS), record = (int)(n % RECORDS);

		good = s->label[n] == cifar_byte(file, record, 0);
		for (int p = 0; p < 1024 && good; p += 31)
			for (int k = 0; k < 3; k++)
				good = good && s->image[(n * 1024 + p) * 3 + k] == cifar_byte(file, record, 1 + 1024 * k + p);
	}
	return good;
}

static void test_cifar(void)
{
	char *sub = path_of("cifar-10-batches-bin"), name[64];
	struct dataset d;

	CHECK(!mkdir(sub, 0700));
	for (int i = 0; i < 6; i++)
		write_cifar(i, CIFAR_BYTES, -1);
	if (opens(&d, "cifar10", "cifar10", folder)) {
		ok(cifar_split_good(&d.train, 0, 50000) && cifar_split_good(&d.test, 5, 10000), "  planes became pixels, labels as written");
		ok(d.h == 32 && d.w == 32 && d.c == 3 && d.classes == 10 && d.pad == 4 && d.flip, "  its shape");
		dataset_close(&d);
	}
	ok(!open_with(&d, "cifar10", sub, "data.images=10007", "data.test_images=11") && cifar_split_good(&d.train, 0, 10007) &&
	   cifar_split_good(&d.test, 5, 11), "cifar10: data.dir may be the inner folder; the first 10,007 and 11 images");
	dataset_close(&d);
	write_cifar(3, CIFAR_BYTES, 1234);
	refused("label out of range", "cifar10", folder, NULL, FOUND("data_batch_4.bin", "record 1234 has label 10", "expected 0 to 9"));
	write_cifar(3, CIFAR_BYTES - 1, -1);
	refused("file too short", "cifar10", folder, NULL, FOUND("data_batch_4.bin", "expected 30730000", "found 30729999"));
	write_cifar(3, CIFAR_BYTES + 1, -1);
	refused("file too long, though not needed", "cifar10", folder, "data.images=5",
		FOUND("data_batch_4.bin", "found 30730001", "https://www.cs.toronto.edu/~kriz/cifar.html"));
	cifar_name(3, name, sizeof name);
	remove_file(name);
	refused("file missing", "cifar10", folder, NULL, FOUND("missing: 1 of 6", "cifar-10-batches-bin"));
	refused("no folder", "cifar10", "/no/such/folder", NULL, FOUND("missing: 6 of 6", "/no/such/folder"));
	for (int i = 0; i < 6; i++) {
		cifar_name(i, name, sizeof name);
		remove_file(name);
	}
	rmdir(sub);
	free(sub);
}

/* The real files: 5,000 training images a class, 1,000 test images; the first image is a frog (6), its test counterpart a cat (3). */
static void test_real_cifar(void)
{
	const char *const places[] = { getenv("COCOD_DATA"), "datasets", "../shared/data" };

	for (int i = 0; i < 3; i++) {
		char *file = xasprintf("%s/cifar-10-batches-bin/test_batch.bin", places[i] ? places[i] : "/no/such/folder");
		bool there = !access(file, R_OK);
		int64_t train[10] = { 0 }, test[10] = { 0 };
		bool good = true;
		struct dataset d;

		free(file);
		if (!there)
			continue;
		if (!opens(&d, "real CIFAR-10", "cifar10", places[i]))
			return;
		for (int64_t n = 0; n < d.train.count; n++)
			train[d.train.label[n]]++;
		for (int64_t n = 0; n < d.test.count; n++)
			test[d.test.label[n]]++;
		for (int c = 0; c < 10; c++)
			good = good && train[c] == 5000 && test[c] == 1000;
		ok(good && d.train.label[0] == 6 && d.test.label[0] == 3, "  5,000 and 1,000 images a class; first a frog and a cat");
		dataset_close(&d);
		return;
	}
	skip("real CIFAR-10", "not in $COCOD_DATA, datasets or ../shared/data");
}

int main(void)
{
	begin();
	test_cifar();
	test_real_cifar();
	return end();
}
