/* What all synchronisation algorithms share: bytes and seconds of a step, predicted. */
#include <math.h>

#include "sync.h"

double sync_ranges_bytes(const struct sync *s, const struct range *range, int count, int workers)
{
	double bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += compress_bytes(&s->compress, &range[i], workers);
	return bytes;
}

double sync_ranges_cost(const struct sync *s, const struct range *range, int count, const struct cost_model *m)
{
	double seconds = 0;

	for (int i = 0; i < count; i++)
		seconds += compress_cost(&s->compress, &range[i], m) + m->kernels * (double)range[i].n / (double)s->n + m->delay;
	return seconds;
}

double sync_final(const struct sync *s, const struct range *range, int count, int i, const struct cost_model *m)
{
	int64_t last = range[i].tensor - s->schedule.whole.tensor + range[i].tensors - 1;

	return m->ready ? m->ready[last] : i == count - 1;
}

double sync_landed(const struct sync *s, const struct range *range, int count, const struct cost_model *m, double share)
{
	double landed = 0;

	for (int i = 0; i < count; i++)
		landed = fmax(landed, sync_final(s, range, count, i, m) * m->backward) + share * sync_ranges_cost(s, &range[i], 1, m);
	return landed;
}

double sync_average_bytes(const struct sync *s, int workers) { return sync_ranges_bytes(s, s->piece, s->pieces, workers); }
double sync_average_cost(const struct sync *s, const struct cost_model *m) { return sync_ranges_cost(s, s->piece, s->pieces, m); }

double sync_part_cost(const struct sync *s, int part, const struct cost_model *m)
{
	int first = 0, end;

	while (s->piece[first].offset < s->part[part].offset)
		first++;
	for (end = first; end < s->pieces && s->piece[end].offset < s->part[part].offset + s->part[part].n; end++)
		;
	return sync_ranges_cost(s, s->piece + first, end - first, m);
}

/* What is left for the communication stream to do by itself. */
static struct cost_model without_lent(const struct cost_model *m)
{
	struct cost_model rest = *m;
	double messages = 1 - m->messages_lent;

	rest.kernels *= 1 - m->kernels_lent;
	rest.latency *= messages;
	rest.per_byte *= messages;
	rest.intra_latency *= messages;
	rest.intra_per_byte *= messages;
	return rest;
}

/*
 * A step ends when both streams have done their work. The formula knows what communication costs a stream of its own; beside computing,
 * what is lent takes longer there and hides nothing. A formula without any computing says how much of that there is in a step.
 */
double sync_cost(const struct sync *s, const struct cost_model *m)
{
	struct cost_model all = *m, rest = without_lent(m);
	double alone = s->ops->cost(s, m), lent;

	all.forward = all.backward = rest.forward = rest.backward = 0;
	lent = s->ops->cost(s, &all) - s->ops->cost(s, &rest);
	rest.forward = m->forward;
	rest.backward = m->backward + lent;
	return fmax(alone, s->ops->cost(s, &rest));
}
