/* Predictions beside each other: see pays.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/die.h"
#include "pays.h"

/* Between these we look for bandwidths, Gbit/s; at so many places a decade, and between two of them more closely. */
static const double SLOWEST = 1e-4, FASTEST = 1e5;
enum { PLACES = 16, DECADES = 9, HALVINGS = 40 };

static double gbit(const struct cost_model *m) { return 8e-9 / m->per_byte; }

static double step_of(const struct rival *r, const struct cost_model *m)
{
	struct cost_model own = *m;

	own.kernels = r->kernels;
	return sync_cost(r->sync, &own);
}

/* On one host there is one kind of link. A step that is shorter by rounding is not shorter. */
static bool beats(const struct rival *a, const struct rival *dense, const struct cost_model *m, double gbit_per_s)
{
	struct cost_model at = *m;

	at.per_byte = 8e-9 / gbit_per_s;
	if (m->intra_per_byte == m->per_byte)
		at.intra_per_byte = at.per_byte;
	return step_of(a, &at) < step_of(dense, &at) * (1 - 1e-9);
}

static double place(int i) { return SLOWEST * pow(FASTEST / SLOWEST, (double)i / (PLACES * DECADES)); }

/* The bandwidth between two neighbouring places, on one of which it wins. */
static double edge(const struct rival *a, const struct rival *dense, const struct cost_model *m, int i)
{
	double low = place(i), high = place(i + 1);
	bool wins = beats(a, dense, m, low);

	for (int n = 0; n < HALVINGS; n++) {
		double middle = sqrt(low * high);

		if (beats(a, dense, m, middle) == wins)
			low = middle;
		else
			high = middle;
	}
	return high;
}

struct band pays_where(const struct rival *a, const struct rival *dense, const struct cost_model *m)
{
	struct band band = { INFINITY, INFINITY };
	int i = 0, last = PLACES * DECADES;

	while (i <= last && !beats(a, dense, m, place(i)))
		i++;
	if (i > last)
		return band;
	band.from = i ? edge(a, dense, m, i - 1) : 0;
	while (i <= last && beats(a, dense, m, place(i)))
		i++;
	if (i <= last)
		band.to = edge(a, dense, m, i - 1);
	return band;
}

void pays_predict(struct rival *all, int count, const struct cost_model *m)
{
	for (int i = 0; i < count; i++) {
		struct rival *r = &all[i];

		r->step = step_of(r, m);
		r->exposed = r->step - m->forward - m->backward;
		if (r->exposed < 1e-9 * r->step)                /* rounding */
			r->exposed = 0;
		r->bytes = r->sync->ops->bytes(r->sync, m->workers);
		r->wins = pays_where(r, &all[0], m);
	}
}

static bool goes_before(const struct rival *a, const struct rival *b)
{
	return a->chosen != b->chosen ? a->chosen : !b->chosen && a->step < b->step;
}

int pays_keep(struct rival *all, int count, int most)
{
	int others = 0, kept = 1;

	for (int i = 2; i < count; i++)         /* by insertion: of equals the first one stays in front */
		for (int j = i; j > 1 && goes_before(&all[j], &all[j - 1]); j--) {
			struct rival r = all[j];

			all[j] = all[j - 1];
			all[j - 1] = r;
		}
	while (kept < count && (all[kept].chosen || others < most))
		others += !all[kept++].chosen;
	return kept;
}

/* ---- for the user ---- */

static void bandwidth_text(double gbit_per_s, char *out, size_t size)
{
	if (gbit_per_s > FASTEST * (1 - 1e-9))
		snprintf(out, size, "no limit seen");
	else if (gbit_per_s < 0.1)
		snprintf(out, size, "%.3g Mbit/s", 1e3 * gbit_per_s);
	else
		snprintf(out, size, "%.3g Gbit/s", gbit_per_s);
}

static void band_text(const struct band *b, char *out, size_t size)
{
	char from[24], to[24];

	bandwidth_text(b->from, from, sizeof(from));
	bandwidth_text(b->to, to, sizeof(to));
	if (isinf(b->from))
		snprintf(out, size, "never");
	else if (isinf(b->to))
		snprintf(out, size, b->from > 0 ? "above %s" : "always", from);
	else if (b->from > 0)
		snprintf(out, size, "%s to %s", from, to);
	else
		snprintf(out, size, "below %s", to);
}

void pays_print(FILE *out, const struct rival *all, int count, const struct cost_model *m)
{
	int width = 24;

	fprintf(out, "forecast   a step of %s on %d workers: %.2f ms computing, then what of sending does not hide behind it (exposed). kernels: choosing,\n"
	        "           packing and adding up in one average. On networks of the last column a step is shorter than dense. *: this run\n",
	        all[0].sync->ops->name, m->workers, 1e3 * (m->forward + m->backward));
	for (int i = 0; i < count; i++)
		width = strlen(all[i].name) > (size_t)width ? (int)strlen(all[i].name) : width;
	fprintf(out, "  %-*s %9s %11s %11s %13s   %s\n", width, "compress", "step ms", "exposed ms", "kernels ms", "MB/step/rank", "beats dense");
	for (int i = 0; i < count; i++) {
		char where[64] = "-";

		if (i > 0)
			band_text(&all[i].wins, where, sizeof(where));
		fprintf(out, "%c %-*s %9.2f %11.2f %11.2f %13.4f   %s\n", all[i].chosen ? '*' : ' ', width, all[i].name, 1e3 * all[i].step,
		        1e3 * all[i].exposed, 1e3 * all[i].kernels, all[i].bytes / 1e6, where);
	}
	fflush(out);
}

char *pays_warning(const struct rival *all, int count, const struct cost_model *m, double margin)
{
	const struct rival *mine = NULL, *best = &all[0];
	char where[64], here[24];

	for (int i = 0; i < count; i++) {
		mine = all[i].chosen ? &all[i] : mine;
		best = all[i].step < best->step * (1 - margin) ? &all[i] : best;
	}
	if (!mine || !(mine->step > all[0].step * (1 + margin)))
		return NULL;
	band_text(&mine->wins, where, sizeof(where));
	bandwidth_text(gbit(m), here, sizeof(here));
	return xasprintf("compress.method = \"%s\" is predicted to make a step slower, not faster: %.2f ms, and %.2f ms dense. It pays %s (here: %s). "
	                 "Set compress.method = \"%s\"", mine->sync->compress.name, 1e3 * mine->step, 1e3 * all[0].step,
	                 isinf(mine->wins.from) ? "on no bandwidth" : where, here, best->sync->compress.name);
}
