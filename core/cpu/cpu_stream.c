/*
 * Streams and events of the CPU device.
 *
 * The compute stream has no queue: an operation runs in the call that "queues" it. The communication stream is a ring of
 * operations with one producer (the thread that computes) and one consumer, the driver:
 *
 *   thread   a thread of its own, where a core is spare. It sleeps on a condition while the queues are empty.
 *   hook     the computing thread itself, whenever it calls progress(): between layers, inside long loops, while it waits.
 *
 * Both run the same advance(), so that what is true of one is true of the other but for the timing. An operation that cannot
 * finish yet (a message on its way, an event that has not happened) says so and is asked again; nobody spins on a core that
 * somebody else could use: pause() yields first and then sleeps, for a little longer each time.
 *
 * Because exactly one thread runs the operations of all communication streams of a device, whatever those operations call
 * (MPI!) is called from one place.
 */
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../clock.h"
#include "../die.h"
#include "cpu.h"

enum { QUEUE_LENGTH = 8192, QUEUES = 4 };

struct operation {
	cpu_fn *run;                    /* either runs to its end … */
	host_fn *poll;                  /* … or is asked until it returns true */
	bool waiting;                   /* for an event: not counted as busy */
	_Alignas(16) unsigned char args[CPU_ARGS];
};

struct stream {
	struct shadowed base;
	struct cpu_device *device;
	struct operation *ring;         /* NULL: the compute stream */
	_Atomic uint64_t head, tail;    /* head: written by the producer; tail: by the driver */
	_Atomic int64_t busy_ns, waited_ns;
	_Atomic bool active;
	double started;                 /* driver only: when the operation at the tail was first tried; 0: not yet */
};

struct event {
	struct shadowed base;
	struct cpu_device *device;
	_Atomic int64_t recorded, happened;
};

struct cpu_queue {
	struct cpu_device *device;
	struct stream *stream[QUEUES];
	int streams;
	bool threaded, advancing;       /* advancing: guards the hook against itself */
	double polled;                  /* when the hook last advanced */
	_Atomic int64_t driven_ns;      /* computing time that the hook took for communication */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, progress;  /* work: for the driver; progress: for a host that waits */
	_Atomic int sleepers;           /* hosts waiting for `progress` */
	_Atomic bool idle, quit;
};

static const double POLL_INTERVAL = 100e-6;

struct cpu_device *stream_cpu(struct stream *s) { return s->device; }

/* ---- the driver ---- */

static void stream_count_busy(struct stream *s, double until)
{
	atomic_fetch_add_explicit(&s->busy_ns, (int64_t)((until - s->started) * 1e9), memory_order_relaxed);
}

/* Wakes hosts that sleep in host_wait(). The exchange with `sleepers` is a read-modify-write on both sides: either we see the
 * sleeper, or he, who announces himself before he looks, sees what has happened. */
static void wake_hosts(struct cpu_queue *q)
{
	if (!q->threaded || atomic_fetch_add(&q->sleepers, 0) == 0)
		return;
	pthread_mutex_lock(&q->lock);
	pthread_cond_broadcast(&q->progress);
	pthread_mutex_unlock(&q->lock);
}

/* Runs what can run on one stream. Returns true if at least one operation finished. A host that waits is told after each of
 * them: an event in the middle of a long chain must not be heard of at its end. */
static bool stream_advance(struct stream *s)
{
	uint64_t tail = atomic_load_explicit(&s->tail, memory_order_relaxed);
	bool moved = false;

	while (tail != atomic_load_explicit(&s->head, memory_order_acquire)) {
		struct operation *op = &s->ring[tail % QUEUE_LENGTH];

		if (s->started == 0) {
			s->started = clock_now();
			atomic_store_explicit(&s->active, !op->waiting, memory_order_relaxed);
		}
		if (op->poll ? !op->poll(op->args) : (op->run(op->args, 1), false))
			return moved;
		if (!op->waiting)
			stream_count_busy(s, clock_now());
		s->started = 0;
		moved = true;
		atomic_store_explicit(&s->tail, ++tail, memory_order_release);
		wake_hosts(s->device->queue);
	}
	atomic_store_explicit(&s->active, false, memory_order_relaxed);
	return moved;
}

static bool queue_advance(struct cpu_queue *q)
{
	bool moved = false;

	for (int i = 0; i < q->streams; i++)
		moved |= stream_advance(q->stream[i]);
	return moved;
}

static bool queue_empty(const struct cpu_queue *q)
{
	for (int i = 0; i < q->streams; i++)
		if (atomic_load(&q->stream[i]->tail) != atomic_load(&q->stream[i]->head))
			return false;
	return true;
}

/* What to do between two fruitless tries: give the core away, then sleep 20 µs, at last 100 µs. */
static void pause_between(int tries)
{
	if (tries < 32)
		sched_yield();
	else
		nanosleep(&(struct timespec){ 0, tries < 256 ? 20000 : 100000 }, NULL);
}

