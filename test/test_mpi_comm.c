/*
 * Messages and collectives, on 1 to 5 ranks, with both drivers, directly and through pinned buffers as from a GPU: results exact
 * (integers in floating point), the same bits on all ranks, nothing written beside the buffer, and every byte counted.
 */
#include <time.h>

#include "../comm/topology/topology.h"
#include "../core/clock.h"
#include "comm_kit.h"

static const char *driver;

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
	struct comm *other = comm_open(&world, dev);
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
	comm_close(other);
	dev->ops->stream->event_close(a_done);
	dev->ops->stream->event_close(b_done);
	dev->ops->mem->free(dev, a);
	dev->ops->mem->free(dev, b);
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
		streams_open(open_device("cpu", d % 2 ? PROGRESS_HOOK : PROGRESS_THREAD));
		comm = comm_open_over(world.transport, &world, dev, verdicts, &config);
		test_allreduce();
		test_same_bits();
		test_gathers();
		test_exchange();
		test_two_communicators();
		test_host();
		if (!config.staged)
			test_delay();
		comm_close(comm);
		streams_close();
		dev->ops->close(dev);
	}
	return ranks_close();
}
