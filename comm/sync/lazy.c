/* Updates that wait for the next forward. */
#include <math.h>
#include <stdlib.h>

#include "../../core/die.h"
#include "lazy.h"

void lazy_bind(struct lazy *l, struct sync *s)
{
	l->buckets = l->asked = sync_buckets(s, s->comm->size, &l->bucket);
	l->done = xcalloc((size_t)l->buckets, sizeof(*l->done));
	for (int i = 0; i < l->buckets; i++)
		l->done[i] = s->device->ops->stream->event_open(s->device);
}

void lazy_release(struct lazy *l, struct sync *s)
{
	for (int i = 0; i < l->buckets; i++)
		s->device->ops->stream->event_close(l->done[i]);
	free(l->done);
}

/* Updates the buckets from `first` on, as far as they are not. */
static void land(struct lazy *l, struct sync *s, int first)
{
	while (l->landed > first) {
		const struct range *bucket = &l->bucket[--l->landed];

		s->device->ops->stream->wait(s->compute, l->done[l->landed]);
		optimizer_step(s->optimizer, s->compute, bucket->offset, bucket->n, s->g, s->x);
	}
}

/* The answer does not depend on whether an update is due: what is recorded in the first step must have its cuts in the right places. */
bool lazy_needed(struct lazy *l, struct sync *s, const struct range *range)
{
	int before = l->asked;

	while (l->asked > 0 && l->bucket[l->asked - 1].offset + l->bucket[l->asked - 1].n > range->offset)
		l->asked--;
	land(l, s, l->asked);
	return l->asked < before;
}

void lazy_step(struct lazy *l, struct sync *s)
{
	CHECK(l->asked == 0 && l->landed == 0);
	optimizer_begin(s->optimizer, s->compute, s->lr);
	l->asked = l->landed = l->buckets;
}

void lazy_land(struct lazy *l, struct sync *s) { land(l, s, 0); }

void lazy_consensus(struct lazy *l, struct sync *s, float *out)
{
	lazy_land(l, s);
	s->device->ops->mem->copy(s->compute, out, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

double lazy_forward(const struct sync *s, const struct range *bucket, int buckets, const double *done, const struct cost_model *m)
{
	double now = m->backward, behind = 1;   /* behind: the share of forward that is still to come */

	for (int b = buckets - 1; b >= 0; b--) {
		double before = b ? sync_final(s, bucket, buckets, b - 1, m) : 0;

		now = fmax(now, done[b]) + m->forward * (behind - before);
		behind = before;
	}
	return now;
}
