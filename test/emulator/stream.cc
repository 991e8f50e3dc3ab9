/*
 * Streams, events and graphs. A stream is a queue with a thread of its own that sleeps while there is nothing to do. All of it is
 * behind one lock, held for moments only: clarity goes before speed.
 *
 * An event is a name for its last record. Each record is an object of its own (struct mark), so that who waits refers to the
 * record that was the last one when he asked, whatever happens to the event afterwards.
 *
 * While a stream captures, its operations go into a list, in the order in which they come. This is one of the orders that CUDA's
 * graph allows, and a replay runs it on one stream; what CUDA would run side by side there is not tried.
 */
#include <time.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "emulator.h"

typedef std::function<void()> task;
typedef std::shared_ptr<std::vector<task>> task_list;

struct CUgraph_st {
	task_list tasks = std::make_shared<std::vector<task>>();
	cudaStream_t origin = NULL;
	std::set<cudaStream_t> streams;         /* that take part */
	enum cudaStreamCaptureMode mode;
	std::thread::id thread;
	bool invalid = false;
};

struct CUgraphExec_st {
	task_list tasks;
};

struct mark {
	bool done = false;
	double when = 0;
	CUgraph_st *graph = NULL;               /* recorded in this capture … */
	cudaStream_t stream = NULL;             /* … on this stream, … */
	size_t place = 0;                       /* … behind so many of its operations */
};

struct CUevent_st {
	unsigned flags;
	std::shared_ptr<mark> last;             /* NULL: never recorded */
};

struct CUstream_st {
	unsigned flags;
	int priority;
	std::deque<task> queue;
	uint64_t queued = 0, finished = 0;
	bool quit = false;
	std::condition_variable work;
	std::thread worker;
	CUgraph_st *graph = NULL;               /* captures into it */
	size_t captured = 0, joined = 0;        /* operations in the graph; those that the origin has waited for */
};

/* Never destroyed: workers may still sleep when the process ends. */
static struct world {
	std::mutex lock;
	std::condition_variable changed;        /* an operation finished */
	std::mutex host_functions;              /* CUDA runs them on one thread, whatever their stream */
	std::set<cudaStream_t> streams;
	std::set<cudaEvent_t> events;
	std::set<CUgraph_st *> captures;        /* under way */
	CUstream_st *legacy = NULL;             /* stream 0 */
} &world = *new struct world;

typedef std::unique_lock<std::mutex> guard;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- workers ---- */

/* Under EMULATOR_SHUFFLE some operations begin late: who does not wait for them reads what is old. */
static void dawdle(uint64_t *random)
{
	if (emulator_config()->shuffle && emulator_random(random) % 16 == 0) {
		struct timespec t = { 0, (long)(emulator_random(random) % 300000) };

		nanosleep(&t, NULL);
	}
}

static void work(cudaStream_t s)
{
	uint64_t random = emulator_config()->shuffle + (uintptr_t)s;
	guard g(world.lock);

	for (;;) {
		while (s->queue.empty() && !s->quit)
			s->work.wait(g);
		if (s->queue.empty())
			break;
		{
			task t = std::move(s->queue.front());

			s->queue.pop_front();
			g.unlock();
			dawdle(&random);
			t();
		}
		g.lock();
		s->finished++;
		world.changed.notify_all();
	}
	g.unlock();
	emulator_blocks_end();
}

static cudaStream_t stream_start(unsigned flags, int priority)
{
	cudaStream_t s = new CUstream_st;

	s->flags = flags;
	s->priority = priority;
	s->worker = std::thread(work, s);
	return s;
}

/* With the lock held: the stream of this handle, NULL if there is none. */
static cudaStream_t stream_of(cudaStream_t s)
{
	if (!s) {
		if (!world.legacy)
			world.legacy = stream_start(0, 0);
		return world.legacy;
	}
	return world.streams.count(s) ? s : NULL;
}

static void push(cudaStream_t s, task t)
{
	s->queue.push_back(std::move(t));
	s->queued++;
	s->work.notify_one();
}

