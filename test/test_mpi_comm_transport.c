/*
 * What carries messages, on 1 to 5 ranks: which transport is chosen, by name or by what there is; messages directly and through pinned
 * buffers, of one thread of several; a library's collectives in place of ours; and how processes find out that they are many.
 */
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>

#include "../comm/topology/topology.h"
#include "comm_kit.h"

static const char *driver;

/* ---- directly or through pinned buffers ---- */

static float noise(int rank, int64_t i)
{
	uint32_t h = (uint32_t)(i * 2654435761u) ^ (uint32_t)(rank + 1) * 2246822519u;

	h = (h ^ h >> 15) * 2246822519u;
	return (float)(int32_t)(h ^ h >> 13) * ldexpf(1, (int)(h % 40) - 50);
}

/* Sizes around the buffers' length and well beyond; the two ways must be the same in bits and in bytes counted. */
static void test_staged(void)
{
	static const int64_t sizes[] = { 0, 1, 1000, (4 << 20) - 4, 4 << 20, (4 << 20) + 4, (9 << 20) + 12 };
	bool same = true, bytes_same = true, right = true;
	struct comm *way[2];
	char *buffer[2];
	int next = (R + 1) % P, last = (R + P - 1) % P;

	for (int w = 0; w < 2; w++)
		way[w] = comm_open_over(world.transport, &world, dev, verdicts, &(struct comm_config){ .staged = w == 1 });
	for (int c = 0; c < 7; c++) {
		int64_t bytes = sizes[c], n = bytes / 4, all = bytes < 1 << 20 ? bytes * P : 0, sent[2] = { 0 };

		for (int w = 0; w < 2; w++) {
			char *out = dev->ops->mem->alloc(dev, (size_t)bytes + 4), *in;

			buffer[w] = dev->ops->mem->alloc(dev, (size_t)(2 * bytes + all) + 4);
			in = buffer[w] + bytes + all;
			comm_expect_allreduce(way[w], n, DTYPE_F32);
			for (int64_t i = 0; i < n; i++)
				((float *)buffer[w])[i] = ((float *)out)[i] = noise(R, i);
			for (int64_t i = 0; i < bytes && all; i++)
				buffer[w][bytes + R * bytes + i] = (char)byte_of(R, i);
			begin(way[w]);
			comm_allreduce(way[w], buffer[w], n, DTYPE_F32, REDUCE_SUM);
			comm_allgather(way[w], buffer[w] + bytes, all / P);
			/* one behind the other through the same two buffers: what came goes on, and what was sent is changed */
			if (P > 1) {
				comm_exchange(way[w], next, out, bytes, last, in, bytes);
				comm_exchange(way[w], next, in, bytes, last, out, bytes);
			}
			finish(way[w]);
			sent[w] = way[w]->bytes_sent;
			for (int64_t i = 0; i < n && P > 1; i++)
				right = right && ((float *)in)[i] == noise(last, i) &&
				        ((float *)out)[i] == noise((R + P - 2) % P, i);
			dev->ops->mem->free(dev, out);
		}
		same = same && !memcmp(buffer[0], buffer[1], (size_t)(2 * bytes + all));
		bytes_same = bytes_same && sent[0] == sent[1];
		for (int w = 0; w < 2; w++)
			dev->ops->mem->free(dev, buffer[w]);
	}
	all_ok(same && right, "%s: all-reduce, all-gather, exchange of 0 to 9 MB: the same bits through pinned buffers", driver);
	all_ok(bytes_same, "%s: and the same bytes counted", driver);
	for (int w = 0; w < 2; w++)
		comm_close(way[w]);
}

/* MPI's profiling interface puts these in front of the library's: was there ever more than one thread inside? */
static atomic_int inside, crowded;

static void enter(void)
{
	if (atomic_fetch_add(&inside, 1))
		atomic_store(&crowded, 1);
	sched_yield();
}

