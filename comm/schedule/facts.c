/*
 * The facts of a plan as a text, a fact a line, so that a plan can be made again, looked at, or asked of another network:
 *
 *     latency 4.2e-05
 *     per_byte 3.1e-10
 *     error 0.12
 *     backward 0.0123
 *     fc.bias 0.00021
 *     fc.weight 0.00021
 *     …                       every tensor, in the order in which backward finishes them; seconds
 *
 * Numbers have all their digits: what is read is what was written. Lines that begin with # are for the reader.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "../../core/die.h"
#include "schedule.h"

void schedule_facts_write(FILE *file, const struct schedule_facts *f, const struct tensor_info *tensor)
{
	fprintf(file, "# An average of M bytes takes latency + per_byte M seconds. Then seconds of backward, and until each gradient is final.\n");
	fprintf(file, "latency %.17g\nper_byte %.17g\nerror %.17g\nbackward %.17g\n", f->latency, f->per_byte, f->error, f->backward);
	for (int i = 0; i < f->tensors; i++)
		fprintf(file, "%s %.17g\n", tensor[i].name, f->ready[i]);
}

/* The next line that is not for the reader; false: none, or not a name and a number. */
static bool next_fact(FILE *file, int *line, char name[80], double *value)
{
	char text[256];

	while (fgets(text, sizeof(text), file)) {
		++*line;
		if (text[0] != '#')
			return sscanf(text, "%79s %lf", name, value) == 2;
	}
	++*line;
	return false;
}

/* Returns what is wrong with line *line, NULL if nothing. */
static const char *read_facts(FILE *file, struct schedule_facts *f, const struct tensor_info *tensor, int *line, const char **want)
{
	struct { const char *name; double *value; } first[] = {
		{ "latency", &f->latency }, { "per_byte", &f->per_byte }, { "error", &f->error }, { "backward", &f->backward },
	};
	enum { FIRST = sizeof(first) / sizeof(*first) };
	char name[80];

	for (int i = 0; i < FIRST + f->tensors; i++) {
		double *value = i < FIRST ? first[i].value : &f->ready[i - FIRST];

		*want = i < FIRST ? first[i].name : tensor[i - FIRST].name;
		if (!next_fact(file, line, name, value) || strcmp(name, *want))
			return "is not there";
		if (!isfinite(*value) || *value < 0)
			return "is not a time";
		if (i > FIRST && *value < value[-1])
			return "is final before what backward makes before it";
	}
	return NULL;
}

int schedule_facts_read(const char *path, const char *origin, struct schedule_facts *f, const struct tensor_info *tensor, int tensors)
{
	FILE *file = fopen(path, "r");
	const char *wrong, *what = "";
	int line = 0;

	f->tensors = tensors;
	if (!file) {
		error("schedule.facts = \"%s\" (%s): %s", path, origin, strerror(errno));
		return hint("it is the schedule.txt of a run with schedule.fusion = \"mg-wfbp\"; leave it out to measure");
	}
	wrong = read_facts(file, f, tensor, &line, &what);
	fclose(file);
	if (!wrong)
		return 0;
	error("schedule.facts = \"%s\" (%s), line %d: %s %s", path, origin, line, what, wrong);
	return hint("it is the schedule.txt of a run of the same model; leave it out to measure");
}
