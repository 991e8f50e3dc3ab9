/*
 * Gossip: every graph against the oracle, also with 8 workers, and what must hold whatever the oracle says: D-PSGD among all is CoCoD-SGD
 * of period 1, push-sum between two is Local SGD of period 1; without learning, workers come to agree, and 2^m of them in m rounds.
 * And nobody meets a partner for the first time while training.
 * With an argument only the groups whose name contains it.
 */
#include "player.h"

static struct kit kits[2];
static int P, R;

static const char *const graph_name[ORACLE_GRAPHS] = { "ring", "exponential", "shuffle-exchange" };

static struct course train(struct oracle_setup *p, const struct manner *how, int kit)
{
	struct course trace;

	course_open(&trace, how->steps, KIT_N);
	kit_train(&kits[kit], p, "model", "none", how, &trace);
	return trace;
}

static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return most_everywhere(d);
}

/* Of all workers' models after step t. */
static double apart(const struct course *trace, int64_t t)
{
	double most[KIT_N], least[KIT_N], d = 0;

	for (int64_t j = 0; j < KIT_N; j++)
		most[j] = least[j] = trace->x[t * KIT_N + j];
	comm_host_reduce(verdicts, most, KIT_N, REDUCE_MAX);
	comm_host_reduce(verdicts, least, KIT_N, REDUCE_MIN);
	for (int64_t j = 0; j < KIT_N; j++)
		d = worst(d, most[j] - least[j]);
	return d;
}

/* ---- every graph ---- */

static void test_graph(const struct oracle_algorithm *a, int graph, double key)
{
	double error = 0, sent = 0, want_sent = 0;

	for (int o = 0; o < 4; o++) {
		struct manner how = { .steps = 13, .batch = o % 2 ? uneven : even, .look = o >= 2, .delay = o == 1 ? 1e-3 : 0 };
		struct oracle_setup p = setup(a, DENSE, 1, 1, o, how.batch, "model", "none");
		struct oracle_run want;
		struct course trace;

		p.key[0] = graph;
		p.key[1] = key;
		want = oracle_run(&p, &how);
		trace = train(&p, &how, o % 2);
		for (int64_t i = 0; i < how.steps * KIT_N; i++)
			error = worst(error, fabs(trace.x[i] - want.x[i]));
		for (int64_t i = KIT_N; how.look && i < 2 * KIT_N; i++)
			error = worst(error, fabs(trace.consensus[i] - want.mean[i]));
		if (!how.look) {
			sent += sum_everywhere(trace.bytes);
			want_sent += want.bytes;
		}
		course_close(&trace);
		oracle_run_free(&want);
	}
	error = most_everywhere(error);
	all_ok(error <= BOUND && sent == want_sent, "%s (%g) on %s: all optimizers, at most %.1e from the oracle, bytes %.0f of %.0f", a->name, key,
	       graph_name[graph], error, sent, want_sent);
}

static void test_graphs(void)
{
	if (!wanted("graphs"))
		return;
	for (int graph = 0; graph < ORACLE_GRAPHS; graph++) {
		test_graph(&oracle_dpsgd, graph, 0);
		for (int overlap = 0; overlap <= 4; overlap += overlap + 1)
			test_graph(&oracle_sgp, graph, overlap);
	}
}

/* ---- identities ---- */

/* Up to 3 workers on a ring mix with everybody: W = 1/P. Averaging the old models while a step is taken is CoCoD-SGD of period 1. */
static void test_cocod(void)
{
	if (!wanted("cocod"))
		return;
	for (int o = 0; o < 3; o++) {
		struct manner how = { .steps = 13, .batch = even };
		struct oracle_setup p = setup(&oracle_dpsgd, DENSE, 1, 1, o, even, "model", "none");
		struct course gossip, cocod;
		double d;

		p.seed = 42;
		gossip = train(&p, &how, 0);
		p.algorithm = &oracle_cocod;
		cocod = train(&p, &how, 1);
		d = distance(&gossip, &cocod);
		all_ok(P <= 3 ? d <= BOUND : d > 100 * BOUND, "dpsgd on a ring is %scocod with period 1, %s: %.1e", P <= 3 ? "" : "not ",
		       optimizers[o].name, d);
		course_close(&gossip);
		course_close(&cocod);
	}
}