static int leave(int rc)
{
	atomic_fetch_sub(&inside, 1);
	return rc;
}

int MPI_Isend(const void *buffer, int n, MPI_Datatype type, int to, int tag, MPI_Comm c, MPI_Request *request)
{
	return enter(), leave(PMPI_Isend(buffer, n, type, to, tag, c, request));
}

int MPI_Irecv(void *buffer, int n, MPI_Datatype type, int from, int tag, MPI_Comm c, MPI_Request *request)
{
	return enter(), leave(PMPI_Irecv(buffer, n, type, from, tag, c, request));
}

int MPI_Testall(int n, MPI_Request request[], int *flag, MPI_Status status[])
{
	return enter(), leave(PMPI_Testall(n, request, flag, status));
}

/* The threads of two devices have messages under way at the same time, as CUDA's and the control communicator's. */
static void test_two_threads(void)
{
	enum { N = 20000, ROUNDS = 30 };
	struct device *device[2] = { open_device("cpu", PROGRESS_THREAD), open_device("reference", PROGRESS_THREAD) };
	struct comm *c[2];
	float *x[2];
	bool good = true;

	for (int i = 0; i < 2; i++) {
		c[i] = comm_open_over(world.transport, &world, device[i], verdicts, &(struct comm_config){ .staged = i == 1 });
		x[i] = device[i]->ops->mem->alloc(device[i], N * sizeof(float));
		comm_expect_allreduce(c[i], N, DTYPE_F32);
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < 2; i++) {
			for (int64_t k = 0; k < N; k++)
				x[i][k] = (float)(element(R, k) + i);
			comm_allreduce(c[i], x[i], N, DTYPE_F32, REDUCE_SUM);
		}
		for (int i = 0; i < 2; i++) {
			device[i]->ops->stream->sync(c[i]->stream);
			for (int64_t k = 0; k < N; k++)
				good = good && x[i][k] == (float)(expected(REDUCE_SUM, k) + P * i);
		}
	}
	all_ok(good, "two devices, two threads that send and receive at the same time");
	all_ok(!crowded, "never are two of them inside MPI");
	for (int i = 0; i < 2; i++) {
		comm_close(c[i]);
		device[i]->ops->mem->free(device[i], x[i]);
		device[i]->ops->close(device[i]);
	}
}

/* ---- a transport with collectives of its own ---- */

static struct { int allreduces, allgathers; int64_t n, bytes; void *buffer; } fake;

static void fake_open(struct comm *c) { c->state = NULL; }

static void fake_exchange(struct comm *c, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	(void)c, (void)to, (void)send, (void)send_bytes, (void)from, (void)recv, (void)recv_bytes;
	die(STATUS_FAILURE, "a native collective was asked for, and sends messages");
}

static void fake_allreduce(struct comm *c, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	CHECK(c->ops->allreduce == fake_allreduce && type == DTYPE_F64 && op == REDUCE_MAX);
	fake.allreduces++;
	fake.n = n;
	fake.buffer = buffer;
}

static void fake_allgather(struct comm *c, void *buffer, int64_t bytes)
{
	(void)c;
	fake.allgathers++;
	fake.bytes = bytes;
	fake.buffer = buffer;
}

static const struct comm_ops fake_ops = {
	.name = "fake", .open = fake_open, .close = fake_open, .exchange = fake_exchange, .segment = 1,
	.allreduce = fake_allreduce, .allgather = fake_allgather,
};

