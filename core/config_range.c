/* One value against its option: type, range, known words. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"
#include "die.h"

/* "an integer, or a list of integers" */
static char *allowed_text(const struct option *o)
{
	bool numbers = o->types & (OPTION_INT | OPTION_FLOAT), words = o->types & OPTION_STRING;
	bool whole = numbers && !(o->types & OPTION_FLOAT);
	const char *elements = whole ? "integers" : numbers || !words ? "numbers" : "strings";
	char *list = o->types & OPTION_LIST ? xasprintf("a list of %s", elements) : NULL, *text;
	const char *part[4] = { 0 };
	int n = 0;

	if (o->types & OPTION_BOOL)
		part[n++] = "true or false";
	if (numbers)
		part[n++] = whole ? "an integer" : "a number";
	if (words)
		part[n++] = "a string";
	if (list)
		part[n++] = list;
	text = xasprintf("%s%s%s%s%s%s%s", part[0], n > 1 ? ", or " : "", n > 1 ? part[1] : "", n > 2 ? ", or " : "",
	                 n > 2 ? part[2] : "", n > 3 ? ", or " : "", n > 3 ? part[3] : "");
	free(list);
	return text;
}

/* Is an element of this type possible in the option's list? */
static bool element_fits(const struct option *o, unsigned type)
{
	bool numbers = o->types & (OPTION_INT | OPTION_FLOAT), words = o->types & OPTION_STRING;

	switch (type) {
	case OPTION_STRING:
		return words;
	case OPTION_INT:
		return numbers || !words;
	case OPTION_FLOAT:
		return o->types & OPTION_FLOAT || (!numbers && !words);
	default:
		return false;
	}
}

static bool type_fits(const struct option *o, const struct value *v)
{
	if (v->type == OPTION_INT)
		return o->types & (OPTION_INT | OPTION_FLOAT);
	if (v->type != OPTION_LIST || !(o->types & OPTION_LIST))
		return o->types & v->type;
	for (int i = 0; i < v->count; i++)      /* numbers or strings, no mixture */
		if (!element_fits(o, v->item[i].type) || (v->item[i].type == OPTION_STRING) != (v->item[0].type == OPTION_STRING))
			return false;
	return true;
}

static void check_number(const struct entry *e, const struct option *o, const struct value *v)
{
	double x = v->type == OPTION_INT ? (double)v->i : v->f;
	char *text;

	if (isfinite(x) && ((o->min == 0 && o->max == 0) || (x >= o->min && x <= o->max)))
		return;
	text = value_text(v);
	if (!isfinite(x))
		error("%s: %s = %s is too large for a number", e->where, e->key, text);
	else if (o->max > 1e15)
		error("%s: %s = %s is out of range: it must be at least %.10g", e->where, e->key, text, o->min);
	else
		error("%s: %s = %s is out of range: it must be from %.10g to %.10g", e->where, e->key, text, o->min, o->max);
	free(text);
}

static void check_word(const struct entry *e, const struct names *known, const char *word)
{
	const char *near;
	char *all;

	for (int i = 0; i < known->count; i++)
		if (!strcmp(known->name[i], word))
			return;
	all = names_join(known);
	error("%s: %s = \"%s\" is not known; known are: %s", e->where, e->key, word, all);
	if ((near = config_nearest(word, known->name)))
		hint("did you mean \"%s\"?", near);
	free(all);
}

/* The owners of a select key; none if the key selects nothing. */
static struct names owners_of(const struct schema *s, const char *key)
{
	struct names n = { 0 };

	for (; s->group; s++) {
		const char *rest = s->owner ? config_inside(key, s->group) : NULL;

		if (rest && !strcmp(rest, s->select))
			names_add(&n, s->owner);
	}
	return n;
}

/* The words that a string may be: a select key's owners, else the option's choices. `copy` holds the text of the latter. */
static struct names known_words(const struct schema *schema, const char *key, const struct option *o, char **copy)
{
	struct names n = owners_of(schema, key);
	char *rest;

	*copy = NULL;
	if (n.count || !o->choices)
		return n;
	*copy = rest = xstrdup(o->choices);
	for (char *word; (word = strsep(&rest, "|"));)
		names_add(&n, word);
	return n;
}

void config_check_value(const struct schema *schema, const struct entry *e, const struct option *o)
{
	const struct value *v = &e->value, *item = v->type == OPTION_LIST ? v->item : v;
	int count = v->type == OPTION_LIST ? v->count : 1;
	char *text, *allowed, *copy;
	struct names known;

	if (!type_fits(o, v)) {
		text = value_text(v);
		allowed = allowed_text(o);
		if (v->type == OPTION_LIST && o->types & OPTION_LIST)
			error("%s: %s = %s has elements of a wrong type; allowed: %s", e->where, e->key, text, allowed);
		else
			error("%s: %s = %s is %s; allowed: %s", e->where, e->key, text, value_kind(v), allowed);
		hint("%s: %s", e->key, o->help);
		free(text);
		free(allowed);
		return;
	}
	known = known_words(schema, e->key, o, &copy);
	for (int i = 0; i < count; i++) {
		if (item[i].type & (OPTION_INT | OPTION_FLOAT))
			check_number(e, o, &item[i]);
		else if (item[i].type == OPTION_STRING && known.count)
			check_word(e, &known, item[i].s);
		else if (item[i].type == OPTION_STRING && !*item[i].s)
			error("%s: %s is an empty string", e->where, e->key);
	}
	if (v->type == OPTION_LIST && !count && known.count)
		error("%s: %s is an empty list", e->where, e->key);
	free(known.name);
	free(copy);
}
