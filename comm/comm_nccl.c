/*
 * NCCL as a transport: GPUs exchange among themselves, over NVLink, PCIe or the network. It is part of libcocod-cuda.so.
 *
 * A call queues its operation on the communicator's CUDA stream and returns. For that the communicator is a "blocking" one, in
 * NCCL's words: a non-blocking one makes a thread for each call, which queues the operation some time later, so that the host would
 * have to wait for it before it may queue what comes behind. ($NCCL_COMM_BLOCKING=0 makes it non-blocking all the same; then
 * check() waits.)
 *
 * Hangs: NCCL has no time limits. If a peer dies or loses its way, the stream stands still, and with it, for ever, whoever waits for
 * something behind it. So a thread of our own, the watchdog, looks once a second, and ends all ranks over the host transport
 *
 *     as soon as NCCL itself has seen an error, such as a connection that broke;
 *     when the operation under way is older than comm.timeout_s: the event in front of it has happened, the one behind has not;
 *     when the host has been inside a call of NCCL's for so long: connecting.
 *
 * It does not call ncclCommAbort(), which may hang until all other ranks call it, too.
 *
 * Limits: the watchdog says who waits, not whom for; all ranks that wait say so. One GPU a rank.
 */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "comm.h"

/* That may be queued and not finished before the host waits, and about as many as CUDA's own queue of launches holds. */
enum { OPERATIONS = 1024 };

struct operation {
	cudaEvent_t begun, ended;
	const char *what;
	int64_t bytes;
	int to, from;
	double seen;                    /* when the watchdog found it begun; 0: not yet */
};

struct nccl_state {
	ncclComm_t comm;
	cudaStream_t stream;
	int device;                     /* CUDA's number of the GPU: a thread starts out on number 0 */
	double timeout;
	pthread_t watchdog;
	pthread_mutex_t lock;           /* for all that follows, and for ncclCommGetAsyncError() */
	pthread_cond_t wake;
	bool ready, closing;            /* ready: `comm` may be asked for errors */
	const char *calling;            /* the host is inside NCCL since `called`; NULL: it is not */
	double called;
	struct operation ring[OPERATIONS];
	uint64_t queued, finished;      /* finished: as far as somebody has looked */
};

static void check_cuda(cudaError_t rc, const char *call)
{
	if (rc != cudaSuccess)
		die(STATUS_FAILURE, "%s: %s", call, cudaGetErrorString(rc));
}
#define CUDA(call) check_cuda((call), #call)

/* How the communicator is; the caller holds the lock. */
static ncclResult_t ask(struct nccl_state *s)
{
	ncclResult_t state = ncclSuccess, asked = ncclCommGetAsyncError(s->comm, &state);

	return asked != ncclSuccess ? asked : state;
}

static void give_up(struct nccl_state *s, const char *where, ncclResult_t rc)
{
	const char *more = ncclGetLastError(s->comm);

	die(STATUS_COMM, "%s: %s%s%s. If another worker has ended, see its own message; NCCL_DEBUG=WARN tells more", where,
	    ncclGetErrorString(rc), more && *more ? ": " : "", more ? more : "");
}

static void check(struct nccl_state *s, ncclResult_t rc, const char *call)
{
	while (rc == ncclInProgress) {
		nanosleep(&(struct timespec){ 0, 20000 }, NULL);
		pthread_mutex_lock(&s->lock);
		rc = ask(s);
		pthread_mutex_unlock(&s->lock);
	}
	if (rc != ncclSuccess)
		give_up(s, call, rc);
}
#define NCCL(s, call) check(s, (call), #call)

/* ---- the watchdog; the caller holds the lock ---- */

static bool happened(cudaEvent_t event)
{
	cudaError_t rc = cudaEventQuery(event);

	if (rc == cudaErrorNotReady) {
		cudaGetLastError();             /* else the next launch of this thread is blamed for it */
		return false;
	}
	check_cuda(rc, "the GPU, while communicating");
	return true;
}

static void harvest(struct nccl_state *s)
{
	while (s->finished < s->queued && happened(s->ring[s->finished % OPERATIONS].ended))
		s->finished++;
}

static void hangs(struct nccl_state *s, const char *what)
{
	die(STATUS_COMM, "NCCL: %s takes longer than %g s: another worker hangs, is far behind or is gone. If it may be so late, set a longer "
	    "comm.timeout_s; NCCL_DEBUG=INFO tells of the connections", what, s->timeout);
}

