/* What all transports share: the communicator's stream, its buffers, the count of bytes, and the calls that the host waits for. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/trace.h"
#include "comm.h"
#include "topology/topology.h"
#include "wire.h"

int world_open(struct world *w, const char *transport)
{
	struct launch launch = launch_detect();
	cpu_set_t mask;

	*w = (struct world){ .size = 1, .local_size = 1, .nodes = 1, .sharing = 1, .any_thread = true };
	gethostname(w->host, sizeof(w->host) - 1);
	w->cores = sched_getaffinity(0, sizeof(mask), &mask) ? 1 : CPU_COUNT(&mask);
	if (!strcmp(transport, "auto") || !strcmp(transport, "nccl"))
		transport = launch.launcher ? "mpi" : "self";
	w->transport = transport_find(transport);
	if (!w->transport)
		return error("comm.transport: there is no transport \"%s\"", transport);
	w->transport->world_open(w);
	die_identity(w->rank, w->size, w->host, w->transport->abort);
	if (w->size == 1 && launch.size > 1) {
		error("%s started %d processes, but transport \"%s\" sees only one: they would train alone, side by side", launch.launcher,
		      launch.size, transport);
		return hint("start with the mpirun of the MPI library that this program was built with (srun: add --mpi=pmix), "
		            "or set comm.transport = \"self\" and start one process");
	}
	return 0;
}

void world_close(struct world *w)
{
	if (w->transport)
		w->transport->world_close();
}

struct comm *comm_open_over(const struct comm_ops *ops, const struct world *w, struct device *dev, struct comm *control,
                            const struct comm_config *config)
{
	struct comm *comm = xcalloc(1, sizeof(*comm));

	comm->ops = ops;
	comm->config = config ? *config : (struct comm_config){ .timeout = 300 };
	comm->device = dev;
	comm->control = control;
	comm->rank = w->rank;
	comm->size = w->size;
	comm->stream = dev->ops->stream->open(dev, STREAM_COMM);
	comm->forked = dev->ops->stream->event_open(dev);
	comm->ops->open(comm);
	return comm;
}

struct comm *comm_open(const struct world *w, struct device *dev) { return comm_open_over(w->transport, w, dev, NULL, NULL); }

struct comm *comm_twin(struct comm *comm)
{
	const struct world w = { .rank = comm->rank, .size = comm->size };

	return comm_open_over(comm->ops, &w, comm->device, comm->control, &comm->config);
}

void comm_close(struct comm *comm)
{
	const struct device_ops *ops = comm->device->ops;

	ops->stream->sync(comm->stream);
	comm->ops->close(comm);
	ops->stream->close(comm->stream);
	ops->stream->event_close(comm->forked);
	ops->mem->free(comm->device, comm->work);
	comm_unplan_allreduce(comm);
	wire_release(comm);
	free(comm->host);
	free(comm);
}

void comm_reserve(struct comm *comm, size_t bytes)
{
	const struct mem_ops *mem = comm->device->ops->mem;

	if (bytes <= comm->work_bytes)
		return;
	mem->free(comm->device, comm->work);
	comm->work = mem->alloc(comm->device, bytes);
	comm->work_bytes = bytes;
}

void comm_narrow(struct comm *comm, int ranks)
{
	CHECK(ranks >= 1 && ranks <= comm->size);
	comm->size = ranks;
}

/* Ranks take turns, so that a fast one cannot keep the others waiting. Idle, we leave the core to those who compute. */
int comm_wait_any(struct comm *comm, const bool *open, int first)
{
	for (int tries = 0;; tries++) {
		for (int i = 0; i < comm->size; i++) {
			int from = (first + i) % comm->size;

			if (open[from] && comm->ops->arrived(comm, from))
				return from;
		}
		if (tries < 32)
			sched_yield();
		else
			nanosleep(&(struct timespec){ 0, tries < 256 ? 20000 : 100000 }, NULL);
	}
}

