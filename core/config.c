/* The config: loading it, and the questions that the program asks (config.h). The work is in the files that config_impl.h names. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_impl.h"
#include "die.h"

/* ---- presets ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void unknown_preset(const char *where, const char *name, const char *dir)
{
	struct names known = { 0 };
	struct dirent *file;
	DIR *d = dir ? opendir(dir) : NULL;
	char *all;

	while (d && (file = readdir(d))) {
		size_t n = strlen(file->d_name);

		if (n > 4 && !strcmp(file->d_name + n - 4, ".cfg"))
			names_add(&known, xasprintf("%.*s", (int)n - 4, file->d_name));
	}
	if (known.count)
		qsort(known.name, (size_t)known.count, sizeof *known.name, by_name);
	all = names_join(&known);
	error("%s: there is no cluster.preset \"%s\"", where, name);
	if (known.count)
		hint("the presets in %s are: %s", dir, all);
	else
		hint("there are no presets%s%s; set the keys of cluster one by one", dir ? " in " : "", dir ? dir : "");
	for (int i = 0; i < known.count; i++)
		free((char *)known.name[i]);
	free(known.name);
	free(all);
	if (d)
		closedir(d);
}

/* The last of these that names a preset; NULL: none does. */
static const struct entry *find_preset(const struct entries *given)
{
	const struct entry *e = NULL;

	for (int i = 0; i < given->count; i++)
		if (!strcmp(given->entry[i].key, "cluster.preset"))
			e = &given->entry[i];
	return e;
}

/* The preset that this one names, as entries. */
static int load_preset(struct entries *preset, const struct entry *e, const char *dir)
{
	int rc = -1, before = preset->count;
	const char *name;
	char *path;

	if (!e || e->value.type != OPTION_STRING || !*e->value.s)       /* another type: the check will say so */
		return 0;
	name = e->value.s;
	path = xasprintf("%s/%s.cfg", dir ? dir : "", name);
	if (!dir || strchr(name, '/') || access(path, F_OK))
		unknown_preset(e->where, name, dir);
	else
		rc = config_read_file_entries(preset, path, name);
	for (int i = before; i < preset->count; i++)
		if (!strcmp(preset->entry[i].key, "cluster.preset"))
			rc = error("%s: a preset cannot name another preset", preset->entry[i].where);
	free(path);
	return rc;
}

/* ---- life ---- */

static void append(struct entries *all, struct entries *more)
{
	if (!more->count)
		return;
	all->entry = xrealloc(all->entry, (size_t)(all->count + more->count) * sizeof *all->entry);
	memcpy(all->entry + all->count, more->entry, (size_t)more->count * sizeof *all->entry);
	all->count += more->count;
	free(more->entry);
	memset(more, 0, sizeof *more);
}

struct config *config_load(const struct schema *schema, const char *path, const char *const *sets, int set_count,
                           const char *preset_dir)
{
	struct entries all = { 0 }, file = { 0 }, set = { 0 };
	struct config *c = xcalloc(1, sizeof *c);
	int rc = 0;

	if (path)
		rc |= config_read_file_entries(&file, path, NULL);
	for (int i = 0; i < set_count; i++)
		rc |= config_read_set(&set, sets[i]);
	if (!find_preset(&set))
		rc |= load_preset(&all, find_preset(&file), preset_dir);
	append(&all, &file);
	rc |= load_preset(&all, find_preset(&set), preset_dir);
	append(&all, &set);
	rc |= config_check(c, schema, &all);    /* also after a mistake of syntax: what could be read may hold others */
	entries_release(&all);
	if (!rc)
		return c;
	config_free(c);
	return NULL;
}

struct config *config_variant(const struct config *from, const struct schema *schema, const char *const *sets, int set_count)
{
	struct entries all = { .entry = xcalloc((size_t)from->count, sizeof(struct entry)) };
	struct config *c = xcalloc(1, sizeof *c);
	int rc = 0;

