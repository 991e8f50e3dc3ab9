/*
 * The virtual clock: see timeline.h.
 *
 * An event that is recorded again before a slow stream has got to its first wait must not hand it the later time: each record has a
 * number, a wait knows which one it means, and the event keeps the times of its last TIMELINE_RECORDS. A stream that falls further behind
 * than that is an error of the program, and is seen.
 *
 * Time is read and written by whoever runs the operations of a stream; between streams the device's own record and wait order the
 * accesses, so nothing here is atomic: a record writes the time in front of the real record, a wait reads it behind the real wait.
 */
#include <stdlib.h>

#include "die.h"
#include "timeline_impl.h"

/* ---- what is queued ---- */

struct step {
	struct timeline_account *account;
	struct event_shadow *event;
	int64_t number;
	double seconds;
};

static bool spend(void *args)
{
	const struct step *s = args;

	s->account->now += s->seconds;
	s->account->busy += s->seconds;
	return true;
}

static bool stamp(void *args)
{
	const struct step *s = args;

	s->event->moment[s->number % TIMELINE_RECORDS].at = s->account->now;
	s->event->moment[s->number % TIMELINE_RECORDS].number = s->number;
	return true;
}

static bool catch_up(void *args)
{
	const struct step *s = args;
	double at = s->event->moment[s->number % TIMELINE_RECORDS].at;

	CHECK(s->event->moment[s->number % TIMELINE_RECORDS].number == s->number);       /* else this stream is TIMELINE_RECORDS records behind */
	if (at > s->account->now) {
		s->account->waited += at - s->account->now;
		s->account->now = at;
	}
	return true;
}

/* ---- the device's stream operations, with time ---- */

static struct stream *stream_open(struct device *dev, enum stream_kind kind)
{
	struct stream *s = dev->timeline->real->stream->open(dev, kind);
	struct stream_shadow *shadow = xcalloc(1, sizeof(*shadow));

	shadow->timeline = dev->timeline;
	((struct shadowed *)s)->shadow = shadow;
	return s;
}

static void stream_close(struct stream *s)
{
	struct stream_shadow *shadow = timeline_stream(s);

	shadow->timeline->real->stream->close(s);
	free(shadow->row);
	free(shadow);
}

static struct event *event_open(struct device *dev)
{
	struct event *e = dev->timeline->real->stream->event_open(dev);
	struct event_shadow *shadow = xcalloc(1, sizeof(*shadow));

	shadow->timeline = dev->timeline;
	((struct shadowed *)e)->shadow = shadow;
	return e;
}

static void event_close(struct event *e)
{
	struct event_shadow *shadow = timeline_event(e);

	shadow->timeline->real->stream->event_close(e);
	free(shadow);
}

static void record(struct event *e, struct stream *s)
{
	struct event_shadow *event = timeline_event(e);
	struct stream_shadow *stream = timeline_stream(s);

	if (stream->watched) {
		struct step step = { &stream->account, event, ++event->recorded, 0 };

		event->timeline->real->stream->call(s, stamp, &step, sizeof(step));
	}
	trace_on_record(event, s);
	event->timeline->real->stream->record(e, s);
}

static void wait(struct stream *s, struct event *e)
{
	struct event_shadow *event = timeline_event(e);
	struct timeline_account *account = timeline_of(s);

	trace_before_wait(s);
	event->timeline->real->stream->wait(s, e);
	if (account && event->recorded) {
		struct step step = { account, event, event->recorded, 0 };

		event->timeline->real->stream->call(s, catch_up, &step, sizeof(step));
	}
	trace_after_wait(s, event);
}

void timeline_open(struct device *dev)
{
	struct timeline *t = xcalloc(1, sizeof(*t));

	CHECK(!dev->timeline);
	t->real = dev->ops;
	t->ops = *dev->ops;
	t->stream = *dev->ops->stream;
	t->stream.open = stream_open;
	t->stream.close = stream_close;
	t->stream.event_open = event_open;
	t->stream.event_close = event_close;
	t->stream.record = record;
	t->stream.wait = wait;
	t->stream.capture_begin = NULL; /* what is replayed is not queued again */
	t->stream.capture_end = NULL;
	t->stream.replay = NULL;
	t->stream.graph_free = NULL;
	t->ops.stream = &t->stream;
	dev->timeline = t;
	dev->ops = &t->ops;
}

void timeline_close(struct device *dev)
{
	if (!dev->timeline)
		return;
	dev->ops = dev->timeline->real;
	trace_release(dev->timeline);
	free(dev->timeline);
	dev->timeline = NULL;
}

/* ---- the calls ---- */

void timeline_watch(struct stream *s)
{
	CHECK(timeline_stream(s));
	timeline_stream(s)->watched = true;
}

struct timeline_account timeline_account(const struct stream *s)
{
	const struct stream_shadow *shadow = timeline_stream(s);

	return shadow ? shadow->account : (struct timeline_account){ 0 };
}

bool timeline_watches(const struct stream *s) { return timeline_stream(s) && timeline_stream(s)->watched; }

struct timeline_account *timeline_of(const struct stream *s)
{
	struct stream_shadow *shadow = timeline_stream(s);

	return shadow && shadow->watched && !shadow->timeline->paused ? &shadow->account : NULL;
}

void timeline_spend(struct stream *s, double seconds)
{
	struct timeline_account *account = timeline_of(s);
	struct step step = { account, NULL, 0, seconds };

	if (account && seconds > 0)
		timeline_stream(s)->timeline->real->stream->call(s, spend, &step, sizeof(step));
}

void timeline_pause(struct device *dev, bool paused)
{
	if (dev->timeline)
		dev->timeline->paused = paused;
}
