/*
 * AD-PSGD: workers of different pace, and their decisions replayed. Every rank keeps its log of decisions; all of them together drive a
 * serial double-precision simulation, which must end at the same models. What is checked of time itself is only that a fast worker
 * goes on while its exchange waits for a slow one. With an argument only the groups whose name contains it.
 */
#include "../comm/topology/gossip.h"
#include "sync_kit.h"

enum { DECISIONS = 200, STEPS = 16, MOST = 240, GRAPH_SEED = 7 };  /* MOST: steps of a worker at its own pace */

static struct kit kits[2];
static int P, R;

/* ---- the log ---- */

struct diary {
	int64_t count;
	struct { int64_t steps, round, merge; } at[DECISIONS];
};

static void keep(void *context, int64_t steps, const char *what, int64_t round, const char *why)
{
	struct diary *d = context;

	(void)why;
	if (!strcmp(what, "samples"))
		return;
	CHECK(d->count < DECISIONS);
	CHECK(!strcmp(what, "launch") || !strcmp(what, "merge"));
	d->at[d->count].steps = steps;
	d->at[d->count].round = round;
	d->at[d->count++].merge = !strcmp(what, "merge");
}

/* ---- the replay: Lian et al., ICML 2018, with snapshots and weights (sync/adpsgd.c) ---- */

static int pair_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xstrdup("topology.kind=gossip");
	sets[1] = xasprintf("topology.graph=%s", p->key[0] ? "shuffle-exchange" : "random");
	sets[2] = xasprintf("topology.graph_seed=%d", GRAPH_SEED);
	return 3;
}

static const struct oracle_algorithm pairs = { .name = "adpsgd", .every_step = true, .dense_only = true, .keys = pair_keys };

struct replay {
	struct oracle o;
	struct gossip graph;
	int64_t steps[ORACLE_WORKERS], next[ORACLE_WORKERS];
	double *snapshot[ORACLE_WORKERS][DECISIONS];
	double after[ORACLE_WORKERS][MOST + 1][KIT_N]; /* each worker's model after so many own steps and what was merged there */
};

static void replay_note(struct replay *r, int i) { memcpy(r->after[i][r->steps[i]], r->o.x[i], sizeof(r->after[i][0])); }

static void replay_steps(struct replay *r, int i, int64_t until)
{
	const struct oracle_setup *p = r->o.set;

	for (; r->steps[i] < until; r->steps[i]++) {
		replay_note(r, i);
		r->o.t = r->steps[i];
		r->o.lr = problem_lr(p, r->o.t);
		for (int64_t j = 0; j < p->n; j++)
			r->o.g[i][j] = problem_gradient(p, i, r->o.t, j, r->o.x[i]);
		oracle_optimize(&r->o, i, r->o.g[i]);
	}
}

/* False: the partner's snapshot is not there yet. */
static bool replay_decision(struct replay *r, int i, int64_t round, bool merge)
{
	const struct oracle_setup *p = r->o.set;
	int partner = gossip_peers(&r->graph, i, round).to;
	double *x = r->o.x[i], **mine = &r->snapshot[i][round], *theirs;

	CHECK(partner >= 0 && round < DECISIONS);
	if (!merge) {
		*mine = xcalloc((size_t)p->n, sizeof(double));
		memcpy(*mine, x, (size_t)p->n * sizeof(double));
		return true;
	}
	theirs = r->snapshot[partner][round];
	for (int64_t j = 0; theirs && j < p->n; j++)
		x[j] += p->weight[partner] * (theirs[j] - (*mine)[j]) / (p->weight[i] + p->weight[partner]);
	return theirs != NULL;
}

