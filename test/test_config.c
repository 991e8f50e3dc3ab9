/* The config with tables of its own: values, where they come from, every kind of mistake, and that what is printed reads back. */
#include <string.h>
#include <unistd.h>

#include "../core/config.h"
#include "../core/die.h"
#include "tap.h"

static const struct option top[] = {
	{ "world_size", OPTION_INT, NULL, 1, 64, NULL, "workers" },
	{ 0 },
};
static const struct option train[] = {
	{ "batch", OPTION_INT | OPTION_LIST, "64", 1, 65536, NULL, "images a step" },
	{ "epochs", OPTION_INT | OPTION_FLOAT, "10", 0.5, 1000, NULL, "passes" },
	{ "lr", OPTION_FLOAT, "0.1", 0, 100, NULL, "learning rate" },
	{ "seed", OPTION_INT, "1", 0, 9e15, NULL, "seed" },
	{ "nesterov", OPTION_BOOL, "false", 0, 0, NULL, "look ahead" },
	{ "milestones", OPTION_LIST, "[]", 0, 1000, NULL, "epochs" },
	{ "note", OPTION_STRING, NULL, 0, 0, NULL, "free text" },
	{ "schedule", OPTION_STRING, "\"cosine\"", 0, 0, "constant|step|cosine", "of the learning rate" },
	{ 0 },
};
static const struct option sync_base[] = { { "algorithm", OPTION_STRING, "\"cocod\"", 0, 0, NULL, "who waits" }, { 0 } };
static const struct option cocod[] = { { "period", OPTION_INT, "4", 1, 1000, NULL, "steps" }, { 0 } };
static const struct option local[] = {
	{ "period", OPTION_INT, "8", 1, 1000, NULL, "steps" },
	{ "momentum", OPTION_FLOAT, "0.5", 0, 1, NULL, "outer" },
	{ 0 },
};
static const struct option compress[] = {
	{ "method", OPTION_STRING | OPTION_LIST, "\"none\"", 0, 0, NULL, "what is sent" },
	{ "density", OPTION_FLOAT, "1.0", 0, 1, NULL, "of the group itself" },
	{ 0 },
};
static const struct option topk[] = { { "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share that is sent" }, { 0 } };
static const struct option cluster[] = {
	{ "preset", OPTION_STRING, NULL, 0, 0, NULL, "file" },
	{ "inter.latency_us", OPTION_FLOAT, "50.0", 0, 1e6, NULL, "latency" },
	{ "nodes", OPTION_INT, "1", 1, 1000, NULL, "hosts" },
	{ "inter.gbit_per_s", OPTION_FLOAT, "10.0", 0, 1e6, NULL, "bandwidth" },
	{ 0 },
};

static const struct schema schema[] = {
	{ "", NULL, NULL, top, NULL },
	{ "train", NULL, NULL, train, NULL },
	{ "sync", NULL, NULL, sync_base, NULL },
	{ "sync", "algorithm", "ssgd", NULL, NULL },
	{ "sync", "algorithm", "cocod", cocod, NULL },
	{ "sync", "algorithm", "local", local, NULL },
	{ "compress", NULL, NULL, compress, NULL },
	{ "compress", "method", "none", NULL, NULL },
	{ "compress", "method", "topk", topk, NULL },
	{ "compress", "method", "fp16", NULL, NULL },
	{ "cluster", NULL, NULL, cluster, NULL },
	{ 0 },
};

static char folder[] = "/tmp/cocod-test-config-XXXXXX", file[64], preset[64];

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* Loads a file of this text, with sets (ended by NULL). */
static struct config *load(const char *text, const char *const *sets)
{
	int count = 0;

	errors_clear();
	while (sets && sets[count])
		count++;
	if (text)
		write_file(file, text);
	return config_load(schema, text ? file : NULL, sets, count, folder);
}

static char *print(const struct config *c)
{
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	config_print(c, out);
	fclose(out);
	return text;
}

/* ---- what is right ---- */

