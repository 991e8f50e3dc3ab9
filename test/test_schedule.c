/*
 * MG-WFBP's plans: as early as the earliest of all plans there are, by the paper's model of time written down once more; whom they are
 * refused to; and the facts they are made of, as a text.
 */
#include <unistd.h>

#include "../core/rng.h"
#include "kit_config.h"
#include "tap.h"

enum { MOST = 11 };

/* ---- the model of time, in bytes and seconds ---- */

struct example {
	int tensors;
	struct tensor_info tensor[MOST];
	double ready[MOST], bytes[MOST];        /* bytes: with the padding behind it */
	int64_t n;
	double a, b;
	struct range bucket[MOST];
};

/* Tensors up to end[0] go first, then those up to end[1] … */
static double landing(const struct example *e, const int *end, int messages)
{
	double free_at = 0;

	for (int m = 0, first = 0; m < messages; first = end[m++]) {
		double bytes = 0, starts = e->ready[end[m] - 1];

		for (int i = first; i < end[m]; i++)
			bytes += e->bytes[i];
		if (starts < free_at)
			starts = free_at;
		free_at = starts + e->a + e->b * bytes;
	}
	return free_at;
}

/* Bit i of cuts: a message ends behind tensor i. */
static double landing_of(const struct example *e, unsigned cuts)
{
	int end[MOST], messages = 0;

	for (int i = 0; i < e->tensors; i++)
		if (i == e->tensors - 1 || cuts >> i & 1)
			end[messages++] = i + 1;
	return landing(e, end, messages);
}

static double earliest(const struct example *e)
{
	double best = INFINITY;

	for (unsigned cuts = 0; cuts < 1u << (e->tensors - 1); cuts++)
		best = fmin(best, landing_of(e, cuts));
	return best;
}

/* Of all plans that have landed by then, but for rounding. */
static int fewest(const struct example *e, double then)
{
	int best = e->tensors;

	for (unsigned cuts = 0; cuts < 1u << (e->tensors - 1); cuts++) {
		int messages = 1 + __builtin_popcount(cuts);

		if (messages < best && landing_of(e, cuts) <= then * (1 + 1e-12))
			best = messages;
	}
	return best;
}

/* The rule as the paper's program has it: who is final less than a after the open message could leave, joins it. */
static double rule_lands(const struct example *e)
{
	double starts = e->ready[0], bytes = e->bytes[0];

	for (int i = 1; i < e->tensors; i++) {
		if (e->ready[i] < starts + e->a) {
			starts = fmax(starts, e->ready[i]);
			bytes += e->bytes[i];
		} else {
			starts = fmax(starts + e->a + e->b * bytes, e->ready[i]);
			bytes = e->bytes[i];
		}
	}
	return starts + e->a + e->b * bytes;
}

