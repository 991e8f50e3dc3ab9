/*
 * Predicted seconds and bytes of a step, against the formulas of the papers on the pieces that the schedules' documentation promises:
 * each message has a latency of its own, so many small ones take longer than one large. No device, no workers.
 */
#include "cost_kit.h"

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

int main(void)
{
	kit_layout();
	test_buckets();
	test_ready();
	test_pieces();
	test_powersgd();
	test_momentum();
	test_servers();
	test_kernels();
	test_lent();
	return done_testing();
}
