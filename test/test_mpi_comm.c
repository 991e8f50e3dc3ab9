/*
 * Messages and collectives, on 1 to 5 ranks, with both drivers, directly and through pinned buffers as from a GPU: results exact
 * (integers in floating point), the same bits on all ranks, nothing written beside the buffer, and every byte counted.
 */
#include <mpi.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../comm/topology/topology.h"
#include "../core/clock.h"
#include "ranks.h"

static struct device *dev;
static struct stream *compute;
static struct event *done;
static struct comm *comm, *other;
static const char *driver;
static int P, R;

/* Between compute and back: the way in which everything above comm/ uses it. */
static void begin(struct comm *c) { comm_fork(c, compute); }

static void finish(struct comm *c)
{
	comm_mark(c, done);
	dev->ops->stream->wait(compute, done);
	dev->ops->stream->sync(compute);
}

/* ---- the harness can fail ---- */

static void test_harness(void)
{
	double who = R == P - 1, bits = R;

	comm_host_reduce(verdicts, &who, 1, REDUCE_SUM);
	all_ok(who == 1, "a failure on one rank is seen by all");
	all_ok(P == 1 || !same_everywhere(&bits, sizeof(bits)), "different bits on the ranks are seen");
}

/* ---- ring all-reduce ---- */

enum { CANARIES = 64 };

static double element(int rank, int64_t i) { return (double)((rank * 311 + i * 7 + i / 13 * rank) % 1001 - 500); }

static void put(void *buffer, enum dtype type, int64_t i, double v)
{
	if (type == DTYPE_F32)
		((float *)buffer)[i] = (float)v;
	else if (type == DTYPE_F64)
		((double *)buffer)[i] = v;
	else
		((int64_t *)buffer)[i] = (int64_t)v;
}

static double get(const void *buffer, enum dtype type, int64_t i)
{
	return type == DTYPE_F32 ? (double)((const float *)buffer)[i] :
	       type == DTYPE_F64 ? ((const double *)buffer)[i] : (double)((const int64_t *)buffer)[i];
}

static double expected(enum reduce op, int64_t i)
{
	double v = element(0, i);

	for (int r = 1; r < P; r++) {
		double e = element(r, i);

		v = op == REDUCE_SUM ? v + e : op == REDUCE_MAX ? (e > v ? e : v) : (e < v ? e : v);
	}
	return v;
}

static bool allreduce_once(int64_t n, enum dtype type, enum reduce op, bool *bytes_good)
{
	size_t size = dtype_size(type), all = ((size_t)n + 2 * CANARIES) * size;
	char *buffer = dev->ops->mem->alloc(dev, all);
	double mean = 2.0 * (P - 1) / P * (double)n * (double)size, together;
	int64_t sent = comm->bytes_sent;
	bool good = true;

	for (int64_t i = -CANARIES; i < n + CANARIES; i++)
		put(buffer, type, i + CANARIES, i >= 0 && i < n ? element(R, i) : -77777);
	comm_expect_allreduce(comm, n, type);
	begin(comm);
	comm_allreduce(comm, buffer + CANARIES * size, n, type, op);
	finish(comm);
	for (int64_t i = -CANARIES; i < n + CANARIES; i++)
		good = good && get(buffer, type, i + CANARIES) == (i >= 0 && i < n ? expected(op, i) : -77777);
	/* Each rank within two units of 16 elements of the formula (chunks are aligned), all together exactly. */
	sent = comm->bytes_sent - sent;
	together = sum_everywhere((double)sent);        /* on every rank, whatever was found before */
	*bytes_good = *bytes_good && fabs((double)sent - mean) <= 32.0 * (double)size &&
	              together == 2.0 * (P - 1) * (double)n * (double)size;
	dev->ops->mem->free(dev, buffer);
	return good;
}