static void draw(struct example *e, struct rng *rng)
{
	double now = 0;

	*e = (struct example){ .tensors = 1 + (int)rng_below(rng, MOST) };
	for (int i = 0; i < e->tensors; i++) {
		int64_t n = 1 + (int64_t)exp(9 * rng_uniform(rng)), room = (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;

		e->tensor[i] = (struct tensor_info){ .offset = e->n, .n = n };
		e->n += room;
		e->bytes[i] = 4 * (double)room;
		now += rng_below(rng, 4) ? rng_uniform(rng) : 0;        /* some become final together */
		e->ready[i] = now;
	}
	e->a = rng_below(rng, 8) ? exp(6 * rng_uniform(rng) - 5) : 0;
	e->b = exp(10 * rng_uniform(rng) - 14);
}

static int plan(struct example *e, double share)
{
	struct schedule_facts f = { .latency = e->a, .per_byte = e->b, .backward = e->ready[e->tensors - 1], .ready = e->ready,
	                            .tensors = e->tensors, .share = share };

	return schedule_find("mg-wfbp")->refine(&f, e->tensor, e->tensors, e->n, e->bucket);
}

/* When the plan lands; NAN if its buckets are not the arena, in order. */
static double plan_lands(const struct example *e, int messages)
{
	int end[MOST], last = 0;
	int64_t from = 0;

	for (int m = 0; m < messages; m++) {
		const struct range *r = &e->bucket[m];

		if (r->offset != from || r->tensor != &e->tensor[last] || r->tensors < 1 || r->tensor->offset != from)
			return NAN;
		end[m] = last += r->tensors;
		from += r->n;
	}
	return from == e->n && last == e->tensors ? landing(e, end, messages) : NAN;
}

static void test_optimum(void)
{
	enum { CASES = 4000 };
	int right = 0, few = 0, same = 0, rule_worse = 0, rule_better = 0;
	double worst = 1;
	struct example e;
	struct rng rng;

	rng_init(&rng, 11, RNG_TEST, 0, 0);
	for (int i = 0; i < CASES; i++) {
		double best, lands, rule;
		int messages;

		draw(&e, &rng);
		messages = plan(&e, 1);
		best = earliest(&e);
		lands = plan_lands(&e, messages);
		rule = rule_lands(&e);
		right += fabs(lands - best) <= 1e-9 * best;
		few += messages == fewest(&e, best);
		same += fabs(schedule_landed(&(struct schedule_facts){ .latency = e.a, .per_byte = e.b, .ready = e.ready, .share = 1 }, e.tensor,
		                             e.bucket, messages) - lands) <= 1e-9 * lands;
		rule_worse += rule > best * (1 + 1e-9);
		rule_better += rule < best * (1 - 1e-9);
		worst = fmax(worst, rule / best);
	}
	ok(right == CASES, "no plan of all 2^(L-1) lands earlier: %d of %d, L up to %d", right, CASES, MOST);
	ok(few == CASES, "nor as early in fewer messages: %d of %d", few, CASES);
	ok(same == CASES, "schedule_landed() says when: %d of %d", same, CASES);
	ok(rule_better == 0 && rule_worse > 0, "the rule of the paper's program lands later in %d of %d, by up to %.1f %%, and earlier in none",
	   rule_worse, CASES, 100 * (worst - 1));
}

static void test_limits(void)
{
	struct example e;
	struct rng rng;
	int unmerged = 0, single = 0, one = 0, shared = 0, at_once = 0;
	enum { CASES = 200 };

	rng_init(&rng, 12, RNG_TEST, 0, 0);
	for (int i = 0; i < CASES; i++) {
		struct range scaled[MOST];
		int messages;

		draw(&e, &rng);
		e.b *= 0.01;
		messages = plan(&e, 1);
		memcpy(scaled, e.bucket, sizeof(scaled));
		e.b *= 100;
		shared += plan(&e, 0.01) == messages && !memcmp(scaled, e.bucket, (size_t)messages * sizeof(*scaled));
		e.a = 0;
		messages = plan(&e, 1);
		unmerged += fabs(plan_lands(&e, messages) / landing_of(&e, ~0u) - 1) <= 1e-9;
		for (int t = 1; t < e.tensors; t++)             /* each lands as the next one is final: who waits for another is late */
			e.ready[t] = e.ready[t - 1] + e.b * e.bytes[t - 1];
		single += plan(&e, 1) == e.tensors;
		e.a = 1e6;
		one += plan(&e, 1) == 1;
		e.a = 1e-3;
		for (int t = 0; t < e.tensors; t++)
			e.ready[t] = 7;
		at_once += plan(&e, 1) == 1;
	}
	ok(unmerged == CASES, "messages that cost nothing to begin: as early as all by themselves");
	ok(single == CASES, "and where one would wait for another, all by themselves");
	ok(one == CASES, "messages that cost much to begin: one");
	ok(at_once == CASES, "all gradients final at once: one message");
	ok(shared == CASES, "a compressor that leaves 1 %% of the bytes is a network 100 times as fast");
	/* The example in the head of mgwfbp.c. */
	e = (struct example){ .tensors = 3, .n = 48, .ready = { 0, 9, 15 }, .bytes = { 64, 64, 64 }, .a = 10, .b = 5.0 / 64 };
	for (int i = 0; i < 3; i++)
		e.tensor[i] = (struct tensor_info){ .offset = 16 * i, .n = 16 };
	ok(rule_lands(&e) == 40 && plan_lands(&e, plan(&e, 1)) == 35 && e.bucket[0].tensors == 1, "deciding tensor by tensor lands at 40, the plan at 35");
}

/* ---- in a sync ---- */

static struct config *config_of(const char *algorithm, const char *method, const char *scope, const char *kind)
{
	char *sets[] = { xasprintf("sync.algorithm=%s", algorithm), xasprintf("compress.method=%s", method), xasprintf("compress.scope=%s", scope),
	                 xasprintf("topology.kind=%s", kind), xasprintf("compress.density=0.1"), xasprintf("schedule.fusion=mg-wfbp") };
	struct config *config = config_load(kit_schema(), NULL, (const char *const *)sets, 6, NULL);

	CHECK(config);
	for (int i = 0; i < 6; i++)
		free(sets[i]);
	return config;
}

static void test_refused(const char *algorithm, const char *kind, const char *words)
{
	struct config *config = config_of(algorithm, "none", "model", kind);
	struct sync sync;
	int rc = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N);

	ok(rc == -1 && strstr(errors_text(), words) && strstr(errors_text(), "hint:"), "%s on %s: refused", algorithm, kind);
	errors_clear();
	sync_release(&sync);
	config_free(config);
}

