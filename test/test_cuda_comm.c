/*
 * The transports of device "cuda", NCCL and MPI through pinned memory: results exact, the same bits on all ranks, every byte counted,
 * in the order of the streams, however far the host runs ahead; and the sync algorithms over them, against the oracle.
 * All ranks may be on one GPU: $NCCL_HOSTID keeps NCCL from noticing.
 *
 *     mpirun -np 2 build/…/test/test_cuda_comm            also alone, as a world of one
 *     mpirun -np 2 build/…/test/test_cuda_comm hang       the last rank stops coming: NCCL's watchdog must end the others
 *     mpirun -np 2 build/…/test/test_cuda_comm absent     the last rank never comes
 */
#include <time.h>
#include <unistd.h>

#include "sync_kit.h"
#include "comm_kit.h"          /* its short names stay out of the other one */

static const char *over;

static void *upload(const void *host, size_t bytes)
{
	void *p = dev->ops->mem->alloc(dev, bytes);

	dev->ops->mem->copy(compute, p, host, bytes, COPY_TO_DEVICE);
	dev->ops->stream->sync(compute);
	return p;
}

static void download(void *host, void *from, size_t bytes)
{
	dev->ops->mem->copy(compute, host, from, bytes, COPY_TO_HOST);
	dev->ops->stream->sync(compute);
}

/* ---- collectives ---- */

enum { CANARIES = 16 };

static bool allreduce_once(int64_t n, enum dtype type, enum reduce op, bool *bytes_good)
{
	size_t size = dtype_size(type), all = ((size_t)n + 2 * CANARIES) * size;
	char *host = xcalloc(1, all), *buffer;
	int64_t sent = comm->bytes_sent;
	bool good = true;

	for (int64_t i = -CANARIES; i < n + CANARIES; i++)
		put(host, type, i + CANARIES, i >= 0 && i < n ? element(R, i) : -77777);
	buffer = upload(host, all);
	begin(comm);
	comm_allreduce(comm, buffer + CANARIES * size, n, type, op);
	finish(comm);
	download(host, buffer, all);
	for (int64_t i = -CANARIES; i < n + CANARIES; i++)
		good = good && get(host, type, i + CANARIES) == (i >= 0 && i < n ? expected(op, i) : -77777);
	sent = comm->bytes_sent - sent;
	*bytes_good = *bytes_good && sent == ring_allreduce_elements(n, P, R) * (int64_t)size;
	dev->ops->mem->free(dev, buffer);
	free(host);
	return good;
}

static void test_allreduce(void)
{
	static const char *const type_name[] = { "F32", "F64", "I64" };
	int64_t sizes[] = { 0, 1, P, 17, 1000, 70000 };
	bool bytes_good = true;

	comm_expect_allreduce(comm, 70000, DTYPE_F64);
	for (int type = DTYPE_F32; type <= DTYPE_I64; type++) {
		bool good = true;

		for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++)
			for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
				good = allreduce_once(sizes[i], (enum dtype)type, (enum reduce)op, &bytes_good) && good;
		all_ok(good, "%s: all-reduce of %s, sum, maximum and minimum, of 0 to 70000: exact, canaries alive", over, type_name[type]);
	}
	all_ok(bytes_good, "%s: counted as the ring", over);
}

/* An all-reduce in two halves: exact sums, canaries alive, counted as one. */
static void test_halves(void)
{
	int64_t sizes[] = { 0, 1, 3, 4 * P, 17, 1000, 70000 };
	bool good = true, bytes_good = true;

	for (size_t c = 0; c < sizeof(sizes) / sizeof(*sizes); c++) {
		int64_t n = sizes[c], all = n + 2 * CANARIES, sent = comm->bytes_sent;
		float *host = xcalloc((size_t)all, sizeof(float)), *buffer;
		double total;

		for (int64_t i = 0; i < all; i++)
			host[i] = i >= CANARIES && i < n + CANARIES ? (float)element(R, i - CANARIES) : -77777;
		buffer = upload(host, (size_t)all * sizeof(float));
		begin(comm);
		comm_reduce_scatter(comm, buffer + CANARIES, n, DTYPE_F32, REDUCE_SUM);
		comm_gather_sums(comm, buffer + CANARIES, n, DTYPE_F32);
		finish(comm);
		download(host, buffer, (size_t)all * sizeof(float));
		for (int64_t i = 0; i < all; i++)
			good = good && host[i] == (i >= CANARIES && i < n + CANARIES ? (float)expected(REDUCE_SUM, i - CANARIES) : -77777);
		total = sum_everywhere((double)(comm->bytes_sent - sent));
		bytes_good = bytes_good && total == 2.0 * (P - 1) * 4 * (double)n;
		dev->ops->mem->free(dev, buffer);
		free(host);
	}
	all_ok(good, "%s: a reduce-scatter and an all-gather of the sums, of 0 to 70000: exact, canaries alive", over);
	all_ok(bytes_good, "%s: counted as the ring", over);
}

