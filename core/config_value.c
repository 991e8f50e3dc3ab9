/* Values: copies, how they are written, and what a message calls them. */
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"
#include "die.h"

void value_release(struct value *v)
{
	for (int i = 0; i < v->count; i++)
		value_release(&v->item[i]);
	free(v->item);
	free(v->s);
	memset(v, 0, sizeof *v);
}

void value_copy(struct value *to, const struct value *from)
{
	*to = *from;
	if (from->s)
		to->s = xstrdup(from->s);
	if (from->item) {
		to->item = xcalloc((size_t)from->count, sizeof *to->item);
		for (int i = 0; i < from->count; i++)
			value_copy(&to->item[i], &from->item[i]);
	}
}

/* The shortest form that reads back as the same double, and that libconfig takes for a float. */
static void print_float(double f, FILE *out)
{
	char text[40];

	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, f);
		if (strtod(text, NULL) == f)
			break;
	}
	fprintf(out, "%s%s", text, strpbrk(text, ".einf") ? "" : ".0");
}

static void print_string(const char *s, FILE *out)
{
	fputc('"', out);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 32 || c == 127)
			fprintf(out, "\\x%02x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

/* libconfig's [ ] wants all elements of one type, its ( ) takes any. */
static bool uniform(const struct value *list)
{
	for (int i = 1; i < list->count; i++)
		if (list->item[i].type != list->item[0].type)
			return false;
	return true;
}

void value_print(const struct value *v, FILE *out)
{
	bool same;

	switch (v->type) {
	case OPTION_BOOL:
		fputs(v->i ? "true" : "false", out);
		break;
	case OPTION_INT:
		fprintf(out, "%lld%s", (long long)v->i, v->i > INT32_MAX || v->i < INT32_MIN ? "L" : "");
		break;
	case OPTION_FLOAT:
		print_float(v->f, out);
		break;
	case OPTION_STRING:
		print_string(v->s, out);
		break;
	case OPTION_LIST:
		same = uniform(v);
		fputc(same ? '[' : '(', out);
		for (int i = 0; i < v->count; i++) {
			if (i)
				fputs(", ", out);
			value_print(&v->item[i], out);
		}
		fputc(same ? ']' : ')', out);
		break;
	case VALUE_GROUP:
		fputs("{ … }", out);
		break;
	default:
		break;
	}
}

char *value_text(const struct value *v)
{
	enum { MOST = 60 };
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	CHECK(out != NULL);
	value_print(v, out);
	fclose(out);
	if (length > MOST) {
		while (length > MOST - 4 || (text[length] & 0xC0) == 0x80)      /* never inside a UTF-8 character */
			length--;
		text = xrealloc(text, length + sizeof "…");
		strcpy(text + length, "…");
	}
	return text;
}

const char *value_kind(const struct value *v)
{
	switch (v->type) {
	case OPTION_BOOL:
		return "a boolean";
	case OPTION_INT:
		return "an integer";
	case OPTION_FLOAT:
		return "a float";
	case OPTION_STRING:
		return "a string";
	case OPTION_LIST:
		return v->count ? "a list" : "an empty list";
	case VALUE_GROUP:
		return "a group";
	default:
		return "nothing";
	}
}
