/*
 * A look at the text before libconfig gets it. libconfig 1.5 reads 5000000000 as 705032704 and says nothing; it wants 5000000000L.
 * Its @include reads files that this look would not see (and a directory there ends the process), so it is refused; presets and
 * --set compose configs.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"
#include "die.h"

struct scan {
	const char *p;                  /* rest of the input */
	char *out;                      /* end of the output */
	const char *where;
	bool lines;
	int line, mistakes;
};

static void scan_error(struct scan *s, const char *what, int length, const char *why)
{
	if (s->lines)
		error("%s:%d: %.*s %s", s->where, s->line, length, what, why);
	else
		error("%s: %.*s %s", s->where, length, what, why);
	s->mistakes++;
}

static void copy(struct scan *s, size_t n)
{
	for (; n && *s->p; n--) {
		s->line += *s->p == '\n';
		*s->out++ = *s->p++;
	}
}

/* The length of the comment or string that begins here, 0 if none does. One that never ends reaches the end of the text: libconfig
 * will say so. */
static size_t opaque(const char *p)
{
	const char *end;

	if (*p == '#' || (p[0] == '/' && p[1] == '/'))
		return strcspn(p, "\n");
	if (p[0] == '/' && p[1] == '*') {
		end = strstr(p + 2, "*/");
		return end ? (size_t)(end + 2 - p) : strlen(p);
	}
	if (*p == '"') {
		for (end = p + 1; *end && *end != '"'; end++)
			if (*end == '\\' && end[1])
				end++;
		return (size_t)(end - p) + (*end == '"');
	}
	return 0;
}

/* A number begins here. Only whole integers need care; "4x" and "1.2.3" are for libconfig to refuse. */
static void number(struct scan *s)
{
	const char *start = s->p, *digits = start + (*start == '-' || *start == '+');
	bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'), wide;
	size_t n = (size_t)(digits - start) + strspn(digits, hex ? "0123456789abcdefxABCDEFX" : "0123456789");
	long long v;

	if (start[n] == '.' || (!hex && (start[n] == 'e' || start[n] == 'E'))) {
		copy(s, n + strspn(start + n, "0123456789.eE+-"));
		return;
	}
	errno = 0;
	v = strtoll(start, NULL, hex ? 16 : 10);
	if (errno == ERANGE)
		scan_error(s, start, (int)n, "does not fit into 64 bits");
	copy(s, n);
	wide = *s->p == 'L';
	if (!wide && (v > INT32_MAX || v < INT32_MIN))
		*s->out++ = 'L';
	copy(s, strspn(s->p, "L"));
}

char *config_scan(const char *text, const char *where, bool lines)
{
	size_t length = strlen(text), skip;
	char *out = xcalloc(2 * length + 2, 1);         /* at most one L for each digit */
	struct scan s = { .p = text, .out = out, .where = where, .lines = lines, .line = 1 };

	while (*s.p) {
		if ((skip = opaque(s.p))) {
			copy(&s, skip);
		} else if (isalpha((unsigned char)*s.p) || *s.p == '_' || *s.p == '*') {
			skip = 1;
			while (isalnum((unsigned char)s.p[skip]) || (s.p[skip] && strchr("-_*", s.p[skip])))
				skip++;
			copy(&s, skip);
		} else if (isdigit((unsigned char)*s.p) || ((*s.p == '-' || *s.p == '+') && isdigit((unsigned char)s.p[1]))) {
			number(&s);
		} else if (*s.p == '.') {               /* ".5": what follows belongs to it */
			copy(&s, 1 + strspn(s.p + 1, "0123456789.eE+-"));
		} else {
			if (*s.p == '@') {
				scan_error(&s, "@include", 8, "is not possible here");
				hint("put what several runs share into a preset (cluster.preset), or give it with --set KEY=VALUE");
			}
			copy(&s, 1);
		}
	}
	if (s.mistakes) {
		free(out);
		return NULL;
	}
	return out;
}
