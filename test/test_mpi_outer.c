/*
 * Algorithms with an outer optimizer are Local SGD, or each other, for some of their numbers: to the bit where they do the same
 * operations. With an argument only the groups whose name contains it are run.
 */
#include "sync_kit.h"

static struct kit kits[2];

/* The largest distance of the models of two runs, on any rank. */
static double distance(const struct trace *a, const struct trace *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return most_everywhere(isnan(d) ? INFINITY : d);
}

static struct trace run_on(struct kit *k, struct oracle_setup p)
{
	struct manner how = { .steps = 13, .batch = uneven };
	struct trace trace;

	p.seed = 42;
	trace_open(&trace, how.steps, KIT_N);
	kit_train(k, &p, "model", "size", &how, &trace);
	return trace;
}

/* How far two setups go apart, each with its own driver. */
static double apart(struct oracle_setup a, struct oracle_setup b)
{
	struct trace first = run_on(&kits[0], a), second = run_on(&kits[1], b);
	double d = distance(&first, &second);

	trace_close(&first);
	trace_close(&second);
	return d;
}

static struct oracle_setup with(const struct oracle_algorithm *a, enum oracle_method m, int period, int optimizer)
{
	return setup(a, m, m == DENSE ? 1 : 0.3, period, optimizer, uneven, "model", "size");
}

/* ---- SlowMo ---- */

static void test_slowmo(void)
{
	if (!wanted("slowmo is local"))
		return;
	for (int m = DENSE; m <= GTOPK; m++)
		for (int o = 0; o < 4; o++) {
			struct oracle_setup local = with(&oracle_local, (enum oracle_method)m, 3, o), p = local;
			double d;

			p.algorithm = &oracle_slowmo;
			p.key[SLOWMO_ALPHA] = 1;
			p.key[SLOWMO_BETA] = 0;
			d = apart(local, p);
			all_ok(d == 0, "slowmo with alpha 1, beta 0 ≡ local, %s, %s: %.1e", optimizers[o].name, method_name[m], d);
			p.key[SLOWMO_BETA] = 0.5;
			d = apart(local, p);
			all_ok(d > 100 * BOUND, "and with beta 0.5 it is not: %.1e", d);
		}
}

/* ---- DiLoCo ---- */

static void test_diloco(void)
{
	if (!wanted("diloco is local"))
		return;
	for (int m = DENSE; m <= GTOPK; m++)
		for (int o = 0; o < 4; o++) {
			struct oracle_setup local = with(&oracle_local, (enum oracle_method)m, 3, o), p = local;
			double d;

			p.algorithm = &oracle_diloco;
			p.key[DILOCO_LR] = 1;
			p.key[DILOCO_MOMENTUM] = 0;
			d = apart(local, p);
			all_ok(d == 0, "diloco with outer_lr 1, outer_momentum 0 ≡ local, %s, %s: %.1e", optimizers[o].name, method_name[m], d);
			p.key[DILOCO_MOMENTUM] = 0.5;
			d = apart(local, p);
			all_ok(d > 100 * BOUND, "and with outer_momentum 0.5 it is not: %.1e", d);
		}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		filter = argv[1];
	ranks_open();
	CHECK(world.size <= ORACLE_WORKERS);
	kit_layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	test_slowmo();
	test_diloco();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
