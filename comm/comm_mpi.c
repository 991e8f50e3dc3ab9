/*
 * MPI as a transport: one send and one receive at a time, non-blocking, asked for completion by the driver of the communication
 * stream. All MPI calls after MPI_Init come from that driver (thread or hook), or from the host while nothing is queued; so
 * MPI_THREAD_SERIALIZED is enough, and MPI_THREAD_FUNNELED for the hook.
 *
 * Messages of a communicator need no tags: every rank queues the same exchanges in the same order, and MPI keeps the order
 * between a pair of ranks.
 */
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "../core/die.h"
#include "comm.h"

static void mpi_check(int rc, const char *call)
{
	char words[MPI_MAX_ERROR_STRING] = "";
	int length;

	if (rc == MPI_SUCCESS)
		return;
	MPI_Error_string(rc, words, &length);
	die(STATUS_COMM, "%s: %s", call, words);
}
#define MPI(call) mpi_check(call, #call)

static void mpi_abort(int status) { MPI_Abort(MPI_COMM_WORLD, status); }

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

	/* Two settings without which Open MPI starves ranks that share cores, and halves its speed over TCP; the user's win. */
	setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
	setenv("OMPI_MCA_btl_tcp_flags", "send,inplace", 0);
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

static void mpi_open(struct comm *comm)
{
	MPI_Comm *own = xcalloc(1, sizeof(*own));

	comm->state = own;
	MPI(MPI_Comm_dup(MPI_COMM_WORLD, own));
	MPI(MPI_Comm_set_errhandler(*own, MPI_ERRORS_RETURN));
}

static void mpi_close(struct comm *comm)
{
	MPI(MPI_Comm_free(comm->state));
	free(comm->state);
	comm->state = NULL;
}

struct exchange {
	MPI_Comm comm;
	const void *send;
	void *recv;
	int to, from, send_bytes, recv_bytes;
	bool posted;
	MPI_Request request[2];
};

static bool exchange_done(void *arg)
{
	struct exchange *e = arg;
	int done;

	if (!e->posted) {
		if (e->from >= 0)
			MPI(MPI_Irecv(e->recv, e->recv_bytes, MPI_BYTE, e->from, 0, e->comm, &e->request[0]));
		if (e->to >= 0)
			MPI(MPI_Isend(e->send, e->send_bytes, MPI_BYTE, e->to, 0, e->comm, &e->request[1]));
		e->posted = true;
	}
	MPI(MPI_Testall(2, e->request, &done, MPI_STATUSES_IGNORE));
	return done;
}

static void mpi_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	struct exchange e = {
		*(MPI_Comm *)comm->state, send, recv, to, from, (int)send_bytes, (int)recv_bytes, false,
		{ MPI_REQUEST_NULL, MPI_REQUEST_NULL },
	};

	comm->device->ops->stream->call(comm->stream, exchange_done, &e, sizeof(e));
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
	.help = "messages of MPI, own collectives; started by mpirun or srun",
	.version = mpi_version,
	.world_open = mpi_world_open,
	.world_close = mpi_world_close,
	.abort = mpi_abort,
	.open = mpi_open,
	.close = mpi_close,
	.exchange = mpi_exchange,
};
