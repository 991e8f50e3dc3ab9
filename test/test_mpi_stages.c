/*
 * What must hold, whatever the oracle says. VRL-SGD: corrections that cancel each other, S-SGD where every step is averaged, SGD on
 * one worker, no compressor. STL-SGD: Local SGD as long as a stage does not end, and on. adaptive: the period is what the exchange takes
 * in steps, the log gives the same run again. ACCO: its formulas on one worker, S-SGD on pairs of steps where the model does not matter.
 * With an argument only the groups whose name contains it.
 */
#include "player.h"

static struct kit kits[2];
static int P, R;

static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return d;
}

static void one_run(struct oracle_setup p, const struct manner *how, int d, struct course *trace)
{
	p.seed = 42;
	course_open(trace, how->steps, KIT_N);
	kit_train(&kits[d], &p, "model", "size", how, trace);
}

/* Of one setup to another: the farthest that two models ever are from each other. */
static double between(struct oracle_setup a, struct oracle_setup b, const struct manner *how)
{
	struct course one, other;
	double d;

	one_run(a, how, 0, &one);
	one_run(b, how, 1, &other);
	d = distance(&one, &other);
	course_close(&one);
	course_close(&other);
	return d;
}

/* Says whether a run with these keys is refused, with this word in the reason. */
static bool refused(const struct oracle_setup *p, const char *word)
{
	struct config *config = kit_config(p, "model", "size");
	struct sync sync;
	bool no = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) != 0 && strstr(errors_text(), word);

	sync_release(&sync);
	config_free(config);
	errors_clear();
	return no;
}

/* SGD on one worker, by a loop that knows no workers at all; the oracle's problem and rates. */
static double from_sgd(const struct oracle_setup *setup_, const struct course *trace)
{
	struct oracle_setup p = *setup_;
	double x[KIT_N], v[KIT_N] = { 0 }, g[KIT_N], error = 0;

	p.seed = 42;
	for (int64_t j = 0; j < KIT_N; j++)
		x[j] = problem_start(&p, j);
	for (int64_t t = 0; t < trace->steps; t++) {
		for (int64_t j = 0; j < KIT_N; j++)
			g[j] = problem_gradient(&p, 0, t, j, x) + p.weight_decay * x[j];
		for (int64_t j = 0; j < KIT_N; j++) {
			v[j] = p.momentum * v[j] + g[j];
			x[j] -= problem_lr(&p, t) * (p.nesterov ? g[j] + p.momentum * v[j] : v[j]);
			error = worst(error, fabs(trace->x[t * KIT_N + j] - x[j]));
		}
	}
	return error;
}

/* ---- VRL-SGD ---- */

static struct oracle_setup vrl(int period, int optimizer, bool warmup)
{
	struct oracle_setup p = setup(&oracle_vrl, DENSE, 1, period, optimizer, uneven, "model", "size");

	p.key[VRL_WARMUP] = warmup;
	setup_merged(&p, SHARE);
	return p;
}

/* sum w_i Delta_i = 0 after every average, though the Delta_i themselves are anything but. */
static void test_corrections(void)
{
	enum { PERIOD = 3 };
	double sum = 0, size = 0;

	if (!wanted("vrl corrections"))
		return;
	for (int round = 1; round <= 4; round++)
		for (int warmup = 0; warmup < 2; warmup++) {
			struct manner how = { .steps = warmup ? 1 + PERIOD * (round - 1) : PERIOD * round, .batch = uneven };
			struct oracle_setup p = vrl(PERIOD, round % 3, warmup);
			double all[KIT_N], most = 0;
			struct course trace;

			one_run(p, &how, round % 2, &trace);
			for (int64_t j = 0; j < KIT_N; j++) {
				all[j] = p.weight[R] * course_state(&trace, "correction")[j];
				most = worst(most, fabs(course_state(&trace, "correction")[j]));
			}
			comm_host_reduce(verdicts, all, KIT_N, REDUCE_SUM);
			for (int64_t j = 0; j < KIT_N; j++)
				sum = worst(sum, fabs(all[j]));
			size = most_everywhere(most);
			course_close(&trace);
		}
	all_ok(sum <= 1e-6 && (P == 1 || size > 1e-2), "vrl corrections: their weighted sum is at most %.1e, one of them %.1e", sum, size);
}