void comm_fork(struct comm *comm, struct stream *after)
{
	const struct stream_ops *ops = comm->device->ops->stream;

	ops->record(comm->forked, after);
	ops->wait(comm->stream, comm->forked);
}

void comm_mark(struct comm *comm, struct event *event) { comm->device->ops->stream->record(event, comm->stream); }

struct delay {
	double seconds, until;
};

static bool delay_over(void *arg)
{
	struct delay *d = arg;

	if (d->until == 0)
		d->until = clock_now() + d->seconds;
	return clock_now() >= d->until;
}

static void pause_for(struct comm *comm, double seconds)
{
	struct delay d = { seconds, 0 };

	if (seconds <= 0)
		return;
	trace_begin(comm->stream, "delay", NULL, -1);
	if (!wire_pause(comm, seconds))
		comm->device->ops->stream->call(comm->stream, delay_over, &d, sizeof(d));
	trace_end(comm->stream);
}

void comm_delay(struct comm *comm) { pause_for(comm, comm->delay); }
void comm_delay_half(struct comm *comm) { pause_for(comm, comm->delay / 2); }

void comm_trace_sent(struct comm *comm) { trace_count(comm->stream, "bytes sent", (double)comm->bytes_sent); }

static int64_t segment_of(int64_t left, int64_t most) { return left <= 0 ? 0 : left < most ? left : most; }

void comm_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	int64_t most = comm->ops->segment, out = to < 0 ? 0 : send_bytes, in = from < 0 ? 0 : recv_bytes;
	bool timed;

	trace_begin(comm->stream, out && in ? "exchange" : out ? "send" : "receive", "bytes", out + in);
	timed = wire_begin(comm);
	comm->bytes_sent += out;
	for (int64_t at = 0; at < out || at < in; at += most) {
		int64_t o = segment_of(out - at, most), i = segment_of(in - at, most);

		comm->ops->exchange(comm, o ? to : -1, (const char *)send + at, o, i ? from : -1, (char *)recv + at, i);
	}
	if (timed)
		wire_end_exchange(comm, to, out, from, in);
	trace_end(comm->stream);
	comm_trace_sent(comm);
}

/* ---- the host waits ---- */

void comm_host_gather(struct comm *comm, const void *mine, void *all, int64_t bytes)
{
	CHECK(comm->device->host_memory);
	memcpy((char *)all + comm->rank * bytes, mine, (size_t)bytes);
	comm_allgather(comm, all, bytes);
	comm->device->ops->stream->sync(comm->stream);
}

void comm_host_reduce(struct comm *comm, double *values, int n, enum reduce op)
{
	size_t bytes = (size_t)n * sizeof(*values);
	double *all;

	if (comm->host_bytes < bytes * (size_t)comm->size) {
		comm->host_bytes = bytes * (size_t)comm->size;
		comm->host = xrealloc(comm->host, comm->host_bytes);
	}
	all = comm->host;
	comm_host_gather(comm, values, all, (int64_t)bytes);
	for (int i = 0; i < n; i++) {
		values[i] = all[i];
		for (int r = 1; r < comm->size; r++) {
			double v = all[r * n + i];

			if (op == REDUCE_SUM)
				values[i] += v;
			else if (op == REDUCE_MAX ? v > values[i] : v < values[i])
				values[i] = v;
		}
	}
}

void comm_barrier(struct comm *comm)
{
	double nothing = 0;

	comm_host_reduce(comm, &nothing, 1, REDUCE_SUM);
}

void comm_gather(struct comm *comm, const void *mine, void *all, int64_t bytes)
{
	if (comm->rank != 0) {
		comm_exchange(comm, 0, mine, bytes, -1, NULL, 0);
		return;
	}
	comm->device->ops->mem->copy(comm->stream, all, mine, (size_t)bytes, COPY_DEVICE);
	for (int r = 1; r < comm->size; r++)
		comm_exchange(comm, -1, NULL, 0, r, (char *)all + r * bytes, bytes);
}