static void test_allgather(void)
{
	int64_t sizes[] = { 0, 1, 1000, 100001 };
	bool good = true, bytes_good = true;

	for (int c = 0; c < 4; c++) {
		int64_t bytes = sizes[c], total = bytes * P + 128, sent = comm->bytes_sent;
		unsigned char *host = xcalloc(1, (size_t)total), *all;

		memset(host, 0xEE, (size_t)total);
		for (int64_t i = 0; i < bytes; i++)
			host[64 + R * bytes + i] = byte_of(R, i);
		all = upload(host, (size_t)total);
		begin(comm);
		comm_allgather(comm, all + 64, bytes);
		finish(comm);
		download(host, all, (size_t)total);
		for (int64_t i = 0; i < total; i++)
			good = good && host[i] == (i >= 64 && i < total - 64 ? byte_of((int)((i - 64) / bytes), (i - 64) % bytes) : 0xEE);
		bytes_good = bytes_good && comm->bytes_sent - sent == (P - 1) * bytes;
		dev->ops->mem->free(dev, all);
		free(host);
	}
	all_ok(good && bytes_good, "%s: all-gather of blocks of 0 to 100001 bytes, counted", over);
}

/* Every rank to every other one, sizes depend on both. With mpi, the largest is longer than the pinned buffers. */
static void test_exchange(void)
{
	enum { MOST = 5 << 20 };
	unsigned char *host = xcalloc(2, MOST), *out, *in;
	int64_t sent = comm->bytes_sent, expect = 0;
	bool good = true;

	for (int shift = 1; shift < P; shift++) {
		int to = (R + shift) % P, from = (R + P - shift) % P;
		int64_t s = shift == 1 ? MOST - R : 1000 * R + 37 * to, r = shift == 1 ? MOST - from : 1000 * from + 37 * R;

		memset(host, 0, 2 * MOST);
		for (int64_t i = 0; i < s; i++)
			host[i] = byte_of(R + 3 * to, i);
		out = upload(host, MOST);
		in = upload(host + MOST, MOST);
		begin(comm);
		comm_exchange(comm, to, out, s, from, in, r);
		finish(comm);
		download(host, in, MOST);
		for (int64_t i = 0; i < MOST; i++)
			good = good && host[i] == (i < r ? byte_of(from + 3 * R, i) : 0);
		expect += s;
		dev->ops->mem->free(dev, out);
		dev->ops->mem->free(dev, in);
	}
	all_ok(good && comm->bytes_sent - sent == expect, "%s: exchanges of up to 5 MB, to one and from another, counted", over);

	/* 0 → 1 → 2 …, one-sided, each adds one. */
	host[0] = 1;
	out = upload(host, 1);
	begin(comm);
	if (R > 0)
		comm_exchange(comm, -1, NULL, 0, R - 1, out, 1);
	finish(comm);
	download(host, out, 1);
	host[0] = (unsigned char)(host[0] + (R > 0));
	dev->ops->mem->copy(compute, out, host, 1, COPY_TO_DEVICE);
	begin(comm);
	if (R < P - 1)
		comm_exchange(comm, R + 1, out, 1, -1, NULL, 0);
	finish(comm);
	dev->ops->stream->sync(compute);
	all_ok(host[0] == R + 1, "%s: one-sided messages, in a chain", over);
	dev->ops->mem->free(dev, out);
	free(host);
}

/* ---- the order of the streams ---- */

