/*
 * The virtual clock: when everything would have happened on another machine (DESIGN 5). Every watched stream has a time of its own, `now`,
 * in seconds; it is moved by operations that are queued on the stream itself, so it follows the order of the queue, whatever the real
 * clock does and however far the device runs behind the host:
 *
 *   spend(s, t)         now(s) += t                        a layer, an update, a kernel, a message (comm/wire.c)
 *   record(e, s)        at(e)   = now(s)
 *   wait(s, e)          now(s)  = max(now(s), at(e))       the difference is time that s stood still
 *
 * The last two are what the device's record() and wait() do besides, once timeline_open() has put its own in their place: whoever
 * orders streams by events, as all do, orders their times as well. Times are functions of the queues alone: a run repeats them to the bit.
 *
 * Without timeline_open() dev->ops is the backend's own table, and all calls below return at once.
 */
#ifndef COCOD_TIMELINE_H
#define COCOD_TIMELINE_H

#include "device.h"

/* In front of everything that is opened on the device: streams and events from before have no time. close: behind all of it; puts back
 * what was there. */
void timeline_open(struct device *);
void timeline_close(struct device *);

/* From now on this stream has a time, beginning at 0. Without this call it has none, nor have its events. */
void timeline_watch(struct stream *);

/* Where a stream has got to. All 0 if it is not watched. The host sees what has run: it syncs the stream first. */
struct timeline_account {
	double now, busy, waited;       /* seconds: since the watch began; of them in spend(); standing still in wait() */
};
struct timeline_account timeline_account(const struct stream *);
bool timeline_watches(const struct stream *);

/* Queues: the stream is busy for so many seconds. */
void timeline_spend(struct stream *, double seconds);
/* While paused, what is queued takes no time and waits for none: evaluation, and whatever else is not training. */
void timeline_pause(struct device *, bool);
/* Of a stream that is watched, while its device is not paused: its account, for host functions queued on it, which may read and move it.
 * Else NULL: what is to be queued takes no time. */
struct timeline_account *timeline_of(const struct stream *);

#endif