static void test_vrl(void)
{
	struct manner how = { .steps = 13, .batch = uneven };

	if (!wanted("vrl identities"))
		return;
	for (int o = 0; o < 3; o++) {
		double d = between(vrl(1, o, false), setup(&oracle_ssgd, DENSE, 1, 1, o, uneven, "model", "size"), &how);

		all_ok(d <= BOUND, "vrl with period 1 ≡ ssgd, %s: %.1e", optimizers[o].name, d);
		d = between(vrl(4, o, true), vrl(4, o, false), &how);
		all_ok(P == 1 ? d <= BOUND : d > 100 * BOUND, "vrl: a warm-up %s, %s: %.1e", P == 1 ? "changes nothing for one worker" : "is another trajectory",
		       optimizers[o].name, d);
		if (P == 1) {
			struct oracle_setup p = vrl(4, o, false);
			struct course trace;

			one_run(p, &how, o % 2, &trace);
			d = from_sgd(&p, &trace);
			all_ok(d <= BOUND, "one worker: vrl ≡ SGD, %s: %.1e", optimizers[o].name, d);
			course_close(&trace);
		}
	}
	for (int m = TOPK; m <= GTOPK; m++) {
		struct oracle_setup p = vrl(4, 0, false);

		p.method = (enum oracle_method)m;
		p.density = 0.1;
		all_ok(refused(&p, "takes no compressor"), "vrl refuses %s", method_name[m]);
	}
}

/* ---- STL-SGD ---- */

static struct oracle_setup stl(int64_t steps, int period, int optimizer, enum oracle_method m)
{
	struct oracle_setup p = setup(&oracle_stl, m, 0.1, period, optimizer, uneven, "model", "size");

	p.key[STL_STEPS] = (double)steps;
	p.key[STL_IID] = p.key[STL_LR] = 1;
	return p;
}

static void test_stl(void)
{
	struct manner how = { .steps = 14, .batch = uneven };

	if (!wanted("stl identities"))
		return;
	for (int m = DENSE; m <= GTOPK; m++) {
		struct oracle_setup local = setup(&oracle_local, (enum oracle_method)m, 0.1, 3, m, uneven, "model", "size");
		double d = between(stl(1000000000, 3, m, (enum oracle_method)m), local, &how);

		all_ok(d == 0, "stl in one endless stage ≡ local, %s × %s", optimizers[m].name, method_name[m]);
		d = between(stl(6, 3, m, (enum oracle_method)m), local, &how);
		all_ok(d > 100 * BOUND, "stl: and not any more in a second stage, %s × %s: %.1e", optimizers[m].name, method_name[m], d);
	}
}

/* Stages of 1, 2, 4, 8 steps with periods that grow by sqrt(2) from 1, 1, 1, 2, 2: averages after 1, 2, 3, 5, 7, 9, … steps. */
static void test_stl_periods(void)
{
	static const int64_t averaged[] = { 1, 2, 3, 5, 7, 9, 11, 13, 15 };
	struct manner how = { .steps = 14, .batch = uneven };
	struct oracle_setup p = stl(1, 1, 0, DENSE);
	struct course trace;
	bool good = true;

	if (!wanted("stl periods"))
		return;
	p.key[STL_IID] = 0;
	one_run(p, &how, 0, &trace);
	for (int64_t t = 0, i = 0; t < how.steps; t++) {
		bool shared = same_everywhere(trace.x + t * KIT_N, KIT_N * sizeof(float)), due = averaged[i] == t + 1;

		good = good && (P == 1 || shared == due);
		i += due;
	}
	all_ok(good, "stl periods: growing by sqrt(2) from 1 they are 1, 1, 2, 2");
	course_close(&trace);
}