/* y = a_k base, all-reduced, added up; y is used anew at once. No round waits on the host. */
static void test_order(void)
{
	enum { N = 3000, ROUNDS = 60 };
	float *host = xcalloc(N, sizeof(float)), *base, *y, *sum;
	double factors = 0;
	bool good = true;

	for (int64_t i = 0; i < N; i++)
		host[i] = (float)(element(R, i));
	base = upload(host, N * sizeof(float));
	y = dev->ops->mem->alloc(dev, N * sizeof(float));
	sum = dev->ops->mem->alloc(dev, N * sizeof(float));
	for (int k = 0; k < ROUNDS; k++) {
		dev->ops->vec->scale(compute, N, (float)(k % 7 + 1), base, y);
		begin(comm);
		comm_allreduce(comm, y, N, DTYPE_F32, REDUCE_SUM);
		finish(comm);
		dev->ops->vec->axpby(compute, N, 1, y, 1, sum);
		factors += k % 7 + 1;
	}
	download(host, sum, N * sizeof(float));
	for (int64_t i = 0; i < N; i++)
		good = good && host[i] == (float)(factors * expected(REDUCE_SUM, i));
	all_ok(good, "%s: %d rounds of computing and all-reducing one buffer, in order", over, ROUNDS);
	dev->ops->mem->free(dev, base);
	dev->ops->mem->free(dev, y);
	dev->ops->mem->free(dev, sum);
	free(host);
}

/* More operations than any queue holds, queued behind a pause. A token goes round, a word further on each time. */
static void test_ahead(void)
{
	enum { COUNT = 2500 };
	int32_t *host = xcalloc(COUNT + 1, sizeof(int32_t)), *token;
	bool good = true;

	host[0] = R;
	token = upload(host, (COUNT + 1) * sizeof(int32_t));
	comm->delay = 0.1;
	begin(comm);
	comm_delay(comm);
	comm->delay = 0;
	for (int k = 0; k < COUNT && P > 1; k++)
		comm_exchange(comm, (R + 1) % P, token + k, 4, (R + P - 1) % P, token + k + 1, 4);
	finish(comm);
	download(host, token, (COUNT + 1) * sizeof(int32_t));
	for (int k = 0; k <= COUNT && P > 1; k++)
		good = good && host[k] == ((R - k) % P + P) % P;
	all_ok(good, "%s: the host runs %d operations ahead", over, COUNT);
	dev->ops->mem->free(dev, token);
	free(host);
}

/* ---- training ---- */

static void train(struct kit *kit, struct oracle_setup *p, const char *scope, const char *compressor, bool lazy)
{
	struct manner how = { .steps = 8, .look = !lazy, .lazy = lazy, .batch = uneven };
	double error = 0, bound = bound_through(p->compressor);
	struct oracle_run want = oracle_run(p, &how);
	struct course trace;

	course_open(&trace, how.steps, KIT_N);
	kit_train(kit, p, scope, "size", &how, &trace);
	for (int64_t j = 0; j < how.steps * KIT_N; j++)
		error = worst(error, fabs(trace.x[j] - want.x[j]));
	all_ok(error <= bound, "%s: %s with %s, unequal batches: at most %.1e from the oracle", over, p->algorithm->name, compressor, error);
	course_close(&trace);
	oracle_run_free(&want);
}

static void test_training(const struct comm_ops *transport)
{
	struct kit kit = kit_open_over(transport, dev, false, over);
	static const double densities[] = { 1, 0.1, 0.1 };

	for (int i = 0; oracle_list[i]; i++)
		for (int m = DENSE; m <= (oracle_list[i]->dense_only ? DENSE : GTOPK); m++) {
			struct oracle_setup p = setup(oracle_list[i], (enum oracle_method)m, densities[m], 2, 1, uneven, "model", "size");
			struct rng rng;

			rng_init(&rng, 4, RNG_TEST, (uint64_t)i, (uint32_t)m);
			if (oracle_list[i]->draw)
				oracle_list[i]->draw(&p, &rng, 8);
			train(&kit, &p, "model", method_name[m], false);
		}
	for (int optimizer = 1; optimizer < 4; optimizer++) {
		struct oracle_setup p = setup(&oracle_ssgd_split, DENSE, 1, 1, optimizer, uneven, "model", "size");

		train(&kit, &p, "model", "schedule.split", true);
		p.algorithm = &oracle_ssgd_sliced;
		train(&kit, &p, "model", "schedule.priority", true);
	}
	for (int i = 0; i < ORACLE_QUANTIZERS; i++) {
		struct oracle_setup p = setup(i % 2 ? &oracle_ssgd : &oracle_cocod, DENSE, 1, 2, 1, uneven, "bucket", "size");

		p.compressor = &oracle_quantizers[i].base;
		train(&kit, &p, "bucket", p.compressor->name, false);
	}
	comm_close(kit.comm);
	dev->ops->stream->close(kit.compute);
}

static void test_over(const struct comm_ops *transport)
{
	over = transport->name;
	streams_open(dev);
	comm = comm_open_over(transport, &world, dev, verdicts, &(struct comm_config){ .timeout = 60, .max_ctas = 2 });
	test_allreduce();
	test_allgather();
	test_halves();
	test_exchange();
	test_order();
	test_ahead();
	comm_close(comm);
	streams_close();
	test_training(transport);
}