static void drain(cudaStream_t s, guard &g)
{
	uint64_t target = s->queued;

	while (s->finished < target)
		world.changed.wait(g);
}

/* ---- what a capture forbids ---- */

/* With the lock held. What might wait for a capturing stream ends the capture of whoever tries. */
static cudaError_t allowed(void)
{
	if (emulator_self.host_function)
		return cudaErrorNotPermitted;
	for (CUgraph_st *c : world.captures) {
		if (c->mode == cudaStreamCaptureModeGlobal ||
		    (c->mode == cudaStreamCaptureModeThreadLocal && c->thread == std::this_thread::get_id())) {
			c->invalid = true;
			return cudaErrorStreamCaptureUnsupported;
		}
	}
	return cudaSuccess;
}

cudaError_t emulator_allowed(void)
{
	guard g(world.lock);

	return allowed();
}

bool emulator_capturing(cudaStream_t stream)
{
	guard g(world.lock);

	return stream && world.streams.count(stream) && stream->graph;
}

/* With the lock held: in order, or recorded. */
static cudaError_t put(cudaStream_t handle, task t)
{
	cudaStream_t s = stream_of(handle);

	if (emulator_self.host_function)
		return cudaErrorNotPermitted;
	if (!s)
		return cudaErrorInvalidResourceHandle;
	if (!s->graph) {
		push(s, std::move(t));
		return cudaSuccess;
	}
	if (s->graph->invalid)
		return cudaErrorStreamCaptureInvalidated;
	s->graph->tasks->push_back(std::move(t));
	s->captured++;
	return cudaSuccess;
}

cudaError_t emulator_queue(cudaStream_t stream, task t)
{
	guard g(world.lock);

	return put(stream, std::move(t));
}

extern "C" {

/* ---- streams ---- */

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	*least = 0;
	*greatest = -5;
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
	guard g(world.lock);

	if (emulator_self.host_function)
		return emulator_error(cudaErrorNotPermitted);
	if (flags & ~(unsigned)cudaStreamNonBlocking)
		return emulator_error(cudaErrorInvalidValue);
	*stream = stream_start(flags, priority > 0 ? 0 : priority < -5 ? -5 : priority);
	world.streams.insert(*stream);
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return cudaStreamCreateWithPriority(stream, flags, 0); }
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
	guard g(world.lock);
	cudaStream_t s = stream_of(stream);

	if (!s)
		return emulator_error(cudaErrorInvalidResourceHandle);
	*priority = s->priority;
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
	{
		guard g(world.lock);

		if (!world.streams.count(s))
			return emulator_error(cudaErrorInvalidResourceHandle);
		if (s->graph) {
			s->graph->invalid = true;
			s->graph->streams.erase(s);
		}
		world.streams.erase(s);
		s->quit = true;
		s->work.notify_one();
	}
	s->worker.join();
	delete s;
	return cudaSuccess;
}

/* For both ways to ask how far a stream is. */
static cudaError_t may_wait_for(cudaStream_t s)
{
	if (!s)
		return cudaErrorInvalidResourceHandle;
	if (s->graph) {
		s->graph->invalid = true;
		return cudaErrorStreamCaptureUnsupported;
	}
	return allowed();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	guard g(world.lock);
	cudaStream_t s = stream_of(stream);
	cudaError_t e = may_wait_for(s);

	if (e == cudaSuccess)
		drain(s, g);
	return emulator_error(e);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	guard g(world.lock);
	cudaStream_t s = stream_of(stream);
	cudaError_t e = may_wait_for(s);

	if (e == cudaSuccess && s->finished < s->queued)
		e = cudaErrorNotReady;
	return emulator_error(e);
}

cudaError_t cudaDeviceSynchronize(void)
{
	guard g(world.lock);
	cudaError_t e = allowed();

	for (const CUgraph_st *c : world.captures)
		if (c->origin)
			e = cudaErrorStreamCaptureUnsupported;
	if (e != cudaSuccess)
		return emulator_error(e);
	/* A stream that another thread destroys meanwhile must not be waited for: begin anew after each wait. */
	for (bool again = true; again;) {
		again = world.legacy && world.legacy->finished < world.legacy->queued;
		for (cudaStream_t s : world.streams)
			again |= s->finished < s->queued;
		if (again)
			world.changed.wait(g);
	}
	return cudaSuccess;
}

