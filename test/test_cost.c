/*
 * Predicted seconds and bytes of a step, against the formulas of the papers on the pieces that the schedules' documentation promises:
 * each message has a latency of its own, so many small ones take longer than one large. No device, no workers.
 */
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

static void plan_open(struct plan *p, const struct oracle_setup *setup, const char *scope, const char *fusion, int servers)
{
	*p = (struct plan){ .config = kit_config(setup, scope, fusion), .comm = { .size = 3, .servers = servers } };
	CHECK(sync_init(&p->sync, p->config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
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
	return (struct cost_model){ workers, ALPHA, BETA, compute / 3, 2 * compute / 3, KIT_N };
}

static struct oracle_setup setup_of(const struct oracle_algorithm *a, enum oracle_method method, int period, const char *scope, const char *fusion)
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
	static const char *const fusions[] = { "none", "size", "model" };
	double step[3];

	for (int f = 0; f < 3; f++) {
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
	ok(step[0] > 4.5 * step[2] && step[0] < KIT_TENSORS * step[2], "1024 workers: one message a tensor takes %.1f times as long as one for all %d",
	   step[0] / step[2], KIT_TENSORS);
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

/* A worker's vectors go to the server and back, and all workers share its link; requests of 40 bytes are in front. */
static void test_servers(void)
{
	struct oracle_algorithm served = oracle_local;
	struct oracle_setup p = setup_of(&served, DENSE, 5, "model", "none");
	struct cost_model m = machine(3, 1e-3);
	struct plan plan;

	p.momentum = 0.9;
	p.merged = SHARE;
	plan_open(&plan, &p, "model", "none", 1);
	close_to(plan.sync.ops->bytes(&plan.sync, 3), 2 * (4 * KIT_N + 40) / 5.0, "local with momentum over a server: bytes");
	close_to(plan.sync.ops->cost(&plan.sync, &m), 1e-3 + 2 * (2 * ALPHA + 2 * 4 * KIT_N * BETA * 3) / 5.0, "local with momentum over a server: seconds");
	plan_close(&plan);
	p = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
	plan_open(&plan, &p, "model", "none", 1);
	close_to(plan.sync.ops->bytes(&plan.sync, 3), 4 * KIT_N + KIT_TENSORS * 40, "ssgd over a server: a request for every bucket");
	plan_close(&plan);
}

int main(void)
{
	kit_layout();
	test_buckets();
	test_pieces();
	test_momentum();
	test_servers();
	return done_testing();
}
