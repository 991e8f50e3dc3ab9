/*
 * Trainings by a plan that was made of facts: bit for bit those of the schedule that cuts at the same places, with as many bytes.
 */
#include "sync_kit.h"

enum { STEPS = 9 };

static const double LATENCY = 1e-3, PER_BYTE = 1e-6;

/* Times that lead to the cuts of another schedule, if messages are `share` of their dense length. */
static void facts_like(const char *fusion, double share, double *ready)
{
	for (int i = 0; i < KIT_TENSORS; i++)
		ready[i] = !strcmp(fusion, "size") && i == KIT_TENSORS - 1;     /* the last one much later than the others, which fill a bucket */
	for (int i = 1; i < KIT_TENSORS && !strcmp(fusion, "none"); i++)        /* who waits for another is late */
		ready[i] = ready[i - 1] + LATENCY + PER_BYTE * share * 4 * (double)kit_range(i - 1).n;
}

static void compare(struct kit *k, struct oracle_setup p, const char *fusion, const char *scope)
{
	double ready[KIT_TENSORS];
	struct schedule_facts facts = { .latency = LATENCY, .per_byte = PER_BYTE, .backward = 5, .ready = ready, .tensors = KIT_TENSORS };
	struct manner how = { .steps = STEPS, .epoch_steps = 3, .batch = uneven }, planned = how;
	struct course trace[2];
	bool same;

	/* An all-gather of a tenth of the elements with their indices, beside a ring. */
	facts_like(fusion, p.method == TOPK && world.size > 1 ? 0.1 * world.size : 1, ready);
	planned.facts = &facts;
	p.seed = 5;
	for (int i = 0; i < 2; i++) {
		course_open(&trace[i], STEPS, KIT_N);
		kit_train(k, &p, scope, i ? "mg-wfbp" : fusion, i ? &planned : &how, &trace[i]);
	}
	same = !memcmp(trace[0].x, trace[1].x, STEPS * KIT_N * sizeof(*trace[0].x));
	all_ok(same && trace[0].bytes == trace[1].bytes && trace[0].said == trace[1].said, "%s with %s in the %s, %s: planned as \"%s\", the same bits and bytes",
	       p.algorithm->name, method_name[p.method], scope, k->driver, fusion);
	course_close(&trace[0]);
	course_close(&trace[1]);
}

int main(void)
{
	static const char *const fusions[] = { "size", "none", "model" };
	static const enum progress drivers[] = { PROGRESS_HOOK, PROGRESS_THREAD };

	ranks_open();
	kit_layout();
	for (int d = 0; d < 2; d++) {
		struct kit k = kit_open(drivers[d]);

		for (int i = 0; i < 3; i++) {
			struct oracle_setup pipe = setup(&oracle_pipe, DENSE, 1, 1, 1, uneven, "bucket", fusions[i]);

			pipe.key[PIPE_WIDTH] = 2;
			compare(&k, setup(&oracle_ssgd, DENSE, 1, 1, 1, uneven, "bucket", fusions[i]), fusions[i], "bucket");
			compare(&k, setup(&oracle_ssgd, TOPK, 0.1, 1, 1, uneven, "bucket", fusions[i]), fusions[i], "bucket");
			compare(&k, pipe, fusions[i], "bucket");
		}
		kit_close(&k);
	}
	return ranks_close();
}