static void *drive(void *arg)
{
	struct cpu_queue *q = arg;

	for (int tries = 0; !atomic_load(&q->quit);) {
		if (queue_advance(q)) {
			tries = 0;
		} else if (queue_empty(q)) {
			pthread_mutex_lock(&q->lock);
			atomic_store(&q->idle, true);
			while (queue_empty(q) && !atomic_load(&q->quit))
				pthread_cond_wait(&q->work, &q->lock);
			atomic_store(&q->idle, false);
			pthread_mutex_unlock(&q->lock);
			tries = 0;
		} else {
			pause_between(tries++);
		}
	}
	return NULL;
}

static void hook_advance(struct cpu_queue *q)
{
	if (q->advancing)
		return;
	q->advancing = true;
	queue_advance(q);
	q->polled = clock_now();
	q->advancing = false;
}

/* The hook in the middle of computing: what it takes is communication that is not hidden, and is counted as such. */
static void hook_borrow(struct cpu_queue *q)
{
	double start = clock_now();

	if (q->advancing)       /* a long operation of the queue polls: it is counted already */
		return;
	hook_advance(q);
	atomic_fetch_add_explicit(&q->driven_ns, (int64_t)((q->polled - start) * 1e9), memory_order_relaxed);
}

static void cpu_progress(struct device *dev)
{
	struct cpu_queue *q = cpu(dev)->queue;

	if (!q->threaded && !queue_empty(q))
		hook_borrow(q);
}

void cpu_poll(struct cpu_device *dev)
{
	struct cpu_queue *q = dev->queue;

	if (!q || q->threaded || omp_get_thread_num() != 0 || queue_empty(q) || clock_now() - q->polled < POLL_INTERVAL)
		return;
	hook_borrow(q);
}

/* The host stands still until ready(arg): the hook drives meanwhile; beside a thread it sleeps. */
static void host_wait(struct cpu_queue *q, bool (*ready)(void *), void *arg)
{
	if (!q->threaded) {
		for (int tries = 0; !ready(arg); tries++) {
			hook_advance(q);
			if (!ready(arg))
				pause_between(tries);
		}
		return;
	}
	for (int tries = 0; tries < 16 && !ready(arg); tries++)
		sched_yield();
	pthread_mutex_lock(&q->lock);
	atomic_fetch_add(&q->sleepers, 1);
	while (!ready(arg))
		pthread_cond_wait(&q->progress, &q->lock);
	atomic_fetch_sub(&q->sleepers, 1);
	pthread_mutex_unlock(&q->lock);
}

/* ---- queueing ---- */

static bool has_room(void *arg)
{
	struct stream *s = arg;

	return atomic_load(&s->head) - atomic_load_explicit(&s->tail, memory_order_acquire) < QUEUE_LENGTH;
}

static void stream_push(struct stream *s, cpu_fn *run, host_fn *poll, bool waiting, const void *args, size_t bytes)
{
	struct cpu_queue *q = s->device->queue;
	uint64_t head = atomic_load_explicit(&s->head, memory_order_relaxed);
	struct operation *op = &s->ring[head % QUEUE_LENGTH];

	CHECK(bytes <= CPU_ARGS);
	if (!has_room(s))
		host_wait(q, has_room, s);
	op->run = run;
	op->poll = poll;
	op->waiting = waiting;
	memcpy(op->args, args, bytes);
	atomic_store(&s->head, head + 1);
	if (q->threaded && atomic_load(&q->idle)) {
		pthread_mutex_lock(&q->lock);
		pthread_cond_signal(&q->work);
		pthread_mutex_unlock(&q->lock);
	}
}

void cpu_run(struct stream *s, cpu_fn *fn, const void *args, size_t bytes)
{
	_Alignas(16) unsigned char copy[CPU_ARGS];

	if (s->ring) {
		stream_push(s, fn, NULL, false, args, bytes);
		return;
	}
	CHECK(bytes <= CPU_ARGS);
	memcpy(copy, args, bytes);
	fn(copy, s->device->threads);
}

static void stream_call(struct stream *s, host_fn *poll, const void *args, size_t bytes)
{
	_Alignas(16) unsigned char copy[CPU_ARGS];

	CHECK(bytes <= 128);
	if (s->ring) {
		stream_push(s, NULL, poll, false, args, bytes);
		return;
	}
	memcpy(copy, args, bytes);
	for (int tries = 0; !poll(copy); tries++)
		pause_between(tries);
}

static bool is_drained(void *arg)
{
	struct stream *s = arg;

	return atomic_load_explicit(&s->tail, memory_order_acquire) == atomic_load(&s->head);
}

static void stream_sync(struct stream *s)
{
	if (s->ring)
		host_wait(s->device->queue, is_drained, s);
}

/* Returns with the lock held while the driver rests: it walks over the array of streams that the caller is about to change. */
static void queue_rest(struct cpu_queue *q)
{
	pthread_mutex_lock(&q->lock);
	while (q->threaded && !atomic_load(&q->idle)) {
		pthread_mutex_unlock(&q->lock);
		sched_yield();
		pthread_mutex_lock(&q->lock);
	}
}