static void test_defaults(void)
{
	struct config *c = load(NULL, NULL);
	double list[4];

	ok(c && !errors_count(), "defaults alone are a config");
	ok(config_int(c, "train.batch") == 64 && config_int(c, "sync.period") == 4, "ints by default; the owner in force gives period");
	ok(config_float(c, "train.lr") == 0.1 && config_float(c, "train.epochs") == 10, "floats; an int is converted");
	ok(!config_bool(c, "train.nesterov") && !strcmp(config_string(c, "train.schedule"), "cosine"), "a bool and a string");
	ok(!config_has(c, "world_size") && !config_has(c, "train.note") && config_has(c, "train.lr"), "what has no default is unset");
	ok(!config_given(c, "train.lr") && !strcmp(config_origin(c, "train.lr"), "default"), "a default is not given");
	ok(config_list(c, "train.milestones", list, 4) == 0 && config_list(c, "train.batch", list, 4) == 1 && list[0] == 64,
	   "an empty list; a scalar counts as one");
	ok(config_float(c, "compress.density") == 1, "an owner's key that the group has too: the group's default without the owner");
	ok(!*config_unused(c), "nothing is unused");
	config_free(c);
}

static void test_values(void)
{
	static const char *const sets[] = { "sync.period=9", "sync.period=16", "train.note=runs/%n", "cluster={inter={gbit_per_s=1}}",
	                                    "compress.method=(\"topk\", \"fp16\")", NULL };
	struct config *c = load("world_size = 4;\n"
	                        "train: { batch = [32, 64]; lr = 2; # an int\n"
	                        "  seed = 5000000000; epochs = 0.5; nesterov = TRUE; milestones = (1, 2.5);\n"
	                        "  note = \"x = 99999999999 // no comment\"; };\n"
	                        "/* seed = 7000000000 */ sync = { algorithm = \"local\"; period = 3 };\n",
	                        sets);
	const char *words[4];
	double list[4];

	if (!ok(c != NULL, "a config of all types loads%s", errors_text()))
		return;
	ok(config_int(c, "world_size") == 4 && !strncmp(strrchr(config_origin(c, "world_size"), ':'), ":1", 3),
	   "a key outside of all groups, with its line (%s)", config_origin(c, "world_size"));
	ok(config_type(c, "train.batch") == OPTION_LIST && config_list(c, "train.batch", list, 1) == 2 && list[0] == 32,
	   "a list; no more than fits is written, and the count is told");
	ok(config_type(c, "train.lr") == OPTION_FLOAT && config_float(c, "train.lr") == 2, "an int where a float is meant");
	ok(config_int(c, "train.seed") == 5000000000, "an int of more than 32 bits (libconfig 1.5 alone cuts it)");
	ok(config_float(c, "train.epochs") == 0.5 && config_bool(c, "train.nesterov"), "half an epoch; TRUE");
	ok(config_list(c, "train.milestones", list, 4) == 2 && list[1] == 2.5, "a list of mixed numbers in ( )");
	ok(config_int(c, "sync.period") == 16 && !strcmp(config_origin(c, "sync.period"), "--set"), "the last --set wins over the file");
	ok(!strcmp(config_string(c, "train.note"), "runs/%n"), "a bare word is a string");
	ok(config_float(c, "cluster.inter.gbit_per_s") == 1 && config_float(c, "cluster.inter.latency_us") == 50, "nested groups");
	ok(config_strings(c, "compress.method", words, 4) == 2 && !strcmp(words[1], "fp16"), "a list of strings");
	ok(config_float(c, "compress.density") == 0.01, "the owner in force wins over the group's own default");
	ok(config_float(c, "sync.momentum") == 0.5, "keys of the chosen algorithm");
	config_free(c);
}

static void test_print(void)
{
	static const char *const sets[] = { "train.note=\"a \\\"quoted\\\" \\\\ word\\n\\x01\"", "train.lr=0.30000000000000004",
	                                    "train.seed=123456789012345", "train.milestones=(1, 2.5, 30)", "train.batch=[1,2,3]",
	                                    "cluster.inter.latency_us=1e-7", "world_size=3", "compress.method=(\"topk\")", NULL };
	struct config *c = load(NULL, sets), *again;
	char *first, *second;

	if (!ok(c != NULL, "a config to print loads%s", errors_text()))
		return;
	first = print(c);
	again = load(first, NULL);
	if (!ok(again != NULL, "what is printed loads%s", errors_text()))
		return;
	second = print(again);
	ok(!strcmp(first, second), "and prints the same");
	ok(config_float(again, "train.lr") == 0.30000000000000004 && config_int(again, "train.seed") == 123456789012345 &&
	   config_float(again, "cluster.inter.latency_us") == 1e-7, "no digit is lost");
	ok(!strcmp(config_string(again, "train.note"), "a \"quoted\" \\ word\n\x01"), "no character is lost");
	ok(config_given(again, "sync.period") && config_int(again, "sync.period") == 4, "defaults are spelled out");
	free(first);
	free(second);
	config_free(c);
	config_free(again);
}

