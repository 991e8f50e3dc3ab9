/*
 * MPI as a transport: one send and one receive at a time, non-blocking, asked for completion by whoever drives the communication
 * stream.
 *
 * Threads: messages of a CPU device are driven by its thread (or the hook, in the computing thread), those of a GPU by a thread of
 * CUDA's. A lock around each MPI call keeps them apart, so that MPI_THREAD_SERIALIZED is enough, and MPI_THREAD_FUNNELED where only
 * the hook drives. Calls behind the lock must not wait for another rank; the exceptions (start, end, opening, closing) are made by
 * the host while nothing is queued in this process.
 *
 * Staging: MPI is never given memory of a GPU, since most builds of it cannot take it. Such messages are copied, in stream order,
 * to a pinned buffer that is sent, and from another one that was received into. The two are made once, as long as the longest
 * message; comm_exchange() cuts what is longer. On host memory comm.staged = true takes the same way, for tests.
 *
 * Messages of a communicator need no tags: every rank queues the same exchanges in the same order, and MPI keeps the order
 * between a pair of ranks.
 *
 * Limits: the copies to, through and from the host follow one another. The message after the next could be copied meanwhile.
 */
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../core/die.h"
#include "comm.h"

/* As the segments of the ring (topology/ring.c); staged or not, so that a rank on a GPU and one on a CPU cut alike. */
enum { LONGEST = 4 << 20, SHORT = 64 << 10 };

static pthread_mutex_t one_call = PTHREAD_MUTEX_INITIALIZER;

static void enter(void) { pthread_mutex_lock(&one_call); }

static void leave(int rc, const char *call)
{
	char words[MPI_MAX_ERROR_STRING] = "";
	int length;

	if (rc != MPI_SUCCESS)
		MPI_Error_string(rc, words, &length);
	pthread_mutex_unlock(&one_call);
	if (rc != MPI_SUCCESS)
		die(STATUS_COMM, "%s: %s", call, words);
}
#define MPI(call) (enter(), leave((call), #call))

/* Another thread may be inside MPI, and what it does there may be what went wrong: it gets a second to leave. */
static void mpi_abort(int status)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	pthread_mutex_timedlock(&one_call, &until);
	MPI_Abort(MPI_COMM_WORLD, status);
}

/* Ranks of this host whose affinity mask overlaps with ours share its cores with us. */
static int count_sharing(MPI_Comm host, int ranks)
{
	cpu_set_t mine, both, *all = xcalloc((size_t)ranks, sizeof(*all));
	int sharing = 0;

	CPU_ZERO(&mine);
	sched_getaffinity(0, sizeof(mine), &mine);
	MPI(MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all, sizeof(mine), MPI_BYTE, host));
	for (int r = 0; r < ranks; r++) {
		CPU_AND(&both, &mine, &all[r]);
		sharing += CPU_COUNT(&both) > 0;
	}
	free(all);
	return sharing;
}

static void mpi_world_open(struct world *w)
{
	MPI_Comm host;
	int provided, first;

	/* Settings without which Open MPI starves ranks that share cores, and halves its speed over TCP; the user's win. */
	setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
	setenv("OMPI_MCA_btl_tcp_flags", "send,inplace", 0);
	/* And over TCP a long message is announced, and goes on when the answer is there: behind what the receiver sends meanwhile, which in
	 * a ring is as long. So it may go at once, LONGEST and its header, where post_send() lets it. */
	setenv("OMPI_MCA_btl_tcp_eager_limit", "4198400", 0);
	/* Built for CUDA (version 4; 5), it would ask CUDA about every buffer: not allowed where CUDA calls us, and never needed. */
	setenv("OMPI_MCA_opal_cuda_support", "0", 0);
	setenv("OMPI_MCA_accelerator", "null", 0);
	MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided));
	MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
	MPI(MPI_Comm_rank(MPI_COMM_WORLD, &w->rank));
	MPI(MPI_Comm_size(MPI_COMM_WORLD, &w->size));
	MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, w->rank, MPI_INFO_NULL, &host));
	MPI(MPI_Comm_rank(host, &w->local_rank));
	MPI(MPI_Comm_size(host, &w->local_size));
	w->sharing = count_sharing(host, w->local_size);
	MPI(MPI_Comm_free(&host));
	first = w->local_rank == 0;
	MPI(MPI_Allreduce(&first, &w->nodes, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
	w->any_thread = provided >= MPI_THREAD_SERIALIZED;
}

static void mpi_world_close(void) { MPI(MPI_Finalize()); }

struct mpi_state {
	MPI_Comm comm;
	int last;                       /* whom the last message went to */
	char *send, *recv;              /* pinned, LONGEST bytes each; NULL: not staged */
};

static void mpi_open(struct comm *comm)
{
	const struct mem_ops *mem = comm->device->ops->mem;
	struct mpi_state *s = xcalloc(1, sizeof(*s));

	comm->state = s;
	MPI(MPI_Comm_dup(MPI_COMM_WORLD, &s->comm));
	MPI(MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN));
	if (comm->device->host_memory && !comm->config.staged)
		return;
	s->send = mem->alloc_host(comm->device, LONGEST);
	s->recv = mem->alloc_host(comm->device, LONGEST);
}

