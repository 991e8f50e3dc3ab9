/*
 * Streams and events. Computing has the lowest priority and communication the highest: a few blocks of NCCL get the next free
 * processor, and layers the rest.
 *
 * Host functions (call) wait on a thread of the CUDA runtime, which has one for all streams of a process. So only ONE stream of a
 * process may have host functions that wait for others: the model's communication stream. Whoever exchanges numbers beside it
 * (the control communicator) does so on the CPU device.
 *
 * How long a stream was at work, or stood still, is measured by the GPU, with two events around each interval. The host reads
 * them when they have happened and never waits for them:
 *
 *   STREAM_COMM      busy():   from behind a wait(), or the first operation since the last record(), to the next record()
 *   STREAM_COMPUTE   waited(): from in front of a wait() to behind it
 *
 *       comm      wait [ exchange  exchange ] record  .  .  .  [ exchange ] record
 *       compute   layer  layer  [ wait ]  update  layer
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../die.h"
#include "cuda.h"

enum { INTERVALS = 256, CALLS = 256, CALL_BYTES = 128 };

/* ---- intervals ---- */

/* A ring: [tail, head) have begun and are not yet counted. Only the last of them can still be open. */
struct stopwatch {
	cudaEvent_t begin[INTERVALS], end[INTERVALS];
	int64_t head, tail;
	bool open;
	double seconds;         /* of those that are counted */
};

static bool happened(cudaEvent_t e)
{
	cudaError_t status = cudaEventQuery(e);

	if (status == cudaErrorNotReady) {
		cudaGetLastError();     /* the runtime remembers even this */
		return false;
	}
	cuda_check(status, "cudaEventQuery", __FILE__, __LINE__);
	return true;
}

static struct stopwatch *watch_create(void)
{
	struct stopwatch *w = xcalloc(1, sizeof(*w));

	for (int i = 0; i < INTERVALS; i++) {
		CUDA(cudaEventCreate(&w->begin[i]));
		CUDA(cudaEventCreate(&w->end[i]));
	}
	return w;
}

static void watch_free(struct stopwatch *w)
{
	for (int i = 0; i < INTERVALS; i++) {
		CUDA(cudaEventDestroy(w->begin[i]));
		CUDA(cudaEventDestroy(w->end[i]));
	}
	free(w);
}

static void watch_count(struct stopwatch *w)
{
	int i = (int)(w->tail++ % INTERVALS);
	float ms;

	CUDA(cudaEventElapsedTime(&ms, w->begin[i], w->end[i]));
	w->seconds += 1e-3 * (double)ms;
}

/* Counts what has ended. The one that is open has no end that could be asked for. */
static void watch_harvest(struct stopwatch *w)
{
	while (w->tail < w->head - w->open && happened(w->end[w->tail % INTERVALS]))
		watch_count(w);
}

static void watch_begin(struct stopwatch *w, cudaStream_t on)
{
	if (w->open)
		return;
	if (w->head - w->tail == INTERVALS)
		watch_harvest(w);
	if (w->head - w->tail == INTERVALS) {   /* the host is 256 intervals ahead: it has time to wait for one */
		CUDA(cudaEventSynchronize(w->end[w->tail % INTERVALS]));
		watch_count(w);
	}
	CUDA(cudaEventRecord(w->begin[w->head++ % INTERVALS], on));
	w->open = true;
}

static void watch_end(struct stopwatch *w, cudaStream_t on)
{
	if (!w->open)
		return;
	CUDA(cudaEventRecord(w->end[(w->head - 1) % INTERVALS], on));
	w->open = false;
}

void cuda_begin(struct stream *s)
{
	if (s->kind == STREAM_COMM)
		watch_begin(s->watch, s->handle);
}

static double watch_seconds(const struct stream *s)
{
	CHECK(!s->capturing);           /* events must not be asked then */
	watch_harvest(s->watch);
	return s->watch->seconds;
}

static double stream_busy(const struct stream *s) { return s->kind == STREAM_COMM ? watch_seconds(s) : 0; }
static double stream_waited(const struct stream *s) { return s->kind == STREAM_COMPUTE ? watch_seconds(s) : 0; }

/* Intervals follow each other, so only the first that has not ended can be under way. An open one may have run all it has got. */
static bool stream_active(const struct stream *s)
{
	struct stopwatch *w = s->watch;
	cudaError_t status;

	if (s->kind != STREAM_COMM)
		return false;
	watch_harvest(w);
	if (w->tail == w->head || !happened(w->begin[w->tail % INTERVALS]))
		return false;
	if (w->tail < w->head - w->open)
		return true;
	status = cudaStreamQuery(s->handle);
	if (status == cudaErrorNotReady)
		cudaGetLastError();
	else
		cuda_check(status, "cudaStreamQuery", __FILE__, __LINE__);
	return status == cudaErrorNotReady;
}

/* ---- host functions ---- */

struct call {
	host_fn *fn;
	_Atomic bool pending;   /* set by the host, cleared by the runtime's thread */
	_Alignas(16) unsigned char args[CALL_BYTES];
};

struct calls {
	struct call ring[CALLS];
	int64_t next;
};

/* Gives the core away first, then sleeps 20 µs at a time. */
static void pause_between(int tries)
{
	if (tries < 32)
		sched_yield();
	else
		nanosleep(&(struct timespec){ 0, 20000 }, NULL);
}

static void CUDART_CB run_call(void *arg)
{
	struct call *c = arg;

	for (int tries = 0; !c->fn(c->args); tries++)
		pause_between(tries);
	atomic_store_explicit(&c->pending, false, memory_order_release);
}

