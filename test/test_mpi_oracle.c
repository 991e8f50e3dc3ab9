/*
 * Every algorithm with every compressor against the serial double-precision simulation of oracle.h: short trajectories, every small
 * period, both drivers, equal and unequal batches, ends on and off a period. With an argument only the groups whose name
 * contains it are run.
 */
#include "sync_kit.h"

static struct kit kits[2];
static int P, R;

struct tally {
	int runs, counted;              /* counted: runs whose bytes follow one formula (no warm-up) */
	double error, consensus_error, lost;    /* lost: -1 as long as no trajectory was a plain one */
	bool same_bits, same_ranks, same_looks, bytes;
};

static const struct tally fresh = { 0, 0, 0, 0, -1, true, true, true, true };

/* What has been applied plus what waits in residuals and on the wire is what all workers have put in:
 *   S-SGD: x - lr sum w_i e_i;  Local SGD: sum w_i (x_i + e_i);  CoCoD: sum w_i (x_i + average - sent_i + e_i)  =  x_0 - sum w_i lr g_i */
static double nothing_lost(const struct oracle_setup *p, const struct trace *t)
{
	double sum[KIT_N], error = 0;
	const float *x = t->x + (t->steps - 1) * KIT_N;

	for (int64_t j = 0; j < KIT_N; j++) {
		double flight = p->algorithm == COCOD ? (double)t->average[j] - t->sent[j] : 0;

		sum[j] = p->weight[R] * (x[j] + flight + t->moved[j] + (p->algorithm == SSGD ? -p->lr : 1) * t->residual[j]);
	}
	comm_host_reduce(verdicts, sum, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		error = worst(error, fabs(sum[j] - problem_start(p, j)));
	return error;
}

static void compare(struct oracle_setup *p, const char *scope, const char *fusion, const struct manner *how, bool look_first, struct tally *tally)
{
	double *x = xcalloc((size_t)how->steps * KIT_N, sizeof(double)), *mean = xcalloc((size_t)how->steps * KIT_N, sizeof(double));
	int64_t averages = oracle_run(p, how, x, mean);
	struct trace trace[2];
	double bytes = 0;

	/* One driver looks at consensus and state on the way, the other does not: neither may change a bit. */
	for (int d = 0; d < 2; d++) {
		struct manner mine = *how;

		trace_open(&trace[d], how->steps);
		mine.look = look_first == (d == 0);
		kit_train(&kits[d], p, scope, fusion, &mine, &trace[d]);
		for (int64_t i = 0; i < how->steps * KIT_N; i++)
			tally->error = worst(tally->error, fabs(trace[d].x[i] - x[i]));
		for (int64_t t = 1; mine.look && t < how->steps; t += 3) {
			for (int64_t j = 0; j < KIT_N; j++)
				tally->consensus_error = worst(tally->consensus_error, fabs(trace[d].consensus[t * KIT_N + j] - mean[t * KIT_N + j]));
			tally->same_looks = same_everywhere(trace[d].consensus + t * KIT_N, KIT_N * sizeof(float)) && tally->same_looks;
		}
		if (!p->momentum && !p->weight_decay && !p->adamw && (p->algorithm != SSGD || p->lr_decay == 0))
			tally->lost = worst(tally->lost, nothing_lost(p, &trace[d]));
	}
	tally->same_bits = tally->same_bits && !memcmp(trace[0].x, trace[1].x, (size_t)how->steps * KIT_N * sizeof(float)) &&
	                   !memcmp(trace[0].residual, trace[1].residual, KIT_N * sizeof(float));
	if (p->algorithm == SSGD) {
		tally->same_ranks = same_everywhere(trace[0].x, (size_t)how->steps * KIT_N * sizeof(float)) && tally->same_ranks;
	} else {
		tally->same_ranks = same_everywhere(trace[0].reference, KIT_N * sizeof(float)) && tally->same_ranks;
		for (int64_t t = p->period - 1; p->algorithm == LOCAL && t < how->steps; t += p->period)
			tally->same_ranks = same_everywhere(trace[0].x + t * KIT_N, KIT_N * sizeof(float)) && tally->same_ranks;
	}
	for (int r = 0; r < p->ranges; r++)
		bytes += expected_bytes(p, p->length[r]);
	if (!p->warmups) {
		double sent = sum_everywhere(trace[look_first ? 1 : 0].bytes);
		double said = trace[0].said * P * (double)(p->algorithm == SSGD ? 1 : p->period);

		tally->bytes = tally->bytes && sent == bytes * (double)averages && fabs(said - bytes) <= 1e-9 * bytes;
		tally->counted++;
	}
	tally->runs++;
	for (int d = 0; d < 2; d++)
		trace_close(&trace[d]);
	free(x);
	free(mean);
}

static void report(const char *what, struct tally *t)
{
	double error = most_everywhere(isnan(t->error) ? INFINITY : t->error);
	double consensus = most_everywhere(isnan(t->consensus_error) ? INFINITY : t->consensus_error);

	all_ok(error <= BOUND, "%s: %d trajectories, both drivers: at most %.1e from the oracle (bound %.0e)", what, t->runs, error, BOUND);
	all_ok(t->same_bits, "%s: thread and hook, observed or not: the same bits", what);
	all_ok(consensus <= BOUND && t->same_looks, "%s: consensus is the average of all models (%.1e), the same bits everywhere", what, consensus);
	all_ok(t->same_ranks, "%s: what all ranks should share they share to the bit", what);
	if (t->counted)
		all_ok(t->bytes, "%s: bytes sent are what the formula says", what);
	if (t->lost != -1)
		all_ok(t->lost <= BOUND, "%s: applied + residuals + in flight = gradients (%.1e)", what, t->lost);
}

/* All periods of one algorithm with one compressor and each optimizer; batches, bucket plan, end and who looks are drawn. */
static void test_group(enum oracle_algorithm a, enum oracle_method m, double density, const char *scope)
{
	static const char *const fusions[] = { "none", "size", "model" };
	struct tally tally = fresh;
	char name[100];
	struct rng rng;

	snprintf(name, sizeof(name), "%s × %s", algorithm_name[a], method_name[m]);
	if (m != DENSE)
		snprintf(name + strlen(name), sizeof(name) - strlen(name), " %g of a %s", density, scope);
	if (!wanted(name))
		return;
	rng_init(&rng, 1, RNG_TEST, (uint64_t)a, (uint32_t)m);
	for (int period = 1; period <= (a == SSGD ? 1 : 5); period++) {
		for (int i = 0; i < (a == SSGD ? 6 : 3); i++) {
			/* 13 steps end in the middle of each period but 1; other trajectories end exactly on a period. */
			struct manner how = { .steps = rng_below(&rng, 2) ? 13 : 3 * period + (period < 3 ? 6 : 0) };
			const char *fusion = fusions[rng_below(&rng, 3)];
			struct oracle_setup p;

			how.batch = rng_below(&rng, 3) ? uneven : even;
			p = setup(a, m, density, period, i % 3, how.batch, scope, fusion);
			p.lr_decay = a == SSGD && i == 0 ? 0 : p.lr_decay;
			compare(&p, scope, fusion, &how, rng_below(&rng, 2), &tally);
		}
	}
	report(name, &tally);
}

static void test_adamw(void)
{
	struct tally tally = fresh;

	if (!wanted("adamw"))
		return;
	for (int a = SSGD; a <= COCOD; a++)
		for (int m = DENSE; m <= GTOPK; m++) {
			struct manner how = { .steps = 11, .batch = uneven };
			struct oracle_setup p = setup((enum oracle_algorithm)a, (enum oracle_method)m, 0.3, a == SSGD ? 1 : 3, 3, uneven, "model", "size");

			compare(&p, "model", "size", &how, a % 2, &tally);
		}
	report("adamw under all algorithms and compressors", &tally);
}

static void test_warmup(void)
{
	struct tally tally = fresh;

	if (!wanted("warm-up"))
		return;
	for (int a = SSGD; a <= COCOD; a++)
		for (int m = TOPK; m <= GTOPK; m++)
			for (int bucket = 0; bucket < 2; bucket++) {
				struct manner how = { .steps = 14, .epoch_steps = 4, .batch = even };
				const char *scope = bucket ? "bucket" : "model";
				struct oracle_setup p = setup((enum oracle_algorithm)a, (enum oracle_method)m, 0.03, a == SSGD ? 1 : 2, bucket, even, scope, "none");

				p.warmup[0] = 0.2;
				p.warmup[1] = 0.5;
				p.warmups = 2;
				compare(&p, scope, "none", &how, bucket, &tally);
			}
	report("density warm-up 0.2, 0.5, then 0.03", &tally);
}

/* Each average late by a millisecond or two: whoever does not wait for it uses what is not there yet. */
static void test_late(void)
{
	struct tally tally = fresh;

	if (!wanted("late"))
		return;
	for (int a = SSGD; a <= COCOD; a++)
		for (int m = DENSE; m <= GTOPK; m++) {
			struct manner how = { .steps = 7, .batch = uneven, .delay = 1.5e-3 };
			struct oracle_setup p = setup((enum oracle_algorithm)a, (enum oracle_method)m, 0.1, a == SSGD ? 1 : 2, m, uneven, "bucket", "none");

			compare(&p, "bucket", "none", &how, m % 2, &tally);
		}
	report("averages that are late", &tally);
}

/* ---- the closed form ---- */

static void test_closed_form(void)
{
	enum { STEPS = 17 };
	double *x = xcalloc((size_t)(STEPS + 1) * (size_t)P * KIT_N, sizeof(double)), error = 0, self = 0;

	if (wanted("closed form")) {
		for (int period = 1; period <= 5; period++) {
			struct manner how = { .steps = STEPS, .batch = period % 2 ? uneven : even };
			struct oracle_setup p = setup(COCOD, DENSE, 1, period, 0, how.batch, "model", "model");
			double *own = xcalloc(STEPS * KIT_N, sizeof(double)), *mean = xcalloc(STEPS * KIT_N, sizeof(double));
			struct trace trace;

			trace_open(&trace, STEPS);
			oracle_run(&p, &how, own, mean);
			oracle_closed_form(&p, STEPS, x);
			kit_train(&kits[period % 2], &p, "model", "model", &how, &trace);
			for (int64_t t = 0; t < STEPS; t++)
				for (int64_t j = 0; j < KIT_N; j++) {
					double want = x[((t + 1) * P + R) * KIT_N + j];

					error = worst(error, fabs(trace.x[t * KIT_N + j] - want));
					self = worst(self, fabs(own[t * KIT_N + j] - want));
				}
			trace_close(&trace);
			free(own);
			free(mean);
		}
		all_ok(error <= BOUND, "cocod: closed form of the paper (eq. 9), periods 1 to 5: at most %.1e away (bound %.0e)", error, BOUND);
		all_ok(self <= 1e-12, "the two oracles of cocod agree: %.1e", self);
	}
	free(x);
}

int main(int argc, char **argv)
{
	static const double densities[] = { 0.05, 0.3, 1 };

	if (argc > 1)
		filter = argv[1];
	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= ORACLE_WORKERS);
	kit_layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	test_closed_form();
	for (int a = SSGD; a <= COCOD; a++) {
		test_group((enum oracle_algorithm)a, DENSE, 1, "model");
		for (int m = TOPK; m <= GTOPK; m++)
			for (int d = 0; d < 3; d++) {
				test_group((enum oracle_algorithm)a, (enum oracle_method)m, densities[d], "model");
				test_group((enum oracle_algorithm)a, (enum oracle_method)m, densities[d], "bucket");
			}
	}
	test_adamw();
	test_warmup();
	test_late();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
