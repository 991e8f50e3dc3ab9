/*
 * Every algorithm with every compressor against the serial double-precision simulation of oracle/: short trajectories, every small
 * period, both drivers, equal and unequal batches, ends on and off a period. With an argument only the groups whose name
 * contains it are run.
 */
#include "sync_kit.h"

static struct kit kits[2];
static int P, R;

struct tally {
	int runs, counted;              /* counted: runs whose bytes follow one formula (no warm-up) */
	double error, consensus_error, lost;    /* lost: -1 as long as no trajectory was a plain one */
	double bound;
	bool same_bits, same_ranks, same_looks, bytes;
};

static const struct tally fresh = { .lost = -1, .bound = BOUND, .same_bits = true, .same_ranks = true, .same_looks = true, .bytes = true };

/* What has been applied plus what waits in residuals and on the wire is what all workers have put in. */
static double nothing_lost(const struct oracle_setup *p, const struct course *t)
{
	double sum[KIT_N], error = 0;

	for (int64_t j = 0; j < KIT_N; j++)
		sum[j] = p->weight[R] * p->algorithm->worth(p, t, j);
	comm_host_reduce(verdicts, sum, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		error = worst(error, fabs(sum[j] - problem_start(p, j)));
	return error;
}

static bool conserves(const struct oracle_setup *p, int64_t steps)
{
	if (p->momentum || p->weight_decay || p->adamw || !p->algorithm->worth || (p->compressor && (p->compressor->forgets || p->compressor->gradients)))
		return false;
	return !p->algorithm->worth_holds || p->algorithm->worth_holds(p, steps);
}

static void compare(struct oracle_setup *p, const char *scope, const char *fusion, const struct manner *how, bool look_first, struct tally *tally)
{
	struct oracle_run want = oracle_run(p, how);
	size_t row = KIT_N * sizeof(float);
	struct course trace[2];

	/* One driver looks at consensus and state on the way, the other does not: neither may change a bit. */
	for (int d = 0; d < 2; d++) {
		struct manner mine = *how;

		course_open(&trace[d], how->steps, KIT_N);
		mine.look = look_first == (d == 0);
		kit_train(&kits[d], p, scope, fusion, &mine, &trace[d]);
		for (int64_t i = 0; i < how->steps * KIT_N; i++)
			tally->error = worst(tally->error, fabs(trace[d].x[i] - want.x[i]));
		for (int64_t t = 1; mine.look && t < how->steps; t += 3) {
			for (int64_t j = 0; j < KIT_N; j++)
				tally->consensus_error = worst(tally->consensus_error, fabs(trace[d].consensus[t * KIT_N + j] - want.mean[t * KIT_N + j]));
			tally->same_looks = same_everywhere(trace[d].consensus + t * KIT_N, row) && tally->same_looks;
		}
		if (conserves(p, how->steps))
			tally->lost = worst(tally->lost, nothing_lost(p, &trace[d]));
	}
	tally->same_bits = tally->same_bits && !memcmp(trace[0].x, trace[1].x, (size_t)how->steps * row) &&
	                   !memcmp(course_state(&trace[0], "residual"), course_state(&trace[1], "residual"), row);
	tally->same_ranks = same_everywhere(course_state(&trace[0], "reference"), row) && tally->same_ranks;
	for (int64_t t = 0; t < how->steps; t++)
		if (want.shared[t])
			tally->same_ranks = same_everywhere(trace[0].x + t * KIT_N, row) && tally->same_ranks;
	if (!p->warmups) {
		double sent = sum_everywhere(trace[look_first ? 1 : 0].bytes), said = trace[0].said * P;

		tally->bytes = tally->bytes && sent == want.bytes && fabs(said - want.per_step) <= 1e-9 * want.per_step;
		tally->counted++;
	}
	tally->runs++;
	for (int d = 0; d < 2; d++)
		course_close(&trace[d]);
	oracle_run_free(&want);
}

static void report(const char *what, struct tally *t)
{
	double error = most_everywhere(isnan(t->error) ? INFINITY : t->error);
	double consensus = most_everywhere(isnan(t->consensus_error) ? INFINITY : t->consensus_error);

	all_ok(error <= t->bound, "%s: %d trajectories, both drivers: at most %.1e from the oracle (bound %.0e)", what, t->runs, error, t->bound);
	all_ok(t->same_bits, "%s: thread and hook, observed or not: the same bits", what);
	all_ok(consensus <= t->bound && t->same_looks, "%s: consensus is the average of all models (%.1e), the same bits everywhere", what, consensus);
	all_ok(t->same_ranks, "%s: what all ranks should share they share to the bit", what);
	if (t->counted)
		all_ok(t->bytes, "%s: bytes sent are what the formula says", what);
	if (t->lost != -1)
		all_ok(t->lost <= BOUND, "%s: applied + residuals + in flight = gradients (%.1e)", what, t->lost);
}

/* Learning rates that begin at 0, and end there with more than a period to go. */
static void draw_rates(struct oracle_setup *p, int64_t steps, struct rng *rng)
{
	if (rng_below(rng, 3))
		return;
	p->rise = 2;
	p->end = steps - p->period - 2;
	if (p->end <= p->rise)
		p->end = p->rise + 1;
}

/* All periods of one algorithm with one compressor and each optimizer; keys, batches, bucket plan, end and who looks are drawn. */
static void test_group(const struct oracle_algorithm *a, const struct oracle_compressor *c, enum oracle_method m, double density,
                       const char *scope)
{
	static const char *const fusions[] = { "none", "size", "model" };
	struct tally tally = fresh;
	char name[100];
	struct rng rng;

	snprintf(name, sizeof(name), "%s × %s", a->name, c ? c->name : method_name[m]);
	if (m != DENSE || (c && c->sparse))
		snprintf(name + strlen(name), sizeof(name) - strlen(name), " %g of a %s", density, scope);
	if (!wanted(name))
		return;
	tally.bound = bound_through(c);
	rng_init(&rng, 1, RNG_TEST, hash_bytes(a->name, strlen(a->name)), (uint32_t)(10 * m) + (uint32_t)(10 * density));
	for (int period = 1; period <= (a->every_step ? 1 : 5); period++) {
		for (int i = 0; i < (a->every_step ? 6 : 3); i++) {
			/* 13 steps end in the middle of each period but 1; other trajectories end exactly on a period. */
			struct manner how = { .steps = rng_below(&rng, 2) ? 13 : 3 * period + (period < 3 ? 6 : 0) };
			const char *fusion = fusions[rng_below(&rng, 3)];
			struct oracle_setup p;

			how.batch = rng_below(&rng, 3) ? uneven : even;
			p = setup(a, m, density, period, i % 3, how.batch, scope, fusion);
			if (c)
				p = setup_through(c, p);
			if (c && c->draw)
				c->draw(&p, &rng);
			p.lr_decay = a->worth_holds && i == 0 ? 0 : p.lr_decay;
			if (a->draw)
				a->draw(&p, &rng, how.steps);
			if (i)
				draw_rates(&p, how.steps, &rng);
			compare(&p, scope, fusion, &how, rng_below(&rng, 2), &tally);
		}
	}
	report(name, &tally);
}

/* Three algorithms stand for all: gradients, models, models in flight; two more, with an optimizer of their own around it, for those that
 * average models. */
static const struct oracle_algorithm *const basic[] = { &oracle_ssgd, &oracle_local, &oracle_cocod, &oracle_slowmo, &oracle_diloco };
enum { BASIC = 3, COMPOSED = 5 };

static void test_groups(void)
{
	static const double densities[] = { 0.05, 0.3, 1 };

	for (int i = 0; oracle_list[i]; i++) {
		const struct oracle_algorithm *a = oracle_list[i];

		test_group(a, NULL, DENSE, 1, "model");
		for (int c = 0; oracle_compressors[c] && !a->dense_only; c++)
			if (!oracle_compressors[c]->sparse && (i < BASIC || !oracle_compressors[c]->few) && (i == 0 || !oracle_compressors[c]->gradients))
				test_group(a, oracle_compressors[c], DENSE, 1, "model");
		for (int m = TOPK; m <= GTOPK && !a->dense_only; m++)
			for (int d = 0; d < (i < BASIC ? 3 : 2); d++) {
				if (i < BASIC || d == 1)
					test_group(a, NULL, (enum oracle_method)m, densities[d], "model");
				if (i < BASIC || d == 0)
					test_group(a, NULL, (enum oracle_method)m, densities[d], "bucket");
			}
	}
}

/* Three densities each, over all or in buckets. */
static void test_sparse(void)
{
	for (int i = 0; oracle_compressors[i]; i++)
		for (int a = 0; oracle_compressors[i]->sparse && a < (oracle_compressors[i]->gradients ? 1 : COMPOSED); a++) {
			test_group(basic[a], oracle_compressors[i], DENSE, 0.3, "model");
			if (a >= BASIC)
				continue;
			test_group(basic[a], oracle_compressors[i], DENSE, 0.05, "bucket");
			test_group(basic[a], oracle_compressors[i], DENSE, 1, "bucket");
		}
	/* Gradients that are applied later are still gradients. */
	for (int i = 0; oracle_compressors[i]; i++)
		if (oracle_compressors[i]->gradients && oracle_compressors[i]->sparse)
			test_group(&oracle_pipe, oracle_compressors[i], DENSE, 0.3, "model");
}

/* Chains where test_groups() does not take them: choosing in buckets, and under all five. */
static void test_chains(void)
{
	static const char *const fusions[] = { "none", "size" };

	for (int a = 0; a < COMPOSED; a++)
		for (int i = 0; oracle_compressors[i]; i++) {
			const struct oracle_compressor *c = oracle_compressors[i];
			struct tally tally = fresh;
			struct rng rng;
			char name[100];

			snprintf(name, sizeof(name), "%s × %s of a bucket", basic[a]->name, c->name);
			if (!c->digits || (c->gradients && a) || !wanted(name))
				continue;
			rng_init(&rng, 7, RNG_TEST, (uint64_t)a, (uint32_t)i);
			for (int run = 0; run < 2; run++) {
				struct manner how = { .steps = 7, .batch = run ? even : uneven };
				struct oracle_setup p = setup(basic[a], DENSE, 1, a ? 1 + run : 1, 1 + run, how.batch, "bucket", fusions[(run + i) % 2]);

				p = setup_through(c, p);
				c->draw(&p, &rng);
				if (basic[a]->draw)
					basic[a]->draw(&p, &rng, how.steps);
				compare(&p, "bucket", fusions[(run + i) % 2], &how, run, &tally);
			}
			report(name, &tally);
		}
}

/* Quantised: each bucket of the schedule by itself. */
static void test_quantizers(void)
{
	static const char *const fusions[] = { "none", "size", "model" };

	for (int a = 0; a < COMPOSED; a++)
		for (int i = 0; i < ORACLE_QUANTIZERS; i++) {
			const struct oracle_compressor *c = &oracle_quantizers[i].base;
			struct tally tally = fresh;
			struct rng rng;
			char name[100];

			snprintf(name, sizeof(name), "%s × %s", basic[a]->name, c->name);
			if (!wanted(name))
				continue;
			tally.bound = bound_through(c);
			rng_init(&rng, 6, RNG_TEST, (uint64_t)a, (uint32_t)i);
			for (int run = 0; run < 3; run++) {
				struct manner how = { .steps = 7, .batch = run == 1 ? even : uneven };
				struct oracle_setup p = setup(basic[a], DENSE, 1, a ? 1 + run : 1, run, how.batch, "bucket", fusions[(run + i) % 3]);

				p.compressor = c;
				p.lr_decay = 0;
				if (basic[a]->draw)
					basic[a]->draw(&p, &rng, how.steps);
				compare(&p, "bucket", fusions[(run + i) % 3], &how, run % 2, &tally);
			}
			report(name, &tally);
		}
}

static void test_adamw(void)
{
	struct tally tally = fresh;

	if (!wanted("adamw"))
		return;
	for (int i = 0; oracle_list[i]; i++)
		for (int m = DENSE; m <= (oracle_list[i]->dense_only ? DENSE : GTOPK); m++) {
			const struct oracle_algorithm *a = oracle_list[i];
			/* Its steps are all about as long: of many workers' choices between them some is always close. 2 averages, not 3. */
			struct manner how = { .steps = P > 5 ? 7 : 11, .batch = uneven, .gap = P > 5 ? 2e-6 : 0 };
			struct oracle_setup p = setup(a, (enum oracle_method)m, 0.3, a->every_step ? 1 : 3, 3, uneven, "model", "size");
			struct rng rng;

			rng_init(&rng, 2, RNG_TEST, hash_bytes(a->name, strlen(a->name)), (uint32_t)m);
			if (a->draw)
				a->draw(&p, &rng, how.steps);
			compare(&p, "model", "size", &how, i % 2, &tally);
		}
	report("adamw under all algorithms and compressors", &tally);
}

/* Under ssgd. part: of the densities 0.2, 0.5, then 0.03; where values are rounded, of few none is close. */
static void warm_up(const struct oracle_compressor *c, double part, bool look_first, struct tally *tally)
{
	struct manner how = { .steps = 14, .epoch_steps = 4, .batch = even };
	struct oracle_setup p = setup_through(c, setup(basic[0], DENSE, 0.03 * part, 1, 0, even, "model", "none"));

	p.warmup[0] = 0.2 * part;
	p.warmup[1] = 0.5 * part;
	p.warmups = 2;
	compare(&p, "model", "none", &how, look_first, tally);
}

static void test_warmup(void)
{
	struct tally tally = fresh;

	if (!wanted("warm-up"))
		return;
	for (int a = 0; a < BASIC; a++)
		for (int m = TOPK; m <= GTOPK; m++)
			for (int bucket = 0; bucket < 2; bucket++) {
				struct manner how = { .steps = 14, .epoch_steps = 4, .batch = even };
				const char *scope = bucket ? "bucket" : "model";
				struct oracle_setup p = setup(basic[a], (enum oracle_method)m, 0.03, a ? 2 : 1, bucket, even, scope, "none");

				p.warmup[0] = 0.2;
				p.warmup[1] = 0.5;
				p.warmups = 2;
				compare(&p, scope, "none", &how, bucket, &tally);
			}
	for (int c = 0; oracle_compressors[c]; c++)
		if (oracle_compressors[c]->sparse)
			warm_up(oracle_compressors[c], 1, c % 2, &tally);
	report("density warm-up 0.2, 0.5, then 0.03", &tally);
	tally = fresh;
	for (int c = 0; oracle_compressors[c]; c++)
		if (oracle_compressors[c]->digits)
			warm_up(oracle_compressors[c], 0.1, c % 2, &tally);
	report("density warm-up 0.02, 0.05, then 0.003, of chains", &tally);
}

/* Each average late by a millisecond or two: whoever does not wait for it uses what is not there yet. */
static void test_late(void)
{
	struct tally tally = fresh;

	if (!wanted("late"))
		return;
	for (int i = 0; oracle_list[i]; i++)
		for (int m = DENSE; m <= (oracle_list[i]->dense_only ? DENSE : GTOPK); m++) {
			const struct oracle_algorithm *a = oracle_list[i];
			struct manner how = { .steps = 7, .batch = uneven, .delay = 1.5e-3 };
			struct oracle_setup p = setup(a, (enum oracle_method)m, 0.1, a->every_step ? 1 : 2, m, uneven, "bucket", "none");
			struct rng rng;

			rng_init(&rng, 3, RNG_TEST, hash_bytes(a->name, strlen(a->name)), (uint32_t)m);
			if (a->draw)
				a->draw(&p, &rng, how.steps);
			compare(&p, "bucket", "none", &how, m % 2, &tally);
		}
	report("averages that are late", &tally);
}

/* The optimizers' state shared or forgotten where models have been averaged. */
static void test_momentum(enum oracle_merged merged)
{
	for (int i = 0; oracle_list[i]; i++) {
		const struct oracle_algorithm *a = oracle_list[i];
		struct tally tally = fresh;
		char name[100];
		struct rng rng;

		snprintf(name, sizeof(name), "%s, momentum %s", a->name, momentum_name[merged]);
		if (!a->merges || !wanted(name))
			continue;
		rng_init(&rng, 4, RNG_TEST, hash_bytes(a->name, strlen(a->name)), (uint32_t)merged);
		for (int optimizer = 0; optimizer < 4; optimizer++)
			for (int m = DENSE; m <= (a->dense_only ? DENSE : GTOPK); m++) {
				int period = 1 + (optimizer + m) % 3;
				struct manner how = { .steps = 11, .batch = m % 2 ? even : uneven };
				struct oracle_setup p = setup(a, (enum oracle_method)m, 0.3, period, optimizer, how.batch, "model", "size");

				setup_merged(&p, merged);
				if (a->draw)
					a->draw(&p, &rng, how.steps);
				compare(&p, "model", "size", &how, optimizer % 2, &tally);
			}
		report(name, &tally);
	}
}

/* What waits in the residuals is worth as much as when the rate was last positive: it still moves the model. */
static void test_switch_at_rate_0(void)
{
	struct tally tally = fresh;

	if (!wanted("post-local that switches at rate 0"))
		return;
	for (int m = TOPK; m <= GTOPK; m++)
		for (int period = 1; period <= 3; period++) {
			struct manner how = { .steps = 11, .batch = uneven };
			struct oracle_setup p = setup(&oracle_post_local, (enum oracle_method)m, 0.1, period, period - 1, uneven, "model", "size");

			p.key[POST_LOCAL_SWITCH] = 6;
			p.rise = 2;
			p.end = 6;
			compare(&p, "model", "size", &how, period % 2, &tally);
		}
	report("post-local that switches at rate 0", &tally);
}

/* ---- the closed form ---- */

static void test_closed_form(void)
{
	enum { STEPS = 17 };
	double *x = xcalloc((size_t)(STEPS + 1) * (size_t)P * KIT_N, sizeof(double)), error = 0, self = 0;

	if (wanted("closed form")) {
		for (int period = 1; period <= 5; period++) {
			struct manner how = { .steps = STEPS, .batch = period % 2 ? uneven : even };
			struct oracle_setup p = setup(&oracle_cocod, DENSE, 1, period, 0, how.batch, "model", "model");
			struct oracle_run run = oracle_run(&p, &how);
			struct course trace;

			course_open(&trace, STEPS, KIT_N);
			oracle_closed_form(&p, STEPS, x);
			kit_train(&kits[period % 2], &p, "model", "model", &how, &trace);
			for (int64_t t = 0; t < STEPS; t++)
				for (int64_t j = 0; j < KIT_N; j++) {
					double want = x[((t + 1) * P + R) * KIT_N + j];

					error = worst(error, fabs(trace.x[t * KIT_N + j] - want));
					self = worst(self, fabs(run.x[t * KIT_N + j] - want));
				}
			course_close(&trace);
			oracle_run_free(&run);
		}
		all_ok(error <= BOUND, "cocod: closed form of the paper (eq. 9), periods 1 to 5: at most %.1e away (bound %.0e)", error, BOUND);
		all_ok(self <= 1e-12, "the two oracles of cocod agree: %.1e", self);
	}
	free(x);
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
	kit_two_hosts(&kits[0]);
	kit_two_hosts(&kits[1]);
	test_closed_form();
	test_groups();
	test_sparse();
	test_chains();
	test_quantizers();
	test_adamw();
	test_warmup();
	test_late();
	test_switch_at_rate_0();
	test_momentum(SHARE);
	test_momentum(FORGET);
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