static void test_preset(void)
{
	static const char *const choose[] = { "cluster.preset=slow", NULL };
	static const char *const override[] = { "cluster.preset=slow", "cluster.nodes=5", NULL };
	static const char *const unknown[] = { "cluster.preset=slaw", NULL };
	static const char *const nested[] = { "cluster.preset=nested", NULL };
	struct config *c;

	write_file(preset, "cluster: { nodes = 2; inter: { gbit_per_s = 0.1; }; };\n");
	c = load("cluster: { preset = \"slow\"; nodes = 3; };", NULL);
	ok(c && config_float(c, "cluster.inter.gbit_per_s") == 0.1, "a preset is read");
	ok(c && config_int(c, "cluster.nodes") == 3, "the file that names it overrides it");
	config_free(c);
	c = load("cluster: { preset = \"slaw\"; nodes = 3; };", choose);
	ok(c && config_int(c, "cluster.nodes") == 2, "one that is set overrides the file, and its preset");
	ok(c && !strcmp(config_origin(c, "cluster.inter.gbit_per_s"), "preset slow"), "and its name is known");
	config_free(c);
	c = load("cluster: { nodes = 3; };", override);
	ok(c && config_int(c, "cluster.nodes") == 5, "--set overrides both");
	config_free(c);
	ok(!load(NULL, unknown) && strstr(errors_text(), "no cluster.preset \"slaw\"") && strstr(errors_text(), "slow"),
	   "an unknown preset: the known ones are listed");
	snprintf(preset, sizeof preset, "%s/nested.cfg", folder);
	write_file(preset, "cluster: { preset = \"slow\"; };\n");
	ok(!load(NULL, nested) && strstr(errors_text(), "nested.cfg:1: a preset cannot name another"), "no preset inside a preset");
	unlink(preset);
}

static void test_unused(void)
{
	struct config *c = load("sync: { algorithm = \"ssgd\"; period = 3; momentum = 0.1; }; compress: { density = 0.5; };", NULL);

	ok(c && !strcmp(config_unused(c), "sync.period (cocod, local), sync.momentum (local)"), "keys of other algorithms are unused: %s",
	   c ? config_unused(c) : errors_text());
	config_free(c);
	ok(!load("sync: { algorithm = \"ssgd\"; period = \"x\"; momentum = 7; };", NULL) && errors_count() == 2,
	   "but they are checked all the same");
}

/* ---- what is wrong ---- */

