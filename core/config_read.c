/*
 * Text to entries: the run file, a preset, one --set, one default of a table. The only file that knows libconfig. A mistake of
 * syntax ends the reading of that text; the other texts are still read, so that one run shows the mistakes of all.
 */
#include <ctype.h>
#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "config_impl.h"
#include "die.h"

enum { FILE_MOST = 4 << 20 };           /* a config of more than 4 MB is some other file */

/* Where the entries that are being read come from. */
struct source {
	const char *path;               /* of a file; NULL: not a file */
	const char *preset;             /* its name, or NULL */
	const char *set;                /* the text behind --set, or NULL */
};

static void entry_add(struct entries *all, const struct source *from, char *key, int line, struct value value)
{
	struct entry *e;

	all->entry = xrealloc(all->entry, (size_t)(all->count + 1) * sizeof *all->entry);
	e = &all->entry[all->count++];
	e->key = key;
	e->value = value;
	e->where = from->set ? xasprintf("--set %s", from->set) : xasprintf("%s:%d", from->path, line);
	if (from->set)
		e->origin = xstrdup("--set");
	else
		e->origin = from->preset ? xasprintf("preset %s", from->preset) : xstrdup(e->where);
}

void entries_release(struct entries *all)
{
	for (int i = 0; i < all->count; i++) {
		free(all->entry[i].key);
		free(all->entry[i].where);
		free(all->entry[i].origin);
		value_release(&all->entry[i].value);
	}
	free(all->entry);
	memset(all, 0, sizeof *all);
}

/* ---- libconfig's tree ---- */

static struct value value_of(config_setting_t *s)
{
	struct value v = { 0 };

	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		v.type = OPTION_BOOL;
		v.i = config_setting_get_bool(s);
		break;
	case CONFIG_TYPE_INT:
		v.type = OPTION_INT;
		v.i = config_setting_get_int(s);
		break;
	case CONFIG_TYPE_INT64:
		v.type = OPTION_INT;
		v.i = config_setting_get_int64(s);
		break;
	case CONFIG_TYPE_FLOAT:
		v.type = OPTION_FLOAT;
		v.f = config_setting_get_float(s);
		break;
	case CONFIG_TYPE_STRING:
		v.type = OPTION_STRING;
		v.s = xstrdup(config_setting_get_string(s));
		break;
	case CONFIG_TYPE_ARRAY:
	case CONFIG_TYPE_LIST:
		v.type = OPTION_LIST;
		v.count = config_setting_length(s);
		v.item = xcalloc((size_t)v.count, sizeof *v.item);
		for (int i = 0; i < v.count; i++)
			v.item[i] = value_of(config_setting_get_elem(s, (unsigned)i));
		break;
	default:
		v.type = VALUE_GROUP;
		break;
	}
	return v;
}

/* A group gives an entry for each of its keys, and one of its own only if it is empty: its name is to be checked too. */
static void flatten(struct entries *all, const struct source *from, config_setting_t *s, char *key)
{
	int count = config_setting_is_group(s) ? config_setting_length(s) : 0;

	if (!count) {
		entry_add(all, from, key, config_setting_source_line(s), value_of(s));
		return;
	}
	for (int i = 0; i < count; i++) {
		config_setting_t *member = config_setting_get_elem(s, (unsigned)i);

		flatten(all, from, member, xasprintf("%s.%s", key, config_setting_name(member)));
	}
	free(key);
}

/* ---- files ---- */

/* The whole file as text, or NULL after recording why not. */
static char *slurp(const char *path)
{
	FILE *in = fopen(path, "rb");
	struct stat about;
	char *text;
	size_t length;

	if (!in) {
		error("cannot read the config file %s: %s", path, strerror(errno));
		hint("cocod.cfg.example is a config to begin with; cocod-train --list shows all keys");
		return NULL;
	}
	if (fstat(fileno(in), &about) == 0 && S_ISDIR(about.st_mode)) {
		error("the config file %s is a directory", path);
		hint("name a file, e.g. %s%srun.cfg", path, path[strlen(path) - 1] == '/' ? "" : "/");
		fclose(in);
		return NULL;
	}
	text = xcalloc(FILE_MOST + 1, 1);
	length = fread(text, 1, FILE_MOST, in);
	if (ferror(in))
		error("cannot read the config file %s: %s", path, strerror(errno));
	else if (strlen(text) != length || length == FILE_MOST)
		error("%s is not a config file: it is not text, or larger than 4 MB", path);
	else {
		fclose(in);
		return text;
	}
	fclose(in);
	free(text);
	return NULL;
}

