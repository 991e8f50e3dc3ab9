/*
 * The modelled network (comm/wire.c). What the clocks of messages add up to, against sums made here by hand; and the formulas of
 * the all-reduces against their own messages, one by one: two ways to the same time. Then the same on the wall clock.
 */
#include <string.h>
#include <time.h>

#include "../comm/topology/allreduce.h"
#include "../comm/wire.h"
#include "../core/clock.h"
#include "../core/timeline.h"
#include "ranks.h"

static const double ALPHA = 0.25, BETA = 1.0 / 1024, NEAR_ALPHA = 0.125, NEAR_BETA = 1.0 / 8192;   /* sums of them are exact */

static struct device *dev;
static struct comm *comm;
static int P;

static struct cost_model network(int per_node)
{
	return (struct cost_model){
		.latency = ALPHA, .per_byte = BETA, .intra_latency = NEAR_ALPHA, .intra_per_byte = NEAR_BETA, .per_node = per_node,
	};
}

/* A communicator whose stream stands at `head` seconds. */
static void begin(int per_node, double head)
{
	struct cost_model link = network(per_node);

	comm = comm_open_over(world.transport, &world, dev, verdicts, NULL);
	wire_open(comm, &link, 1.0 / 64, false, 0);
	timeline_watch(comm->stream);
	timeline_spend(comm->stream, head);
}

static double end(void)
{
	double at;

	dev->ops->stream->sync(comm->stream);
	at = timeline_account(comm->stream).now;
	comm_close(comm);
	return at;
}

static double later(double a, double b) { return a > b ? a : b; }

/* Rank r begins at r: everybody sends to the right. */
static void test_exchange(void)
{
	int rank = world.rank, left = (rank + P - 1) % P, right = (rank + 1) % P;
	char out[1024], in[1024] = { 0 };
	double want, got;

	if (P == 1)
		return;
	memset(out, rank + 1, sizeof(out));
	begin(1, rank);
	comm_exchange(comm, right, out, 512, left, in, 512);
	comm_exchange(comm, right, out, 0, left, in, 0);
	got = end();
	want = later(rank, left) + ALPHA + 512 * BETA;
	all_ok(got == want && in[511] == left + 1, "a ring of messages: a message travels when both ends are ready: %g, expected %g", got, want);

	begin(1, rank);
	if (rank == 0)
		comm_exchange(comm, 1, out, 1024, -1, NULL, 0);
	else if (rank == 1)
		comm_exchange(comm, -1, NULL, 0, 0, in, 1024);
	got = end();
	want = rank == 0 ? ALPHA + 1 : rank == 1 ? 1 + ALPHA + 1 : rank;
	all_ok(got == want, "one way: the sender does not wait for a late receiver: %g, expected %g", got, want);

	begin(1, rank);
	for (int r = 1; r < P && rank == 0; r++)
		comm_exchange(comm, -1, NULL, 0, r, in, 1024);
	if (rank > 0)
		comm_exchange(comm, 0, out, 1024, -1, NULL, 0);
	got = end();
	want = rank == 0 ? later(1 + (P - 1) * (ALPHA + 1), P - 1 + ALPHA + 1) : rank + ALPHA + 1;
	all_ok(got == want, "many to one: one after the other: %g, expected %g", got, want);
}

static void test_nodes(void)
{
	char out[1024] = { 0 }, in[1024];
	int rank = world.rank, left = (rank + P - 1) % P, right = (rank + 1) % P;
	double got, near = NEAR_ALPHA + 512 * NEAR_BETA, far = ALPHA + 512 * BETA, want;

	if (P < 3)
		return;
	begin(2, 0);
	comm_exchange(comm, right, out, 512, left, in, 512);
	got = end();
	want = later(right / 2 == rank / 2 ? near : far, left / 2 == rank / 2 ? near : far);
	all_ok(got == want, "nodes of two: neighbours are nearer; %g, expected %g", got, want);
	if (P == 4) {
		begin(2, 0);
		comm_exchange(comm, rank ^ 2, out, 512, rank ^ 2, in, 512);
		got = end();
		all_ok(got == ALPHA + 2 * 512 * BETA, "both ranks of a node send across: they share its link: %g", got);
	}
}