	for (int i = 0; i < from->count; i++) {
		const struct setting *s = &from->setting[i];
		struct entry *e = &all.entry[all.count];

		if (!s->given || s->value.type == VALUE_NONE)
			continue;
		*e = (struct entry){ .key = xstrdup(s->key), .where = xstrdup(s->origin), .origin = xstrdup(s->origin) };
		value_copy(&e->value, &s->value);
		all.count++;
	}
	for (int i = 0; i < set_count; i++)
		rc |= config_read_set(&all, sets[i]);
	rc |= config_check(c, schema, &all);
	entries_release(&all);
	if (!rc)
		return c;
	config_free(c);
	return NULL;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->count; i++) {
		free(c->setting[i].key);
		free(c->setting[i].origin);
		value_release(&c->setting[i].value);
	}
	free(c->setting);
	free(c->unused);
	free(c);
}

/* ---- questions ---- */

static const struct setting *find(const struct config *c, const char *key)
{
	for (int i = 0; i < c->count; i++)
		if (!strcmp(c->setting[i].key, key))
			return &c->setting[i];
	die(STATUS_FAILURE, "config: %s was asked for, and no table in force has it", key);
}

static const struct value *get(const struct config *c, const char *key, unsigned types)
{
	const struct value *v = &find(c, key)->value;

	if (!(v->type & types))
		die(STATUS_FAILURE, "config: %s is %s, and something else was asked for", key, value_kind(v));
	return v;
}

static double as_double(const struct value *v)
{
	return v->type == OPTION_INT ? (double)v->i : v->f;
}

int64_t config_int(const struct config *c, const char *key)
{
	return get(c, key, OPTION_INT)->i;
}

double config_float(const struct config *c, const char *key)
{
	return as_double(get(c, key, OPTION_INT | OPTION_FLOAT));
}

bool config_bool(const struct config *c, const char *key)
{
	return get(c, key, OPTION_BOOL)->i;
}

const char *config_string(const struct config *c, const char *key)
{
	return get(c, key, OPTION_STRING)->s;
}

int config_list(const struct config *c, const char *key, double *values, int most)
{
	const struct value *v = get(c, key, OPTION_INT | OPTION_FLOAT | OPTION_LIST);
	bool list = v->type == OPTION_LIST;
	int count = list ? v->count : 1;

	for (int i = 0; i < count; i++) {
		const struct value *item = list ? &v->item[i] : v;

		if (!(item->type & (OPTION_INT | OPTION_FLOAT)))
			die(STATUS_FAILURE, "config: %s holds strings, and numbers were asked for", key);
		if (i < most)
			values[i] = as_double(item);
	}
	return count;
}

int config_strings(const struct config *c, const char *key, const char **values, int most)
{
	const struct value *v = get(c, key, OPTION_STRING | OPTION_LIST);
	bool list = v->type == OPTION_LIST;
	int count = list ? v->count : 1;

	for (int i = 0; i < count; i++) {
		const struct value *item = list ? &v->item[i] : v;

		if (item->type != OPTION_STRING)
			die(STATUS_FAILURE, "config: %s holds numbers, and strings were asked for", key);
		if (i < most)
			values[i] = item->s;
	}
	return count;
}

bool config_is_text(const struct config *c, const char *key)
{
	const struct value *v = &find(c, key)->value;

	return v->type == OPTION_STRING || (v->type == OPTION_LIST && v->count && v->item[0].type == OPTION_STRING);
}

static struct value *decided(struct config *c, const char *key, int count)
{
	struct value *v = &c->setting[find(c, key) - c->setting].value;

	value_release(v);
	*v = (struct value){ .type = OPTION_LIST, .item = xcalloc((size_t)count, sizeof *v->item), .count = count };
	return v->item;
}

void config_decide(struct config *c, const char *key, const int *values, int count)
{
	struct value *item = decided(c, key, count);

	for (int i = 0; i < count; i++)
		item[i] = (struct value){ .type = OPTION_INT, .i = values[i] };
}

void config_decide_floats(struct config *c, const char *key, const double *values, int count)
{
	struct value *item = decided(c, key, count);

	for (int i = 0; i < count; i++)
		item[i] = (struct value){ .type = OPTION_FLOAT, .f = values[i] };
}

enum option_type config_type(const struct config *c, const char *key)
{
	return (enum option_type)find(c, key)->value.type;
}

bool config_has(const struct config *c, const char *key)
{
	return find(c, key)->value.type != VALUE_NONE;
}

bool config_given(const struct config *c, const char *key)
{
	return find(c, key)->given;
}

const char *config_origin(const struct config *c, const char *key)
{
	return find(c, key)->origin;
}

const char *config_unused(const struct config *c)
{
	return c->unused;
}
