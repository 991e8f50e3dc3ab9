/* One flat JSON object: see json.h. */
#include <math.h>

#include "json.h"

static void quote(FILE *f, const char *s)
{
	putc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(f, "\\u%04x", (unsigned char)*s);
		else
			putc(*s, f);
	}
	putc('"', f);
}

static void key_begin(struct json *j, const char *key)
{
	fputs(j->keys++ ? ",\n  " : "\n  ", j->file);
	quote(j->file, key);
	fputs(": ", j->file);
}

void json_begin(struct json *j, FILE *f)
{
	*j = (struct json){ f, 0 };
	putc('{', f);
}

void json_string(struct json *j, const char *key, const char *value)
{
	key_begin(j, key);
	quote(j->file, value);
}

void json_integer(struct json *j, const char *key, int64_t value)
{
	key_begin(j, key);
	fprintf(j->file, "%lld", (long long)value);
}

void json_number(struct json *j, const char *key, double value)
{
	key_begin(j, key);
	if (isfinite(value))
		fprintf(j->file, "%.9g", value);
	else
		fputs("null", j->file);
}

void json_end(struct json *j) { fputs("\n}\n", j->file); }