/* libconfig's words, the line they are about and what helps. */
static void syntax_error(const config_t *lib, const char *path, const char *text)
{
	int line = config_error_line(lib), length;
	const char *words = config_error_text(lib);

	for (int i = 1; i < line && strchr(text, '\n'); i++)
		text = strchr(text, '\n') + 1;
	text += strspn(text, " \t");
	length = (int)strcspn(text, "\r\n");
	error("%s:%d: %s, at: %.*s", path, line, words, length < 80 ? length : 80, text);
	if (strstr(words, "duplicate"))
		hint("a group and a key inside it may be given once; join the two");
	else if (strstr(words, "mismatched"))
		hint("in [ ] all elements are of one type: write 1.0 beside 0.5, or use ( )");
	else
		hint("in this line or just before: group = { key = 4; name = \"text\"; list = [1, 2]; }; — text needs quotes");
}

int config_read_file_entries(struct entries *all, const char *path, const char *preset)
{
	const struct source from = { .path = path, .preset = preset };
	char *raw = slurp(path), *text = raw ? config_scan(raw, path, true) : NULL;
	config_t lib;
	int rc = -1;

	if (text) {
		config_init(&lib);
		if (config_read_string(&lib, text)) {
			config_setting_t *root = config_root_setting(&lib);

			for (int i = 0; i < config_setting_length(root); i++) {
				config_setting_t *s = config_setting_get_elem(root, (unsigned)i);

				flatten(all, &from, s, xstrdup(config_setting_name(s)));
			}
			rc = 0;
		} else {
			syntax_error(&lib, path, raw);
		}
		config_destroy(&lib);
	}
	free(text);
	free(raw);
	return rc;
}

/* ---- single values ---- */

/* A word that needs no quotes behind --set: a name or a path. What looks like libconfig's own is left to libconfig. */
static bool bare_word(const char *s)
{
	static const char punctuation[] = "_-+./%~:@,";

	if (!strcasecmp(s, "true") || !strcasecmp(s, "false"))
		return false;
	if (!isalpha((unsigned char)*s) && !strchr("_./~%", *s))
		return false;
	if (*s == '.' && isdigit((unsigned char)s[1]))
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(punctuation, *s) && !((unsigned char)*s & 0x80))
			return false;
	return true;
}

/* Parses `text` as the one value of the key. Returns -1 if it is none; mistakes of the scan are recorded, that one is not. */
static int parse_value(struct entries *all, const struct source *from, const char *key, const char *text)
{
	char *line = xasprintf("v = %s%s%s;", bare_word(text) ? "\"" : "", text, bare_word(text) ? "\"" : "");
	char *where = xasprintf("--set %s", from->set), *scanned = config_scan(line, where, false);
	config_t lib;
	int rc = -1;

	config_init(&lib);
	if (scanned && config_read_string(&lib, scanned) && config_setting_length(config_root_setting(&lib)) == 1) {
		flatten(all, from, config_setting_get_elem(config_root_setting(&lib), 0), xstrdup(key));
		rc = 0;
	}
	config_destroy(&lib);
	free(scanned);
	free(where);
	free(line);
	return rc;
}

/* --set 's key: words joined by dots. */
static bool good_key(const char *key)
{
	bool start = true;

	for (; *key; key++) {
		if (*key == '.' ? start : start ? !isalpha((unsigned char)*key) : !isalnum((unsigned char)*key) && !strchr("_-", *key))
			return false;
		start = *key == '.';
	}
	return !start;
}

int config_read_set(struct entries *all, const char *set)
{
	const struct source from = { .set = set };
	const char *equals = strchr(set, '='), *value = equals ? equals + 1 : "";
	char *key = xstrdup(set);
	int rc = -1, before = errors_count();

	key[equals ? equals - set : 0] = 0;
	value += strspn(value, " \t");
	if (!equals) {
		error("--set %s: there is no \"=\"", set);
		hint("write --set KEY=VALUE, e.g. --set sync.period=8");
	} else if (!good_key(key)) {
		error("--set %s: \"%s\" is not a key", set, key);
		hint("a key is GROUP.NAME, e.g. sync.period; cocod-train --list shows all");
	} else if (!*value) {
		error("--set %s: no value behind \"=\"", set);
		hint("an empty string is written \"\": --set '%s=\"\"'", key);
	} else if (parse_value(all, &from, key, value)) {
		if (errors_count() == before) {
			error("--set %s: \"%s\" is not a value", set, value);
			hint("a number, true, false, a word, [1, 2], or text in quotes: --set '%s=\"some text\"'", key);
		}
	} else {
		rc = 0;
	}
	free(key);
	return rc;
}

void config_read_default(struct value *v, const char *key, const char *text)
{
	const struct source from = { .set = key };
	struct entries one = { 0 };

	if (parse_value(&one, &from, key, text) || one.count != 1)
		die(STATUS_FAILURE, "the default of %s is not a value: %s", key, text);
	value_copy(v, &one.entry[0].value);
	entries_release(&one);
}

const char *config_library(void)
{
	static char text[48];

	snprintf(text, sizeof text, "libconfig %d.%d.%d", LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
	return text;
}