static void describe(const struct nccl_state *s, const struct operation *op, char *text, size_t size)
{
	int n = snprintf(text, size, "%s of %lld bytes", op->what, (long long)op->bytes);

	if (op->to >= 0)
		n += snprintf(text + n, size - (size_t)n, " to rank %d", op->to);
	if (op->from >= 0)
		n += snprintf(text + n, size - (size_t)n, " from rank %d", op->from);
	snprintf(text + n, size - (size_t)n, " (operation %llu)", (unsigned long long)s->finished + 1);
}

static void look(struct nccl_state *s)
{
	ncclResult_t state = ncclSuccess;
	struct operation *oldest;
	double now = clock_now();
	char text[200];

	if (s->ready && !s->calling)    /* inside a call, NCCL sees to it itself */
		state = ask(s);
	if (state != ncclSuccess && state != ncclInProgress)
		give_up(s, "NCCL, while waiting", state);
	harvest(s);
	if (s->timeout <= 0)
		return;
	if (s->calling && now - s->called > s->timeout)
		hangs(s, s->calling);
	oldest = &s->ring[s->finished % OPERATIONS];
	if (s->finished == s->queued || !happened(oldest->begun))
		return;
	if (oldest->seen == 0) {
		oldest->seen = now;
	} else if (now - oldest->seen > s->timeout) {
		describe(s, oldest, text, sizeof(text));
		hangs(s, text);
	}
}

static void *watch(void *arg)
{
	struct nccl_state *s = arg;
	struct timespec next;

	CUDA(cudaSetDevice(s->device));
	pthread_mutex_lock(&s->lock);
	while (!s->closing) {
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_sec++;
		pthread_cond_timedwait(&s->wake, &s->lock, &next);
		look(s);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void watch_start(struct nccl_state *s)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	CHECK(pthread_create(&s->watchdog, NULL, watch, s) == 0);
}

static void watch_stop(struct nccl_state *s)
{
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->watchdog, NULL);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
}

/* ---- opening and closing ---- */

static void call_begins(struct nccl_state *s, const char *what)
{
	pthread_mutex_lock(&s->lock);
	s->calling = what;
	s->called = clock_now();
	pthread_mutex_unlock(&s->lock);
}

/* ready: whether NCCL's communicator may be asked from now on. */
static void call_ended(struct nccl_state *s, bool ready)
{
	pthread_mutex_lock(&s->lock);
	s->calling = NULL;
	s->ready = ready;
	pthread_mutex_unlock(&s->lock);
}

/* Rank 0's address, for all. */
static ncclUniqueId meeting_point(struct comm *comm, struct nccl_state *s)
{
	ncclUniqueId id = { 0 }, *all = xcalloc((size_t)comm->size, sizeof(*all));

	if (comm->rank == 0)
		NCCL(s, ncclGetUniqueId(&id));
	comm_host_gather(comm->control, &id, all, sizeof(id));
	id = all[0];
	free(all);
	return id;
}

static void nccl_open(struct comm *comm)
{
	struct nccl_state *s = xcalloc(1, sizeof(*s));
	ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
	ncclUniqueId id;

	CHECK(comm->control && comm->device->ops->stream->native);
	/* The switches of NVLink add in the order in which data arrives: not the same bits twice. The user's setting wins. */
	if (comm->device->config.deterministic)
		setenv("NCCL_NVLS_ENABLE", "0", 0);
	if (comm->config.max_ctas > 0)
		config.maxCTAs = comm->config.max_ctas;
	comm->state = s;
	s->stream = comm->device->ops->stream->native(comm->stream);
	s->timeout = comm->config.timeout;
	CUDA(cudaGetDevice(&s->device));
	for (int i = 0; i < OPERATIONS; i++) {
		CUDA(cudaEventCreateWithFlags(&s->ring[i].begun, cudaEventDisableTiming));
		CUDA(cudaEventCreateWithFlags(&s->ring[i].ended, cudaEventDisableTiming));
	}
	watch_start(s);
	call_begins(s, "the start of the communicator");
	id = meeting_point(comm, s);
	NCCL(s, ncclCommInitRankConfig(&s->comm, comm->size, id, comm->rank, &config));
	call_ended(s, true);
}