/* Half to the other and half from him: with two equal workers that is the mean, and each step ends with one model. */
static void test_two(void)
{
	if (P > 2 || !wanted("two"))
		return;
	for (int o = 0; o < 4; o++) {
		struct manner how = { .steps = 13, .batch = even };
		struct oracle_setup p = setup(&oracle_sgp, DENSE, 1, 1, o, even, "model", "none");
		struct course push, local, late;

		p.seed = 42;
		push = train(&p, &how, 0);
		p.key[SGP_OVERLAP] = 1;
		late = train(&p, &how, 1);
		p.algorithm = &oracle_local;
		local = train(&p, &how, 1);
		all_ok(distance(&push, &local) <= BOUND, "sgp among %d is local with period 1, %s: %.1e", P, optimizers[o].name,
		       distance(&push, &local));
		all_ok(P == 1 ? distance(&late, &local) <= BOUND : distance(&late, &local) > 100 * BOUND, "overlapped it is %s: %.1e",
		       P == 1 ? "the same on one worker" : "not", distance(&late, &local));
		course_close(&push);
		course_close(&late);
		course_close(&local);
	}
}

/* ---- agreement: the learning rate is 0 from some step on ---- */

static struct oracle_setup stopping(const struct oracle_algorithm *a, int graph, double key, const int *batch, int64_t end)
{
	struct oracle_setup p = setup(a, DENSE, 1, 1, 0, batch, "model", "none");

	p.seed = 42;
	p.key[0] = graph;
	p.key[1] = key;
	p.end = end;
	return p;
}

/* 2^m equal workers are one after m rounds, and not before. */
static void test_power_of_two(const struct oracle_algorithm *a, int graph)
{
	enum { END = 5 };
	struct manner how = { .steps = END, .batch = even };
	struct oracle_setup p = stopping(a, graph, 0, even, END);
	struct course trace;
	double before, after;
	int rounds = 0;

	if (P & (P - 1) || P == 1 || (P == 2 && a == &oracle_sgp))      /* of two, push-sum makes one model in each step */
		return;
	while (1 << rounds < P)
		rounds++;
	how.steps += a == &oracle_sgp ? rounds - 1 : rounds;    /* there the last step that learned has mixed what it learned */
	trace = train(&p, &how, 0);
	before = apart(&trace, how.steps - 2);
	after = apart(&trace, how.steps - 1);
	all_ok(before > 1e-3 && after <= 1e-6, "%s on %s: %d rounds make one model of all: %.1e apart, %.1e one round earlier",
	       a->name, graph_name[graph], rounds, after, before);
	course_close(&trace);
}