static void run_host_function(cudaHostFn_t fn, void *arg)
{
	guard one(world.host_functions);

	emulator_self.host_function = true;
	fn(arg);
	emulator_self.host_function = false;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg)
{
	return emulator_error(emulator_queue(stream, [fn, arg]() { run_host_function(fn, arg); }));
}

cudaError_t emulator_run(cudaStream_t stream, void (*fn)(void *), const void *args, size_t bytes)
{
	struct { alignas(16) char args[256]; } copy;

	if (bytes > sizeof(copy.args))
		return emulator_error(cudaErrorInvalidValue);
	memcpy(copy.args, args, bytes);
	return emulator_error(emulator_queue(stream, [fn, copy]() {
		auto mine = copy;       /* a replay begins with what was given, whatever fn did to it */

		fn(mine.args);
	}));
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	guard g(world.lock);

	if (emulator_self.host_function)
		return emulator_error(cudaErrorNotPermitted);
	*event = new CUevent_st;
	(*event)->flags = flags;
	world.events.insert(*event);
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	guard g(world.lock);

	if (!world.events.erase(event))
		return emulator_error(cudaErrorInvalidResourceHandle);
	delete event;           /* its records live on where somebody waits for them */
	return cudaSuccess;
}

static void happen(std::shared_ptr<mark> m)
{
	guard g(world.lock);

	m->when = now();
	m->done = true;
	world.changed.notify_all();
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
	guard g(world.lock);
	cudaStream_t s = stream_of(stream);
	std::shared_ptr<mark> m = std::make_shared<mark>();
	cudaError_t e;

	if (!s || !world.events.count(event))
		return emulator_error(cudaErrorInvalidResourceHandle);
	if (flags)
		return emulator_error(cudaErrorNotSupported);
	if (s->graph) {         /* a place in the graph, nothing that happens */
		if (s->graph->invalid)
			return emulator_error(cudaErrorStreamCaptureInvalidated);
		m->graph = s->graph;
		m->stream = s;
		m->place = s->captured;
	} else {
		e = put(s == world.legacy ? NULL : s, [m]() { happen(m); });
		if (e != cudaSuccess)
			return emulator_error(e);
	}
	event->last = m;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }

/* A stream joins the capture that the event belongs to, or the origin waits for one that did. */
static cudaError_t wait_in_capture(cudaStream_t s, const std::shared_ptr<mark> &m)
{
	CUgraph_st *graph = s->graph ? s->graph : m->graph;
	bool alive = m && m->graph && world.captures.count(m->graph);

	if (graph && s->graph && s->graph->invalid)
		return cudaErrorStreamCaptureInvalidated;
	if (s->graph && !m->graph) {
		s->graph->invalid = true;
		return cudaErrorStreamCaptureIsolation;
	}
	if (!alive)
		return cudaErrorCapturedEvent;
	if (s == world.legacy)
		return cudaErrorStreamCaptureImplicit;
	if (s->graph && s->graph != m->graph) {
		s->graph->invalid = m->graph->invalid = true;
		return cudaErrorStreamCaptureMerge;
	}
	if (!s->graph) {
		s->graph = graph;
		s->captured = s->joined = 0;
		graph->streams.insert(s);
		s->captured = 1;        /* has something that must be joined, even if nothing follows */
	}
	if (s == graph->origin && graph->streams.count(m->stream) && m->stream->joined < m->place)
		m->stream->joined = m->place;
	return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	guard g(world.lock);
	cudaStream_t s = stream_of(stream);
	std::shared_ptr<mark> m;

	(void)flags;
	if (!s || !world.events.count(event))
		return emulator_error(cudaErrorInvalidResourceHandle);
	m = event->last;
	if (!m)
		return cudaSuccess;
	if (s->graph || m->graph)
		return emulator_error(wait_in_capture(s, m));
	return emulator_error(put(s == world.legacy ? NULL : s, [m]() {
		guard inside(world.lock);

		while (!m->done)
			world.changed.wait(inside);
	}));
}

