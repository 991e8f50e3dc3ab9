/*
 * Trainings by a plan that was made of facts: bit for bit those of the schedule that cuts at the same places, with as many bytes.
 */
#include "sync_kit.h"

enum { STEPS = 9 };

/* Tensors 1 … 4 are final at once and 5 much later: what "size" makes of them with 250 floats. */
static double together[KIT_TENSORS] = { 0, 0, 0, 0, 1 }, apart[KIT_TENSORS] = { 1, 2, 3, 4, 5 }, at_once[KIT_TENSORS];

static struct schedule_facts facts_of(double *ready)
{
	return (struct schedule_facts){ .latency = 1e-3, .per_byte = 1e-9, .backward = 5, .ready = ready, .tensors = KIT_TENSORS };
}

static void compare(struct kit *k, struct oracle_setup p, const char *fusion, double *ready, const char *scope, const int *batch)
{
	struct schedule_facts facts = facts_of(ready);
	struct manner how = { .steps = STEPS, .epoch_steps = 3, .batch = batch }, planned = how;
	struct trace trace[2];
	bool same;

	planned.facts = &facts;
	p.seed = 5;
	for (int i = 0; i < 2; i++) {
		trace_open(&trace[i], STEPS, KIT_N);
		kit_train(k, &p, scope, i ? "mg-wfbp" : fusion, i ? &planned : &how, &trace[i]);
	}
	same = !memcmp(trace[0].x, trace[1].x, STEPS * KIT_N * sizeof(*trace[0].x));
	all_ok(same && trace[0].bytes == trace[1].bytes && trace[0].said == trace[1].said, "%s with %s in the %s, %s: planned as \"%s\", the same bits and bytes",
	       p.algorithm->name, method_name[p.method], scope, k->driver, fusion);
	trace_close(&trace[0]);
	trace_close(&trace[1]);
}

int main(void)
{
	static const struct { const char *fusion; double *ready; } cuts[] = { { "size", together }, { "none", apart }, { "model", at_once } };
	static const enum progress drivers[] = { PROGRESS_HOOK, PROGRESS_THREAD };

	ranks_open();
	kit_layout();
	for (int d = 0; d < 2; d++) {
		struct kit k = kit_open(drivers[d]);

		for (int c = 0; c < 3; c++) {
			struct oracle_setup pipe = setup(&oracle_pipe, DENSE, 1, 1, 1, uneven, "bucket", cuts[c].fusion);

			pipe.key[PIPE_WIDTH] = 2;
			compare(&k, setup(&oracle_ssgd, DENSE, 1, 1, 1, uneven, "bucket", cuts[c].fusion), cuts[c].fusion, cuts[c].ready, "bucket", uneven);
			compare(&k, setup(&oracle_ssgd, TOPK, 0.1, 1, 1, uneven, "bucket", cuts[c].fusion), cuts[c].fusion, cuts[c].ready, "bucket", uneven);
			compare(&k, pipe, cuts[c].fusion, cuts[c].ready, "bucket", uneven);
		}
		kit_close(&k);
	}
	return ranks_close();
}