/* ---- adaptive ---- */

enum { DECISIONS = 64, LEAST = 2 };

struct decisions {
	int64_t value[DECISIONS];
	int count;
};

static int64_t last(const struct decisions *d) { return d->value[d->count - 1]; }

static void remember(void *context, int64_t t, const char *what, int64_t value, const char *why)
{
	struct decisions *d = context;

	(void)t, (void)why;
	CHECK(d->count < DECISIONS && !strcmp(what, "period"));
	d->value[d->count++] = value;
}

/* replay: NULL, or the periods. */
static struct took measured_run(struct kit *k, struct pace pace, const char *momentum, int most, const char *replay, struct decisions *log,
                                float *model)
{
	char least[40], longest[40], policy[40], list[400];
	const char *sets[] = { "sync.algorithm=adaptive", "optimizer.momentum=0.9", "sync.every=2", least, longest, policy, list };
	struct config *config;
	struct player p;

	snprintf(least, sizeof(least), "sync.period_min=%d", LEAST);
	snprintf(longest, sizeof(longest), "sync.period_max=%d", most);
	snprintf(policy, sizeof(policy), "sync.momentum=%s", momentum);
	snprintf(list, sizeof(list), "sync.periods=[%s]", replay ? replay : "");
	config = config_load(kit_schema(), NULL, sets, (int)(sizeof(sets) / sizeof(*sets)), NULL);
	CHECK(config);
	player_open(&p, k, config, even);
	p.sync.log = remember;
	p.sync.log_context = log;
	return paced_run(&p, pace, model);
}

/* An exchange takes so many steps. A busy machine makes steps longer (they are measured), and may spoil a try, so there are three. */
static void claim_ratio(struct kit *k, const char *how, struct pace pace, const char *momentum)
{
	struct decisions log;
	float model[KIT_N];
	double ratio = 0;
	bool good = false;

	for (int tries = 0; tries < 3 && !good; tries++) {
		log = (struct decisions){ 0 };
		ratio = pace.delay / measured_run(k, pace, momentum, 64, NULL, &log, model).step;
		good = log.count > 3 && log.value[0] == LEAST && (double)last(&log) > 0.6 * ratio && (double)last(&log) < 1.6 * ratio + 1;
		good = ratio > 2 * LEAST && sum_everywhere(!good) == 0;
	}
	all_ok(good, "adaptive, %s: an exchange of %.1f steps%s: period %lld", k->driver, ratio, how, (long long)last(&log));
	all_ok(same_everywhere(&log, sizeof(log)), "adaptive, %s: all ranks have decided the same%s", k->driver, how);
}

static void claim_period(struct kit *k, const char *what, struct pace pace, int most, int64_t period)
{
	struct decisions log;
	float model[KIT_N];
	bool good = false;

	for (int tries = 0; tries < 3 && !good; tries++) {
		log = (struct decisions){ 0 };
		measured_run(k, pace, "local", most, NULL, &log, model);
		good = sum_everywhere(log.count < 4 || last(&log) != period) == 0;
	}
	all_ok(good, "adaptive, %s: an exchange %s: period %lld", k->driver, what, (long long)last(&log));
}

static int brief_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xstrdup("sync.every=1");
	sets[1] = xstrdup("sync.period_max=1");
	return 2;
}

static void keep_reason(void *context, int64_t t, const char *what, int64_t value, const char *why)
{
	char *first = context;

	(void)t, (void)what, (void)value;
	if (!*first)
		snprintf(first, 80, "%s", why);
}