static const struct {
	const char *text, *set, *message, *remedy;
} wrong[] = {
	{ "trian: { batch = 3; };", NULL, ":1: unknown group trian", "did you mean train?" },
	{ "xyzzy: { };", NULL, ":1: unknown group xyzzy", "the groups are: train, sync, compress, cluster" },
	{ "\ntrain:\n{\n  bacth = 3;\n};", NULL, ":4: unknown key train.bacth", "did you mean train.batch?" },
	{ "train: { period = 3; };", NULL, ":1: unknown key train.period", "did you mean sync.period?" },
	{ "batch = 3;", NULL, ":1: unknown key batch", "did you mean train.batch?" },
	{ "train: { inter: { batch = 3; }; };", NULL, "unknown key train.inter.batch", "keys of this group are" },
	{ "train = 3;", NULL, ":1: train is a group, not a value", "write train = {" },
	{ "cluster: { inter = 3; };", NULL, "cluster.inter is a group, not a value", "" },
	{ "train: { batch = { x = 3; }; };", NULL, "unknown key train.batch.x", "" },
	{ "train: { batch = { }; };", NULL, "train.batch = { … } is a group; allowed: an integer, or a list of integers", "" },
	{ "train: { batch = 3.5; };", NULL, "train.batch = 3.5 is a float; allowed: an integer, or a list of integers", "" },
	{ "train: { batch = \"3\"; };", NULL, "train.batch = \"3\" is a string", "train.batch: images a step" },
	{ "train: { batch = (3, 4.5); };", NULL, "train.batch = (3, 4.5) has elements of a wrong type", "" },
	{ "train: { batch = (3, (4, 5)); };", NULL, "has elements of a wrong type", "" },
	{ "train: { batch = [3, 0]; };", NULL, "train.batch = 0 is out of range: it must be from 1 to 65536", "" },
	{ "train: { lr = true; };", NULL, "train.lr = true is a boolean; allowed: a number", "" },
	{ "train: { lr = [0.1]; };", NULL, "train.lr = [0.1] is a list; allowed: a number", "" },
	{ "train: { nesterov = 1; };", NULL, "train.nesterov = 1 is an integer; allowed: true or false", "" },
	{ "train: { lr = 101; };", NULL, "train.lr = 101 is out of range: it must be from 0 to 100", "" },
	{ "train: { lr = 1e999; };", NULL, "train.lr = inf is too large", "" },
	{ "train: { seed = -1; };", NULL, "train.seed = -1 is out of range: it must be at least 0", "" },
	{ "train: {\n seed = 99999999999999999999; };", NULL, ":2: 99999999999999999999 does not fit into 64 bits", "" },
	{ "train: { note = \"\"; };", NULL, "train.note is an empty string", "" },
	{ "train: { schedule = \"cosin\"; };", NULL, "train.schedule = \"cosin\" is not known; known are: constant, step, cosine",
	  "did you mean \"cosine\"?" },
	{ "sync: { algorithm = \"cocd\"; };", NULL, "sync.algorithm = \"cocd\" is not known; known are: ssgd, cocod, local",
	  "did you mean \"cocod\"?" },
	{ "compress: { method = (\"topk\", \"fb16\"); };", NULL, "compress.method = \"fb16\" is not known", "did you mean \"fp16\"?" },
	{ "compress: { method = [1, 2]; };", NULL,
	  "compress.method = [1, 2] has elements of a wrong type; allowed: a string, or a list of strings", "" },
	{ "compress: { method = (); };", NULL, "compress.method is an empty list", "" },
	{ "sync: { period = 2; period = 3; };", NULL, ":1: duplicate setting name", "may be given once" },
	{ "train: { lr = 0.1; };\n\ntrain: { batch = 3; };", NULL, ":3: duplicate setting name", "join the two" },
	{ "train: { milestones = [1, 2.5]; };", NULL, "mismatched element type", "write 1.0 beside 0.5" },
	{ "sync: { algorithm = cocod; };", NULL, ":1: syntax error, at: sync: { algorithm = cocod; };", "text needs quotes" },
	{ "train: {\n\tlr = 0.1;\n", NULL, "syntax error", "" },
	{ "@include \"other.cfg\"\n", NULL, ":1: @include is not possible", "cluster.preset" },
	{ "cluster: { preset = 3; };", NULL, "cluster.preset = 3 is an integer; allowed: a string", "" },
	{ "cluster: { preset = \"../slow\"; };", NULL, "there is no cluster.preset \"../slow\"", "" },
	{ NULL, "sync.period", "--set sync.period: there is no \"=\"", "write --set KEY=VALUE" },
	{ NULL, "=4", "--set =4: \"\" is not a key", "GROUP.NAME" },
	{ NULL, "sync..period=4", "\"sync..period\" is not a key", "" },
	{ NULL, "sync.period=", "no value behind", "" },
	{ NULL, "sync.period=4x", "\"4x\" is not a value", "quotes" },
	{ NULL, "sync.period=4; train = 5", "is not a value", "" },
	{ NULL, "train.note=two words", "\"two words\" is not a value", "--set 'train.note=\"some text\"'" },
	{ NULL, "train.note=\"open", "is not a value", "" },
	{ NULL, "sync.period=0", "--set sync.period=0: sync.period = 0 is out of range", "" },
	{ NULL, "sync.perid=4", "--set sync.perid=4: unknown key sync.perid", "did you mean sync.period?" },
	{ NULL, "train.seed=99999999999999999999", "does not fit into 64 bits", "" },
	{ NULL, "train.schedule=stop", "train.schedule = \"stop\" is not known", "did you mean \"step\"?" },
	{ NULL, "world_size=0", "world_size = 0 is out of range: it must be from 1 to 64", "" },
};

static void test_wrong(void)
{
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *sets[] = { wrong[i].set, NULL };
		struct config *c = load(wrong[i].text, sets);
		const char *said = errors_text();
		bool good = !c && errors_count() == 1 && strstr(said, wrong[i].message) && strstr(said, wrong[i].remedy);

		if (!ok(good, "refused: %s", wrong[i].message))
			printf("# %d errors: %s\n", errors_count(), said);
		config_free(c);
	}
}