/* The host is 256 host functions ahead. After an error CUDA runs none any more: that must not look like waiting. */
static void wait_for_slot(struct stream *s, struct call *c)
{
	for (int tries = 0; atomic_load_explicit(&c->pending, memory_order_acquire); tries++) {
		cudaError_t e = cudaStreamQuery(s->handle);

		if (e == cudaErrorNotReady)
			cudaGetLastError();
		else
			cuda_check(e, "cudaStreamQuery", __FILE__, __LINE__);
		pause_between(tries);
	}
}

static void stream_call(struct stream *s, host_fn *fn, const void *args, size_t bytes)
{
	struct call *c = &s->calls->ring[s->calls->next++ % CALLS];

	CHECK(bytes <= CALL_BYTES && !s->capturing);
	if (atomic_load_explicit(&c->pending, memory_order_acquire))
		wait_for_slot(s, c);
	c->fn = fn;
	memcpy(c->args, args, bytes);
	atomic_store_explicit(&c->pending, true, memory_order_relaxed);
	cuda_begin(s);
	CUDA(cudaLaunchHostFunc(s->handle, run_call, c));
}

/* ---- streams ---- */

static struct stream *stream_open(struct device *device, enum stream_kind kind)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	int least, greatest;

	s->dev = cuda(device);
	s->kind = kind;
	CUDA(cudaSetDevice(s->dev->index));
	CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	CUDA(cudaStreamCreateWithPriority(&s->handle, cudaStreamNonBlocking, kind == STREAM_COMM ? greatest : least));
	s->scratch = device->ops->mem->alloc(device, CUDA_SCRATCH);
	s->watch = watch_create();
	s->calls = xcalloc(1, sizeof(*s->calls));
	return s;
}

static void stream_sync(struct stream *s)
{
	CHECK(!s->capturing);
	if (s->kind == STREAM_COMM)
		watch_end(s->watch, s->handle);
	CUDA(cudaStreamSynchronize(s->handle));
	cuda_stamps_settle(s);
}

static void stream_close(struct stream *s)
{
	struct device *device = &s->dev->base;

	stream_sync(s);
	watch_free(s->watch);
	cuda_stamps_free(s);
	free(s->calls);
	device->ops->mem->free(device, s->scratch);
	CUDA(cudaStreamDestroy(s->handle));
	free(s);
}

static void *stream_native(struct stream *s) { return s->handle; }

/* ---- events ---- */

struct event {
	struct shadowed base;
	cudaEvent_t handle;
};

static struct event *event_open(struct device *device)
{
	struct event *e = xcalloc(1, sizeof(*e));

	CUDA(cudaSetDevice(cuda(device)->index));
	CUDA(cudaEventCreateWithFlags(&e->handle, cudaEventDisableTiming));
	return e;
}

static void event_close(struct event *e)
{
	CUDA(cudaEventDestroy(e->handle));
	free(e);
}

static void event_record(struct event *e, struct stream *s)
{
	CHECK(!s->capturing);
	if (s->kind == STREAM_COMM)
		watch_end(s->watch, s->handle);
	CUDA(cudaEventRecord(e->handle, s->handle));
}

static void event_wait(struct stream *s, struct event *e)
{
	bool comm = s->kind == STREAM_COMM;

	CHECK(!s->capturing);
	if (comm)
		watch_end(s->watch, s->handle);
	else
		watch_begin(s->watch, s->handle);
	CUDA(cudaStreamWaitEvent(s->handle, e->handle, 0));
	if (comm)
		watch_begin(s->watch, s->handle);
	else
		watch_end(s->watch, s->handle);
}

static bool event_done(const struct event *e) { return happened(e->handle); }

/* ---- graphs ---- */

struct graph {
	cudaGraphExec_t exec;
	unsigned stale;         /* bf16 copies (a bit each) that its operations make stale */
};

static void capture_begin(struct stream *s)
{
	CHECK(s->kind == STREAM_COMPUTE && !s->capturing);
	s->fresh = cuda_fresh(s->dev);
	cuda_set_fresh(s->dev, ~0u);
	/* Only this thread is restricted meanwhile: others (NCCL's, a loader's) go on. */
	CUDA(cudaStreamBeginCapture(s->handle, cudaStreamCaptureModeThreadLocal));
	s->capturing = true;
}

static struct graph *capture_end(struct stream *s)
{
	struct graph *g = xcalloc(1, sizeof(*g));
	cudaGraph_t recorded;

	CHECK(s->capturing);
	s->capturing = false;
	CUDA(cudaStreamEndCapture(s->handle, &recorded));
	CUDA(cudaGraphInstantiate(&g->exec, recorded, 0));
	CUDA(cudaGraphDestroy(recorded));
	g->stale = ~cuda_fresh(s->dev);
	cuda_set_fresh(s->dev, s->fresh);       /* nothing of it has run */
	return g;
}

static void graph_replay(struct stream *s, struct graph *g)
{
	CHECK(!s->capturing);
	CUDA(cudaGraphLaunch(g->exec, s->handle));
	cuda_queued(s, "replay");
	cuda_set_fresh(s->dev, cuda_fresh(s->dev) & ~g->stale);
}

static void graph_free(struct graph *g)
{
	if (!g)
		return;
	CUDA(cudaGraphExecDestroy(g->exec));
	free(g);
}

const struct stream_ops cuda_stream_ops = {
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
	.stamp = cuda_stamp,
	.native = stream_native,
	.capture_begin = capture_begin,
	.capture_end = capture_end,
	.replay = graph_replay,
	.graph_free = graph_free,
};
