/*
 * Entries against the tables. Every entry is looked at, in the order given, also one that a later one overrides: all mistakes at
 * once. Which tables are in force is found out first, from the select keys ("sync.algorithm"); a key that only tables not in
 * force know is checked as far as it goes and remembered as unused.
 */
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"
#include "die.h"

/* ---- keys and tables ---- */

struct check {
	const struct schema *schema;
	const struct entries *entries;
	bool *in_force;                 /* a row of the schema each */
};

/* The part of the key behind "group.", or NULL if it is of another group. */
const char *config_inside(const char *key, const char *group)
{
	size_t n = strlen(group);

	if (!n)
		return key;
	return !strncmp(key, group, n) && key[n] == '.' ? key + n + 1 : NULL;
}

static const struct option *row_option(const struct schema *row, const char *key)
{
	const char *rest = config_inside(key, row->group);

	if (rest && row->options)
		for (const struct option *o = row->options; o->key; o++)
			if (!strcmp(o->key, rest))
				return o;
	return NULL;
}

/* The option of this key that is in force; an owner's goes before the group's own. */
static const struct option *option_in_force(const struct check *c, const char *key)
{
	const struct option *found = NULL, *o;

	for (int i = 0; c->schema[i].group; i++) {
		if (!c->in_force[i] || !(o = row_option(&c->schema[i], key)))
			continue;
		if (c->schema[i].owner)
			return o;
		if (!found)
			found = o;
	}
	return found;
}

static const struct entry *last_entry(const struct check *c, const char *key)
{
	for (int i = c->entries->count - 1; i >= 0; i--)
		if (!strcmp(c->entries->entry[i].key, key))
			return &c->entries->entry[i];
	return NULL;
}

static bool holds_string(const struct value *v, const char *s)
{
	if (v->type == OPTION_STRING)
		return !strcmp(v->s, s);
	for (int i = 0; i < v->count; i++)
		if (v->item[i].type == OPTION_STRING && !strcmp(v->item[i].s, s))
			return true;
	return false;
}

static bool selected(const struct check *c, const struct schema *row)
{
	char *key = xasprintf("%s%s%s", row->group, *row->group ? "." : "", row->select);
	const struct entry *e = last_entry(c, key);
	const struct option *o = NULL;
	struct value v = { 0 };
	bool yes;

	for (const struct schema *s = c->schema; s->group && !o; s++)
		if (!s->owner)
			o = row_option(s, key);
	if (!o)
		die(STATUS_FAILURE, "no table has the key %s, which selects %s", key, row->owner);
	if (e)
		value_copy(&v, &e->value);
	else if (o->value)
		config_read_default(&v, key, o->value);
	yes = holds_string(&v, row->owner);
	value_release(&v);
	free(key);
	return yes;
}

/* ---- unknown keys and groups ---- */

static struct names group_names(const struct check *c)
{
	struct names n = { 0 };

	for (const struct schema *s = c->schema; s->group; s++)
		if (*s->group)
			names_add(&n, s->group);
	return n;
}

/* The groups that have a key of this name, as full keys joined by "or"; NULL if there are none. To be freed. */
static char *elsewhere(const struct check *c, const char *name)
{
	char *text = NULL, *longer;

	for (const struct schema *s = c->schema; s->group; s++) {
		char *key = xasprintf("%s.%s", s->group, name);

		if (*s->group && row_option(s, key) && (!text || !strstr(text, key))) {
			longer = xasprintf("%s%s%s", text ? text : "", text ? " or " : "", key);
			free(text);
			text = longer;
		}
		free(key);
	}
	return text;
}

/* Also for a key outside of all groups: perhaps it only forgot its own. */
static void unknown_group(const struct check *c, const struct entry *e, const char *group)
{
	struct names groups = group_names(c);
	bool is_group = e->value.type == VALUE_GROUP || strchr(e->key, '.');
	char *keys = is_group ? NULL : elsewhere(c, e->key);

	error("%s: unknown %s %s", e->where, is_group ? "group" : "key", group);
	if (keys)
		hint("did you mean %s?", keys);
	else
		hint_names(group, "", &groups, "the groups are");
	free(keys);
	free(groups.name);
}

static void unknown_key(const struct check *c, const struct entry *e, const char *group, const char *rest)
{
	struct names known = { 0 };
	char *prefix = xasprintf("%s.", group), *keys = elsewhere(c, rest);

	for (const struct schema *s = c->schema; s->group; s++)
		for (const struct option *o = s->options; o && o->key && !strcmp(s->group, group); o++)
			names_add(&known, o->key);
	error("%s: unknown key %s", e->where, e->key);
	if (keys)
		hint("did you mean %s?", keys);
	else
		hint_names(rest, prefix, &known, "the keys of this group are");
	free(keys);
	free(prefix);
	free(known.name);
}