/* A break between a measurement and the decision by it. */
static void claim_resumed(struct kit *k)
{
	enum { STEPS = 9, BREAK = 5 };
	static const struct oracle_algorithm brief = { .name = "adaptive", .keys = brief_keys };
	struct snapshot saved = { 0 };
	char reason[80] = "";
	struct manner how = { .steps = STEPS, .batch = even }, first = how,
	              second = { .steps = STEPS, .batch = even, .from = BREAK, .load = &saved, .log = keep_reason, .log_context = reason };
	struct oracle_setup p = setup(&brief, DENSE, 1, 1, 1, even, "model", "none");
	struct course trace[3];
	bool same = true;

	first.steps = BREAK;
	first.save = &saved;
	p.seed = 3;
	for (int i = 0; i < 3; i++) {
		course_open(&trace[i], STEPS, KIT_N);
		kit_train(k, &p, "model", "none", i == 0 ? &how : i == 1 ? &first : &second, &trace[i]);
	}
	for (int64_t i = BREAK * KIT_N; i < STEPS * KIT_N; i++)
		same = same && trace[0].x[i] == trace[2].x[i];
	all_ok(same && saved.same, "adaptive, %s: saved and loaded, the same bits", k->driver);
	all_ok(!strncmp(reason, "exchange", 8), "adaptive, %s: and the next decision goes by what was measured before: %s", k->driver, reason);
	for (int i = 0; i < 3; i++)
		course_close(&trace[i]);
	snapshot_free(&saved);
}

