/*
 * What the tests of the data sets share: a temporary folder, files in it, and opening a data set by name with a few settings.
 */
#ifndef DATA_TEST_H
#define DATA_TEST_H

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "../core/config.h"
#include "../core/die.h"
#include "../data/dataset.h"
#include "tap.h"

#define UNUSED __attribute__((unused))

static const struct option data_options[] = {
	{ "name", OPTION_STRING, "\"auto\"", 0, 0, NULL, "the data set" },
	{ "dir", OPTION_STRING, NULL, 0, 0, NULL, "where its files are" },
	{ 0 },
};

enum { MOST_SETS = 16 };
static struct schema schema[MOST_SETS + 2];
static char folder[] = "/tmp/cocod-test-data-XXXXXX";

UNUSED static void begin(void)
{
	CHECK(mkdtemp(folder));
	schema[0] = (struct schema){ "data", NULL, NULL, data_options, NULL };
	for (int i = 0; i < MOST_SETS && dataset_list[i]; i++)
		schema[1 + i] = (struct schema){ "data", "name", dataset_list[i]->name, dataset_list[i]->options, dataset_list[i]->help };
}

/* Opens a data set; keys: up to three settings beside the name. Returns dataset_open()'s. */
UNUSED static int open_with(struct dataset *d, const char *name, const char *dir, const char *key, const char *another)
{
	const char *sets[4] = { xasprintf("data.name=%s", name) };
	int count = 1, result;
	struct config *config;

	if (dir)
		sets[count++] = xasprintf("data.dir=\"%s\"", dir);
	if (key)
		sets[count++] = xasprintf("%s", key);
	if (another)
		sets[count++] = xasprintf("%s", another);
	errors_clear();
	config = config_load(schema, NULL, sets, count, NULL);
	if (!config)
		printf("# %s", errors_text());
	result = config ? dataset_open(d, config) : -2;
	if (config)
		config_free(config);
	for (int i = 0; i < count; i++)
		free((char *)sets[i]);
	return result;
}

/* As it is known without its files. */
UNUSED static void size_of(struct dataset *d, const char *name)
{
	const char *sets[1] = { xasprintf("data.name=%s", name) };
	struct config *config = config_load(schema, NULL, sets, 1, NULL);

	CHECK(config && dataset_size(d, config) == 0);
	config_free(config);
	free((char *)sets[0]);
}

UNUSED static bool opens(struct dataset *d, const char *claim, const char *name, const char *dir)
{
	bool good = !open_with(d, name, dir, NULL, NULL);

	return ok(good, "%s: opens %s", claim, errors_text());
}

/* It must not open, leave nothing behind, and say so in one message with a hint, in which all of `found` are. */
UNUSED static void refused(const char *claim, const char *name, const char *dir, const char *key, const char *const found[3])
{
	struct dataset d;
	bool good = open_with(&d, name, dir, key, NULL) == -1 && !d.memory && errors_count() == 1 && strstr(errors_text(), "hint:");

	for (int i = 0; i < 3; i++)
		good = good && (!found[i] || strstr(errors_text(), found[i]));
	ok(good, "%s: %.*s", claim, (int)strcspn(errors_text(), "\n"), errors_text());
}

/* What a message must have in it, up to three pieces. */
#define FOUND(...) (const char *const[3]){ __VA_ARGS__ }

/* ---- writing files ---- */

UNUSED static char *path_of(const char *name)
{
	return xasprintf("%s/%s", folder, name);
}

UNUSED static void write_file(const char *name, const void *data, size_t bytes)
{
	char *path = path_of(name);
	FILE *f = fopen(path, "wb");

	CHECK(f && fwrite(data, 1, bytes, f) == bytes && !fclose(f));
	free(path);
}

UNUSED static void write_gzip(const char *name, const void *data, size_t bytes)
{
	char *path = path_of(name);
	gzFile f = gzopen(path, "wb");

	CHECK(f && gzwrite(f, data, (unsigned)bytes) == (int)bytes && gzclose(f) == Z_OK);
	free(path);
}

UNUSED static void remove_file(const char *name)
{
	char *path = path_of(name);

	unlink(path);
	free(path);
}

UNUSED static int end(void)
{
	rmdir(folder);
	return done_testing();
}

#endif
