/*
 * Predicted seconds and bytes of a step, against the formulas of the papers on the pieces that the schedules' documentation promises:
 * each message has a latency of its own, so many small ones take longer than one large. And what a run is warned of before it begins.
 * No device, no workers.
 */
#include <unistd.h>

#include "kit_config.h"
#include "tap.h"

static const double ALPHA = 50e-6, BETA = 1e-8;

/* A sync as far as its formulas need one. servers > 0: of three workers. */
struct plan {
	struct sync sync;
	struct optimizer optimizer;
	struct comm comm;
	struct config *config;
};

/* For mg-wfbp: tensors 2, 3 become final with 1, as 5 does with 4, much later. */
static double ready[KIT_TENSORS] = { 1, 1, 1, 2, 2 };

static void plan_open(struct plan *p, const struct oracle_setup *setup, const char *scope, const char *fusion, int servers)
{
	*p = (struct plan){ .config = kit_config(setup, scope, fusion), .comm = { .size = 3, .servers = servers } };
	CHECK(sync_init(&p->sync, p->config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	if (p->sync.schedule.ops->refine)
		sync_refine(&p->sync, &(struct schedule_facts){ .latency = 1e-3, .per_byte = 1e-6, .ready = ready, .tensors = KIT_TENSORS }, 3);
	optimizer_init(&p->optimizer, optimizer_find("sgd"), p->config);
	p->sync.optimizer = &p->optimizer;
	if (servers)
		p->sync.comm = p->sync.compress.comm = &p->comm;
}

static void plan_close(struct plan *p)
{
	p->sync.comm = p->sync.compress.comm = NULL;    /* nothing was bound */
	sync_release(&p->sync);
	config_free(p->config);
}

static struct cost_model machine(int workers, double compute)
{
	return (struct cost_model){
		.workers = workers, .latency = ALPHA, .per_byte = BETA, .forward = compute / 3, .backward = 2 * compute / 3, .n = KIT_N,
	};
}

static struct oracle_setup setup_of(const struct oracle_algorithm *a, enum oracle_method method, int period, const char *scope,
                                    const char *fusion)
{
	struct oracle_setup p = { .workers = 3, .n = KIT_N, .real = kit_real, .algorithm = a, .period = period, .method = method, .density = 0.1 };

	kit_ranges(&p, scope, fusion);
	return p;
}

/* Averaging n floats: ring all-reduce, all-gather of top-k. */
static double seconds(const struct oracle_setup *p, int64_t n, int workers)
{
	if (p->method == DENSE)
		return 2 * (workers - 1) * (ALPHA + 4.0 * (double)n / workers * BETA);
	return (workers - 1) * (ALPHA + 8.0 * (double)oracle_k(p->density, n) * BETA);
}

static double all_ranges(const struct oracle_setup *p, int workers)
{
	double sum = 0;

	for (int r = 0; r < p->ranges; r++)
		sum += seconds(p, p->length[r], workers);
	return sum;
}

static double predicted(const struct oracle_setup *p, const char *scope, const char *fusion, int workers, double compute)
{
	struct cost_model m = machine(workers, compute);
	struct plan plan;
	double cost;

	plan_open(&plan, p, scope, fusion, 0);
	cost = plan.sync.ops->cost(&plan.sync, &m);
	plan_close(&plan);
	return cost;
}

static void close_to(double got, double want, const char *what) { near(got, want, 1e-9 * want, what); }

static void test_buckets(void)
{
	static const char *const fusions[] = { "none", "size", "model", "mg-wfbp" };
	double step[4];

	for (int f = 0; f < 4; f++) {
		struct oracle_setup s = setup_of(&oracle_ssgd, DENSE, 1, "model", "none"), p = setup_of(&oracle_pipe, DENSE, 1, "model", "none");
		double compute = 3e-3, all, last;
		char what[100];

		kit_ranges(&s, "bucket", fusions[f]);
		p.key[PIPE_WIDTH] = 2;
		all = all_ranges(&s, 1024);
		last = seconds(&s, s.length[s.ranges - 1], 1024);
		step[f] = predicted(&s, "model", fusions[f], 1024, compute);
		snprintf(what, sizeof(what), "ssgd, %s: 1024 workers, communication is the longer", fusions[f]);
		close_to(step[f], compute / 3 + fmax(all, 2 * compute / 3 + last), what);
		snprintf(what, sizeof(what), "ssgd, %s: 4 workers, the last bucket is seen", fusions[f]);
		close_to(predicted(&s, "model", fusions[f], 4, 1), 1 + seconds(&s, s.length[s.ranges - 1], 4), what);
		snprintf(what, sizeof(what), "ssgd, %s: one worker alone", fusions[f]);
		close_to(predicted(&s, "model", fusions[f], 1, compute), compute, what);
		snprintf(what, sizeof(what), "pipe, %s: 1024 workers", fusions[f]);
		close_to(predicted(&p, "model", fusions[f], 1024, compute), all, what);
	}
	ok(step[0] > 4.5 * step[2] && step[0] < KIT_TENSORS * step[2],
	   "1024 workers: one message a tensor takes %.1f times as long as one for all %d", step[0] / step[2], KIT_TENSORS);
}

/* Where it is known when gradients are final, no bucket leaves before its last one is. Little time is left behind the first. */
static void test_ready(void)
{
	static const char *const fusions[] = { "none", "size", "model" };
	static const double late[KIT_TENSORS] = { 0.9, 0.92, 0.94, 0.96, 1 };

	for (int f = 0; f < 3; f++) {
		struct oracle_setup s = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
		struct cost_model m = machine(2, 3e-3);
		double landed = 0;
		int tensor = 0;
		struct plan plan;
		char what[100];

		kit_ranges(&s, "bucket", fusions[f]);
		m.ready = late;
		plan_open(&plan, &s, "model", fusions[f], 0);
		for (int r = 0; r < s.ranges; r++) {
			for (int64_t left = s.length[r]; left > 0; tensor++)
				left -= kit_range(tensor).n;
			landed = fmax(landed, 2e-3 * late[tensor - 1]) + seconds(&s, s.length[r], 2);
		}
		snprintf(what, sizeof(what), "ssgd, %s: buckets leave when their last gradient is final", fusions[f]);
		close_to(plan.sync.ops->cost(&plan.sync, &m), 1e-3 + landed, what);
		plan_close(&plan);
	}
}

/* Half of each all-reduce during backward, half during forward; the first layers' bucket is the last to leave and is awaited. */
static void test_split(void)
{
	static const char *const fusions[] = { "none", "size", "model" };

	for (int f = 0; f < 3; f++) {
		struct oracle_setup s = setup_of(&oracle_ssgd_split, DENSE, 1, "model", "none"), p = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
		double compute = 3e-3, all, last;
		char what[100];

		kit_ranges(&s, "bucket", fusions[f]);
		all = all_ranges(&s, 1024) / 2;
		snprintf(what, sizeof(what), "split, %s: 1024 workers, both halves are longer than what hides them", fusions[f]);
		close_to(predicted(&s, "model", fusions[f], 1024, compute), s.ranges > 1 ? 2 * all : compute + 2 * all, what);
		last = seconds(&s, s.length[s.ranges - 1], 4) / 2;
		snprintf(what, sizeof(what), "split, %s: 4 workers, the last bucket is seen", fusions[f]);
		close_to(predicted(&s, "model", fusions[f], 4, 1), 1 + 2 * last, what);
		ok(predicted(&s, "model", fusions[f], 64, compute) <= predicted(&p, "model", fusions[f], 64, compute), "split, %s: never slower than ssgd",
		   fusions[f]);
	}
}

/* The first layers' bucket is awaited, or the network has no time to spare. Slices of 50 floats: 48, or what is left of a bucket. */
static void test_priority(void)
{
	static const char *const fusions[] = { "none", "size", "model" };

	for (int f = 0; f < 3; f++)
		for (int sliced = 0; sliced < 2; sliced++) {
			struct oracle_setup p = setup_of(sliced ? &oracle_ssgd_sliced : &oracle_ssgd_priority, DENSE, 1, "model", "none");
			double all[2] = { 0, 0 }, urgent = 0;
			char what[100];

			kit_ranges(&p, "bucket", fusions[f]);
			for (int r = 0; r < p.ranges; r++)
				for (int64_t from = 0, n; from < p.length[r]; from += n) {
					n = sliced && p.length[r] - from > 48 ? 48 : p.length[r] - from;
					all[0] += seconds(&p, n, 4);
					all[1] += seconds(&p, n, 1024);
					urgent += r == p.ranges - 1 ? seconds(&p, n, 4) : 0;
				}
			snprintf(what, sizeof(what), "priority, %s, %s: 1024 workers, communication is the longer", fusions[f], sliced ? "sliced" : "whole");
			close_to(predicted(&p, "model", fusions[f], 1024, 3e-3), p.ranges > 1 ? all[1] : all[1] + 3e-3, what);
			snprintf(what, sizeof(what), "priority, %s, %s: 4 workers, the first layers are awaited", fusions[f], sliced ? "sliced" : "whole");
			close_to(predicted(&p, "model", fusions[f], 4, 1), 1 + urgent, what);
		}
}

static void test_pieces(void)
{
	static const char *const scopes[] = { "bucket", "model" };

	for (int i = 0; i < 2; i++) {
		struct oracle_setup local = setup_of(&oracle_local, TOPK, 4, scopes[i], "none");
		struct oracle_setup stream = setup_of(&oracle_streaming, TOPK, 4, scopes[i], "none");
		char what[100];

		snprintf(what, sizeof(what), "local, top-k in the %s: every piece has latencies", scopes[i]);
		close_to(predicted(&local, scopes[i], "none", 64, 1e-3), 1e-3 + all_ranges(&local, 64) / 4, what);
		stream.key[STREAMING_FRAGMENTS] = 2;
		stream.key[DILOCO_LR] = 1;
		oracle_streaming_cut(&stream);
		snprintf(what, sizeof(what), "streaming-diloco, top-k in the %s: and in every fragment", scopes[i]);
		close_to(predicted(&stream, scopes[i], "none", 64, 1e-3), 1e-3 + all_ranges(&stream, 64) / 4, what);
	}
}

/* Two all-reduces for each bucket with a matrix in it, one for the others; each of what its own tensors come to. */
static void test_powersgd(void)
{
	static const char *const fusions[] = { "none", "size", "model" };

	for (int f = 0; f < 3; f++) {
		struct oracle_setup p = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
		double all = 0, last = 0;
		char what[100];

		p.workers = 1024;
		p.compressor = &oracle_powersgd;
		p.compress_key[POWERSGD_RANK] = 2;
		kit_ranges(&p, "bucket", fusions[f]);
		for (int r = 0; r < p.ranges; r++, all += last) {
			bool matrix = false;

			for (int t = 0; t < p.tensors; t++)
				matrix = matrix || (p.tensor_end[t] > p.offset[r] && p.tensor_end[t] <= p.offset[r] + p.length[r] &&
				                    oracle_powersgd_matrix(&p, t));
			last = (matrix ? 2 : 1) * 2 * 1023 * ALPHA + oracle_powersgd_bytes(&p, r) / 1024 * BETA;
		}
		snprintf(what, sizeof(what), "ssgd, %s, powersgd: 1024 workers, communication is the longer", fusions[f]);
		close_to(predicted(&p, "model", fusions[f], 1024, 3e-3), 1e-3 + fmax(all, 2e-3 + last), what);
		snprintf(what, sizeof(what), "ssgd, %s, powersgd: 1024 workers, the last bucket is seen", fusions[f]);
		close_to(predicted(&p, "model", fusions[f], 1024, 100), 100 + last, what);
	}
}

/* The optimizer's vector takes as long as a dense model, and is waited for. */
static void test_momentum(void)
{
	struct oracle_setup p = setup_of(&oracle_adaptive, TOPK, 1, "model", "none");
	double without, with;

	p.momentum = 0.9;
	p.key[ADAPTIVE_EVERY] = 2;
	p.key[ADAPTIVE_COUNT] = p.key[ADAPTIVE_LIST] = 1;
	without = predicted(&p, "model", "none", 64, 1);
	p.merged = SHARE;
	with = predicted(&p, "model", "none", 64, 1);
	p.method = DENSE;
	near(with - without, seconds(&p, KIT_N, 64), 1e-12, "adaptive: an average of momentum is waited for in every period");
}

/* A worker's vectors go to the server and back, and all workers share its link; requests of 56 bytes are in front. */
static void test_servers(void)
{
	struct oracle_algorithm served = oracle_local;
	struct oracle_setup p = setup_of(&served, DENSE, 5, "model", "none");
	struct cost_model m = machine(3, 1e-3);
	struct plan plan;

	p.momentum = 0.9;
	p.merged = SHARE;
	plan_open(&plan, &p, "model", "none", 1);
	close_to(plan.sync.ops->bytes(&plan.sync, 3), 2 * (4 * KIT_N + 56) / 5.0, "local with momentum over a server: bytes");
	close_to(plan.sync.ops->cost(&plan.sync, &m), 1e-3 + 2 * (2 * ALPHA + 2 * 4 * KIT_N * BETA * 3) / 5.0,
	         "local with momentum over a server: seconds");
	plan_close(&plan);
	p = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
	plan_open(&plan, &p, "model", "none", 1);
	close_to(plan.sync.ops->bytes(&plan.sync, 3), 4 * KIT_N + KIT_TENSORS * 56, "ssgd over a server: a request for every bucket");
	plan_close(&plan);
}

/* Kernels are spread over the pieces by their lengths, and every exchange has its delay. */
static void test_kernels(void)
{
	static const char *const scopes[] = { "bucket", "model" };
	const double KERNELS = 7e-3, DELAY = 1e-3;

	for (int i = 0; i < 2; i++) {
		struct oracle_setup p = setup_of(&oracle_local, TOPK, 4, scopes[i], "none"), s = setup_of(&oracle_ssgd, TOPK, 1, scopes[i], "none");
		struct cost_model m = machine(64, 1e-3);
		double last = s.length[s.ranges - 1];
		struct plan plan;

		m.kernels = KERNELS;
		m.delay = DELAY;
		plan_open(&plan, &p, scopes[i], "none", 0);
		close_to(sync_cost(&plan.sync, &m), 1e-3 + (all_ranges(&p, 64) + KERNELS + p.ranges * DELAY) / 4, "local: kernels and delays are waited for");
		plan_close(&plan);
		m = machine(64, 1);
		m.kernels = KERNELS;
		plan_open(&plan, &s, scopes[i], "none", 0);
		close_to(sync_cost(&plan.sync, &m), 1 + seconds(&s, (int64_t)last, 64) + KERNELS * last / KIT_N, "ssgd: those of the last bucket are seen");
		plan_close(&plan);
	}
}

/* Where both streams share a core: what is lent hides nothing, however long computing takes. */
static void test_lent(void)
{
	const double K = 7e-3, C = 0.1;
	struct oracle_setup p = setup_of(&oracle_cocod, DENSE, 2, "model", "none"), s = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
	struct oracle_setup l = setup_of(&oracle_local, DENSE, 2, "model", "none");
	struct cost_model m = machine(64, C);
	double M = all_ranges(&p, 64), last;
	struct plan plan;

	m.kernels = K;
	plan_open(&plan, &p, "model", "none", 0);
	close_to(sync_cost(&plan.sync, &m), C, "cocod, a core to spare: all hides");
	m.kernels_lent = 1;
	close_to(sync_cost(&plan.sync, &m), C + K / 2, "cocod: kernels take their time from computing");
	m.kernels_lent = 0.5;
	close_to(sync_cost(&plan.sync, &m), C + K / 4, "cocod: half of it, if the core is half spare");
	m.kernels_lent = m.messages_lent = 1;
	close_to(sync_cost(&plan.sync, &m), C + (K + M) / 2, "cocod: messages, too");
	m.forward = m.backward = 1e-9;
	m.messages_lent = 0;
	near(sync_cost(&plan.sync, &m), (K + M) / 2, 1e-8, "cocod: a stream does one thing after the other");
	plan_close(&plan);
	m = machine(64, C);
	m.kernels = K;
	m.kernels_lent = m.messages_lent = 1;
	plan_open(&plan, &l, "model", "none", 0);
	close_to(sync_cost(&plan.sync, &m), C + (K + M) / 2, "local: waits for all of it anyway");
	plan_close(&plan);
	kit_ranges(&s, "bucket", "none");
	last = seconds(&s, s.length[s.ranges - 1], 64);
	m.messages_lent = 0;
	plan_open(&plan, &s, "model", "none", 0);
	close_to(sync_cost(&plan.sync, &m), C + K + last, "ssgd: kernels make backward longer, the last bucket comes behind it");
	plan_close(&plan);
}

/* ---- what a run is warned of ---- */

/* The first step after which worker 0 has heard of the others: when it matters how their weights are shared out among them. */
static int64_t first_heard(struct oracle_setup p, int64_t most)
{
	struct oracle_setup q = p;
	struct oracle a, b;
	int64_t t = 0;
	bool heard = false;

	p.weight[0] = q.weight[0] = 1 / 3.0;
	p.weight[1] = q.weight[2] = 1 / 2.0;
	p.weight[2] = q.weight[1] = 1 / 6.0;
	oracle_open(&a, &p);
	oracle_open(&b, &q);
	for (; t < most && !heard; t++) {
		oracle_step(&a);
		oracle_step(&b);
		for (int64_t j = 0; j < KIT_N; j++)
			heard = heard || a.x[0][j] != b.x[0][j];
	}
	oracle_close(&a);
	oracle_close(&b);
	return t;
}

static void test_alone(void)
{
	for (int i = 0; oracle_list[i]; i++) {
		int right = 0, runs = 0;
		struct rng rng;

		rng_init(&rng, 6, RNG_TEST, 0, (uint32_t)i);
		for (int period = 1; period <= 5 && !oracle_list[i]->every_step; period++)
			for (int draw = 0; draw < 4; draw++) {
				struct oracle_setup p = setup_of(oracle_list[i], DENSE, period, "model", "none");
				struct plan plan;

				p.seed = 3;
				p.lr = 0.05;
				if (p.algorithm->draw)
					p.algorithm->draw(&p, &rng, 12);
				plan_open(&plan, &p, "model", "none", 0);
				right += plan.sync.alone == first_heard(p, 40);
				runs++;
				plan_close(&plan);
			}
		if (runs)
			ok(right == runs, "%s knows when a worker first hears of the others: %d of %d", oracle_list[i]->name, right, runs);
	}
}

/* What is said before a run of so many steps with these keys, epochs of 10 steps; the caller frees it. */
static char *said(const char *const *sets, int count, int64_t steps)
{
	struct config *config = config_load(kit_schema(), NULL, sets, count, NULL);
	struct lr_schedule lr;
	struct sync sync;
	char *text = xcalloc(1, 1000);
	FILE *file = tmpfile();
	int keep = dup(STDERR_FILENO);

	CHECK(config && file && keep >= 0);
	CHECK(lr_init(&lr, config, (double)steps / 10) == 0 && sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	CHECK(fflush(stderr) == 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
	sync_foresee(&sync, &lr, 10, steps);
	CHECK(fflush(stderr) == 0 && dup2(keep, STDERR_FILENO) >= 0 && fseek(file, 0, SEEK_SET) == 0);
	text[fread(text, 1, 999, file)] = 0;
	fclose(file);
	close(keep);
	sync_release(&sync);
	config_free(config);
	return text;
}

static void test_warnings(void)
{
	static const struct { const char *set[4]; int64_t steps; const char *words; } cases[] = {
		{ { "sync.algorithm=diloco" }, 499, "diloco\" lets workers hear of each other after 500 steps, and the run has 499" },
		{ { "sync.algorithm=diloco" }, 500, NULL },
		{ { "sync.algorithm=cocod", "sync.period=8" }, 15, "after 16 steps" },
		{ { "sync.algorithm=cocod", "sync.period=8" }, 16, NULL },
		{ { "sync.algorithm=ssgd" }, 1, NULL },
		{ { "sync.algorithm=post-local", "optimizer.schedule=constant" }, 100, "has halved, which it does not in this run" },
		{ { "sync.algorithm=post-local", "optimizer.schedule=cosine" }, 100, NULL },
		{ { "sync.algorithm=post-local", "optimizer.schedule=cosine", "sync.period=50" }, 100, NULL },
		{ { "sync.algorithm=post-local", "optimizer.schedule=cosine", "sync.period=51" }, 100, "switches at step 50, and the run has 100" },
		{ { "sync.algorithm=post-local", "optimizer.schedule=step", "optimizer.milestones=[7]", "optimizer.gamma=0.6" }, 100, "has halved" },
		{ { "sync.algorithm=post-local", "optimizer.schedule=step", "optimizer.milestones=[7]" }, 100, NULL },
		{ { "sync.algorithm=post-local", "sync.switch_epoch=10" }, 100, "behind the last of 100 steps" },
		{ { "sync.algorithm=post-local", "sync.switch_epoch=9", "sync.period=10" }, 100, NULL },
		{ { "sync.algorithm=post-local", "sync.switch_step=0", "sync.period=200" }, 100, "after 200 steps" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int count = 0;
		char *text, *end;
		bool right;

		while (count < 4 && cases[i].set[count])
			count++;
		text = said(cases[i].set, count, cases[i].steps);
		end = strchr(text, '\n');
		right = cases[i].words ? !strncmp(text, "warning: ", 9) && strstr(text, cases[i].words) && end && !end[1] : !*text;
		if (end)
			*end = 0;
		ok(right, "%s %s, %lld steps: %s", cases[i].set[0], count > 1 ? cases[i].set[count - 1] : "", (long long)cases[i].steps,
		   *text ? text : "nothing to say");
		free(text);
	}
}

int main(void)
{
	kit_layout();
	test_buckets();
	test_ready();
	test_split();
	test_priority();
	test_pieces();
	test_powersgd();
	test_momentum();
	test_servers();
	test_kernels();
	test_lent();
	test_alone();
	test_warnings();
	return done_testing();
}