/* All decisions of all workers, in any order in which a merge comes after both launches. False: there is none. taken: steps of each. */
static bool replay(struct replay *r, const struct oracle_setup *p, const struct diary *all, const int64_t *taken)
{
	bool moved = true, whole = true;

	memset(r, 0, sizeof(*r));
	oracle_open(&r->o, p);
	r->graph = (struct gossip){ .graph = p->key[0] ? GOSSIP_SHUFFLE_EXCHANGE : GOSSIP_RANDOM, .seed = GRAPH_SEED };
	gossip_open(&r->graph, P);
	while (moved) {
		moved = false;
		for (int i = 0; i < P; i++)
			for (; r->next[i] < all[i].count; r->next[i]++) {
				replay_steps(r, i, all[i].at[r->next[i]].steps);
				if (!replay_decision(r, i, all[i].at[r->next[i]].round, all[i].at[r->next[i]].merge))
					break;
				moved = true;
			}
	}
	for (int i = 0; i < P; i++) {
		whole = whole && r->next[i] == all[i].count;
		replay_steps(r, i, taken[i]);
		replay_note(r, i);
	}
	return whole;
}

static void replay_close(struct replay *r)
{
	for (int i = 0; i < P; i++)
		for (int k = 0; k < DECISIONS; k++)
			free(r->snapshot[i][k]);
	gossip_close(&r->graph);
	oracle_close(&r->o);
}

/* ---- runs ---- */

/* Seconds that a step takes longer on each rank. */
static const double pace[ORACLE_WORKERS] = { 5e-3, 1e-3, 2e-3, 1e-3, 3e-3, 1e-3, 2e-3, 1e-3 };

struct run {
	struct oracle_setup p;
	struct manner how;
	struct course trace;
	struct diary mine, *all;
	int64_t *taken;                 /* steps of each */
};

/* until: at its own pace to so many samples, or NULL: STEPS each. */
static void run_pairs(struct run *run, int graph, int optimizer, const int *batch, bool look, int kit, const int64_t *until)
{
	*run = (struct run){ .p = setup(&pairs, DENSE, 1, 1, optimizer, batch, "model", "none") };
	run->p.seed = 5;
	run->p.key[0] = graph;
	run->how = (struct manner){
		.steps = until ? MOST : STEPS, .until = until, .batch = batch, .look = look, .delay = look ? 0 : 1.5e-3,
		.pace = until && R == 0 ? 40e-3 : pace[R], .log = keep, .log_context = &run->mine,
	};
	course_open(&run->trace, run->how.steps, KIT_N);
	kit_train(&kits[kit], &run->p, "model", "none", &run->how, &run->trace);
	run->all = xcalloc((size_t)P, sizeof(struct diary));
	comm_host_gather(verdicts, &run->mine, run->all, sizeof(struct diary));
	run->taken = xcalloc((size_t)P, sizeof(*run->taken));
	comm_host_gather(verdicts, &run->trace.taken, run->taken, sizeof(*run->taken));
}

static void run_free(struct run *run)
{
	course_close(&run->trace);
	free(run->all);
	free(run->taken);
}

/* Every step's model, the models of the end, and each consensus on the way. */
static void test_replay(int graph, int optimizer, const int *batch, bool look, int kit)
{
	static struct replay r;
	double error = 0, consensus = 0;
	struct run run;
	bool whole;

	run_pairs(&run, graph, optimizer, batch, look, kit, NULL);
	whole = replay(&r, &run.p, run.all, run.taken);
	for (int64_t t = 0; t < STEPS; t++)
		for (int64_t j = 0; j < KIT_N; j++) {
			double mean = 0;

			for (int i = 0; i < P; i++)
				mean += run.p.weight[i] * r.after[i][t + 1][j];
			if (look && t % 3 == 1)
				consensus = worst(consensus, fabs(run.trace.consensus[t * KIT_N + j] - mean));
			if (t + 1 == STEPS)
				error = worst(error, fabs(course_state(&run.trace, "model")[j] - r.after[R][STEPS][j]));
			else if (!look)         /* who looks, merges after the step's model was read */
				error = worst(error, fabs(run.trace.x[t * KIT_N + j] - r.after[R][t + 1][j]));
		}
	replay_close(&r);
	error = most_everywhere(error);
	consensus = most_everywhere(consensus);
	all_ok(!run.trace.late, "%s: all has landed before state is told of", optimizers[optimizer].name);
	all_ok(whole, "%s, %s pairs%s: every merge has its partner's launch", optimizers[optimizer].name, graph ? "shuffled" : "random",
	       look ? ", observed" : "");
	all_ok(error <= BOUND && consensus <= BOUND, "the decisions of all, replayed, give the same models: %.1e away, consensus %.1e", error,
	       consensus);
	run_free(&run);
}

