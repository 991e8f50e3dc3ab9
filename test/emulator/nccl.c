/*
 * NCCL for emulated GPUs: operations run in the order of their stream, on its thread, and move bytes through boxes in shared memory,
 * one for each pair of ranks. A box holds one piece at a time; who sends waits until it is empty, who receives until it is full.
 * All transfers of an operation proceed side by side, so that it never matters who comes first.
 *
 * What NCCL refuses is refused: two ranks on one GPU, memory that no GPU can reach, peers that are not there, a call while the one
 * before is in progress. Sums are added in the order of the ranks, so they are the same on all of them.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../core/die.h"
#include "nccl.h"

enum { PIECE = 1 << 16, RANKS = 16, GROUP = 16 };

struct box {
	atomic_uint full;
	unsigned bytes;
	char data[PIECE];
};

/* What all ranks map; box[from * ranks + to]. */
struct shared {
	atomic_int arrived, refused;
	char place[RANKS][128];         /* host and GPU */
	struct box box[];
};

struct ncclComm {
	struct shared *shared;
	size_t bytes;
	int rank, ranks;
	bool blocking;
	atomic_int state;               /* ncclResult_t */
	atomic_int running;             /* operations queued and not finished */
	int operations, fail_at;
	char *piece;                    /* one of each rank: what an all-reduce adds */
};

static _Thread_local char last_error[256];

static ncclResult_t refuse(ncclResult_t rc, const char *words, int a, int b)
{
	snprintf(last_error, sizeof(last_error), words, a, b);
	return rc;
}

/* ---- transfers ---- */

struct transfer {
	struct box *box;
	char *at;
	size_t left;
	bool sends;
};

/* One piece, if the box lets it. */
static bool step(struct transfer *t)
{
	if ((atomic_load_explicit(&t->box->full, memory_order_acquire) != 0) == t->sends)
		return false;
	if (t->sends) {
		t->box->bytes = t->left < PIECE ? (unsigned)t->left : PIECE;
		memcpy(t->box->data, t->at, t->box->bytes);
	} else {
		CHECK(t->box->bytes <= t->left);        /* sizes must agree; NCCL would hang or overwrite */
		memcpy(t->at, t->box->data, t->box->bytes);
	}
	t->at += t->box->bytes;
	t->left -= t->box->bytes;
	atomic_store_explicit(&t->box->full, t->sends, memory_order_release);
	return true;
}

static void transfer_all(struct transfer *list, int n)
{
	for (int idle = 0;;) {
		bool moved = false, left = false;

		for (int i = 0; i < n; i++) {
			moved |= list[i].left && step(&list[i]);
			left |= list[i].left > 0;
		}
		if (!left)
			return;
		idle = moved ? 0 : idle + 1;
		if (idle > 64)
			nanosleep(&(struct timespec){ 0, 20000 }, NULL);
		else if (idle)
			sched_yield();
	}
}

static struct box *box_of(struct ncclComm *c, int from, int to) { return &c->shared->box[from * c->ranks + to]; }

/* To everybody what is at `mine`, from everybody to theirs[rank] (our own is left alone). */
static void exchange_all(struct ncclComm *c, char *mine, char *theirs, size_t stride, size_t bytes)
{
	struct transfer list[2 * RANKS];
	int n = 0;

	for (int r = 0; r < c->ranks; r++) {
		if (r == c->rank)
			continue;
		list[n++] = (struct transfer){ box_of(c, c->rank, r), mine, bytes, true };
		list[n++] = (struct transfer){ box_of(c, r, c->rank), theirs + (size_t)r * stride, bytes, false };
	}
	transfer_all(list, n);
}

/* ---- operations ---- */

enum kind { SEND, RECV, ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER };

struct operation {
	struct ncclComm *comm;
	cudaStream_t stream;
	enum kind kind;
	const char *send;
	char *recv;
	size_t count, size;             /* of elements of `size` bytes */
	ncclDataType_t type;
	ncclRedOp_t op;
	int peer;
};

struct job {
	int n;
	struct operation list[GROUP];
};