/* Is this key the beginning of longer ones ("cluster.inter")? */
static bool is_prefix(const struct check *c, const char *key)
{
	size_t n = strlen(key);

	for (const struct schema *s = c->schema; s->group; s++) {
		for (const struct option *o = s->options; o && o->key; o++) {
			const char *rest = config_inside(key, s->group);

			if (rest && *s->group && !strncmp(o->key, rest, n - (size_t)(rest - key)) && o->key[strlen(rest)] == '.')
				return true;
		}
	}
	return false;
}

/* ---- all together ---- */

/* The owners that know a key which is not in force, and one of their options for it. */
static struct names other_owners(const struct check *c, const char *key, const struct option **option)
{
	struct names n = { 0 };
	const struct option *o;

	for (const struct schema *s = c->schema; s->group; s++) {
		if (s->owner && (o = row_option(s, key))) {
			names_add(&n, s->owner);
			*option = o;
		}
	}
	return n;
}

/* Remembers "key (owners), " once, however often it was given. */
static void unused_add(struct config *config, const char *key, const struct names *owners)
{
	char *names = names_join(owners), *one = xasprintf("%s (%s)", key, names), *all;

	if (!strstr(config->unused, one)) {
		all = xasprintf("%s%s%s", config->unused, *config->unused ? ", " : "", one);
		free(config->unused);
		config->unused = all;
	}
	free(one);
	free(names);
}

/* `last_group` is the key before: of an unknown group one mistake is enough. */
static void check_entry(struct config *config, const struct check *c, const struct entry *e, const char *last_group)
{
	char *group = xstrdup(e->key);
	const char *dot = strchr(e->key, '.'), *rest = dot ? dot + 1 : "";
	const struct option *o = option_in_force(c, e->key);
	struct names groups = group_names(c), owners = { 0 };
	bool known = false;

	group[strcspn(group, ".")] = 0;
	for (int i = 0; i < groups.count; i++)
		known |= !strcmp(groups.name[i], group);
	if (o) {
		config_check_value(c->schema, e, o);
	} else if (!known) {
		if (!dot || !last_group || !config_inside(last_group, group))
			unknown_group(c, e, group);
	} else if (!dot || is_prefix(c, e->key)) {
		if (e->value.type != VALUE_GROUP) {
			error("%s: %s is a group, not a value", e->where, e->key);
			hint("write %s = { KEY = VALUE; … };", e->key);
		}
	} else if ((owners = other_owners(c, e->key, &o)).count) {
		config_check_value(c->schema, e, o);
		unused_add(config, e->key, &owners);
	} else {
		unknown_key(c, e, group, rest);
	}
	free(owners.name);
	free(groups.name);
	free(group);
}

/* An int where only floats are meant becomes one, so that nobody has to ask. */
static void to_float(const struct option *o, struct value *v)
{
	if (!(o->types & OPTION_FLOAT) || o->types & OPTION_INT)
		return;
	if (v->type == OPTION_INT) {
		v->type = OPTION_FLOAT;
		v->f = (double)v->i;
	}
	for (int i = 0; i < v->count; i++)
		to_float(o, &v->item[i]);
}

static void settle(struct config *config, const struct check *c, const struct schema *row, const struct option *o)
{
	char *key = xasprintf("%s%s%s", row->group, *row->group ? "." : "", o->key);
	const struct entry *e = last_entry(c, key);
	struct entry by_default = { .key = key, .where = "default" };
	struct setting *s;
	int before = errors_count();

	for (int i = 0; i < config->count; i++) {
		if (!strcmp(config->setting[i].key, key)) {
			free(key);
			return;
		}
	}
	config->setting = xrealloc(config->setting, (size_t)(config->count + 1) * sizeof *config->setting);
	s = &config->setting[config->count++];
	*s = (struct setting){ .key = key, .option = option_in_force(c, key), .given = e != NULL };
	s->origin = xstrdup(e ? e->origin : "default");
	if (e) {
		value_copy(&s->value, &e->value);
	} else if (s->option->value) {
		config_read_default(&s->value, key, s->option->value);
		by_default.value = s->value;
		config_check_value(c->schema, &by_default, s->option);
		if (errors_count() > before)    /* a table that refuses its own default */
			die(STATUS_FAILURE, "%s", errors_text());
	}
	to_float(s->option, &s->value);
}

int config_check(struct config *config, const struct schema *schema, const struct entries *entries)
{
	struct check c = { .schema = schema, .entries = entries };
	const char *last_group = NULL;
	int rows = 0, before = errors_count();

	while (schema[rows].group)
		rows++;
	c.in_force = xcalloc((size_t)rows, sizeof *c.in_force);
	for (int i = 0; i < rows; i++)
		c.in_force[i] = !schema[i].owner || selected(&c, &schema[i]);
	config->unused = xstrdup("");
	for (int i = 0; i < entries->count; i++) {
		check_entry(config, &c, &entries->entry[i], last_group);
		last_group = entries->entry[i].key;
	}
	if (errors_count() == before)
		for (int i = 0; i < rows; i++)
			for (const struct option *o = schema[i].options; c.in_force[i] && o && o->key; o++)
				settle(config, &c, &schema[i], o);
	free(c.in_force);
	return errors_count() == before ? 0 : -1;
}
