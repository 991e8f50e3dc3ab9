/*
 * The ways to build an all-reduce, on any number of ranks, in groups of any size: exact sums (integers in floating point), the same
 * bits on all ranks for numbers that round, for zeros of either sign and for NaNs, nothing written beside the buffer, every byte
 * counted, and the formulas behind "auto".
 */
#include <math.h>
#include <string.h>

#include "../comm/topology/allreduce.h"
#include "ranks.h"

static struct device *dev;
static struct stream *compute;
static struct comm *comm;
static int P, R;

enum { CANARIES = 64, WAYS = 4 };

static const char *const op_name[] = { "sum", "max", "min" };

/* How the ranks lie on hosts: one each, all on one, pairs, unequal, and strewn. */
enum { LAYOUTS = 5 };
static const char *const layout_name[LAYOUTS] = { "a host each", "one host", "pairs", "hosts of 1, 2, 3 …", "hosts in turn" };

static void layout_of(int kind, int *host)
{
	for (int r = 0, group = 0, left = 1; r < P; r++) {
		host[r] = kind == 0 ? r : kind == 1 ? 7 : kind == 2 ? r / 2 : kind == 3 ? group : r % 3;
		if (--left == 0)
			left = ++group + 1;
	}
}

static void reduce(void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	comm_expect_allreduce(comm, n, type);
	comm_fork(comm, compute);
	comm_allreduce(comm, buffer, n, type, op);
	dev->ops->stream->sync(comm->stream);
}

/* ---- exact ---- */

static double element(int rank, int64_t i) { return (double)((rank * 311 + i * 7 + i / 13 * rank) % 1001 - 500); }

static double expected(enum reduce op, int64_t i)
{
	double v = element(0, i);

	for (int r = 1; r < P; r++) {
		double e = element(r, i);

		v = op == REDUCE_SUM ? v + e : op == REDUCE_MAX ? fmax(v, e) : fmin(v, e);
	}
	return v;
}

static void put(void *buffer, enum dtype type, int64_t i, double v)
{
	switch (type) {
	case DTYPE_F32: ((float *)buffer)[i] = (float)v; break;
	case DTYPE_F64: ((double *)buffer)[i] = v; break;
	default: ((int64_t *)buffer)[i] = (int64_t)v;
	}
}

static double get(const void *buffer, enum dtype type, int64_t i)
{
	return type == DTYPE_F32 ? (double)((const float *)buffer)[i] :
	       type == DTYPE_F64 ? ((const double *)buffer)[i] : (double)((const int64_t *)buffer)[i];
}

/* Returns whether all is right; *vectors: what all ranks have sent, in vectors. */
static bool once(int64_t n, enum dtype type, enum reduce op, double *vectors)
{
	size_t size = dtype_size(type);
	char *buffer = dev->ops->mem->alloc(dev, ((size_t)n + 2 * CANARIES) * size);
	int64_t before = comm->bytes_sent;
	bool good = true;

	for (int64_t i = -CANARIES; i < n + CANARIES; i++)
		put(buffer, type, i + CANARIES, i >= 0 && i < n ? element(R, i) : -77777);
	reduce(buffer + CANARIES * size, n, type, op);
	for (int64_t i = -CANARIES; i < n + CANARIES; i++)
		good = good && get(buffer, type, i + CANARIES) == (i >= 0 && i < n ? expected(op, i) : -77777);
	*vectors = sum_everywhere((double)(comm->bytes_sent - before)) / (n ? (double)n * (double)size : 1);
	dev->ops->mem->free(dev, buffer);
	return good;
}

static void test_exact(const struct allreduce_ops *way)
{
	static const int64_t sizes[] = { 0, 1, 2, 7, 16, 17, 161, 1000, 20011 };
	bool good[3] = { true, true, true }, bytes = true;

	for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++)
		for (int type = DTYPE_F32; type <= DTYPE_I64; type++)
			for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
				double vectors, want = sizes[i] ? P * way->vectors(P) : 0;

				good[op] = once(sizes[i], (enum dtype)type, (enum reduce)op, &vectors) && good[op];
				bytes = bytes && fabs(vectors - want) <= 1e-9 * want;
			}
	for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++)
		all_ok(good[op], "%s: %s of three types, 9 lengths from 0 to 20011: exact, canaries alive", way->name, op_name[op]);
	all_ok(bytes, "%s: all ranks together send %g vectors", way->name, P * way->vectors(P));
}

