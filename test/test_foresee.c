/*
 * What a run is warned of before it begins: that workers will not hear of each other before it ends, or that what it waits for never comes.
 * No device, no workers.
 */
#include <unistd.h>

#include "cost_kit.h"

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

/* What goes to stderr between the two. */
struct overheard {
	FILE *file;
	int keep;
};

static struct overheard listen_in(void)
{
	struct overheard o = { tmpfile(), dup(STDERR_FILENO) };

	CHECK(o.file && o.keep >= 0 && fflush(stderr) == 0 && dup2(fileno(o.file), STDERR_FILENO) >= 0);
	return o;
}

/* The caller frees it. */
static char *heard(struct overheard *o)
{
	char *text = xcalloc(1, 1000);

	CHECK(fflush(stderr) == 0 && dup2(o->keep, STDERR_FILENO) >= 0 && fseek(o->file, 0, SEEK_SET) == 0);
	text[fread(text, 1, 999, o->file)] = 0;
	fclose(o->file);
	close(o->keep);
	return text;
}

/* What is said before a run of so many steps with these keys, epochs of 10 steps; the caller frees it. */
static char *said(const char *const *sets, int count, int64_t steps)
{
	struct config *config = config_load(kit_schema(), NULL, sets, count, NULL);
	struct lr_schedule lr;
	struct sync sync;
	struct overheard o;
	char *text;

	CHECK(config);
	CHECK(lr_init(&lr, config, (double)steps / 10) == 0 && sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	o = listen_in();
	sync_foresee(&sync, &lr, 10, steps);
	text = heard(&o);
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
		{ { "sync.algorithm=ssgd", "compress.method=topk", "compress.warmup=[0.5, 0.25]" }, 20, "\"topk\" warms up for 20 steps, and the run has 20" },
		{ { "sync.algorithm=ssgd", "compress.method=topk", "compress.warmup=[0.5, 0.25]" }, 21, NULL },
		{ { "sync.algorithm=ssgd", "compress.method=dgc", "optimizer.momentum=0.0" }, 40, "\"dgc\" warms up for 40 steps" },
		{ { "sync.algorithm=local", "sync.period=4", "compress.method=oktopk", "compress.dense_steps=20" }, 80,
		  "warms up for 80 steps, and the run has 80: it will send more than asked for to the end. Set compress.warmup and compress.dense_steps" },
		{ { "sync.algorithm=local", "sync.period=4", "compress.method=oktopk", "compress.dense_steps=20" }, 81, NULL },
		{ { "sync.algorithm=ssgd", "compress.method=signsgd", "optimizer.lr=0.1" }, 9, "by 0.1 in each average, more than most" },
		{ { "sync.algorithm=ssgd", "compress.method=signsgd", "optimizer.lr=0.1", "compress.scale=0.09" }, 9, NULL },
		{ { "sync.algorithm=local", "compress.method=signsgd", "sync.period=1", "compress.scale=0.02" }, 9, "by 0.02 in each average" },
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

/* ---- what a compressor says of its keys ---- */

/* host: of each worker; NULL: nothing is known of them. */
static void test_described(const char *const set[2], int workers, const int *host, const char *words, const char *warning)
{
	struct config *config = config_load(kit_schema(), NULL, set, set[1] ? 2 : 1, NULL);
	struct range whole = { 0, KIT_N, kit_tensor, KIT_TENSORS };
	struct comm comm = { .size = workers };
	struct compress c;
	struct overheard o;
	char text[200], *warned;

	CHECK(config && compress_init(&c, config) == 0);
	c.comm = &comm;
	if (host)
		comm_plan_allreduce(&comm, "ring", host, &(struct cost_model){ 0 });
	o = listen_in();
	compress_describe(&c, &whole, text, sizeof(text));
	warned = heard(&o);
	ok(!strcmp(text, words) && (warning ? strstr(warned, warning) != NULL : !*warned), "%s %s, %d workers: \"%s\", %s", set[0], set[1] ? set[1] : "",
	   workers, text, *warned ? "warned" : "no warning");
	free(warned);
	c.comm = NULL;
	comm_unplan_allreduce(&comm);
	compress_release(&c);
	config_free(config);
}

static void test_nodes(void)
{
	static const char *const found[2] = { "compress.method=hierarchical", NULL };
	static const char *const two[2] = { "compress.method=hierarchical", "compress.group=2" };
	static const char *const four[2] = { "compress.method=hierarchical", "compress.group=4" };
	static const int pairs[] = { 0, 0, 1, 1 }, turns[] = { 0, 1, 0, 1 }, one[] = { 7, 7, 7, 7 }, apart[] = { 0, 1, 2, 3 }, uneven[] = { 0, 0, 0, 3 },
		six[] = { 0, 0, 0, 0, 4, 4 };
	static const char *const as_found = "2 nodes of 2 workers (as the hierarchical all-reduce has them): dense inside, the largest between";

	test_described(found, 1, one, "", NULL);
	test_described(found, 4, pairs, as_found, NULL);
	test_described(found, 4, turns, as_found, NULL);
	test_described(found, 4, one, "1 node of 4 workers (as the hierarchical all-reduce has them): dense inside, the largest between", "on one node");
	test_described(found, 4, apart, "4 nodes of 1 worker (as the hierarchical all-reduce has them): dense inside, the largest between",
	               "finds no two workers on one node");
	test_described(found, 4, uneven, "4 nodes of 1 worker (as the hierarchical all-reduce has them): dense inside, the largest between",
	               "nodes of no common size");
	test_described(found, 6, six, "3 nodes of 2 workers (as the hierarchical all-reduce has them): dense inside, the largest between", NULL);
	test_described(two, 4, NULL, "2 nodes of 2 workers (compress.group): dense inside, the largest between", NULL);
	test_described(two, 4, pairs, "2 nodes of 2 workers (compress.group): dense inside, the largest between", NULL);
	test_described(two, 4, turns, "2 nodes of 2 workers (compress.group): dense inside, the largest between", "puts workers of several nodes together");
	test_described(four, 4, pairs, "1 node of 4 workers (compress.group): dense inside, the largest between", "on one node");
}

static void test_group_divides(int group, int workers, const char *words)
{
	char *set[] = { "compress.method=hierarchical", xasprintf("compress.group=%d", group) };
	struct config *config = config_load(kit_schema(), NULL, (const char *const *)set, 2, NULL);
	struct compress c;
	int rc;

	CHECK(config && compress_init(&c, config) == 0);
	rc = compress_check(&c, config, workers);
	ok(words ? rc == -1 && strstr(errors_text(), words) && strstr(errors_text(), "hint:") : rc == 0 && !*errors_text(), "groups of %d, %d workers: %s",
	   group, workers, words ? words : "taken");
	errors_clear();
	compress_release(&c);
	config_free(config);
	free(set[1]);
}

static void test_groups(void)
{
	test_group_divides(0, 7, NULL);
	test_group_divides(3, 6, NULL);
	test_group_divides(6, 6, NULL);
	test_group_divides(8, 1, NULL);                 /* nothing is exchanged */
	test_group_divides(4, 6, "set compress.group = 3");
	test_group_divides(8, 6, "set compress.group = 6");
	test_group_divides(2, 7, "set compress.group = 1");
}

static void test_compressors(void)
{
	static const char *const low[][2] = {
		{ "compress.method=powersgd", "compress.rank=2" }, { "compress.method=powersgd", "compress.rank=4" },
		{ "compress.method=powersgd", "compress.rank=6" },
	};

	test_described((const char *const[]){ "compress.method=topk", NULL }, 3, NULL, "", NULL);
	test_described(low[0], 3, NULL, "3 of 5 tensors as factors of rank 2, 80.8 % of the elements; 1/1.92 of the floats are sent", NULL);
	test_described(low[1], 3, NULL, "1 of 5 tensors as factors of rank 4, 40.7 % of the elements; 1/1.18 of the floats are sent", NULL);
	test_described(low[2], 3, NULL, "0 of 5 tensors as factors of rank 6, 0.0 % of the elements; 1/1 of the floats are sent",
	               "Set compress.rank = 5 at most");
	test_described(low[2], 1, NULL, "0 of 5 tensors as factors of rank 6, 0.0 % of the elements; 1/1 of the floats are sent", NULL);
}

int main(void)
{
	kit_layout();
	test_alone();
	test_warnings();
	test_compressors();
	test_nodes();
	test_groups();
	return done_testing();
}
