/* The settings in force, as a config file that gives the same run. */
#include <string.h>

#include "config_impl.h"

static void indent(FILE *out, int depth)
{
	while (depth--)
		fputc('\t', out);
}

/* Do both keys begin with the same `n` characters? */
static bool same_head(const char *a, const char *b, size_t n)
{
	return !strncmp(a, b, n);
}

/*
 * Prints the settings whose keys begin like `first` for `n` characters (a group with its dot; none at the top). Those with another
 * dot behind it are a group of their own, printed where its first key stands.
 */
static void print_group(const struct config *c, const char *first, size_t n, int depth, FILE *out)
{
	for (int i = 0; i < c->count; i++) {
		const struct setting *s = &c->setting[i];
		const char *name = s->key + n, *dot;
		size_t head;
		int earlier = 0;

		if (!same_head(s->key, first, n) || s->value.type == VALUE_NONE)
			continue;
		dot = strchr(name, '.');
		if (!dot) {
			indent(out, depth);
			fprintf(out, "%s = ", name);
			value_print(&s->value, out);
			fputs(";\n", out);
			continue;
		}
		head = (size_t)(dot + 1 - s->key);
		while (earlier < i && (!same_head(c->setting[earlier].key, s->key, head) || c->setting[earlier].value.type == VALUE_NONE))
			earlier++;
		if (earlier < i)
			continue;
		indent(out, depth);
		fprintf(out, "%.*s: {\n", (int)(dot - name), name);
		print_group(c, s->key, head, depth + 1, out);
		indent(out, depth);
		fputs("};\n", out);
	}
}

void config_print(const struct config *c, FILE *out)
{
	print_group(c, "", 0, 0, out);
}
