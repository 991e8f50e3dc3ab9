/* --list and --version: what was linked in. Everything here is read from the tables, so that it cannot differ from them. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../comm/comm.h"
#include "../core/backend.h"
#include "../core/device.h"
#include "../core/die.h"
#include "options.h"
#include "schema.h"

enum { WIDTH = 100, COLUMN = 36 };

/* Words from the current column on, broken at WIDTH and continued at COLUMN. */
static void print_words(FILE *out, int at, const char *text)
{
	if (at >= COLUMN) {
		fputc('\n', out);
		at = 0;
	}
	fprintf(out, "%*s", COLUMN - at, "");
	at = COLUMN;
	for (const char *word = text; *word;) {
		int n = (int)strcspn(word, " ");

		if (at > COLUMN && at + 1 + n > WIDTH) {
			fprintf(out, "\n%*s", COLUMN, "");
			at = COLUMN;
		} else if (at > COLUMN) {
			fputc(' ', out);
			at++;
		}
		fprintf(out, "%.*s", n, word);
		at += n;
		word += n;
		word += strspn(word, " ");
	}
	fputc('\n', out);
}

/* Does the key choose among the owners of its group? */
static bool selects(const struct schema *row, const struct option *o)
{
	for (const struct schema *s = row + 1; s->group && !strcmp(s->group, row->group); s++)
		if (s->owner && !strcmp(s->select, o->key))
			return true;
	return false;
}

/* "integer or list, 1 to 65536" */
static char *type_text(const struct schema *row, const struct option *o)
{
	const char *one = o->types & OPTION_FLOAT ? "number" : o->types & OPTION_INT ? "integer" :
	                  o->types & OPTION_BOOL ? "true or false" : o->types & OPTION_STRING ? "text" : "";
	const char *list = !(o->types & OPTION_LIST) ? "" : *one ? " or list" : "list of numbers";
	char *text;

	if (selects(row, o))
		return xstrdup("a name, see below");
	if (o->choices) {
		text = xstrdup(o->choices);
		for (char *bar; (bar = strchr(text, '|'));)
			*bar = ' ';
		return text;
	}
	if (o->min == 0 && o->max == 0)
		return xasprintf("%s%s", one, list);
	if (o->max > 1e15)
		return xasprintf("%s%s, at least %.7g", one, list, o->min);
	return xasprintf("%s%s, %.7g to %.10g", one, list, o->min, o->max);
}

static void print_options(FILE *out, const struct schema *row)
{
	for (const struct option *o = row->options; o && o->key; o++) {
		char *type = type_text(row, o), *text = xasprintf("%s (%s)", o->help, type);
		int n = fprintf(out, "    %s%s%s", o->key, o->value ? " = " : "", o->value ? o->value : "");

		print_words(out, n, text);
		free(type);
		free(text);
	}
}

void list_print(FILE *out)
{
	fputs("Every key of the config: its default, what it means and may be. Below each group stand the names that its\n"
	      "selecting key may have, each with the keys of its own.\n",
	      out);
	for (const struct schema *s = schema_all(); s->group; s++) {
		if (s->owner) {
			int n = fprintf(out, "  %s \"%s\"", s->select, s->owner);

			print_words(out, n, s->help ? s->help : "");
		} else if (s->help || !*s->group) {
			fprintf(out, "\n%s%s%s\n", *s->group ? s->group : "outside of all groups", s->help ? ": " : "", s->help ? s->help : "");
		}
		print_options(out, s);
	}
}

/* The libraries of the CUDA device cost a second to load, and it needs a GPU to open: so only where one is likely. */
static void version_print_cuda(FILE *out, const struct device_config *config)
{
	const char *why = "no NVIDIA driver is loaded here";
	const struct backend *backend = backend_likely() ? backend_open(&why) : NULL;
	struct device *dev = backend ? backend->device->open(config) : NULL;
	const char *text = errors_text();       /* "error: why\n  hint: …\n" */

	if (backend && !dev && !strncmp(text, "error: ", 7))
		fprintf(out, "device %-12s %.*s\n", "cuda", (int)strcspn(text + 7, "\n"), text + 7);
	else
		fprintf(out, "device %-12s %s\n", "cuda", dev ? dev->ops->describe(dev) : why);
	if (dev)
		dev->ops->close(dev);
	errors_clear();
}

void version_print(FILE *out)
{
	const struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto", .index = -1 };

	fprintf(out, "cocod-train %s\n", COCOD_VERSION);
	for (int i = 0; device_list[i]; i++) {
		struct device *dev = device_list[i]->open(&config);

		fprintf(out, "device %-12s %s\n", device_list[i]->name, device_list[i]->describe(dev));
		device_list[i]->close(dev);
	}
	version_print_cuda(out, &config);
	for (int i = 0; transport_list[i]; i++)
		fprintf(out, "transport %-9s %s\n", transport_list[i]->name,
		        transport_list[i]->version ? transport_list[i]->version() : transport_list[i]->help);
	fprintf(out, "libraries           %s, zlib %s\n", config_library(), zlibVersion());
	fprintf(out, "compiler            %s\n", __VERSION__);
}