/* ---- which transport ---- */

static void test_choose(void)
{
	char why[400] = "", *all = xcalloc((size_t)P, sizeof(dev->where));
	const char *words = P == 1 ? "one worker" : "share";
	const struct comm_ops *ops;
	bool shared = P > 1;

	comm_host_gather(verdicts, dev->where, all, sizeof(dev->where));
	for (int r = 1; r < P; r++)
		shared = shared && !strcmp(all, all + (size_t)r * sizeof(dev->where));
	ops = comm_choose("auto", &world, dev, verdicts, why, sizeof(why));
	all_ok(ops && (P > 1 && !shared ? !strcmp(ops->name, "nccl") : !strcmp(ops->name, P > 1 ? "mpi" : "self") && strstr(why, words)),
	       "auto: %s, because %s", ops ? ops->name : "none", why);
	if (shared) {
		unsetenv("NCCL_HOSTID");
		ops = comm_choose("nccl", &world, dev, verdicts, why, sizeof(why));
		all_ok(!ops && strstr(errors_text(), "share GPU") && strstr(errors_text(), "comm.transport = \"mpi\""),
		       "nccl with several ranks on one GPU is refused, with the remedy");
		errors_clear();
	}
	free(all);
}

/* ---- whoever does not come ---- */

static void stay_away(void)
{
	/* Until the others' watchdog ends this process as well, and not for ever should it fail to. */
	nanosleep(&(struct timespec){ 30, 0 }, NULL);
	die(STATUS_FAILURE, "nobody ended this rank");
}

/* Behind `delay` seconds of other work on the stream; the last rank comes `late` seconds after the others. */
static void sum_up(float *x, double delay, bool late)
{
	if (late && R == P - 1)
		nanosleep(&(struct timespec){ 1, 900000000 }, NULL);
	comm->delay = delay;
	comm_delay(comm);
	comm_allreduce(comm, x, 1000, DTYPE_F32, REDUCE_SUM);
}

static int hang(const struct comm_ops *nccl, const char *how)
{
	float *x = dev->ops->mem->alloc(dev, 4000);

	if (R == P - 1 && !strcmp(how, "absent"))
		stay_away();
	comm = comm_open_over(nccl, &world, dev, verdicts, &(struct comm_config){ .timeout = 2.5 });
	sum_up(x, 0, false);
	dev->ops->stream->sync(comm->stream);
	/* None of these hangs: behind other work for longer than the limit, under way for less, idle for longer. The last slow one takes
	 * the place of the first in the ring of operations. */
	sum_up(x, 3, false);
	dev->ops->stream->sync(comm->stream);
	sum_up(x, 0, true);
	dev->ops->stream->sync(comm->stream);
	for (int i = 0; i < 1023; i++)
		sum_up(x, 0, false);
	sum_up(x, 0, true);
	dev->ops->stream->sync(comm->stream);
	nanosleep(&(struct timespec){ 3, 0 }, NULL);
	if (R == P - 1)
		stay_away();
	for (int i = 0; i < 3; i++)
		sum_up(x, 0, false);
	dev->ops->stream->sync(comm->stream);
	return 1;
}

int main(int argc, char **argv)
{
	const struct comm_ops *nccl, *mpi;
	char number[16];

	ranks_open();
	P = world.size;
	R = world.rank;
	kit_layout();
	snprintf(number, sizeof(number), "rank%d", R);
	setenv("NCCL_HOSTID", number, 0);
	setenv("NCCL_NET", "Socket", 0);
	setenv("NCCL_SOCKET_IFNAME", "lo", 0);
	dev = open_device("cuda", PROGRESS_AUTO);
	if (sum_everywhere(dev != NULL) < P) {
		if (R == 0)
			printf("# SKIP no device \"cuda\"; $COCOD_BACKEND names the emulated one\n");
		return ranks_close();
	}
	nccl = transport_find("nccl");
	mpi = world.transport;
	if (argc > 1)
		return nccl ? hang(nccl, argv[1]) : 1;
	if (nccl) {
		char why[400];

		all_ok(comm_choose("nccl", &world, dev, verdicts, why, sizeof(why)) == nccl, "nccl on a GPU, asked for");
		test_over(nccl);
	} else {
		all_skip("nccl", errors_text());
	}
	errors_clear();
	test_over(mpi);
	test_choose();
	dev->ops->close(dev);
	return ranks_close();
}