static void test_adaptive(struct kit *k)
{
	char list[400] = "";
	struct decisions first = { 0 }, again = { 0 };
	float model[2][KIT_N];

	if (!wanted("adaptive"))
		return;
	claim_resumed(k);
	if (P > 2) {
		all_skip("adaptive", "is measured with one or two ranks");
		return;
	}
	claim_ratio(k, "", (struct pace){ 90, 6e-3, 60e-3, false }, "local");
	claim_ratio(k, ", with an evaluation in every round", (struct pace){ 60, 6e-3, 60e-3, true }, "local");
	claim_ratio(k, " and an average of momentum that no period hides", (struct pace){ 60, 6e-3, 48e-3, false }, "average");
	claim_period(k, "of 10 steps, but 4 at most", (struct pace){ 50, 4e-3, 40e-3, false }, 4, 4);
	claim_period(k, "of next to nothing", (struct pace){ 50, 4e-3, 0, false }, 64, LEAST);
	measured_run(k, (struct pace){ 50, 1e-3, 6e-3, false }, "local", 64, NULL, &first, model[0]);
	for (int i = 0; i < first.count; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%lld", i ? ", " : "", (long long)first.value[i]);
	measured_run(k, (struct pace){ 50, 0, 0, false }, "local", 64, list, &again, model[1]);
	all_ok(!memcmp(model[0], model[1], sizeof(model[0])) && !memcmp(&first, &again, sizeof(first)),
	       "adaptive, %s: its log [%s] replayed: the same bits, the same log", k->driver, list);
}

/* ---- ACCO ---- */

static struct oracle_setup acco(int optimizer) { return setup(&oracle_acco, DENSE, 1, 1, optimizer, uneven, "model", "size"); }

/* One worker against the paper's formulas in a plain loop. theta: also what consensus gives. */
static void test_acco_formulas(int o)
{
	enum { STEPS = 12 };
	struct manner how = { .steps = STEPS, .batch = even, .look = true };
	struct oracle_setup p = acco(o);
	double theta[KIT_N], v[KIT_N] = { 0 }, x[KIT_N], g[2][KIT_N], error = 0, looks = 0;
	struct course trace;

	one_run(p, &how, o % 2, &trace);
	p.seed = 42;
	for (int64_t j = 0; j < KIT_N; j++)
		theta[j] = x[j] = problem_start(&p, j);
	for (int64_t t = 0; t < STEPS; t++) {
		double now[KIT_N];

		for (int64_t j = 0; j < KIT_N; j++)
			now[j] = problem_gradient(&p, 0, t, j, x);
		/* g[0] is the mean g~, g[1] the mean g: of the steps before this one. */
		for (int64_t j = 0; j < KIT_N && t > 0; j++) {
			double both = t % 2 ? g[0][j] : (g[0][j] + g[1][j]) / 2, d = both + p.weight_decay * theta[j];
			double velocity = p.momentum * v[j] + d;

			x[j] = theta[j] - problem_lr(&p, t) * (p.nesterov ? d + p.momentum * velocity : velocity);
			if (t % 2 == 0) {
				theta[j] = x[j];
				v[j] = velocity;
			}
		}
		memcpy(g[t % 2], now, sizeof(now));
		for (int64_t j = 0; j < KIT_N; j++) {
			error = worst(error, fabs(trace.x[t * KIT_N + j] - x[j]));
			if (t % 3 == 1)
				looks = worst(looks, fabs(trace.consensus[t * KIT_N + j] - theta[j]));
		}
	}
	all_ok(error <= BOUND && looks <= BOUND, "one worker: acco is theta~ and theta of the paper, %s: %.1e, consensus %.1e", optimizers[o].name, error,
	       looks);
	course_close(&trace);
}

/* Trains with gradients that do not depend on the model; pairs: with the mean of two of them a step. model: the consensus. */
static void blind_run(struct kit *k, const struct oracle_algorithm *a, int o, int64_t steps, bool pairs, float *model)
{
	struct oracle_setup setting = setup(a, DENSE, 1, 1, o, uneven, "model", "size");
	struct player p;

	player_open(&p, k, kit_config(&setting, "model", "size"), uneven);
	for (int64_t t = 0; t < steps; t++) {
		float g[KIT_N];

		for (int64_t j = 0; j < KIT_N; j++) {
			double one = noise(7, (uint64_t)(pairs ? 2 * t : t), (uint64_t)R, (uint64_t)j);
			double next = noise(7, (uint64_t)(2 * t + 1), (uint64_t)R, (uint64_t)j);

			g[j] = kit_real[j] ? (float)(pairs ? (one + next) / 2 : one) : 0;
		}
		player_step(&p, g);
	}
	p.sync.ops->consensus(&p.sync, p.out);
	kit_read(k, model, p.out);
	player_close(&p);
}

static void test_acco(void)
{
	enum { UPDATES = 5 };

	if (!wanted("acco identities"))
		return;
	for (int o = 0; o < 3 && P == 1; o++)
		test_acco_formulas(o);
	for (int o = 0; o < 4; o++) {
		float one[KIT_N], other[KIT_N];
		double d = 0, size = 0;

		blind_run(&kits[0], &oracle_acco, o, 2 * UPDATES + 1, false, one);
		blind_run(&kits[1], &oracle_ssgd, o, UPDATES, true, other);
		for (int64_t j = 0; j < KIT_N; j++) {
			d = worst(d, fabs((double)one[j] - other[j]));
			size = worst(size, fabs(one[j]));
		}
		all_ok(d <= BOUND && size > 1000 * BOUND, "acco with gradients that do not see the model ≡ ssgd on pairs of steps, %s: %.1e",
		       optimizers[o].name, d);
	}
}

/* An exchange that is shorter than a step costs nothing. A busy machine has three tries. */
static void test_acco_overlap(struct kit *k)
{
	const struct pace pace = { 30, 12e-3, 8e-3, false };
	struct took took = { 0, 0 };
	float model[KIT_N];
	bool good = false;

	if (!wanted("acco overlap"))
		return;
	if (P > 2) {
		all_skip("acco overlap", "is measured with one or two ranks");
		return;
	}
	for (int tries = 0; tries < 3 && !good; tries++) {
		struct oracle_setup p = setup(&oracle_acco, DENSE, 1, 1, 1, even, "model", "size");
		struct player player;

		player_open(&player, k, kit_config(&p, "model", "size"), even);
		took = paced_run(&player, pace, model);
		good = took.wall < took.step + 0.5 * pace.delay;
	}
	all_ok(good, "acco overlap, %s: a step that computes %.1f ms beside an exchange of %.1f takes %.1f", k->driver, 1e3 * took.step, 1e3 * pace.delay,
	       1e3 * took.wall);
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
	test_corrections();
	test_vrl();
	test_stl();
	test_stl_periods();
	test_acco();
	for (int i = 0; i < 2; i++) {
		test_adaptive(&kits[i]);
		test_acco_overlap(&kits[i]);
	}
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
