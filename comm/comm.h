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
 *
 * The launcher's processes find each other over the host transport, self or mpi: it is the world's, and that of the control
 * communicator, which lives on a CPU device. The model's traffic may go over another one, chosen by comm_choose(): mpi moves the
 * memory of a GPU through pinned buffers, nccl moves it directly.
 */
#ifndef COCOD_COMM_H
#define COCOD_COMM_H

#include "../core/device.h"
#include "../core/option.h"

struct comm;
struct config;

/* What the launcher made of us; filled in by world_open(). */
struct world {
	const struct comm_ops *transport;       /* on host memory: self or mpi */
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
	/* A host transport has these three, another one none: rank, size, local_rank, local_size, nodes, sharing; once a process */
	void (*world_open)(struct world *);
	void (*world_close)(void);
	void (*abort)(int status);              /* (optional) ends all ranks */
	/* comm->state. All ranks together, while this process has nothing queued on any other communicator. */
	void (*open)(struct comm *);
	void (*close)(struct comm *);           /* likewise; nothing is queued on this one either */
	/* Queues one send and one receive that proceed together (peer < 0: none of that kind). Never deadlocks as long as every
	 * receive has its send. Sizes must agree; up to `segment` bytes. */
	void (*exchange)(struct comm *, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes);
	/* (optional) As exchange(), of a few bytes of host memory whatever the device: wire.c needs it. They are read and written as it runs. */
	void (*tell)(struct comm *, int to, const void *send, int from, void *recv, int bytes);
	int64_t segment;                        /* comm_exchange() cuts what is longer; the same on all ranks */
	/* (optional) The host asks, while nothing is queued here: has a message from that rank arrived, for an exchange() to receive?
	 * Never waits. What lives on requests (topology/ps.h) needs it. */
	bool (*arrived)(struct comm *, int from);
	/* (optional) The library's own collectives, in place, queued like exchange(), by the contracts of comm_allreduce() and
	 * comm_allgather(), which count their bytes (topology/topology.h). Never called with nothing to do (one rank, no bytes). All or none. */
	void (*allreduce)(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
	/* Block r of `buffer` (size × n) becomes its sum on rank r; the others mean nothing. */
	void (*reduce_scatter)(struct comm *, void *buffer, int64_t n, enum dtype, enum reduce);
	void (*allgather)(struct comm *, void *buffer, int64_t bytes);
};

/* The keys of the group comm that belong to no one else; comm_config() reads them. */
extern const struct option transport_options[];
struct comm_config {
	bool staged;                    /* mpi: through pinned buffers even if it could take the memory itself; a test's knob */
	int max_ctas;                   /* nccl: most thread blocks, each of which takes an SM from computing; 0: its choice */
	double timeout;                 /* nccl: seconds under way after which an operation hangs, and all ranks end; 0: never */
};
struct comm_config comm_config(const struct config *);

struct comm {
	const struct comm_ops *ops;
	struct comm_config config;
	struct device *device;
	struct comm *control;           /* how a transport that is not the world's finds its peers; NULL: it is the world's */
	struct stream *stream;
	struct event *forked;
	int rank, size;
	int servers;                    /* ranks from `size` on, which serve: ps_open(); else 0 */
	double delay;                   /* seconds that comm_delay() waits; an experiment's knob */
	int64_t bytes_sent;             /* payload that this rank handed to the transport */
	void *work;                     /* device memory, kept: receive buffer of reductions */
	size_t work_bytes;
	void *host;                     /* host memory, kept: comm_host_reduce() gathers here */
	size_t host_bytes;
	struct wire *wire;              /* the network that its messages are timed by: wire_open(); NULL: as it is */
	struct allreduce_plan *plan;    /* how comm_allreduce() is built: comm_plan_allreduce(); NULL: a ring */
	void *state;                    /* the transport's */
};

extern const struct comm_ops *const transport_list[];           /* names, help, versions; NULL-terminated */
/* NULL: unknown; or "nccl", and error() and hint() have said why this machine has none. */
const struct comm_ops *transport_find(const char *name);
/*
 * The transport of the model's traffic, for comm.transport = `name` ("auto" or one of the list) on this device. All ranks call it
 * together and get the same. NULL: error() and hint() have said why not, on all ranks. why: a clause for the user, what and why.
 *
 * "auto" is self for one worker; mpi if a rank computes on a CPU; nccl if each rank has a GPU of its own, else mpi.
 */
const struct comm_ops *comm_choose(const char *name, const struct world *, struct device *, struct comm *control, char *why,
                                   size_t size);
/* The same where some ranks serve (topology/ps.h): only transports that tell what has arrived. */
const struct comm_ops *comm_choose_served(const char *name, const struct world *, struct device *, struct comm *control, char *why,
                                          size_t size);

/* Under which launcher do we run? From its environment, before and without MPI. size 1 and rank 0 if there is none. */
struct launch {
	const char *launcher;           /* "Open MPI", "Slurm", …; NULL: none */
	int rank, size;
};
struct launch launch_detect(void);

/* comm.transport: "auto" and "nccl" are mpi under a launcher, else self. Fills in the world, or records an error (ranks that do not
 * see each other). */
int world_open(struct world *, const char *transport);
void world_close(struct world *);

/* Over the world's transport: for control, which must be on a CPU device, and for tests. */
struct comm *comm_open(const struct world *, struct device *);
/* Over any transport (comm_choose()); control: one opened before, which outlives it. config NULL: the defaults. */
struct comm *comm_open_over(const struct comm_ops *, const struct world *, struct device *, struct comm *control,
                            const struct comm_config *);
/* Another communicator of all ranks, over the same transport and device: for messages in an order of their own. */
struct comm *comm_twin(struct comm *);
void comm_close(struct comm *);         /* waits for what is queued */
/* From now on only the first `ranks` ranks take part in its collectives. All ranks, before anything is queued. */
void comm_narrow(struct comm *, int ranks);

void comm_fork(struct comm *, struct stream *after);
void comm_mark(struct comm *, struct event *);
void comm_delay(struct comm *);         /* queues a pause of comm->delay seconds that costs no processor time */
void comm_delay_half(struct comm *);    /* half of it: for an all-reduce in two halves */
void comm_exchange(struct comm *, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes);
void comm_trace_sent(struct comm *);     /* for the trace: behind an exchange, or a collective */
/* Makes sure that comm->work has so many bytes; called while opening, never in the step path. */
void comm_reserve(struct comm *, size_t bytes);
/* The host waits until a message from one of the ranks 0 … size-1 that are open[] has arrived, and says from which; asks `first` first. */
int comm_wait_any(struct comm *, const bool *open, int first);

/* ---- host memory, communicators of CPU devices; the host waits: start-up, evaluation, the end, never in the step path ---- */

void comm_host_reduce(struct comm *, double *values, int n, enum reduce);       /* same result on every rank */
/* all: size × bytes, on every rank */
void comm_host_gather(struct comm *, const void *mine, void *all, int64_t bytes);
void comm_barrier(struct comm *);
/* Queues a gather to rank 0 (all: size × bytes there, unused elsewhere). mine and all must live until the stream has run it. */
void comm_gather(struct comm *, const void *mine, void *all, int64_t bytes);

#endif
