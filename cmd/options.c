/* The command line: see options.h. Read by hand, so that a misspelt option gets an answer of ours, with the nearest known one. */
#include <stdlib.h>
#include <string.h>

#include "../core/config.h"
#include "../core/die.h"
#include "options.h"

static const struct flag {
	const char *name;
	enum action action;
	const char *help;
	const char *value;              /* what may follow; NULL: nothing */
} flags[] = {
	{ "--dry-run", ACTION_DRY_RUN, "check everything; print layers, memory, bytes and predicted times; train nothing", NULL },
	{ "--predict", ACTION_PREDICT, "print step times on 1 to 1024 workers by the formulas; =all: of all algorithms and compressors", "[=all]" },
	{ "--calibrate", ACTION_CALIBRATE, "measure what each layer takes on this machine; write it to FILE, for cluster.compute.profile", "[=FILE]" },
	{ "--print-config", ACTION_PRINT_CONFIG, "print the config as resolved, with all defaults, in the config's own syntax", NULL },
	{ "--list", ACTION_LIST, "list models, data sets, devices and algorithms with their papers and keys", NULL },
	{ "--version", ACTION_VERSION, "print the version, the devices and the libraries", NULL },
	{ "--help", ACTION_HELP, "print this", NULL },
};

enum { FLAGS = sizeof flags / sizeof *flags };

void options_help(FILE *out)
{
	fputs("usage: cocod-train [options] run.cfg\n"
	      "       mpirun -np 4 cocod-train [options] run.cfg\n\n"
	      "Trains an image network on one or more workers. cocod.cfg.example explains every key of the config.\n\n",
	      out);
	fprintf(out, "  %-18s %s\n", "--set KEY=VALUE", "override a key of the config, e.g. --set sync.period=8; may be repeated");
	for (int i = 0; i < FLAGS; i++) {
		fprintf(out, "  %s%-*s %s\n", flags[i].name, 18 - (int)strlen(flags[i].name), flags[i].value ? flags[i].value : "", flags[i].help);
		if (flags[i].action == ACTION_PREDICT) {
			fprintf(out, "  %-18s %s\n", "  --workers LIST", "on so many workers, e.g. --workers 4,8,16,32");
			fprintf(out, "  %-18s %s\n", "  --csv", "as comma-separated values");
		}
	}
	fputs("\nexit status: 0 done, 1 failure at run time, 2 command line or config, 3 data, 4 loss not finite, 5 communication\n", out);
}

static void unknown_option(const char *arg)
{
	const char *known[FLAGS + 4] = { "--set", "--workers", "--csv" }, *near;
	char *name = xstrdup(arg);

	for (int i = 0; i < FLAGS; i++)
		known[i + 3] = flags[i].name;
	name[strcspn(name, "=")] = 0;
	error("unknown option %s", name);
	near = config_nearest(name, known);
	if (near)
		hint("did you mean %s?", near);
	else
		hint("cocod-train --help lists the options; keys of the config are given as --set KEY=VALUE");
	free(name);
}

/* The flag of this name, or NULL. "-h" is --help by custom. */
static const struct flag *find_flag(const char *arg, size_t length)
{
	if (!strcmp(arg, "-h"))
		return &flags[FLAGS - 1];
	for (int i = 0; i < FLAGS; i++)
		if (strlen(flags[i].name) == length && !strncmp(flags[i].name, arg, length))
			return &flags[i];
	return NULL;
}

static void take_flag(struct options *o, const struct flag *f, const char *arg)
{
	static const char *const names[] = { "training", "--dry-run", "--predict", "--calibrate", "--print-config", "--list", "--version", "--help" };
	const char *value = strchr(arg, '=');

	if (f->action == ACTION_PREDICT && value && strcmp(value, "=all")) {
		error("%s: it is --predict, or --predict=all", arg);
		return;
	}
	if (value && (!f->value || !value[1])) {
		error(f->value ? "%s: a file is missing (%s)" : "%s takes no value (%s)", f->name, arg);
		return;
	}
	if (value && f->action == ACTION_PREDICT)
		o->question.all = true;
	else if (value)
		o->profile = value + 1;
	if (o->action == ACTION_HELP || f->action == o->action)         /* --help goes before everything */
		return;
	if (o->action != ACTION_TRAIN && f->action != ACTION_HELP)
		error("%s and %s exclude each other", names[o->action], f->name);
	o->action = f->action;
}