static void test_replays(void)
{
	if (!wanted("replay"))
		return;
	for (int o = 0; o < 4; o++) {
		test_replay(0, o, o % 2 ? uneven : even, false, o % 2);
		test_replay(o % 2, o, o % 2 ? even : uneven, true, (o + 1) % 2);
	}
}

/* ---- what the decisions are ---- */

static void test_decisions(void)
{
	int64_t patience = 0, launched = 0, merged = 0, last = 0;
	double sum[KIT_N], lost = 0;
	bool order = true;
	struct run run;

	if (!wanted("decisions"))
		return;
	run_pairs(&run, 0, 0, uneven, false, 0, NULL);
	for (int i = 0; i < P; i++)
		for (int64_t k = 0; k < run.all[i].count; k++) {
			int64_t round = run.all[i].at[k].round, before = k ? run.all[i].at[k - 1].round : -1;

			order = order && run.all[i].at[k].merge == k % 2 && (k % 2 ? round == before : round > before);
			launched += !run.all[i].at[k].merge;
			merged += run.all[i].at[k].merge;
			last = round > last ? round : last;
			if (i != 0 && k % 2 && run.all[i].at[k].steps - run.all[i].at[k - 1].steps > patience)
				patience = run.all[i].at[k].steps - run.all[i].at[k - 1].steps;
		}
	all_ok(order && launched == merged, "launch, merge, launch …, one at a time, in order; at the end all are merged: %d", (int)merged);
	all_ok(sum_everywhere(run.trace.bytes) == (double)launched * KIT_N * 4, "a whole model is sent for each launch, and nothing else");
	all_ok(run.trace.said * P * STEPS >= sum_everywhere(run.trace.bytes), "bytes() is not exceeded");
	if (P > 1) {
		all_ok(last >= 1, "even the slowest takes part: %d rounds in %d steps", (int)last + 1, STEPS);
		all_ok(patience >= 2, "the fast take up to %d steps while an exchange waits for the slow", (int)patience);
	}
	for (int64_t j = 0; j < KIT_N; j++)
		sum[j] = run.p.weight[R] * (course_state(&run.trace, "model")[j] + run.trace.moved[j]);
	comm_host_reduce(verdicts, sum, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		lost = worst(lost, fabs(sum[j] - problem_start(&run.p, j)));
	all_ok(lost <= BOUND, "the weighted mean moves by gradients only: %.1e", lost);
	run_free(&run);
}

/* Rank 0 is slow and takes fewer steps: what is counted is samples. How far they overshoot is a matter of time. */
static void test_pace(int kit, const int *batch)
{
	static struct replay r;
	int64_t until[] = { 0, 0, 0 }, samples = 0;
	double error = 0, fast = 0;
	struct run run;
	bool whole;

	for (int i = 0; i < P; i++) {
		until[0] += 15 * batch[i] + 1;
		until[1] += 36 * batch[i];
	}
	run_pairs(&run, 0, 1, batch, false, kit, until);
	for (int i = 0; i < P; i++)
		samples += run.taken[i] * batch[i];
	all_ok(samples >= until[1] && run.trace.claimed == samples, "%d samples of %d planned, and all know it", (int)samples, (int)until[1]);
	all_ok(samples - until[1] <= until[1] / 3, "that is less than a third too many");
	for (int i = 1; i < P; i++)
		fast += (double)run.taken[i] / (P - 1);
	all_ok(P == 1 || fast > 1.5 * (double)run.taken[0], "the fast take %.1f steps, the slow one %d", fast, (int)run.taken[0]);
	whole = replay(&r, &run.p, run.all, run.taken);
	for (int64_t j = 0; j < KIT_N; j++) {
		double mean = 0;

		for (int i = 0; i < P; i++)
			mean += run.p.weight[i] * r.after[i][run.taken[i]][j];
		error = worst(error, fabs(course_state(&run.trace, "model")[j] - r.after[R][run.taken[R]][j]));
		error = worst(error, fabs(course_state(&run.trace, "consensus")[j] - mean));
	}
	replay_close(&r);
	error = most_everywhere(isnan(error) ? INFINITY : error);
	all_ok(whole && error <= BOUND, "the decisions of all, replayed, give the same models: %.1e away", error);
	run_free(&run);
}

/* Saved at an evaluation, loaded by others: everybody's samples are counted on. */
static void test_resume(void)
{
	int64_t until[2][2] = { { 6 * 4 * P, 0 }, { 14 * 4 * P, 0 } }, taken, *all = xcalloc((size_t)P, sizeof(*all)), samples = 0;
	struct snapshot saved = { 0 };
	struct manner how = { .steps = MOST, .batch = even, .pace = pace[R] };
	struct oracle_setup p = setup(&pairs, DENSE, 1, 1, 1, even, "model", "none");
	struct course trace;

	for (int i = 0; i < 2; i++) {
		how.until = until[i];
		how.load = i ? &saved : NULL;
		how.save = i ? NULL : &saved;
		course_open(&trace, MOST, KIT_N);
		kit_train(&kits[i], &p, "model", "none", &how, &trace);
		how.from = taken = trace.taken;
		course_close(&trace);
	}
	comm_host_gather(verdicts, &taken, all, sizeof(*all));
	for (int i = 0; i < P; i++)
		samples += 4 * all[i];
	all_ok(saved.same && trace.claimed == samples && samples >= until[1][0] && samples < 2 * until[1][0],
	       "saved and loaded, all go on to the planned samples, %d of %d", (int)samples, (int)until[1][0]);
	snapshot_free(&saved);
	free(all);
}

static void test_alone(void)
{
	struct manner how = { .steps = STEPS, .batch = even };
	struct oracle_setup p = setup(&pairs, DENSE, 1, 1, 1, even, "model", "none");
	struct course trace[2];
	double d = 0;

	if (P > 1 || !wanted("alone"))
		return;
	for (int i = 0; i < 2; i++) {
		p.seed = 5;
		p.algorithm = i ? &oracle_ssgd : &pairs;
		course_open(&trace[i], STEPS, KIT_N);
		kit_train(&kits[i], &p, "model", "none", &how, &trace[i]);
	}
	for (int64_t i = 0; i < STEPS * KIT_N; i++)
		d = worst(d, fabs(trace[0].x[i] - trace[1].x[i]));
	all_ok(d == 0, "one worker is SGD, to the bit");
	for (int i = 0; i < 2; i++)
		course_close(&trace[i]);
}

static void test_refused(const char *set, const char *words)
{
	const char *sets[] = { "sync.algorithm=adpsgd", "topology.kind=gossip", set };
	struct config *config = config_load(kit_schema(), NULL, sets, 3, NULL);
	struct sync sync;

	CHECK(config);
	all_ok(sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) < 0 && strstr(errors_text(), words) && strstr(errors_text(), "hint:"),
	       "%s is refused, and why", set);
	errors_clear();
	sync_release(&sync);
	config_free(config);
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
	test_replays();
	test_decisions();
	if (wanted("pace")) {
		test_pace(0, even);
		test_pace(1, uneven);
	}
	if (wanted("resume"))
		test_resume();
	test_alone();
	if (wanted("refused")) {
		test_refused("topology.graph=ring", "has none");
		test_refused("compress.method=topk", "takes no compressor");
	}
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