static void test_native(void)
{
	static const int64_t sizes[] = { 1, 2, 17, 1000, 12345 };
	struct comm *native = comm_open_over(&fake_ops, &world, dev, verdicts, NULL);
	double *x = dev->ops->mem->alloc(dev, 12345 * sizeof(double));
	bool called = true, bytes_same = true;

	comm_expect_allreduce(native, 12345, DTYPE_F64);
	comm_expect_allreduce(comm, 12345, DTYPE_F64);
	all_ok(native->work_bytes == 0, "%s: a library's all-reduce needs no buffer of ours", driver);
	for (int i = 0; i < 5; i++) {
		int64_t n = sizes[i], before = comm->bytes_sent, native_before = native->bytes_sent;

		memset(&fake, 0, sizeof(fake));
		comm_allreduce(native, x, n, DTYPE_F64, REDUCE_MAX);
		called = called && (P == 1 ? fake.allreduces == 0 : fake.allreduces == 1 && fake.n == n && fake.buffer == x);
		comm_allgather(native, x, 8 * n / P);
		called = called && fake.allgathers == (P > 1 && 8 * n / P > 0) && (!fake.allgathers || fake.bytes == 8 * n / P);
		begin(comm);
		comm_allreduce(comm, x, n, DTYPE_F64, REDUCE_MAX);
		comm_allgather(comm, x, 8 * n / P);
		finish(comm);
		bytes_same = bytes_same && comm->bytes_sent - before == native->bytes_sent - native_before;
	}
	memset(&fake, 0, sizeof(fake));
	comm_allreduce(native, x, 0, DTYPE_F64, REDUCE_MAX);
	comm_allgather(native, x, 0);
	all_ok(called && !fake.allreduces && !fake.allgathers, "%s: a library's collectives are taken where there are some, unless there is "
	       "nothing to do", driver);
	all_ok(bytes_same, "%s: and counted as the ring on every rank", driver);
	dev->ops->mem->free(dev, x);
	comm_close(native);
}

/* ---- which transport ---- */

static bool choice(const char *name, const struct world *w, const char *wanted, const char *words)
{
	char why[400] = "";
	const struct comm_ops *ops = comm_choose(name, w, dev, verdicts, why, sizeof(why));
	bool good = wanted ? ops && !strcmp(ops->name, wanted) && strstr(why, words) && errors_count() == 0
	                   : !ops && strstr(errors_text(), words) && strstr(errors_text(), "hint");

	if (!good)
		fprintf(stderr, "# %s: chose %s (%s), errors: %s\n", name, ops ? ops->name : "none", why, errors_text());
	errors_clear();
	return good;
}

static void test_choose(void)
{
	struct world funnelled = world;
	bool good;

	all_ok(choice("auto", &world, P > 1 ? "mpi" : "self", P > 1 ? "CPU" : "one worker"), "auto on CPUs: mpi, for one worker self");
	all_ok(choice("mpi", &world, "mpi", "as asked"), "mpi, asked for");
	all_ok(choice("nccl", &world, NULL, "CPU"), "nccl on CPUs is refused on all ranks, with a hint");
	/* Devices that say they were GPUs, all the same one: without NCCL, or with one that refuses, messages go through the host. */
	snprintf(dev->where, sizeof(dev->where), "0000:01:00.0");
	all_ok(choice("auto", &world, P > 1 ? "mpi" : "self", ""), "auto on a GPU that all share: no nccl");
	if (P > 1) {
		all_ok(choice("nccl", &world, NULL, "comm.transport = \"mpi\""), "nccl on a GPU that all share is refused, with a hint");
		funnelled.any_thread = R > 0;
		all_ok(choice("mpi", &funnelled, NULL, "rank 0"), "staged messages need an MPI that takes calls of CUDA's thread");
	}
	*dev->where = 0;
	good = !transport_find("pigeon") && errors_count() == 0 && transport_find("self") && transport_find("mpi") == world.transport;
	all_ok(good, "transports are found by name");
}

/* ---- the launcher's environment ---- */

static const char *const variables[] = {
	"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
	"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS",
};
enum { VARIABLES = sizeof(variables) / sizeof(*variables) };

static void clear_environment(void)
{
	for (int i = 0; i < VARIABLES; i++)
		unsetenv(variables[i]);
}