/* "4,8,16": increasing or not, each from 1 to 65536. */
static void take_workers(struct options *o, const char *list)
{
	struct question *q = &o->question;
	const char *at = list;
	bool good = true;

	for (q->count = 0; good && q->count < PREDICTED_MOST; q->count++) {
		char *end;
		long n = strtol(at, &end, 10);

		good = end > at && n >= 1 && n <= 65536 && (*end == ',' || !*end);
		q->workers[q->count] = (int)n;
		at = end + 1;
		if (good && !*end) {
			q->count++;
			return;
		}
	}
	error("--workers %s: it takes up to %d numbers from 1 to 65536, with commas between them", list, PREDICTED_MOST);
	hint("for example --workers 4,8,16,32");
}

static void take_file(struct options *o, const char *arg)
{
	const char *equals = strchr(arg, '='), *dot = strchr(arg, '.');

	if (!o->path) {
		o->path = arg;
		return;
	}
	error("two config files: %s and %s", o->path, arg);
	if (equals && dot && dot < equals)
		hint("to set a key of the config write --set %s", arg);
	else
		hint("give one; what differs from it can be given with --set KEY=VALUE");
}

/* What belongs together: an action that needs a config has one, the others have none. */
static void check_file(const struct options *o)
{
	bool needs = o->action < ACTION_LIST;

	if (needs && !o->path) {
		error("no config file is given%s", o->sets ? ", only --set" : "");
		hint("usage: cocod-train [options] run.cfg; cocod.cfg.example is one to begin with: cocod-train cocod.cfg.example");
	} else if (!needs && o->action != ACTION_HELP && (o->path || o->sets)) {
		error("%s takes no config", o->action == ACTION_LIST ? "--list" : "--version");
		hint("--print-config shows what a config resolves to");
	}
	if (o->action < ACTION_HELP && o->action != ACTION_PREDICT && (o->question.csv || o->question.count)) {
		error("%s belongs to --predict", o->question.csv ? "--csv" : "--workers");
		hint("cocod-train --predict --workers 4,8 --csv run.cfg");
	}
}

int options_parse(struct options *o, int argc, char **argv)
{
	int before = errors_count();
	bool only_files = false;

	*o = (struct options){ .action = ACTION_TRAIN, .set = xcalloc((size_t)argc + 1, sizeof *o->set) };
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		const struct flag *f = find_flag(arg, strcspn(arg, "="));

		if (only_files || arg[0] != '-' || !arg[1]) {
			take_file(o, arg);
		} else if (!strcmp(arg, "--")) {
			only_files = true;
		} else if (!strncmp(arg, "--set=", 6)) {
			o->set[o->sets++] = arg + 6;
		} else if (!strcmp(arg, "--set")) {
			if (i + 1 < argc)
				o->set[o->sets++] = argv[++i];
			else
				error("--set is the last word, and its KEY=VALUE is missing");
		} else if (!strncmp(arg, "--workers=", 10)) {
			take_workers(o, arg + 10);
		} else if (!strcmp(arg, "--workers")) {
			take_workers(o, i + 1 < argc ? argv[++i] : "");
		} else if (!strcmp(arg, "--csv")) {
			o->question.csv = true;
		} else if (f) {
			take_flag(o, f, arg);
		} else {
			unknown_option(arg);
		}
	}
	if (errors_count() == before)
		check_file(o);
	if (o->action == ACTION_HELP)
		o->path = NULL;
	if (errors_count() == before)
		return 0;
	options_release(o);
	return -1;
}

void options_release(struct options *o)
{
	free(o->set);
	*o = (struct options){ 0 };
}