#define REDUCE(type) do { \
	type *a = to; \
	const type *b = from; \
	for (size_t i = 0; i < n; i++) \
		a[i] = op == ncclSum ? (type)(a[i] + b[i]) : op == ncclMax ? (b[i] > a[i] ? b[i] : a[i]) : (b[i] < a[i] ? b[i] : a[i]); \
} while (0)

static void reduce(ncclDataType_t type, ncclRedOp_t op, size_t n, const void *from, void *to)
{
	if (type == ncclFloat32)
		REDUCE(float);
	else if (type == ncclFloat64)
		REDUCE(double);
	else
		REDUCE(int64_t);
}

static void run_allreduce(struct operation *o)
{
	struct ncclComm *c = o->comm;
	size_t per_piece = PIECE / o->size;

	for (size_t at = 0; at < o->count; at += per_piece) {
		size_t n = o->count - at < per_piece ? o->count - at : per_piece, bytes = n * o->size;
		char *mine = c->piece + (size_t)c->rank * PIECE;

		memcpy(mine, o->send + at * o->size, bytes);
		exchange_all(c, mine, c->piece, PIECE, bytes);
		for (int r = 1; r < c->ranks; r++)
			reduce(o->type, o->op, n, c->piece + (size_t)r * PIECE, c->piece);
		memcpy(o->recv + at * o->size, c->piece, bytes);
	}
}

/* One block after the other goes from everybody to everybody, and its owner keeps the sum. */
static void run_reduce_scatter(struct operation *o)
{
	struct ncclComm *c = o->comm;
	size_t per_piece = PIECE / o->size, block = o->count * o->size;

	for (int owner = 0; owner < c->ranks; owner++)
		for (size_t at = 0; at < o->count; at += per_piece) {
			size_t n = o->count - at < per_piece ? o->count - at : per_piece, bytes = n * o->size;
			char *mine = c->piece + (size_t)c->rank * PIECE;

			memcpy(mine, o->send + (size_t)owner * block + at * o->size, bytes);
			exchange_all(c, mine, c->piece, PIECE, bytes);
			if (owner != c->rank)
				continue;
			for (int r = 1; r < c->ranks; r++)
				reduce(o->type, o->op, n, c->piece + (size_t)r * PIECE, c->piece);
			memcpy(o->recv + at * o->size, c->piece, bytes);
		}
}

static void run_allgather(struct operation *o)
{
	size_t bytes = o->count * o->size;
	char *mine = o->recv + (size_t)o->comm->rank * bytes;

	if (mine != o->send)
		memcpy(mine, o->send, bytes);
	exchange_all(o->comm, mine, o->recv, bytes, bytes);
}

static void run_messages(struct operation *list, int n)
{
	struct transfer t[GROUP];

	for (int i = 0; i < n; i++) {
		struct operation *o = &list[i];
		struct ncclComm *c = o->comm;
		bool sends = o->kind == SEND;

		t[i] = (struct transfer){ sends ? box_of(c, c->rank, o->peer) : box_of(c, o->peer, c->rank),
		                          sends ? (char *)o->send : o->recv, o->count * o->size, sends };
	}
	transfer_all(t, n);
}

static void run(void *args)
{
	struct job *job = *(struct job **)args;
	struct ncclComm *c = job->list[0].comm;

	if (++c->operations == c->fail_at) {
		atomic_store(&c->state, ncclRemoteError);
		for (;;)
			pause();
	}
	if (job->list[0].kind == ALL_REDUCE)
		run_allreduce(job->list);
	else if (job->list[0].kind == REDUCE_SCATTER)
		run_reduce_scatter(job->list);
	else if (job->list[0].kind == ALL_GATHER)
		run_allgather(job->list);
	else
		run_messages(job->list, job->n);
	free(job);
	atomic_fetch_sub(&c->running, 1);
}

/* ---- groups ---- */

static _Thread_local int depth;
static _Thread_local struct job group;

