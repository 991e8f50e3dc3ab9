/*
 * Transports. A communicator has a stream of its own; every operation below is queued on it and returns. Collectives are built
 * (topology/) from one primitive, exchange(), and kernels of the device on the same stream, so a transport is one small file.
 *
 *   comm_fork(comm, compute)        what is queued next waits for all that is queued on `compute` so far
 *   … exchanges, kernels …          in the same order on all ranks of the communicator
 *   comm_mark(comm, event)          then compute waits for the event: stream->wait(compute, event)
 *
 * Between fork and the wait the buffers belong to communication. Bytes are counted here, once, when they are handed over.
 * A library error ends all ranks with STATUS_COMM.
 */
#ifndef COCOD_COMM_H
#define COCOD_COMM_H

#include "../core/device.h"

struct comm;

/* What the launcher made of us; filled in by world_open(). */
struct world {
	const struct comm_ops *transport;
	int rank, size;
	int local_rank, local_size;     /* among the ranks of this host */
	int nodes;                      /* hosts */
	char host[64];
	int cores;                      /* that this rank may run on (its affinity mask) */
	bool any_thread;                /* the transport may be called by a thread other than the one that opened it */
	int sharing;                    /* ranks of this host, this one included, whose mask overlaps with ours */
};

struct comm_ops {
	const char *name, *help;
	const char *(*version)(void);           /* (optional) the library's own words, for --version; before world_open() too */
	void (*world_open)(struct world *);     /* rank, size, local_rank, local_size, nodes, sharing; once a process */
	void (*world_close)(void);
	void (*abort)(int status);              /* (optional) ends all ranks */
	void (*open)(struct comm *);            /* comm->state */
	void (*close)(struct comm *);
	/* Queues one send and one receive that proceed together (peer < 0: none of that kind). Never deadlocks as long as every
	 * receive has its send. Sizes must agree; up to COMM_SEGMENT bytes. */
	void (*exchange)(struct comm *, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes);
};

struct comm {
	const struct comm_ops *ops;
	struct device *device;
	struct stream *stream;
	struct event *forked;
	int rank, size;
	double delay;                   /* seconds that comm_delay() waits; an experiment's knob */
	int64_t bytes_sent;             /* payload that this rank handed to the transport */
	void *work;                     /* device memory, kept: receive buffer of reductions */
	size_t work_bytes;
	void *host;                     /* host memory, kept: comm_host_reduce() gathers here */
	size_t host_bytes;
	void *state;                    /* the transport's */
};

enum { COMM_SEGMENT = 1 << 29 };

extern const struct comm_ops *const transport_list[];           /* NULL-terminated */
const struct comm_ops *transport_find(const char *name);

/* Under which launcher do we run? From its environment, before and without MPI. size 1 and rank 0 if there is none. */
struct launch {
	const char *launcher;           /* "Open MPI", "Slurm", …; NULL: none */
	int rank, size;
};
struct launch launch_detect(void);

/* "auto" is mpi under a launcher, else self. Fills in the world, or records an error (ranks that do not see each other). */
int world_open(struct world *, const char *transport);
void world_close(struct world *);

struct comm *comm_open(const struct world *, struct device *);
void comm_close(struct comm *);         /* waits for what is queued */

void comm_fork(struct comm *, struct stream *after);
void comm_mark(struct comm *, struct event *);
void comm_delay(struct comm *);         /* queues a pause of comm->delay seconds that costs no processor time */
void comm_exchange(struct comm *, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes);
/* Makes sure that comm->work has so many bytes; called while opening, never in the step path. */
void comm_reserve(struct comm *, size_t bytes);

/* ---- the host waits for these: start-up, evaluation, the end; never in the step path ---- */

void comm_host_reduce(struct comm *, double *values, int n, enum reduce);       /* same result on every rank */
/* all: size × bytes, on every rank */
void comm_host_gather(struct comm *, const void *mine, void *all, int64_t bytes);
void comm_barrier(struct comm *);
/* Queues a gather to rank 0 (all: size × bytes there, unused elsewhere). mine and all must live until the stream has run it. */
void comm_gather(struct comm *, const void *mine, void *all, int64_t bytes);

#endif