/* For all ways to ask whether an event has happened. NULL: never recorded, which counts as happened. */
static cudaError_t may_ask(cudaEvent_t event, std::shared_ptr<mark> *m)
{
	cudaError_t e = cudaSuccess;

	if (!world.events.count(event))
		return cudaErrorInvalidResourceHandle;
	*m = event->last;
	if (*m && (*m)->graph)
		return cudaErrorCapturedEvent;
	e = allowed();
	return e;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	guard g(world.lock);
	std::shared_ptr<mark> m;
	cudaError_t e = may_ask(event, &m);

	if (e == cudaSuccess && m && !m->done)
		e = cudaErrorNotReady;
	return emulator_error(e);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	guard g(world.lock);
	std::shared_ptr<mark> m;
	cudaError_t e = may_ask(event, &m);

	while (e == cudaSuccess && m && !m->done)
		world.changed.wait(g);
	return emulator_error(e);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
	guard g(world.lock);

	if (!world.events.count(start) || !world.events.count(end) || !start->last || !end->last ||
	    (start->flags | end->flags) & cudaEventDisableTiming)
		return emulator_error(cudaErrorInvalidResourceHandle);
	if (start->last->graph || end->last->graph)
		return emulator_error(cudaErrorCapturedEvent);
	if (!start->last->done || !end->last->done)
		return emulator_error(cudaErrorNotReady);
	*ms = (float)((end->last->when - start->last->when) * 1e3);
	return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	guard g(world.lock);
	CUgraph_st *graph;

	if (!stream)
		return emulator_error(cudaErrorStreamCaptureUnsupported);
	if (!world.streams.count(stream))
		return emulator_error(cudaErrorInvalidResourceHandle);
	if (emulator_self.host_function)
		return emulator_error(cudaErrorNotPermitted);
	if (stream->graph)
		return emulator_error(cudaErrorIllegalState);
	graph = new CUgraph_st;
	graph->origin = stream;
	graph->mode = mode;
	graph->thread = std::this_thread::get_id();
	graph->streams.insert(stream);
	stream->graph = graph;
	stream->captured = stream->joined = 0;
	world.captures.insert(graph);
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *result)
{
	guard g(world.lock);
	CUgraph_st *graph;
	bool unjoined = false;

	*result = NULL;
	if (!stream || !world.streams.count(stream))
		return emulator_error(cudaErrorInvalidResourceHandle);
	graph = stream->graph;
	if (!graph)
		return emulator_error(cudaErrorIllegalState);
	if (graph->mode != cudaStreamCaptureModeRelaxed && graph->thread != std::this_thread::get_id())
		return emulator_error(cudaErrorStreamCaptureWrongThread);
	if (graph->origin != stream) {
		graph->invalid = true;
		return emulator_error(cudaErrorStreamCaptureUnmatched);
	}
	for (cudaStream_t s : graph->streams) {
		unjoined |= s != stream && s->joined < s->captured;
		s->graph = NULL;
	}
	graph->streams.clear();
	graph->origin = NULL;
	world.captures.erase(graph);
	if (graph->invalid || unjoined) {
		bool invalid = graph->invalid;

		delete graph;
		return emulator_error(invalid ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
	}
	*result = graph;
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	guard g(world.lock);
	cudaStream_t s = stream_of(stream);

	if (!s)
		return emulator_error(cudaErrorInvalidResourceHandle);
	*status = !s->graph ? cudaStreamCaptureStatusNone
	          : s->graph->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
	(void)flags;
	if (!graph)
		return emulator_error(cudaErrorInvalidValue);
	*exec = new CUgraphExec_st{ graph->tasks };
	return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	task_list tasks;

	if (!exec)
		return emulator_error(cudaErrorInvalidValue);
	tasks = exec->tasks;
	return emulator_error(emulator_queue(stream, [tasks]() {
		for (const task &t : *tasks)
			t();
	}));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	delete exec;
	return cudaSuccess;
}

}