static void test_allreduce(void)
{
	static const char *const type_name[] = { "F32", "F64", "I64" }, *const op_name[] = { "SUM", "MAX", "MIN" };
	int64_t sizes[] = { 0, 1, 2, P - 1, P, P + 1, 15, 16, 17, 16 * P - 1, 16 * P + 1, 1000, 300000 };
	bool bytes_good = true;

	for (int type = DTYPE_F32; type <= DTYPE_I64; type++) {
		for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++) {
			bool good = true;

			for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
				good = allreduce_once(sizes[i], (enum dtype)type, (enum reduce)op, &bytes_good) && good;
			all_ok(good, "%s: comm_allreduce %s %s, 13 lengths from 0 to 300000: exact, canaries alive", driver, op_name[op],
			       type_name[type]);
		}
	}
	all_ok(bytes_good, "%s: comm_allreduce sends 2 (P-1)/P n elements a rank", driver);
}

static void test_same_bits(void)
{
	int64_t sizes[] = { 5, 1000, 100003 };
	bool same = true, near_sum = true;

	for (int c = 0; c < 3; c++) {
		int64_t n = sizes[c];
		float *x = dev->ops->mem->alloc(dev, (size_t)n * 4);
		double *sum = xcalloc((size_t)n, sizeof(*sum));

		for (int r = 0; r < P; r++) {
			struct rng rng;

			rng_init(&rng, 7, RNG_TEST, (uint64_t)r, (uint32_t)c);
			for (int64_t i = 0; i < n; i++) {
				float v = (float)(rng_normal(&rng) * exp(4 * rng_normal(&rng)));

				sum[i] += v;
				if (r == R)
					x[i] = v;
			}
		}
		comm_expect_allreduce(comm, n, DTYPE_F32);
		begin(comm);
		comm_allreduce(comm, x, n, DTYPE_F32, REDUCE_SUM);
		finish(comm);
		same = same_everywhere(x, (size_t)n * 4) && same;
		for (int64_t i = 0; i < n; i++)
			near_sum = near_sum && fabs(x[i] - sum[i]) <= 1e-3 * (1 + fabs(sum[i]));
		free(sum);
		dev->ops->mem->free(dev, x);
	}
	all_ok(same && near_sum, "%s: sums of random floats over ten decades: the same bits on all ranks", driver);
}

/* ---- all-gather, gather, exchange ---- */

static unsigned char byte_of(int rank, int64_t i) { return (unsigned char)(rank * 53 + i * 11 + i / 251); }

static void test_gathers(void)
{
	int64_t sizes[] = { 0, 1, 3, 8, 1000, 100001 };
	bool good = true, bytes_good = true, root_good = true;

	for (int c = 0; c < 6; c++) {
		int64_t bytes = sizes[c], total = bytes * P, sent = comm->bytes_sent;
		unsigned char *all = dev->ops->mem->alloc(dev, (size_t)total + 128), *mine = dev->ops->mem->alloc(dev, (size_t)bytes + 1);

		memset(all, 0xEE, (size_t)total + 128);
		for (int64_t i = 0; i < bytes; i++)
			mine[i] = all[64 + R * bytes + i] = byte_of(R, i);
		begin(comm);
		comm_allgather(comm, all + 64, bytes);
		finish(comm);
		for (int64_t i = -64; i < total + 64; i++)
			good = good && all[64 + i] == (i >= 0 && i < total ? byte_of((int)(i / bytes), i % bytes) : 0xEE);
		bytes_good = bytes_good && comm->bytes_sent - sent == (P - 1) * bytes;

		sent = comm->bytes_sent;
		memset(all, 0xEE, (size_t)total + 128);
		begin(comm);
		comm_gather(comm, mine, all + 64, bytes);
		finish(comm);
		for (int64_t i = -64; i < total + 64; i++)
			root_good = root_good && all[64 + i] == (R == 0 && i >= 0 && i < total ? byte_of((int)(i / bytes), i % bytes) : 0xEE);
		bytes_good = bytes_good && comm->bytes_sent - sent == (R ? bytes : 0);
		dev->ops->mem->free(dev, all);
		dev->ops->mem->free(dev, mine);
	}
	all_ok(good, "%s: comm_allgather, blocks of 0 to 100001 bytes: every block in its place, nothing beside", driver);
	all_ok(root_good, "%s: comm_gather: rank 0 has all blocks, the others are left alone", driver);
	all_ok(bytes_good, "%s: gathers send (P-1) blocks, and one block", driver);
}