/* Whatever the graph, all end at the weighted mean of what they had when learning stopped, and no other. */
static void test_agreement(const struct oracle_algorithm *a, int graph, double key)
{
	enum { END = 5, MORE = 600 };
	struct manner how = { .steps = END + MORE, .batch = uneven };
	struct oracle_setup p = stopping(a, graph, key, uneven, END);
	struct course trace = train(&p, &how, 1);
	double mean[KIT_N], d = 0;

	for (int64_t j = 0; j < KIT_N; j++)
		mean[j] = p.weight[R] * (problem_start(&p, j) - trace.moved[j]);
	comm_host_reduce(verdicts, mean, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		d = worst(d, fabs(course_x(&trace, j) - mean[j]));
	d = most_everywhere(d);
	all_ok(d <= 2e-5, "%s (%g) on %s: %d rounds without learning lead all to the weighted mean: %.1e away", a->name, key,
	       graph_name[graph], MORE, d);
	course_close(&trace);
}

static void test_agreements(void)
{
	if (!wanted("agreement"))
		return;
	test_power_of_two(&oracle_dpsgd, ORACLE_SHUFFLE_EXCHANGE);
	test_power_of_two(&oracle_sgp, ORACLE_SHUFFLE_EXCHANGE);
	test_power_of_two(&oracle_sgp, ORACLE_EXPONENTIAL);
	for (int graph = 0; graph < ORACLE_GRAPHS; graph++) {
		test_agreement(&oracle_dpsgd, graph, 0);
		test_agreement(&oracle_sgp, graph, 0);
		test_agreement(&oracle_sgp, graph, 1);
	}
}

/* ---- refusals ---- */

static void test_refused(const struct oracle_algorithm *a)
{
	struct oracle_setup p = setup(a, TOPK, 0.5, 1, 0, even, "model", "none");
	struct config *config = kit_config(&p, "model", "none");
	struct sync sync;
	bool refused = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) < 0;

	all_ok(refused && strstr(errors_text(), "takes no compressor") && strstr(errors_text(), "hint:"), "%s refuses a compressor and says why",
	       a->name);
	errors_clear();
	sync_release(&sync);
	config_free(config);
}

/* ---- first messages ---- */

static bool met[2][ORACLE_WORKERS];     /* sent to, received from */
static int strangers;                   /* first messages so far */

static void remember(int way, int rank)
{
	if (rank < 0 || met[way][rank])
		return;
	met[way][rank] = true;
	strangers++;
}

static void watched_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	remember(0, to);
	remember(1, from);
	world.transport->exchange(comm, to, send, send_bytes, from, recv, recv_bytes);
}

/* Where a first message connects, bind() must send it: to all that training will lead to, on a ring to nobody else. */
static void test_meeting(struct kit *k, const char *algorithm, const char *graph)
{
	char name[60], shape[60];
	const char *sets[] = { "topology.kind=gossip", "sync.overlap=1", name, shape };
	struct player p;
	int before, most = 2 * (P - 1);
	float g[KIT_N] = { 0 };

	snprintf(name, sizeof(name), "sync.algorithm=%s", algorithm);
	snprintf(shape, sizeof(shape), "topology.graph=%s", graph);
	memset(met, 0, sizeof(met));
	strangers = 0;
	player_open(&p, k, config_load(kit_schema(), NULL, sets, 4, NULL), even);
	before = strangers;
	while (p.t < 30)
		player_step(&p, g);
	p.sync.ops->consensus(&p.sync, p.out);
	k->dev->ops->stream->sync(k->compute);
	if (!strcmp(graph, "ring") && P > 3)
		most = 4;
	all_ok(strangers == before && before <= most && (P == 1 || before > 0), "%s on %s: %d first messages when opening, %d later", algorithm,
	       graph, before, strangers - before);
	player_close(&p);
}

static void test_meetings(void)
{
	struct comm_ops watched = *world.transport;
	struct device *dev;
	struct kit k;

	if (!wanted("meeting"))
		return;
	dev = open_device("cpu", PROGRESS_HOOK);
	CHECK(dev);
	watched.exchange = watched_exchange;
	k = kit_open_over(&watched, dev, false, "hook");
	for (int graph = 0; graph < ORACLE_GRAPHS; graph++) {
		test_meeting(&k, "dpsgd", graph_name[graph]);
		test_meeting(&k, "sgp", graph_name[graph]);
	}
	test_meeting(&k, "adpsgd", "shuffle-exchange");
	test_meeting(&k, "adpsgd", "random");
	kit_close(&k);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		filter = argv[1];
	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= ORACLE_WORKERS);
	kit_layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	test_graphs();
	test_cocod();
	test_two();
	test_agreements();
	test_meetings();
	if (wanted("refused")) {
		test_refused(&oracle_dpsgd);
		test_refused(&oracle_sgp);
	}
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