static void mpi_close(struct comm *comm)
{
	const struct mem_ops *mem = comm->device->ops->mem;
	struct mpi_state *s = comm->state;

	MPI(MPI_Comm_free(&s->comm));
	if (s->send) {
		mem->free_host(comm->device, s->send);
		mem->free_host(comm->device, s->recv);
	}
	free(s);
	comm->state = NULL;
}

struct exchange {
	struct mpi_state *state;
	const void *send;
	void *recv;
	int to, from, send_bytes, recv_bytes;
	bool posted;
	MPI_Request request[2];
};

/*
 * Long messages go at once where one neighbour gets them all, as in a ring. Else they wait until they are wanted. Of one who only sends:
 * a server that is busy with others would have to hold them all in memory. To several in turn: what is still on its way to the one before
 * would share the link with it, and come later for it.
 */
static int post_send(struct exchange *e)
{
	bool waits = e->send_bytes > SHORT && (e->from < 0 || e->to != e->state->last);

	e->state->last = e->to;
	return (waits ? MPI_Issend : MPI_Isend)(e->send, e->send_bytes, MPI_BYTE, e->to, 0, e->state->comm, &e->request[1]);
}

static bool exchange_done(void *arg)
{
	struct exchange *e = arg;
	int done;

	if (!e->posted) {
		if (e->from >= 0)
			MPI(MPI_Irecv(e->recv, e->recv_bytes, MPI_BYTE, e->from, 0, e->state->comm, &e->request[0]));
		if (e->to >= 0)
			MPI(post_send(e));
		e->posted = true;
	}
	MPI(MPI_Testall(2, e->request, &done, MPI_STATUSES_IGNORE));
	return done;
}

static void mpi_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	const struct device_ops *dev = comm->device->ops;
	struct mpi_state *s = comm->state;
	struct exchange e = {
		s, s->send ? s->send : send, s->recv ? s->recv : recv, to, from, (int)send_bytes, (int)recv_bytes, false,
		{ MPI_REQUEST_NULL, MPI_REQUEST_NULL },
	};

	if (s->send && to >= 0)
		dev->mem->copy(comm->stream, s->send, send, (size_t)send_bytes, COPY_TO_HOST);
	dev->stream->call(comm->stream, exchange_done, &e, sizeof(e));
	if (s->recv && from >= 0)
		dev->mem->copy(comm->stream, recv, s->recv, (size_t)recv_bytes, COPY_TO_DEVICE);
}

static void mpi_tell(struct comm *comm, int to, const void *send, int from, void *recv, int bytes)
{
	struct exchange e = { comm->state, send, recv, to, from, bytes, bytes, false, { MPI_REQUEST_NULL, MPI_REQUEST_NULL } };

	comm->device->ops->stream->call(comm->stream, exchange_done, &e, sizeof(e));
}

static bool mpi_arrived(struct comm *comm, int from)
{
	const struct mpi_state *s = comm->state;
	int there;

	MPI(MPI_Iprobe(from, 0, s->comm, &there, MPI_STATUS_IGNORE));
	return there;
}

/* One of the few calls that MPI allows before MPI_Init. */
static const char *mpi_version(void)
{
	static char text[MPI_MAX_LIBRARY_VERSION_STRING];
	int length;

	MPI_Get_library_version(text, &length);
	text[strcspn(text, ",\n")] = 0;         /* Open MPI goes on with who built it where */
	return text;
}

extern const struct comm_ops comm_mpi;
const struct comm_ops comm_mpi = {
	.name = "mpi",
	.help = "messages of MPI, own collectives; started by mpirun or srun; from a GPU through host memory",
	.version = mpi_version,
	.world_open = mpi_world_open,
	.world_close = mpi_world_close,
	.abort = mpi_abort,
	.open = mpi_open,
	.close = mpi_close,
	.exchange = mpi_exchange,
	.tell = mpi_tell,
	.segment = LONGEST,
	.arrived = mpi_arrived,
};