static int64_t talk(int from, int to) { return 100 + 1000 * from + 37 * to; }

/* Every rank to every other and itself being none: P-1 rounds, sizes that depend on who and whom; large enough for rendezvous. */
static void test_exchange(void)
{
	enum { MOST = 200000 };
	unsigned char *out = dev->ops->mem->alloc(dev, MOST), *in = dev->ops->mem->alloc(dev, MOST);
	bool good = true;
	int64_t sent = comm->bytes_sent, expect = 0;

	for (int shift = 1; shift < P; shift++) {
		int to = (R + shift) % P, from = (R + P - shift) % P;
		int64_t s = talk(R, to) * (shift % 2 ? 1 : 20), r = talk(from, R) * (shift % 2 ? 1 : 20);

		for (int64_t i = 0; i < s; i++)
			out[i] = byte_of(R + 3 * to, i);
		memset(in, 0, MOST);
		begin(comm);
		comm_exchange(comm, to, out, s, from, in, r);
		finish(comm);
		expect += s;
		for (int64_t i = 0; i < MOST; i++)
			good = good && in[i] == (i < r ? byte_of(from + 3 * R, i) : 0);
	}
	all_ok(good, "%s: exchange: send to one and receive from another at once, sizes differ", driver);
	all_ok(comm->bytes_sent - sent == expect, "%s: exchange: bytes are counted by the sender", driver);

	/* A chain of one-sided ones: 0 → 1 → 2 …, each adds one. */
	good = true;
	out[0] = 1;
	sent = comm->bytes_sent;
	begin(comm);
	if (R > 0)
		comm_exchange(comm, -1, NULL, 77, R - 1, in, 1);
	finish(comm);
	if (R > 0)
		out[0] = (unsigned char)(in[0] + 1);
	begin(comm);
	if (R < P - 1)
		comm_exchange(comm, R + 1, out, 1, -1, NULL, 77);
	finish(comm);
	all_ok(out[0] == R + 1 && comm->bytes_sent - sent == (R < P - 1), "%s: exchange: one-sided sends and receives, in a chain", driver);
	dev->ops->mem->free(dev, out);
	dev->ops->mem->free(dev, in);
}

/* Two communicators: half of the ranks queue on one first, the others on the other. Messages that mix go wrong at once. */
static void test_two_communicators(void)
{
	enum { N = 1000, ROUNDS = 20 };
	float *a = dev->ops->mem->alloc(dev, N * 4), *b = dev->ops->mem->alloc(dev, N * 4);
	struct event *a_done = dev->ops->stream->event_open(dev), *b_done = dev->ops->stream->event_open(dev);
	bool good = true;

	comm_expect_allreduce(comm, N, DTYPE_F32);
	comm_expect_allreduce(other, N, DTYPE_F32);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++) {
			a[i] = (float)(R + i % 5 + round);
			b[i] = (float)(100 * R - i % 7);
		}
		for (int turn = 0; turn < 2; turn++) {
			bool first = (R + turn) % 2 == 0;
			struct comm *c = first ? comm : other;

			begin(c);
			comm_allreduce(c, first ? a : b, N, DTYPE_F32, REDUCE_SUM);
			comm_mark(c, first ? a_done : b_done);
		}
		dev->ops->stream->wait(compute, b_done);
		dev->ops->stream->wait(compute, a_done);
		for (int i = 0; i < N; i++)
			good = good && a[i] == (float)(P * (P - 1) / 2 + P * (i % 5 + round)) &&
			       b[i] == (float)(100 * P * (P - 1) / 2 - P * (i % 7));
	}
	all_ok(good, "%s: two communicators at once, in another order on every second rank: messages do not mix", driver);
	dev->ops->stream->event_close(a_done);
	dev->ops->stream->event_close(b_done);
	dev->ops->mem->free(dev, a);
	dev->ops->mem->free(dev, b);
}

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

/* ---- what the host waits for ---- */