/* Longer than a segment: 4 MiB are 2^20 floats. */
static void test_segments(const struct allreduce_ops *way)
{
	double vectors;
	bool good = once((2 << 20) + 12345, DTYPE_F32, REDUCE_SUM, &vectors);

	all_ok(good && fabs(vectors - P * way->vectors(P)) <= 1e-9, "%s: a vector of three segments", way->name);
}

/* ---- the same bits ---- */

static void test_bits(const struct allreduce_ops *way)
{
	enum { N = 3001 };
	float *x = dev->ops->mem->alloc(dev, N * sizeof(float));
	double sum[N] = { 0 };
	bool same = true, near = true;

	for (int op = REDUCE_SUM; op <= REDUCE_MIN; op++) {
		for (int r = 0; r < P && op == REDUCE_SUM; r++) {
			struct rng rng;

			rng_init(&rng, 7, RNG_TEST, (uint64_t)r, 0);
			for (int i = 0; i < N; i++) {
				float v = (float)(rng_normal(&rng) * exp(4 * rng_normal(&rng)));

				sum[i] += v;
				if (r == R)
					x[i] = v;
			}
		}
		for (int i = 0; i < N && op != REDUCE_SUM; i++)         /* which zero? */
			x[i] = (i + R) % 3 ? 0.0f : -0.0f;
		reduce(x, N, DTYPE_F32, (enum reduce)op);
		same = same_everywhere(x, N * sizeof(float)) && same;
		for (int i = 0; i < N && op == REDUCE_SUM; i++)
			near = near && fabs(x[i] - sum[i]) <= 1e-4 * (fabs(sum[i]) + 1);
	}
	for (int i = 0; i < N; i++) {
		uint32_t bits = 0x7fc00000u | (uint32_t)(R * 16 + i % 16);      /* whose NaN? */

		x[i] = i % 5 ? (float)R : 0;
		if (i % 5 == (R + 1) % 5)
			memcpy(&x[i], &bits, sizeof(bits));
	}
	reduce(x, N, DTYPE_F32, REDUCE_SUM);
	same = same_everywhere(x, N * sizeof(float)) && same;
	all_ok(same && near, "%s: the same bits on all ranks: sums that round, zeros of either sign, NaNs", way->name);
	dev->ops->mem->free(dev, x);
}

/* ---- in two halves ---- */

static void fill(float *x, int64_t n)
{
	struct rng rng;

	rng_init(&rng, 8, RNG_TEST, (uint64_t)R, (uint32_t)n);
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(rng_normal(&rng) * exp(4 * rng_normal(&rng)));
}

/* The bits of the ring, and half of its bytes each; something else goes through the communicator in between. */
static void test_halves(void)
{
	static const int64_t sizes[] = { 0, 1, 16, 17, 161, 20011, (1 << 20) + 12345 };
	bool same = true, bytes = true;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		int64_t n = sizes[i], before, half;
		size_t size = (size_t)n * sizeof(float);
		float *whole = dev->ops->mem->alloc(dev, size + 64), *halves = dev->ops->mem->alloc(dev, size + 64);

		fill(whole, n);
		fill(halves, n);
		halves[n] = -77777;
		reduce(whole, n, DTYPE_F32, REDUCE_SUM);
		comm_fork(comm, compute);
		before = comm->bytes_sent;
		comm_reduce_scatter(comm, halves, n, DTYPE_F32, REDUCE_SUM);
		half = comm->bytes_sent - before;
		comm_allreduce(comm, whole, n, DTYPE_F32, REDUCE_MAX);          /* which changes nothing */
		before = comm->bytes_sent;
		comm_gather_sums(comm, halves, n, DTYPE_F32);
		dev->ops->stream->sync(comm->stream);
		same = same && !memcmp(whole, halves, size) && halves[n] == -77777;
		bytes = bytes && half + comm->bytes_sent - before == ring_allreduce_elements(n, P, R) * 4;
		bytes = sum_everywhere((double)half) == (P - 1) * 4.0 * (double)n && bytes;
		dev->ops->mem->free(dev, whole);
		dev->ops->mem->free(dev, halves);
	}
	all_ok(same, "a reduce-scatter and an all-gather of the sums: the bits of the ring, for 7 lengths from 0 to 4 MB");
	all_ok(bytes, "and its bytes, half each");
}

/* ---- auto ---- */

