/* Lists of names, and "did you mean …?": the known name nearest to a misspelt one. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config_impl.h"
#include "die.h"

static bool same(char a, char b)
{
	if (a == '-')
		a = '_';
	if (b == '-')
		b = '_';
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static int least(int a, int b, int c)
{
	int m = a < b ? a : b;

	return m < c ? m : c;
}

/* Insertions, deletions, substitutions and swaps of neighbours that lead from a to b (optimal string alignment). */
static int distance(const char *a, const char *b)
{
	int n = (int)strlen(a), m = (int)strlen(b), width = m + 1, result;
	int *d = xcalloc((size_t)(n + 1) * (size_t)width, sizeof *d);

	for (int i = 0; i <= n; i++)
		d[i * width] = i;
	for (int j = 0; j <= m; j++)
		d[j] = j;
	for (int i = 1; i <= n; i++) {
		for (int j = 1; j <= m; j++) {
			int *at = &d[i * width + j];

			*at = least(at[-1] + 1, at[-width] + 1, at[-width - 1] + !same(a[i - 1], b[j - 1]));
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				*at = least(*at, at[-2 * width - 2] + 1, *at);
		}
	}
	result = d[n * width + m];
	free(d);
	return result;
}

const char *config_nearest(const char *name, const char *const *names)
{
	int length = (int)strlen(name), best = length / 3 > 1 ? length / 3 : 1;
	const char *found = NULL;

	if (length > 200)               /* no typing mistake */
		return NULL;
	for (; *names; names++) {
		int d = distance(name, *names);

		if (d < best || (d == best && !found)) {
			best = d;
			found = *names;
		}
	}
	return found;
}

void names_add(struct names *n, const char *name)
{
	for (int i = 0; i < n->count; i++)
		if (!strcmp(n->name[i], name))
			return;
	n->name = xrealloc(n->name, (size_t)(n->count + 2) * sizeof *n->name);
	n->name[n->count++] = name;
	n->name[n->count] = NULL;
}

char *names_join(const struct names *n)
{
	char *text = xstrdup(""), *longer;

	for (int i = 0; i < n->count; i++) {
		longer = xasprintf("%s%s%s", text, i ? ", " : "", n->name[i]);
		free(text);
		text = longer;
	}
	return text;
}

void hint_names(const char *given, const char *prefix, const struct names *n, const char *what)
{
	const char *near = n->count ? config_nearest(given, n->name) : NULL;
	char *all;

	if (near) {
		hint("did you mean %s%s?", prefix, near);
	} else {
		all = names_join(n);
		hint("%s: %s", what, all);
		free(all);
	}
}
