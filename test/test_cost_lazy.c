/*
 * Predicted steps of schedules that reach into the next forward: against the formulas where only one thing matters, and against a clock that
 * ticks through a step where all do.
 */
#include "cost_kit.h"

/* Half of each all-reduce during backward, half during forward; the first layers' bucket is the last to leave and is awaited. */
static void test_split(void)
{
	static const char *const fusions[] = { "none", "size", "model" };

	for (int f = 0; f < 3; f++) {
		struct oracle_setup s = setup_of(&oracle_ssgd_split, DENSE, 1, "model", "none"), p = setup_of(&oracle_ssgd, DENSE, 1, "model", "none");
		double compute = 3e-3, all, last;
		char what[100];

		kit_ranges(&s, "bucket", fusions[f]);
		all = all_ranges(&s, 1024) / 2;
		snprintf(what, sizeof(what), "split, %s: 1024 workers, both halves are longer than what hides them", fusions[f]);
		close_to(predicted(&s, "model", fusions[f], 1024, compute), s.ranges > 1 ? 2 * all : compute + 2 * all, what);
		last = seconds(&s, s.length[s.ranges - 1], 4) / 2;
		snprintf(what, sizeof(what), "split, %s: 4 workers, the last bucket is seen", fusions[f]);
		close_to(predicted(&s, "model", fusions[f], 4, 1), 1 + 2 * last, what);
		ok(predicted(&s, "model", fusions[f], 64, compute) <= predicted(&p, "model", fusions[f], 64, compute), "split, %s: never slower than ssgd",
		   fusions[f]);
	}
}

/* Where messages are short only the first layers' are awaited. Slices of 50 floats: 48, or what is left of a bucket. */
static void test_priority(void)
{
	static const char *const fusions[] = { "none", "size", "model" };

	for (int f = 0; f < 3; f++)
		for (int sliced = 0; sliced < 2; sliced++) {
			struct oracle_setup p = setup_of(sliced ? &oracle_ssgd_sliced : &oracle_ssgd_priority, DENSE, 1, "model", "none");
			double urgent = 0;
			char what[100];

			kit_ranges(&p, "bucket", fusions[f]);
			for (int64_t from = 0, n, all = p.length[p.ranges - 1]; from < all; from += n) {
				n = sliced && all - from > 48 ? 48 : all - from;
				urgent += seconds(&p, n, 4);
			}
			snprintf(what, sizeof(what), "priority, %s, %s: 4 workers, the first layers are awaited", fusions[f], sliced ? "sliced" : "whole");
			close_to(predicted(&p, "model", fusions[f], 4, 1), 1 + urgent, what);
		}
}

/* ---- a clock that ticks ---- */

static const double TICK = 1e-6;

struct message {
	int bucket;
	double seconds;
	bool lands;             /* with the last one that lands the bucket may be read */
};

/*
 * Backward begins at 0, and then forward reads the tensors from the last to the first. Network and computing do a tick's work at a time, or
 * wait: a message for the one in front of it and for its gradients, a layer for its bucket.
 */
static double ticked(const struct schedule *schedule, const struct message *message, int messages, const double *ready,
                     const struct cost_model *m)
{
	int waits[KIT_TENSORS] = { 0 }, sent = 0, layer = KIT_TENSORS - 1, bucket = schedule->buckets - 1;
	double sending = message[0].seconds, reading = m->forward * (1 - ready[layer - 1]);

	for (int i = 0; i < messages; i++)
		waits[message[i].bucket] += message[i].lands;
	for (int64_t tick = 0;; tick++) {
		double now = (double)tick * TICK;
		const struct range *b = &schedule->bucket[sent < messages ? message[sent].bucket : 0];

		if (sent < messages && now >= m->backward * ready[b->tensor + b->tensors - 1 - kit_tensor]) {
			sending -= TICK;
			if (sending <= 0) {
				waits[message[sent].bucket] -= message[sent].lands;
				sending = ++sent < messages ? message[sent].seconds : 0;
			}
		}
		if (now < m->backward || waits[bucket])
			continue;
		reading -= TICK;
		if (reading > 0)
			continue;
		if (layer-- == 0)
			return now + TICK;
		reading = m->forward * (ready[layer] - (layer ? ready[layer - 1] : 0));
		if (&kit_tensor[layer] < schedule->bucket[bucket].tensor)
			bucket--;
	}
}

static int messages_of(const struct plan *plan, const struct oracle_setup *p, int workers, struct message *message)
{
	const struct schedule *schedule = &plan->sync.schedule;
	bool split = p->algorithm == &oracle_ssgd_split;
	int n = 0;

	if (split) {
		for (int b = 0; b < schedule->buckets; b++)
			message[n++] = (struct message){ b, seconds(p, schedule->bucket[b].n, workers) / 2, false };
		for (int b = schedule->buckets - 1; b >= 0; b--)
			message[n++] = (struct message){ b, seconds(p, schedule->bucket[b].n, workers) / 2, true };
	} else {
		struct slice *slice;
		/* backward_share and slice_mb are those of oracle/ssgd.h */
		int slices = schedule_slices(schedule->bucket, schedule->buckets, p->algorithm == &oracle_ssgd_sliced ? 50 : KIT_N, 0.04, &slice);

		for (; n < slices; n++)
			message[n] = (struct message){ slice[n].bucket, seconds(p, slice[n].range.n, workers), true };
		free(slice);
	}
	return n;
}

/* From networks that all hides behind to such that all waits for, layers alike and layers that are not. */
static void test_ticks(const struct oracle_algorithm *algorithm, const char *name)
{
	static const char *const fusions[] = { "none", "size", "model" };
	static const double shares[][KIT_TENSORS] = { { 0.2, 0.4, 0.6, 0.8, 1 }, { 0.7, 0.75, 0.9, 0.95, 1 }, { 0.1, 0.1, 0.15, 0.3, 1 } };

	for (int f = 0; f < 3; f++)
		for (int i = 0; i < 9; i++) {
			struct oracle_setup p = setup_of(algorithm, DENSE, 1, "model", fusions[f]);
			int workers = i / 3 == 0 ? 2 : i / 3 == 1 ? 8 : 64, messages;
			struct cost_model m = machine(workers, 3e-3);
			struct message message[2 * KIT_N / 16] = { 0 };
			struct plan plan;
			char what[100];

			m.ready = shares[i % 3];
			plan_open(&plan, &p, "model", fusions[f], 0);
			messages = messages_of(&plan, &p, workers, message);
			snprintf(what, sizeof(what), "%s, %s, %d workers, layers %d: a step of ticks", name, fusions[f], workers, i % 3);
			near(plan.sync.ops->cost(&plan.sync, &m), ticked(&plan.sync.schedule, message, messages, m.ready, &m),
			     (messages + KIT_TENSORS + 2) * TICK, what);
			plan_close(&plan);
		}
}

int main(void)
{
	kit_layout();
	test_split();
	test_priority();
	test_ticks(&oracle_ssgd_split, "split");
	test_ticks(&oracle_ssgd_priority, "priority");
	test_ticks(&oracle_ssgd_sliced, "sliced");
	return done_testing();
}