static void *queue_later(void *arg)
{
	struct job *job = arg;
	struct ncclComm *c = job->list[0].comm;

	nanosleep(&(struct timespec){ 0, 300000 }, NULL);
	emulator_run(job->list[0].stream, run, &job, sizeof(job));
	atomic_store(&c->state, ncclSuccess);
	return NULL;
}

ncclResult_t ncclGroupStart(void)
{
	if (depth++ == 0)
		group.n = 0;
	return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
	struct ncclComm *c = group.list[0].comm;
	struct job *job;
	pthread_t thread;

	if (--depth > 0 || group.n == 0)
		return ncclSuccess;
	job = xcalloc(1, sizeof(*job));
	*job = group;
	atomic_fetch_add(&c->running, 1);
	if (c->blocking)
		return emulator_run(job->list[0].stream, run, &job, sizeof(job)) ? ncclUnhandledCudaError : ncclSuccess;
	atomic_store(&c->state, ncclInProgress);
	CHECK(pthread_create(&thread, NULL, queue_later, job) == 0 && pthread_detach(thread) == 0);
	return ncclInProgress;
}

static size_t size_of(ncclDataType_t type)
{
	switch (type) {
	case ncclInt8: case ncclUint8: return 1;
	case ncclFloat16: case ncclBfloat16: return 2;
	case ncclInt32: case ncclUint32: case ncclFloat32: return 4;
	default: return 8;
	}
}

static bool reachable(const void *p)
{
	struct cudaPointerAttributes a;

	return cudaPointerGetAttributes(&a, p) == cudaSuccess && a.type != cudaMemoryTypeUnregistered;
}

static ncclResult_t add(struct operation o)
{
	if (atomic_load(&o.comm->state) == ncclInProgress)
		return refuse(ncclInvalidArgument, "the operation before is still in progress", 0, 0);
	if (o.count && ((o.send && !reachable(o.send)) || (o.recv && !reachable(o.recv))))
		return refuse(ncclInvalidArgument, "memory that the GPU cannot reach", 0, 0);
	if (o.peer < 0 || o.peer >= o.comm->ranks)
		return refuse(ncclInvalidArgument, "rank %d is none of %d", o.peer, o.comm->ranks);
	if (group.n == GROUP || (depth > 1 && (o.kind > RECV || (group.n && group.list[0].kind > RECV))))
		return refuse(ncclInvalidUsage, "the emulator has groups of sends and receives only, at most %d", GROUP, 0);
	for (int i = 0; i < group.n; i++)
		if (group.list[i].kind == o.kind && group.list[i].peer == o.peer)
			return refuse(ncclInvalidUsage, "the emulator takes one message a peer and group, not two to rank %d", o.peer, 0);
	o.size = size_of(o.type);
	group.list[group.n++] = o;
	return ncclSuccess;
}

static ncclResult_t single(struct operation o)
{
	ncclResult_t rc, ended;

	ncclGroupStart();
	rc = add(o);
	ended = ncclGroupEnd();
	return rc ? rc : ended;
}

ncclResult_t ncclSend(const void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s)
{
	return single((struct operation){ .comm = c, .stream = s, .kind = SEND, .send = p, .count = count, .type = type, .peer = peer });
}

ncclResult_t ncclRecv(void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s)
{
	return single((struct operation){ .comm = c, .stream = s, .kind = RECV, .recv = p, .count = count, .type = type, .peer = peer });
}

static ncclResult_t reducing(enum kind kind, const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c,
                             cudaStream_t s)
{
	if ((type != ncclFloat32 && type != ncclFloat64 && type != ncclInt64) || op == ncclProd || op == ncclAvg)
		return refuse(ncclInvalidArgument, "the emulator does not reduce type %d with operation %d", (int)type, (int)op);
	return single((struct operation){ c, s, kind, send, recv, count, 0, type, op, 0 });
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c,
                           cudaStream_t s)
{
	return reducing(ALL_REDUCE, send, recv, count, type, op, c, s);
}

ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c,
                               cudaStream_t s)
{
	return reducing(REDUCE_SCATTER, send, recv, count, type, op, c, s);
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type, ncclComm_t c, cudaStream_t s)
{
	return single((struct operation){ c, s, ALL_GATHER, send, recv, count, 0, type, ncclSum, 0 });
}