static void test_launch(void)
{
	static const struct { const char *rank_key, *rank, *size_key, *size; int want_rank, want_size; const char *launcher; } cases[] = {
		{ "PATH_OF_NOBODY", "0", "PATH_OF_NOBODY", "1", 0, 1, NULL },
		{ "OMPI_COMM_WORLD_RANK", "3", "OMPI_COMM_WORLD_SIZE", "16", 3, 16, "Open MPI" },
		{ "MV2_COMM_WORLD_RANK", "1", "MV2_COMM_WORLD_SIZE", "2", 1, 2, "MVAPICH2" },
		{ "PMI_RANK", "7", "PMI_SIZE", "8", 7, 8, "MPICH" },
		{ "SLURM_PROCID", "2", "SLURM_STEP_NUM_TASKS", "4", 2, 4, "Slurm" },
		{ "SLURM_PROCID", "0", "SLURM_NTASKS", "4", 0, 1, NULL },       /* a batch script's own shell is no step */
		{ "OMPI_COMM_WORLD_RANK", "3", "PATH_OF_NOBODY", "16", 0, 1, NULL },
		{ "OMPI_COMM_WORLD_RANK", "0", "OMPI_COMM_WORLD_SIZE", "0", 0, 1, NULL },
	};
	char *saved[VARIABLES];
	struct world alone;
	bool good = true;

	for (int i = 0; i < VARIABLES; i++)
		saved[i] = getenv(variables[i]) ? xstrdup(getenv(variables[i])) : NULL;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct launch l;

		clear_environment();
		setenv(cases[i].rank_key, cases[i].rank, 1);
		setenv(cases[i].size_key, cases[i].size, 1);
		l = launch_detect();
		good = good && l.rank == cases[i].want_rank && l.size == cases[i].want_size &&
		       (cases[i].launcher ? l.launcher && !strcmp(l.launcher, cases[i].launcher) : !l.launcher);
	}
	all_ok(good, "the launcher is known from its environment, and a Slurm batch shell is not taken for a step");

	clear_environment();
	setenv("OMPI_COMM_WORLD_RANK", "1", 1);
	setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
	good = world_open(&alone, "self") == -1 && strstr(errors_text(), "Open MPI") && strstr(errors_text(), "4");
	errors_clear();
	all_ok(good, "one of four that sees nobody else refuses to train alone");
	clear_environment();
	good = world_open(&alone, "self") == 0 && alone.size == 1 && alone.rank == 0 && alone.nodes == 1 && alone.sharing == 1 && alone.cores > 0;
	all_ok(good, "one process alone is a world of one");
	good = world_open(&alone, "nccl") == 0 && !strcmp(alone.transport->name, "self") && alone.size == 1;
	all_ok(good, "nccl for the model: the processes find each other over the host's transport");
	good = world_open(&alone, "pigeon") == -1 && errors_count() == 1;
	errors_clear();
	all_ok(good, "an unknown transport is an error");
	for (int i = 0; i < VARIABLES; i++) {
		if (saved[i])
			setenv(variables[i], saved[i], 1);
		free(saved[i]);
	}
	die_identity(world.rank, world.size, world.host, world.transport->abort);
}

int main(void)
{
	ranks_open();
	P = world.size;
	R = world.rank;
	for (int d = 0; d < 2; d++) {
		driver = d ? "hook" : "thread";
		if (d == 0 && !world.any_thread) {
			all_skip(driver, "this MPI may be called by its first thread only");
			continue;
		}
		streams_open(open_device("cpu", d ? PROGRESS_HOOK : PROGRESS_THREAD));
		comm = comm_open_over(world.transport, &world, dev, verdicts, NULL);
		test_native();
		test_choose();
		comm_close(comm);
		test_staged();
		streams_close();
		dev->ops->close(dev);
	}
	if (world.any_thread)
		test_two_threads();
	else
		all_skip("two threads", "this MPI may be called by its first thread only");
	test_launch();
	return ranks_close();
}