static void test_wants(const char *method, const char *scope, bool wants, double share, int exchanges)
{
	struct config *config = config_of("ssgd", method, scope, "all-reduce");
	double ready[KIT_TENSORS] = { 0, 1, 1, 4, 4 };
	struct schedule_facts f = { .latency = 0.1, .per_byte = 1e-9, .backward = 4, .ready = ready, .tensors = KIT_TENSORS };
	struct sync sync;

	CHECK(sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	ok(sync.schedule.buckets == 1 && !sync_wants_facts(&sync, 1) && sync_wants_facts(&sync, 3) == wants, "%s in the %s %s to know", method, scope,
	   wants ? "wants" : "does not want");
	if (wants) {
		const struct range *bucket;

		sync_refine(&sync, &f, 3);
		ok(sync_buckets(&sync, 3, &bucket) == 2 && bucket[0].tensors == 3 && sync.pieces == (sync.compress.per_bucket ? 2 : 1),
		   "%s: two messages, as planned", method);
		near(sync.schedule.facts.share, share, 1e-12, "and what is left of the bytes");
		near(schedule_message(&sync.schedule.facts, 1000), exchanges * 0.1 + share * 4e-6, 1e-12, "and how often a message begins");
	}
	sync_release(&sync);
	config_free(config);
}

/* ---- facts as a text ---- */

static char path[] = "/tmp/cocod-facts-XXXXXX";

static void write_text(const char *text)
{
	FILE *file = fopen(path, "w");

	CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static int read_back(struct schedule_facts *f) { return schedule_facts_read(path, "test", f, kit_tensor, 2); }

static void test_text(void)
{
	static const struct { const char *text, *words; } cases[] = {
		{ "", "line 1: latency is not there" },
		{ "latency 1\nper_byte x\n", "line 2: per_byte is not there" },
		{ "latency 1\nper_byte -1\n", "line 2: per_byte is not a time" },
		{ "latency nan\n", "line 1: latency is not a time" },
		{ "latency 1\nper_byte 1\nerror 0\nbackward 1\nlayer5.weight 2\nlayer4.weight 1\n", "line 6: layer4.weight is final before" },
		{ "latency 1\nper_byte 1\nerror 0\nbackward 1\nlayer5.weight 2\n", "line 6: layer4.weight is not there" },
		{ "latency 1\nper_byte 1\nerror 0\nbackward 1\nfc.weight 2\n", "line 5: layer5.weight is not there" },
	};
	double ready[2] = { 1 / 3.0, 0.7 }, back[2];
	struct schedule_facts f = { .latency = 1e-5 / 3, .per_byte = 1e-10 / 7, .error = 0.1, .backward = 0.9, .ready = ready, .tensors = 2 };
	struct schedule_facts got = { .ready = back };
	FILE *file = fopen(path, "w");

	CHECK(file);
	schedule_facts_write(file, &f, kit_tensor);
	CHECK(fclose(file) == 0);
	ok(read_back(&got) == 0 && got.latency == f.latency && got.per_byte == f.per_byte && got.error == f.error && got.backward == f.backward &&
	   !memcmp(ready, back, sizeof(ready)), "facts are read as they were written, to the bit");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		write_text(cases[i].text);
		ok(read_back(&got) == -1 && strstr(errors_text(), cases[i].words) && strstr(errors_text(), "hint:"), "refused: %s", cases[i].words);
		errors_clear();
	}
	CHECK(unlink(path) == 0);
	ok(read_back(&got) == -1 && strstr(errors_text(), "No such file"), "a file that is not there");
	errors_clear();
}

int main(void)
{
	int file = mkstemp(path);

	CHECK(file >= 0 && close(file) == 0);
	kit_layout();
	test_optimum();
	test_limits();
	test_refused("local", "all-reduce", "does not send them");
	test_refused("cocod", "all-reduce", "does not send them");
	test_refused("ssgd", "ps", "has none");
	test_wants("none", "model", true, 1, 1);
	test_wants("topk", "model", false, 0, 0);
	test_wants("topk", "bucket", true, 2 * 40 * 8 / (4 / 3.0 * 4 * KIT_N), 1);   /* an all-gather among three, k = 40 of 400 */
	/* Of rank 2: of 6 x 8, 5 x 20 and 15 x 10 the factors, the vectors as they lie in the arena. */
	test_wants("powersgd", "model", true, (2.0 * (14 + 25 + 25) + 16 + 64) / KIT_N, 2);
	test_text();
	return done_testing();
}