/* ---- communicators ---- */

ncclResult_t ncclGetVersion(int *version)
{
	*version = NCCL_VERSION_CODE;
	return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
	static atomic_int count;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(id, 0, sizeof(*id));
	snprintf(id->internal, sizeof(id->internal), "/emulator-nccl-%d-%d-%ld", (int)getpid(), atomic_fetch_add(&count, 1), now.tv_nsec);
	return ncclSuccess;
}

static void describe_place(char *text, size_t size)
{
	const char *host = getenv("NCCL_HOSTID");
	char bus[64] = "";
	int device = 0;

	cudaGetDevice(&device);
	cudaDeviceGetPCIBusId(bus, sizeof(bus), device);
	snprintf(text, size, "%s %s", host ? host : "", bus);
}

static ncclResult_t meet(struct ncclComm *c, const char *name)
{
	int file = shm_open(name, O_CREAT | O_RDWR, 0600);

	c->bytes = sizeof(struct shared) + (size_t)(c->ranks * c->ranks) * sizeof(struct box);
	if (file < 0 || ftruncate(file, (off_t)c->bytes))
		return refuse(ncclSystemError, "no shared memory", 0, 0);
	c->shared = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (c->shared == MAP_FAILED)
		return refuse(ncclSystemError, "no shared memory", 0, 0);
	describe_place(c->shared->place[c->rank], sizeof(c->shared->place[0]));
	atomic_fetch_add(&c->shared->arrived, 1);
	while (atomic_load(&c->shared->arrived) < c->ranks)
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	if (c->rank == 0)
		shm_unlink(name);
	for (int a = 0; a < c->ranks; a++)
		for (int b = 0; b < a; b++)
			if (!strcmp(c->shared->place[a], c->shared->place[b]))
				return refuse(ncclInvalidUsage, "Duplicate GPU detected : rank %d and rank %d", b, a);
	return ncclSuccess;
}

struct start {
	struct ncclComm *comm;
	ncclUniqueId id;
};

static void *meet_later(void *arg)
{
	struct start *s = arg;

	atomic_store(&s->comm->state, meet(s->comm, s->id.internal));
	free(s);
	return NULL;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
	struct ncclComm *c = xcalloc(1, sizeof(*c));
	const char *blocking = getenv("NCCL_COMM_BLOCKING"), *fail = getenv("EMULATOR_NCCL_FAIL");
	struct start *start;
	pthread_t thread;

	if (config->magic != 0xcafebeef || ranks < 1 || ranks > RANKS || rank < 0 || rank >= ranks)
		return refuse(ncclInvalidArgument, "rank %d of %d, or a config without its initializer", rank, ranks);
	c->rank = rank;
	c->ranks = ranks;
	c->blocking = blocking ? atoi(blocking) != 0 : config->blocking != 0;
	c->fail_at = fail ? atoi(fail) : 0;
	c->piece = xcalloc((size_t)ranks, PIECE);
	*comm = c;
	if (c->blocking)
		return meet(c, id.internal);
	atomic_store(&c->state, ncclInProgress);
	start = xcalloc(1, sizeof(*start));
	*start = (struct start){ c, id };
	CHECK(pthread_create(&thread, NULL, meet_later, start) == 0 && pthread_detach(thread) == 0);
	return ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
	while (atomic_load(&c->running))
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
	CHECK(atomic_load(&c->running) == 0);
	munmap(c->shared, c->bytes);
	free(c->piece);
	free(c);
	return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state)
{
	*state = (ncclResult_t)atomic_load(&c->state);
	return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t rc)
{
	static const char *const words[] = {
		"no error", "unhandled cuda error", "unhandled system error", "internal error", "invalid argument", "invalid usage",
		"remote process exited or there was a network error", "NCCL operation in progress",
	};

	return rc >= 0 && (size_t)rc < sizeof(words) / sizeof(*words) ? words[rc] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t c)
{
	(void)c;
	return last_error;
}