/* A collective begins with its last rank and takes its formula's time; its result and its bytes are the same. */
static void test_collectives(void)
{
	enum { N = 960 };
	struct cost_model m = network(1);
	double seconds[3], got;
	float v[N], w[N];
	int64_t bytes;

	m.workers = P;
	for (int i = 0; i < N; i++)
		v[i] = w[i] = (float)(i % 7 - world.rank);
	begin(1, world.rank);
	comm_expect_allreduce(comm, N, DTYPE_F32);
	comm_allreduce(comm, v, N, DTYPE_F32, REDUCE_SUM);
	bytes = comm->bytes_sent;
	got = end();
	seconds[0] = ring_allreduce_cost(&m, sizeof(v));
	all_ok(fabs(got - (P - 1 + seconds[0])) < 1e-9, "all-reduce: %g, expected %g + %g", got, P - 1.0, seconds[0]);

	comm = comm_open_over(world.transport, &world, dev, verdicts, NULL);
	comm_expect_allreduce(comm, N, DTYPE_F32);
	comm_allreduce(comm, w, N, DTYPE_F32, REDUCE_SUM);
	dev->ops->stream->sync(comm->stream);
	all_ok(!memcmp(v, w, sizeof(v)) && bytes == comm->bytes_sent, "the same bits and bytes as without a modelled network");
	comm_close(comm);

	begin(1, world.rank);
	comm_expect_allreduce(comm, N, DTYPE_F32);
	comm_reduce_scatter(comm, v, N, DTYPE_F32, REDUCE_SUM);
	comm_gather_sums(comm, v, N, DTYPE_F32);
	got = end();
	all_ok(fabs(got - (P - 1 + seconds[0])) < 1e-9, "its two halves: %g", got);

	begin(1, world.rank);
	comm_allgather(comm, v, sizeof(v) / 16);
	got = end();
	seconds[1] = ring_allgather_cost(&m, sizeof(v) / 16);
	all_ok(fabs(got - (P - 1 + seconds[1])) < 1e-9, "all-gather: %g, expected %g + %g", got, P - 1.0, seconds[1]);

	begin(1, world.rank);
	wire_kernels(comm, 128);
	comm->delay = 3;
	comm_delay(comm);
	got = end();
	all_ok(got == world.rank + 2 + 3, "kernels and comm.delay_ms take virtual time: %g", got - world.rank);
}

/* Runs an all-reduce message by message, as if it had no formula. */
static void test_formulas(void)
{
	const int n = 64 * 60;
	float *v = xcalloc((size_t)n, sizeof(*v));
	struct cost_model m = network(1);
	bool power = (P & (P - 1)) == 0;

	m.workers = P;
	for (int i = 0; allreduce_list[i]; i++) {
		const struct allreduce_ops *ops = allreduce_list[i];
		double want, got;

		if (!power && ops != &allreduce_ring)   /* formulas of the others are upper bounds there: some ranks have less to do */
			continue;
		m.per_node = 1;
		if (ops == &allreduce_hierarchical) {   /* groups that all use one network: its leaders are alone on their links */
			m.per_node = 2;
			m.intra_latency = ALPHA;
			m.intra_per_byte = BETA;
		}
		begin(1, 0);
		comm_plan_allreduce(comm, ops->name, (int[]){ 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14 }, &m);
		comm_reserve(comm, ops->work(comm, n, DTYPE_F32));
		ops->run(comm, v, n, DTYPE_F32, REDUCE_SUM);
		got = most_everywhere(end());
		want = ops->cost(&m, 4.0 * n);
		all_ok(fabs(got - want) <= 1e-9 * want, "%s: its messages take %g s, its formula says %g", ops->name, got, want);
	}
	free(v);
}

/* The wall clock, one for all ranks of this host: never sooner than modelled, by whoever began last. */
static void test_emulated(void)
{
	struct cost_model slow = { .latency = 20e-3, .per_byte = 10e-6, .per_node = 1 };
	float v[1024] = { 0 };
	double start, took, latest;
	struct timespec nap = { 0, 40 * 1000000 };

	comm = comm_open_over(world.transport, &world, dev, verdicts, NULL);
	comm_expect_allreduce(comm, 1024, DTYPE_F32);
	wire_open(comm, &slow, 0, true, 0);
	if (world.rank == P - 1)
		nanosleep(&nap, NULL);
	start = clock_now();
	comm_allreduce(comm, v, 1024, DTYPE_F32, REDUCE_SUM);
	dev->ops->stream->sync(comm->stream);
	took = clock_now();
	latest = most_everywhere(start);
	slow.workers = P;
	all_ok(took - latest >= ring_allreduce_cost(&slow, sizeof(v)), "an emulated all-reduce takes its time once the last rank has come: %.1f ms, formula %.1f",
	       1e3 * (took - latest), 1e3 * ring_allreduce_cost(&slow, sizeof(v)));
	start = clock_now();
	if (P > 1)
		comm_exchange(comm, (world.rank + 1) % P, v, 2048, (world.rank + P - 1) % P, v + 512, 2048);
	dev->ops->stream->sync(comm->stream);
	took = clock_now() - start;
	all_ok(P == 1 || took >= 20e-3 + 2048 * 10e-6, "an emulated message: %.1f ms", 1e3 * took);
	wire_kernels(comm, 1000);
	all_ok(!wire_pause(comm, 1), "its kernels are real, and so are its pauses");
	comm_close(comm);
}

static void test_paused(void)
{
	float v[64] = { 0 };
	double got;

	begin(1, 1);
	comm_expect_allreduce(comm, 64, DTYPE_F32);
	timeline_pause(dev, true);
	comm_allreduce(comm, v, 64, DTYPE_F32, REDUCE_SUM);
	timeline_pause(dev, false);
	got = end();
	all_ok(got == 1, "an average that is not training's takes no time: %g", got);
}

static void test_driver(enum progress progress)
{
	dev = open_device("reference", progress);
	timeline_open(dev);
	test_exchange();
	test_nodes();
	test_collectives();
	test_formulas();
	test_paused();
	test_emulated();
	timeline_close(dev);
	dev->ops->close(dev);
}

int main(void)
{
	ranks_open();
	P = world.size;
	test_driver(PROGRESS_THREAD);
	test_driver(PROGRESS_HOOK);
	return ranks_close();
}