static void nccl_close(struct comm *comm)
{
	struct nccl_state *s = comm->state;
	ncclResult_t rc;

	call_begins(s, "the end of the communicator");
	NCCL(s, ncclCommFinalize(s->comm));
	call_ended(s, false);
	rc = ncclCommDestroy(s->comm);
	if (rc != ncclSuccess && rc != ncclInProgress)
		give_up(s, "ncclCommDestroy", rc);
	watch_stop(s);
	for (int i = 0; i < OPERATIONS; i++) {
		CUDA(cudaEventDestroy(s->ring[i].begun));
		CUDA(cudaEventDestroy(s->ring[i].ended));
	}
	free(s);
	comm->state = NULL;
}

/* ---- operations ---- */

/* What is queued between begin() and end() is one operation of the watchdog's. */
static struct nccl_state *begin(struct comm *comm, const char *what, int64_t bytes, int to, int from)
{
	struct nccl_state *s = comm->state;
	struct operation *op;

	pthread_mutex_lock(&s->lock);
	if (s->queued - s->finished == OPERATIONS)
		harvest(s);
	while (s->queued - s->finished == OPERATIONS) {
		pthread_mutex_unlock(&s->lock);
		nanosleep(&(struct timespec){ 0, 50000 }, NULL);
		pthread_mutex_lock(&s->lock);
		harvest(s);
	}
	op = &s->ring[s->queued % OPERATIONS];
	op->what = what;
	op->bytes = bytes;
	op->to = to;
	op->from = from;
	op->seen = 0;
	s->calling = what;
	s->called = clock_now();
	pthread_mutex_unlock(&s->lock);
	CUDA(cudaEventRecord(op->begun, s->stream));
	return s;
}

static void end(struct nccl_state *s)
{
	CUDA(cudaEventRecord(s->ring[s->queued % OPERATIONS].ended, s->stream));
	pthread_mutex_lock(&s->lock);
	s->queued++;
	s->calling = NULL;
	pthread_mutex_unlock(&s->lock);
}

static void nccl_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	struct nccl_state *s = begin(comm, "an exchange", send_bytes + recv_bytes, to, from);

	NCCL(s, ncclGroupStart());
	if (to >= 0)
		NCCL(s, ncclSend(send, (size_t)send_bytes, ncclUint8, to, s->comm, s->stream));
	if (from >= 0)
		NCCL(s, ncclRecv(recv, (size_t)recv_bytes, ncclUint8, from, s->comm, s->stream));
	NCCL(s, ncclGroupEnd());
	end(s);
}

static const ncclDataType_t data_type[] = {
	[DTYPE_F32] = ncclFloat32, [DTYPE_F64] = ncclFloat64, [DTYPE_I64] = ncclInt64, [DTYPE_BF16] = ncclBfloat16,
};

static const ncclRedOp_t reduction[] = { [REDUCE_SUM] = ncclSum, [REDUCE_MAX] = ncclMax, [REDUCE_MIN] = ncclMin };

static void nccl_allreduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	struct nccl_state *s = begin(comm, "an all-reduce", n * (int64_t)dtype_size(type), -1, -1);

	NCCL(s, ncclAllReduce(buffer, buffer, (size_t)n, data_type[type], reduction[op], s->comm, s->stream));
	end(s);
}

static void nccl_reduce_scatter(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	int64_t bytes = n * (int64_t)dtype_size(type);
	struct nccl_state *s = begin(comm, "a reduce-scatter", bytes * comm->size, -1, -1);

	NCCL(s, ncclReduceScatter(buffer, (char *)buffer + comm->rank * bytes, (size_t)n, data_type[type], reduction[op], s->comm, s->stream));
	end(s);
}

static void nccl_allgather(struct comm *comm, void *buffer, int64_t bytes)
{
	struct nccl_state *s = begin(comm, "an all-gather", bytes * comm->size, -1, -1);

	NCCL(s, ncclAllGather((char *)buffer + comm->rank * bytes, buffer, (size_t)bytes, ncclUint8, s->comm, s->stream));
	end(s);
}

static const char *nccl_version(void)
{
	static char text[32];
	int v;

	if (ncclGetVersion(&v) != ncclSuccess)
		return "NCCL";
	snprintf(text, sizeof(text), "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
	return text;
}

extern const struct comm_ops comm_nccl;
const struct comm_ops comm_nccl = {
	.name = "nccl",
	.help = "NVIDIA's collectives, from GPU to GPU; one worker a GPU",
	.version = nccl_version,
	.open = nccl_open,
	.close = nccl_close,
	.exchange = nccl_exchange,
	.segment = INT64_MAX,
	.allreduce = nccl_allreduce,
	.reduce_scatter = nccl_reduce_scatter,
	.allgather = nccl_allgather,
};
