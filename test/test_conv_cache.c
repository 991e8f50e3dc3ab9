/*
 * The file of measured convolutions (core/cuda/conv_cache.c, which needs no CUDA): what was added is found by the next run, several
 * processes may write at once, and whatever else stands in the file does no harm.
 */
#include <sys/wait.h>

#include "../core/cuda/conv_cache.c"
#include "tap.h"

static char folder[] = "/tmp/test_conv_cache.XXXXXX";

static struct conv_cache *open_one(void) { return conv_cache_open("NVIDIA H100 80GB/HBM3", "9.19.0"); }

static bool has(const struct conv_cache *c, const char *key, const char *engine, float us)
{
	float got = 0;
	const char *found = conv_cache_find(c, key, &got);

	return found && !strcmp(found, engine) && got == us;
}

static void write_file(const char *text)
{
	struct conv_cache *c = open_one();
	FILE *out = fopen(conv_cache_path(c), "w");

	CHECK(out && fputs(text, out) >= 0 && !fclose(out));
	conv_cache_close(c);
}

static void test_round(void)
{
	struct conv_cache *c = open_one(), *again;
	float us;

	ok(strstr(conv_cache_path(c), "/cocod/plans-NVIDIA-H100-80GB-HBM3-9.19.0.txt"), "a file below the cache folder: %s", conv_cache_path(c));
	ok(!conv_cache_find(c, "fprop a", &us), "nothing is known at first");
	conv_cache_add(c, "fprop a", "62:2=5,27=1", 14.5f);
	conv_cache_add(c, "dgrad+= a", "67", 20);
	conv_cache_add(c, "fprop a", "63", 13.5f);
	conv_cache_add(c, "dgrad+= b", CONV_NONE, 0);
	again = open_one();
	ok(has(c, "fprop a", "63", 13.5f) && has(c, "dgrad+= a", "67", 20), "what was added is known");
	ok(has(again, "fprop a", "63", 13.5f) && has(again, "dgrad+= a", "67", 20), "and in the next run, the last line of a key");
	ok(has(again, "dgrad+= b", CONV_NONE, 0), "also that there is no engine");
	conv_cache_close(c);
	conv_cache_close(again);
}

static void test_garbage(void)
{
	static const char *const bad[] = {
		"nonsense", "= 62 1 us", " = 62 1 us", "fprop b = 62", "fprop b = 62 us", "fprop b =  62 1 us", "fprop b = 62 -1 us",
		"fprop b = 62 nan us", "fprop b = 62 1 ms", "fprop b = x62 1 us", "fprop b = 62 1 us more", "fprop b = 62 0 us",
	};
	struct conv_cache *c;
	char line[4096];
	float us;
	bool known = false;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "fprop a = 62 14.5 us\n%s\ndgrad a = 67 20.0 us\n", bad[i]);
		write_file(line);
		c = open_one();
		known |= conv_cache_find(c, "fprop b", &us) != NULL;
		ok(has(c, "fprop a", "62", 14.5f) && has(c, "dgrad a", "67", 20) && c->count == 2 && c->complained, "passed over: \"%s\"", bad[i]);
		conv_cache_close(c);
	}
	ok(!known, "nothing is read out of such lines");
	write_file("# a remark\n\nfprop a = 62 14.5 us\n");
	c = open_one();
	ok(c->count == 1 && !c->complained, "remarks and empty lines are no complaint");
	conv_cache_close(c);
	write_file("fprop a = 62 14.5 us\ndgrad a = 67 2");
	c = open_one();
	ok(has(c, "fprop a", "62", 14.5f) && c->count == 1, "a torn last line is passed over");
	conv_cache_close(c);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = 0;
	write_file(line);
	c = open_one();
	ok(c->count == 0, "so is a line of any length");
	conv_cache_close(c);
}

enum { WRITERS = 4, KEYS = 200 };

static void test_writers(void)
{
	struct conv_cache *c;
	bool all = true;

	write_file("");
	for (int w = 0; w < WRITERS; w++)
		if (!fork()) {
			c = open_one();
			for (int k = 0; k < KEYS; k++) {
				char *key = xasprintf("wgrad %d of %d", k, w);

				conv_cache_add(c, key, "65:2=5,13=1,18=1,25=0,27=1,28=3", (float)(k + 1));
				free(key);
			}
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	c = open_one();
	for (int i = 0; i < WRITERS * KEYS; i++) {
		char *key = xasprintf("wgrad %d of %d", i % KEYS, i / KEYS);

		all &= has(c, key, "65:2=5,13=1,18=1,25=0,27=1,28=3", (float)(i % KEYS + 1));
		free(key);
	}
	ok(all && c->count == WRITERS * KEYS && !c->complained, "%d processes write at once, and every line is there", WRITERS);
	conv_cache_close(c);
}

static void test_places(void)
{
	struct conv_cache *c;

	unsetenv("XDG_CACHE_HOME");
	setenv("HOME", folder, 1);
	c = open_one();
	ok(strstr(conv_cache_path(c), "/.cache/cocod/plans-"), "without XDG_CACHE_HOME: %s", conv_cache_path(c));
	conv_cache_add(c, "fprop a", "62", 1);
	ok(!access(conv_cache_path(c), R_OK), "which is made with the folders above it");
	conv_cache_close(c);
	unsetenv("HOME");
	c = open_one();
	conv_cache_add(c, "fprop a", "62", 1);
	ok(!conv_cache_path(c) && has(c, "fprop a", "62", 1), "without HOME it lasts as long as the program");
	conv_cache_close(c);
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	c = open_one();
	conv_cache_add(c, "fprop a", "62", 1);
	ok(c->complained && has(c, "fprop a", "62", 1), "as where nothing can be written");
	conv_cache_close(c);
}

int main(void)
{
	char *command;

	CHECK(mkdtemp(folder));
	setenv("XDG_CACHE_HOME", folder, 1);
	test_round();
	test_garbage();
	test_writers();
	test_places();
	command = xasprintf("rm -r %s", folder);
	CHECK(!system(command));
	free(command);
	return done_testing();
}
