/* Counts that go round: see tally.h. */
#include <stdlib.h>
#include <string.h>

#include "../../core/die.h"
#include "../topology/topology.h"
#include "tally.h"

void tally_open(struct tally *t, struct comm *like, double others)
{
	*t = (struct tally){ .others = others };
	if (!like)
		return;
	CHECK(like->device->host_memory);
	t->comm = comm_twin(like);
	t->arrived = like->device->ops->stream->event_open(like->device);
	t->known = xcalloc((size_t)like->size, sizeof(*t->known));
	t->coming = xcalloc((size_t)like->size, sizeof(*t->coming));
}

void tally_close(struct tally *t)
{
	if (!t->comm)
		return;
	t->comm->device->ops->stream->sync(t->comm->stream);
	t->comm->device->ops->stream->event_close(t->arrived);
	comm_close(t->comm);
	free(t->known);
	free(t->coming);
}

static int64_t sum(const struct tally *t)
{
	int64_t all = 0;

	for (int r = 0; r < t->comm->size; r++)
		all += t->known[r];
	return all;
}

static void begin(struct tally *t, bool idle)
{
	t->coming[t->comm->rank] = t->own;
	comm_allgather(t->comm, t->coming, sizeof(*t->coming));
	comm_mark(t->comm, t->arrived);
	t->under_way = true;
	t->idle = idle;
}

/* Has the round come? Where the host drives messages and computes on another device, it drives these here. */
static bool has_come(const struct tally *t)
{
	const struct stream_ops *stream = t->comm->device->ops->stream;

	if (stream->progress)
		stream->progress(t->comm->device);
	return t->under_way && stream->done(t->arrived);
}

static void end(struct tally *t)
{
	int64_t all = sum(t), own = t->known[t->comm->rank];

	t->comm->device->ops->stream->sync(t->comm->stream);
	memcpy(t->known, t->coming, (size_t)t->comm->size * sizeof(*t->known));
	t->under_way = false;
	t->rounds++;
	if (t->idle)
		return;
	t->moved += sum(t) - all;
	t->moved_own += t->known[t->comm->rank] - own;
}

static int64_t guess(const struct tally *t)
{
	double all = t->moved_own > 0 ? (double)t->moved / (double)t->moved_own : 1 + t->others;

	return sum(t) + (int64_t)(all * (double)(t->own - t->known[t->comm->rank]));
}

int64_t tally_claim(struct tally *t, int64_t until)
{
	if (!t->comm)
		return t->own;
	for (bool wait = t->rounds == 0;; wait = true) {        /* nothing is known before the first round */
		if (!t->under_way)
			begin(t, false);
		if (wait || has_come(t)) {
			end(t);
			if (sum(t) >= until) {
				begin(t, true);
				end(t);
				return t->said = sum(t);
			}
			begin(t, wait);
		}
		if (guess(t) < until) {
			t->said = guess(t) > t->said ? guess(t) : t->said;
			return t->said;
		}
	}
}