static void test_host(void)
{
	double v[3] = { R + 1, -R, 0.5 }, before, *all;
	int64_t mine[2] = { R, 7 * R }, got[10];
	bool good = true;

	comm_host_reduce(comm, v, 3, REDUCE_SUM);
	all_ok(v[0] == P * (P + 1) / 2.0 && v[1] == -P * (P - 1) / 2.0 && v[2] == 0.5 * P, "%s: host_reduce SUM", driver);
	v[0] = R + 1, v[1] = -R;
	comm_host_reduce(comm, v, 2, REDUCE_MAX);
	all_ok(v[0] == P && v[1] == 0, "%s: host_reduce MAX", driver);
	v[0] = R + 1, v[1] = -R;
	comm_host_reduce(comm, v, 2, REDUCE_MIN);
	all_ok(v[0] == 1 && v[1] == 1 - P, "%s: host_reduce MIN", driver);
	v[0] = 0.1 * (R + 1) * (R % 2 ? 1e-9 : 1e9);
	comm_host_reduce(comm, v, 1, REDUCE_SUM);
	all_ok(same_everywhere(v, sizeof(*v)), "%s: host_reduce: the same bits everywhere", driver);

	comm_host_gather(comm, mine, got, sizeof(mine));
	for (int r = 0; r < P; r++)
		good = good && got[2 * r] == r && got[2 * r + 1] == 7 * r;
	all_ok(good, "%s: host_gather", driver);

	all = xcalloc((size_t)P, sizeof(*all));
	nanosleep(&(struct timespec){ 0, 1 + 30000000 * (long)R }, NULL);
	before = clock_now();
	comm_barrier(comm);
	v[0] = clock_now();
	comm_host_gather(verdicts, &before, all, sizeof(before));
	for (int r = 0; r < P; r++)
		good = good && v[0] >= all[r];
	all_ok(good || world.nodes > 1, "%s: nobody leaves the barrier before all have come", driver);
	free(all);
}

static void test_delay(void)
{
	double start = clock_now();

	comm->delay = 0;
	comm_delay(comm);
	dev->ops->stream->sync(comm->stream);
	all_ok(clock_now() - start < 0.1, "%s: no delay unless it is asked for", driver);
	comm->delay = 0.1;
	start = clock_now();
	comm_delay(comm);
	comm_delay(comm);
	all_ok(clock_now() - start < 0.1, "%s: a delay is queued, the host goes on", driver);
	dev->ops->stream->sync(comm->stream);
	start = clock_now() - start;
	comm->delay = 0;
	all_ok(start >= 0.2, "%s: two delays of 100 ms took %.0f ms", driver, start * 1e3);
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
	test_harness();
	all_ok(world.local_size >= 1 && world.local_rank < world.local_size && world.nodes >= 1 && world.cores >= 1 &&
	       world.sharing >= 1 && world.sharing <= world.local_size, "the world is described");
	for (int d = 0; d < 4; d++) {
		static const char *const names[] = { "thread", "hook", "thread, staged", "hook, staged" };
		struct comm_config config = { .staged = d >= 2 };

		driver = names[d];
		if (d % 2 == 0 && !world.any_thread) {
			all_skip(driver, "this MPI may be called by its first thread only");
			continue;
		}
		dev = open_device("cpu", d % 2 ? PROGRESS_HOOK : PROGRESS_THREAD);
		compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
		done = dev->ops->stream->event_open(dev);
		comm = comm_open_over(world.transport, &world, dev, verdicts, &config);
		other = comm_open(&world, dev);
		test_allreduce();
		test_same_bits();
		test_gathers();
		test_exchange();
		test_two_communicators();
		test_host();
		if (!config.staged) {
			test_delay();
			test_native();
			test_choose();
		}
		comm_close(other);
		comm_close(comm);
		if (!config.staged)
			test_staged();
		dev->ops->stream->event_close(done);
		dev->ops->stream->close(compute);
		dev->ops->close(dev);
	}
	if (world.any_thread)
		test_two_threads();
	else
		all_skip("two threads", "this MPI may be called by its first thread only");
	test_launch();
	return ranks_close();
}
