/* The histogram of staleness: see served.h. */
#include <stdio.h>

#include "../core/die.h"
#include "served.h"

void served_add(struct ps_record *sum, const struct ps_record *p)
{
	for (int i = 0; i < PS_AGES; i++)
		sum->age[i] += p->age[i];
	sum->oldest = p->oldest > sum->oldest ? p->oldest : sum->oldest;
	sum->reads += p->reads;
	sum->requests += p->requests;
}

static double steps(const struct ps_record *p)
{
	double n = 0;

	for (int i = 0; i < PS_AGES; i++)
		n += (double)p->age[i];
	return n;
}

/* "0 71 %, 1 22 %, 3 7 %"; or, for the sum over so many servers, how many steps: "0:71 1:22.5 3:6.5". Each server has its part of the
 * model, and a step may have found one part older than another. */
static const char *age_text(const struct ps_record *p, int servers, char *text, size_t size)
{
	double all = steps(p);
	size_t used = 0;

	*text = 0;
	for (int i = 0; i < PS_AGES && used < size; i++) {
		double n = (double)p->age[i];
		const char *more = i + 1 < PS_AGES ? "" : "+";

		if (n > 0 && servers)
			used += (size_t)snprintf(text + used, size - used, "%s%d%s:%.10g", used ? " " : "", i, more, n / servers);
		else if (n > 0)
			used += (size_t)snprintf(text + used, size - used, "%s%d%s %.3g %%", used ? ", " : "", i, more, 100 * n / all);
	}
	return text;
}

void served_print(const struct ps_record *p)
{
	char text[1024];

	if (!p->reads)
		return;
	note("  staleness  %s of the steps", age_text(p, 0, text, sizeof(text)));
	note("             clocks that the slowest worker was behind what a step began with; at most %lld", (long long)p->oldest);
}

void served_json(const struct ps_record *p, int servers, struct json *j)
{
	char text[1024];
	double sum = 0;

	if (!p->reads)
		return;
	for (int i = 0; i < PS_AGES; i++)
		sum += i * (double)p->age[i];
	json_number(j, "staleness_mean", sum / steps(p));
	json_integer(j, "staleness_max", p->oldest);
	json_string(j, "staleness_histogram", age_text(p, servers, text, sizeof(text)));
}
