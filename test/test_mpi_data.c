/*
 * What becomes of the optimizers' momentum where models are averaged (sync.momentum), by what must hold whatever the oracle says. With
 * an argument only the groups whose name contains it.
 */
#include "sync_kit.h"

static struct kit kits[2];
static int P;

static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return most_everywhere(isnan(d) ? INFINITY : d);
}

static void one_run(struct oracle_setup p, enum oracle_merged merged, int64_t steps, int d, struct course *trace)
{
	struct manner how = { .steps = steps, .batch = uneven };

	p.seed = 42;
	p.merged = merged;
	course_open(trace, steps, KIT_N);
	kit_train(&kits[d], &p, "model", "size", &how, trace);
}

/* What is forgotten after every step has never been there. */
static void test_reset_is_plain(enum oracle_method m)
{
	struct oracle_setup p = setup(&oracle_local, m, 0.3, 1, 1, uneven, "model", "size");
	struct course reset, plain, kept;
	double d;

	one_run(p, FORGET, 13, 0, &reset);
	one_run(p, KEEP, 13, 0, &kept);
	p.momentum = 0;
	one_run(p, KEEP, 13, 1, &plain);
	d = distance(&reset, &plain);
	all_ok(d <= BOUND, "local × %s, period 1: momentum 0.9 reset ≡ momentum 0: %.1e", method_name[m], d);
	d = distance(&kept, &plain);
	all_ok(d > 100 * BOUND, "  and kept it is something else: %.1e", d);
	course_close(&reset);
	course_close(&kept);
	course_close(&plain);
}

/* The update is linear in the momentum: with period 1 it does not matter whether it is averaged before or after; with longer ones the
 * workers' gradients see the difference. One worker has nothing to average. */
static void test_average_is_linear(const struct oracle_algorithm *a)
{
	for (int period = 1; period <= 3; period += 2) {
		struct oracle_setup p = setup(a, DENSE, 1, period, 2, uneven, "model", "size");
		bool same = P == 1 || (period == 1 && a == &oracle_local);
		struct course kept, shared;
		double d;

		one_run(p, KEEP, 13, 0, &kept);
		one_run(p, SHARE, 13, 1, &shared);
		d = distance(&kept, &shared);
		all_ok(P == 1 ? d == 0 : same ? d <= BOUND : d > 100 * BOUND, "%s, period %d: momentum averaged is %s: %.1e", a->name, period,
		       P == 1 ? "the same to the bit on one worker" : same ? "the same as local" : "not the same as local", d);
		course_close(&kept);
		course_close(&shared);
	}
}

/* At the end of a period: the same bits everywhere, or zeros, or each worker's own. */
static void test_end_of_period(const struct oracle_algorithm *a)
{
	struct oracle_setup p = setup(a, TOPK, 0.3, 3, 1, uneven, "model", "size");
	size_t bytes = KIT_N * sizeof(float);
	const float *v;
	struct course trace;
	double most = 0;

	one_run(p, SHARE, 9, 0, &trace);
	all_ok(same_everywhere(course_state(&trace, "momentum_buffer"), bytes), "%s: an averaged momentum is the same bits on all ranks", a->name);
	course_close(&trace);
	one_run(p, FORGET, 9, 1, &trace);
	v = course_state(&trace, "momentum_buffer");
	for (int64_t j = 0; j < KIT_N; j++)
		most = worst(most, fabs((double)v[j]));
	all_ok(most == 0, "  reset it is zero");
	course_close(&trace);
	one_run(p, KEEP, 9, 1, &trace);
	all_ok(same_everywhere(course_state(&trace, "momentum_buffer"), bytes) == (P == 1), "  else it is each worker's own");
	course_close(&trace);
}

/* Those whose models never differ, or are never merged as a whole, say so, and name the others. */
static void test_refused(void)
{
	for (int i = 0; oracle_list[i]; i++) {
		struct oracle_setup p = setup(oracle_list[i], DENSE, 1, 1, 1, uneven, "model", "size");
		struct config *config;
		struct sync sync;
		const char *hints;
		bool refused;

		if (p.algorithm->draw) {
			struct rng rng;

			rng_init(&rng, 5, RNG_TEST, 0, 0);
			p.algorithm->draw(&p, &rng, 4);
		}
		p.merged = FORGET;
		config = kit_config(&p, "model", "size");
		refused = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) == -1;
		hints = strstr(errors_text(), "hint: leave it out, or choose one of post-local, local, cocod, ");
		all_ok(refused != p.algorithm->merges &&
		       (!refused || (hints && strstr(hints, "eager-diloco") && !strstr(hints, "streaming") && strstr(errors_text(), "sync.momentum = \"reset\""))),
		       "%s %s sync.momentum = \"reset\"", p.algorithm->name, refused ? "refuses" : "takes");
		errors_clear();
		sync_release(&sync);
		config_free(config);
	}
}

int main(int argc, char **argv)
{
	static const struct oracle_algorithm *const merging[] = { &oracle_local, &oracle_cocod };

	if (argc > 1)
		filter = argv[1];
	ranks_open();
	P = world.size;
	CHECK(P <= ORACLE_WORKERS);
	kit_layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	for (int m = DENSE; m <= GTOPK && wanted("reset"); m++)
		test_reset_is_plain((enum oracle_method)m);
	for (int i = 0; i < 2 && wanted("average"); i++)
		test_average_is_linear(merging[i]);
	for (int i = 0; i < 2 && wanted("end of a period"); i++)
		test_end_of_period(merging[i]);
	if (wanted("refused"))
		test_refused();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