static void test_all_at_once(void)
{
	static const char *const sets[] = { "sync.algorithm=cocd", "nonsense", "train.lr=x", NULL };
	static const char *const parts[] = { ":1: unknown group", ":2: train.lr", ":3: train.batch", ":4: unknown key", "--set sync.algorithm",
	                                     "--set nonsense", "--set train.lr=x" };
	struct config *c = load("foo: { a = 1; b = 2; };\ntrain: { lr = \"x\";\n batch = 0;\n momentun = 1; };\n", sets);
	int found = 0;

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		found += strstr(errors_text(), parts[i]) != NULL;
	ok(!c && found == 7 && errors_count() == 7, "seven mistakes are reported at once (%d of %d found)", found, errors_count());
	ok(!load("train: {\n lr = ;\n};", sets) && strstr(errors_text(), ":2: syntax error") && strstr(errors_text(), "--set train.lr=x"),
	   "a mistake of syntax in the file does not hide those of --set");
}

static void test_files(void)
{
	char path[80];
	FILE *f;

	errors_clear();
	ok(!config_load(schema, folder, NULL, 0, NULL) && strstr(errors_text(), "is a directory"), "a directory is refused");
	errors_clear();
	snprintf(path, sizeof path, "%s/none.cfg", folder);
	ok(!config_load(schema, path, NULL, 0, NULL) && strstr(errors_text(), "No such file"), "a missing file is refused");
	errors_clear();
	f = fopen(path, "w");
	CHECK(f && fwrite("train\0: {}", 1, 10, f) == 10 && !fclose(f));
	ok(!config_load(schema, path, NULL, 0, NULL) && strstr(errors_text(), "it is not text"), "a binary file is refused");
	unlink(path);
	errors_clear();
}

/* The same run with another choice: what belonged to the old one is unused then, all else stays. */
static void test_variant(void)
{
	struct config *c = load("train: { batch = [8, 16]; note = \"quoted\"; epochs = 3; }; compress: { method = \"topk\"; density = 0.5; };"
	                        "cluster: { inter: { latency_us = 7; }; };", (const char *const[]){ "sync.algorithm=local", "sync.momentum=0.25", NULL });
	struct config *v = config_variant(c, schema, (const char *const[]){ "compress.method=none", "sync.algorithm=cocod" }, 2), *same;
	double batch[2] = { 0 };

	ok(v && !strcmp(config_string(v, "compress.method"), "none") && config_int(v, "sync.period") == 4, "a variant has what was set, and its defaults");
	CHECK(v);
	ok(config_list(v, "train.batch", batch, 2) == 2 && batch[0] == 8 && batch[1] == 16 && !strcmp(config_string(v, "train.note"), "quoted") &&
	   config_int(v, "train.epochs") == 3 && config_float(v, "cluster.inter.latency_us") == 7 && config_float(v, "compress.density") == 0.5,
	   "and all else as it was");
	ok(config_given(v, "train.batch") && !config_given(v, "train.lr") && !strcmp(config_origin(v, "train.batch"), config_origin(c, "train.batch")),
	   "it knows what was given, and where");
	ok(strstr(config_unused(v), "sync.momentum (local)"), "what belongs to the old choice is unused: %s", config_unused(v));
	same = config_variant(c, schema, NULL, 0);
	ok(same && config_float(same, "sync.momentum") == 0.25 && config_float(same, "compress.density") == 0.5, "without sets it is the same");
	errors_clear();
	ok(!config_variant(c, schema, (const char *const[]){ "train.batch=0" }, 1) && errors_count() == 1, "its sets are checked");
	config_free(same);
	config_free(v);
	config_free(c);
}

static void test_nearest(void)
{
	static const char *const names[] = { "resnet18", "resnet20", "vgg16", NULL };
	static const char *const none[] = { NULL };

	ok(!strcmp(config_nearest("resnet81", names), "resnet18"), "a swap of neighbours counts as one");
	ok(!strcmp(config_nearest("ResNet-18", names), "resnet18"), "case does not count, a hyphen little");
	ok(!strcmp(config_nearest("vgg", (const char *const[]){ "vgg6", NULL }), "vgg6"), "one letter of three");
	ok(!config_nearest("alexnet", names) && !config_nearest("x", none), "what is far gets no suggestion");
}

int main(void)
{
	CHECK(mkdtemp(folder));
	snprintf(file, sizeof file, "%s/run.cfg", folder);
	snprintf(preset, sizeof preset, "%s/slow.cfg", folder);
	test_defaults();
	test_values();
	test_print();
	test_preset();
	test_unused();
	test_wrong();
	test_all_at_once();
	test_files();
	test_variant();
	test_nearest();
	errors_clear();
	unlink(file);
	snprintf(preset, sizeof preset, "%s/slow.cfg", folder);
	unlink(preset);
	rmdir(folder);
	return done_testing();
}