static struct stream *stream_open(struct device *dev, enum stream_kind kind)
{
	struct cpu_queue *q = cpu(dev)->queue;
	struct stream *s = xcalloc(1, sizeof(*s));

	s->device = cpu(dev);
	if (kind == STREAM_COMPUTE)
		return s;
	s->ring = xcalloc(QUEUE_LENGTH, sizeof(*s->ring));
	CHECK(q->streams < QUEUES && queue_empty(q));   /* streams are opened while nothing is queued */
	queue_rest(q);
	q->stream[q->streams++] = s;
	pthread_mutex_unlock(&q->lock);
	return s;
}

static void stream_close(struct stream *s)
{
	struct cpu_queue *q = s->device->queue;

	if (s->ring) {
		stream_sync(s);
		queue_rest(q);
		for (int i = 0; i < q->streams; i++)
			if (q->stream[i] == s)
				q->stream[i] = q->stream[--q->streams];
		pthread_mutex_unlock(&q->lock);
		free(s->ring);
	}
	free(s);
}

/* ---- events ---- */

struct event_args {
	struct event *event;
	int64_t target;
};

static struct event *event_open(struct device *dev)
{
	struct event *e = xcalloc(1, sizeof(*e));

	e->device = cpu(dev);
	return e;
}

static void event_close(struct event *e) { free(e); }

static bool event_done(const struct event *e)
{
	struct event *event = (struct event *)e;        /* atomic_load takes no const in C11 */

	return atomic_load_explicit(&event->happened, memory_order_acquire) >= atomic_load(&event->recorded);
}

static bool event_reached(void *arg)
{
	struct event_args *a = arg;

	return atomic_load_explicit(&a->event->happened, memory_order_acquire) >= a->target;
}

/* Only forwards: an event recorded on a slow stream, then on a faster one, has happened when the last record has. */
static void event_happen(void *arg, int team)
{
	struct event_args *a = arg;
	int64_t seen = atomic_load_explicit(&a->event->happened, memory_order_relaxed);

	(void)team;
	while (seen < a->target && !atomic_compare_exchange_weak_explicit(&a->event->happened, &seen, a->target, memory_order_release,
	                                                                  memory_order_relaxed))
		;
}

static void event_record(struct event *e, struct stream *s)
{
	struct event_args a = { e, atomic_fetch_add(&e->recorded, 1) + 1 };

	cpu_run(s, event_happen, &a, sizeof(a));
}

static void event_wait(struct stream *s, struct event *e)
{
	struct event_args a = { e, atomic_load(&e->recorded) };
	double start;

	if (s->ring) {
		stream_push(s, NULL, event_reached, true, &a, sizeof(a));
		return;
	}
	if (event_reached(&a))
		return;
	start = clock_now();
	host_wait(s->device->queue, event_reached, &a);
	atomic_fetch_add(&s->waited_ns, (int64_t)((clock_now() - start) * 1e9));
}

static double stream_busy(const struct stream *s) { return (double)atomic_load(&((struct stream *)s)->busy_ns) * 1e-9; }
static double stream_waited(const struct stream *s)
{
	int64_t driven = s->ring ? 0 : atomic_load_explicit(&s->device->queue->driven_ns, memory_order_relaxed);

	return (double)(atomic_load(&((struct stream *)s)->waited_ns) + driven) * 1e-9;
}

static bool stream_active(const struct stream *s) { return atomic_load_explicit(&((struct stream *)s)->active, memory_order_relaxed); }

const struct stream_ops cpu_stream_ops = {
	.open = stream_open,
	.close = stream_close,
	.sync = stream_sync,
	.event_open = event_open,
	.event_close = event_close,
	.record = event_record,
	.wait = event_wait,
	.done = event_done,
	.call = stream_call,
	.busy = stream_busy,
	.active = stream_active,
	.waited = stream_waited,
	.progress = cpu_progress,
};

void cpu_streams_open(struct cpu_device *dev)
{
	struct cpu_queue *q = xcalloc(1, sizeof(*q));

	q->device = dev;
	q->threaded = dev->base.config.progress == PROGRESS_THREAD;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->work, NULL);
	pthread_cond_init(&q->progress, NULL);
	dev->queue = q;
	if (!q->threaded)
		return;
	if (pthread_create(&q->thread, NULL, drive, q))
		die(STATUS_FAILURE, "cannot start the communication thread");
	while (!atomic_load(&q->idle))
		sched_yield();
}

void cpu_streams_close(struct cpu_device *dev)
{
	struct cpu_queue *q = dev->queue;

	if (q->threaded) {
		pthread_mutex_lock(&q->lock);
		atomic_store(&q->quit, true);
		pthread_cond_signal(&q->work);
		pthread_mutex_unlock(&q->lock);
		pthread_join(q->thread, NULL);
	}
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->work);
	pthread_cond_destroy(&q->progress);
	free(q);
	dev->queue = NULL;
}