static double seconds_of(const struct allreduce_ops *way, int workers, double bytes)
{
	return way->cost(&(struct cost_model){ .workers = workers, .latency = 1, .per_byte = 1, .per_node = 4, .intra_latency = 0.1,
	                                       .intra_per_byte = 0.01 }, bytes);
}

static void test_auto(const int *host)
{
	/* per_node 4: two nodes for more than four ranks, else one. */
	struct cost_model link = { .latency = 1e-4, .per_byte = 1e-9, .per_node = 4, .intra_latency = 1e-5, .intra_per_byte = 1e-10 };
	double lengths[] = { 4, 4e4, 4e6, 4e8 };
	bool best = true, known = true;

	comm_plan_allreduce(comm, "auto", host, &link);
	link.workers = P;
	for (int i = 0; i < 4; i++) {
		const char *name = comm_allreduce_way(comm, lengths[i]);
		double least = INFINITY, its = NAN;

		for (int w = 0; w < WAYS; w++) {
			least = fmin(least, allreduce_list[w]->cost(&link, lengths[i]));
			if (!strcmp(allreduce_list[w]->name, name))
				its = allreduce_list[w]->cost(&link, lengths[i]);
		}
		best = best && its == least;
		known = known && comm_allreduce_cost(comm, &link, lengths[i]) == least;
	}
	all_ok(best && known, "auto takes what its formulas say is fastest, %s for 4 bytes, %s for 400 MB", comm_allreduce_way(comm, 4),
	       comm_allreduce_way(comm, 4e8));
	link.per_node = 0;
	comm_plan_allreduce(comm, "auto", host, &link);
	all_ok(P <= 4 || (!strcmp(comm_allreduce_way(comm, 4), "doubling") && !strcmp(comm_allreduce_way(comm, 4e8), "ring")),
	       "auto, a node each: doubling for short vectors, the ring for long ones");
	/* alpha 1 and beta 1 (0.1 and 0.01 inside), worked out by hand: 6 workers on nodes of 4, 30 bytes. Where workers of a node send across at
	 * once, two folded ones or all four, they share its link. */
	all_ok(fabs(seconds_of(&allreduce_ring, 6, 30) - 10 * 6) < 1e-9 && fabs(seconds_of(&allreduce_doubling, 6, 30) - (2 * 61 + 2 * 0.4)) < 1e-9 &&
	       fabs(seconds_of(&allreduce_tree, 6, 30) - 2 * (2 * 0.4 + 31)) < 1e-9 &&
	       fabs(seconds_of(&allreduce_hierarchical, 6, 30) - (4 * 0.4 + 2 * 16)) < 1e-9 &&
	       fabs(seconds_of(&allreduce_doubling, 8, 30) - (2 * 0.4 + 121)) < 1e-9, "costs of 6 and 8 workers are what the formulas say");
}

static bool wanted(const char *name, const char *word) { return !word || strstr(name, word); }

int main(int argc, char **argv)
{
	const char *wish = getenv("COCOD_TEST_DEVICE"), *word = argc > 1 ? argv[1] : NULL;
	int host[64];

	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= 64);
	dev = open_device(wish ? wish : "cpu", PROGRESS_HOOK);
	CHECK(dev && dev->host_memory);
	compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
	comm = comm_open(&world, dev);
	for (int layout = 0; layout < LAYOUTS; layout++)
		for (int w = 0; w < WAYS; w++) {
			if (!wanted(allreduce_list[w]->name, word) || (layout && allreduce_list[w] != &allreduce_hierarchical))
				continue;
			layout_of(layout, host);
			comm_plan_allreduce(comm, allreduce_list[w]->name, host, &(struct cost_model){ 0 });
			if (allreduce_list[w] == &allreduce_hierarchical && R == 0)
				printf("# hierarchical, %s\n", layout_name[layout]);
			test_exact(allreduce_list[w]);
			test_bits(allreduce_list[w]);
			if (layout % 2 == 0 && P <= 5)
				test_segments(allreduce_list[w]);
		}
	if (wanted("halves", word)) {
		layout_of(0, host);
		comm_plan_allreduce(comm, "ring", host, &(struct cost_model){ 0 });
		test_halves();
	}
	if (wanted("auto", word)) {
		layout_of(0, host);
		test_auto(host);
	}
	dev->ops->stream->close(compute);
	comm_close(comm);
	dev->ops->close(dev);
	return ranks_close();
}
