/*
 * Algorithms with an outer optimizer are Local SGD, or each other, for some of their numbers: to the bit where they do the same
 * operations. With an argument only the groups whose name contains it are run.
 */
#include "sync_kit.h"

static struct kit kits[2];

/* The largest distance of the models of two runs, on any rank. */
static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return most_everywhere(isnan(d) ? INFINITY : d);
}

static struct course run_on(struct kit *k, struct oracle_setup p, double delay)
{
	struct manner how = { .steps = 13, .batch = uneven, .delay = delay };
	struct course trace;

	p.seed = 42;
	course_open(&trace, how.steps, KIT_N);
	kit_train(k, &p, "model", "size", &how, &trace);
	return trace;
}

/* How far two setups go apart, each with its own driver. */
static double apart(struct oracle_setup a, struct oracle_setup b)
{
	struct course first = run_on(&kits[0], a, 0), second = run_on(&kits[1], b, 0);
	double d = distance(&first, &second);

	course_close(&first);
	course_close(&second);
	return d;
}

static struct oracle_setup with(const struct oracle_algorithm *a, enum oracle_method m, int period, int optimizer)
{
	return setup(a, m, m == DENSE ? 1 : 0.3, period, optimizer, uneven, "model", "size");
}

/*
 * Each exchange late by a while: in step `launch` nobody waits for it, in step `merge` everybody does. A busy machine may spoil a try, so
 * there are three.
 */
static void test_overlap(const char *what, struct oracle_setup p, int launch, int merge)
{
	const double late = 0.3;
	double quick = 0, slow = 0;

	for (int d = 0; d < 2; d++) {
		for (int try = 0; try < 3; try++) {
			struct course trace = run_on(&kits[d], p, late);

			quick = most_everywhere(trace.took[launch]);
			slow = -most_everywhere(-trace.took[merge]);
			course_close(&trace);
			if (quick < late / 3 && slow > late / 2)
				break;
		}
		all_ok(quick < late / 3, "%s, %s: launched in step %d without waiting: %.3f of %.1f s", what, kits[d].driver, launch, quick, late);
		all_ok(slow > late / 2, "%s, %s: waited for in step %d: %.3f of %.1f s", what, kits[d].driver, merge, slow, late);
	}
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

/* ---- Streaming DiLoCo ---- */

static struct oracle_setup streaming(struct oracle_setup p, int fragments, int delay, double mixing)
{
	p.algorithm = &oracle_streaming;
	p.key[STREAMING_FRAGMENTS] = fragments;
	p.key[STREAMING_DELAY] = delay;
	p.key[STREAMING_MIXING] = mixing;
	return p;
}

static void test_streaming(void)
{
	if (!wanted("streaming-diloco is diloco"))
		return;
	for (int m = DENSE; m <= GTOPK; m++)
		for (int o = 0; o < 4; o++) {
			struct oracle_setup diloco = with(&oracle_diloco, (enum oracle_method)m, 3, o);
			double d;

			diloco.key[DILOCO_LR] = 0.7;
			diloco.key[DILOCO_MOMENTUM] = 0.8;
			d = apart(diloco, streaming(diloco, 1, 0, 0));
			all_ok(d == 0, "streaming-diloco, 1 fragment, delay 0, mixing 0 ≡ diloco, %s, %s: %.1e", optimizers[o].name, method_name[m], d);
			d = apart(diloco, streaming(diloco, 1, 1, 0));
			all_ok(d > 100 * BOUND, "and with delay 1 it is not: %.1e", d);
			d = apart(diloco, streaming(diloco, 1, 0, 0.5));
			all_ok(d > 100 * BOUND, "nor with mixing 0.5: %.1e", d);
			d = apart(diloco, streaming(diloco, 3, 0, 0));
			all_ok(d > 100 * BOUND, "nor in 3 fragments: %.1e", d);
		}
}

/* H = 5: fragment 0 of one goes after 5 steps, in step 4; fragment 1 of two after 2 steps, in step 1. Both come two steps later. */
static void test_streaming_overlap(void)
{
	struct oracle_setup p = with(&oracle_diloco, DENSE, 5, 1);

	if (!wanted("streaming-diloco overlaps"))
		return;
	p.key[DILOCO_LR] = 1;
	test_overlap("streaming-diloco", streaming(p, 1, 2, 0), 4, 6);
	test_overlap("streaming-diloco in 2 fragments", streaming(p, 2, 2, 0), 1, 3);
}

/* ---- eager and delayed DiLoCo ---- */

/* A worker alone has nobody to wait for: eager, it does what DiLoCo does. (By other operations.) */
static void test_eager(void)
{
	if (!wanted("eager-diloco is diloco"))
		return;
	for (int o = 0; o < 4; o++) {
		struct oracle_setup diloco = with(&oracle_diloco, DENSE, 3, o), p;
		double d;

		diloco.key[DILOCO_LR] = 0.7;
		diloco.key[DILOCO_MOMENTUM] = 0.8;
		p = diloco;
		p.algorithm = &oracle_eager;
		d = apart(diloco, p);
		all_ok(world.size == 1 ? d <= BOUND : d > 100 * BOUND, "eager-diloco %s diloco, %s: %.1e", world.size == 1 ? "of one worker ≡" : "is not",
		       optimizers[o].name, d);
		p.key[EAGER_NOT] = 1;
		d = apart(diloco, p);
		all_ok(d > 100 * BOUND, "and delayed it is not, %s: %.1e", optimizers[o].name, d);
	}
}

static void test_eager_overlap(void)
{
	struct oracle_setup p = with(&oracle_eager, DENSE, 5, 1);

	if (!wanted("eager-diloco overlaps"))
		return;
	p.key[DILOCO_LR] = 1;
	test_overlap("eager-diloco", p, 4, 9);
}

/* sync_init() refuses, and says so with this word. */
static void refused(struct oracle_setup p, const char *word)
{
	struct config *config = kit_config(&p, "model", "size");
	struct sync sync;
	bool no = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) < 0;

	all_ok(no && strstr(errors_text(), word) && strstr(errors_text(), "hint: "), "%s refuses: %s", p.algorithm->name, word);
	errors_clear();
	sync_release(&sync);
	config_free(config);
}

static void test_refused(void)
{
	struct oracle_setup p = with(&oracle_diloco, DENSE, 5, 0), longer = with(&oracle_diloco, DENSE, 9, 0);

	if (!wanted("refused"))
		return;
	p.key[DILOCO_LR] = longer.key[DILOCO_LR] = 1;
	refused(streaming(longer, KIT_TENSORS + 1, 0, 0), "sync.fragments = 6, and the model has only 5 tensors");
	p.period = 4;
	refused(streaming(p, 5, 0, 0), "sync.fragments = 5 is more than sync.period = 4");
	refused(streaming(p, 1, 4, 0), "sync.delay = 4 is not less than sync.period = 4");
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
	test_streaming();
	test_streaming_overlap();
	test_eager();
	test_eager_overlap();
	test_refused();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
