/*
 * MG-WFBP: tensors are merged into messages such that the last of them lands as early as it can.
 *
 * Paper: Shi, Chu, Li: "MG-WFBP: Efficient Data Communication for Distributed Synchronous SGD Algorithms", INFOCOM 2019 (arXiv 1811.11141).
 *
 * Backward makes the gradient of tensor 1 (of the last layer) final at r_1, then those of 2, 3 … L, r_1 <= … <= r_L. Tensors of M bytes
 * that go together take T(M) = a + b M, a of which is saved for each that joins another; but none of them leaves before the last is final:
 *
 *     one by one      compute   | backward 1 | 2 | 3 | 4 |                    merged      | 1 | 2 | 3 | 4 |
 *                     comm                   | a 1 | a 2 | a 3 | a 4 |                        | a 1 | a 2 3 4 |
 *
 * A plan cuts 1 … L into messages of neighbours. The one of tensors i+1 … j leaves when j is final and the message before it, which
 * ends with tensor i, has landed at t_i:
 *
 *     t_j = max(t_i, r_j) + a + b (M_{i+1} + … + M_j),     t_0 = 0
 *
 * What is seen of the exchange is t_L minus the end of backward. This file finds the least t_L of all 2^(L-1) plans:
 *
 *     for j = 1 … L:  t_j = the least, over i < j, of the above                  L^2 / 2 sums; L is some hundreds at most
 *
 * Why that is the optimum: the right side never falls when t_i grows, so if the best plan cuts behind i, its messages before i may be
 * replaced by those that land earliest there, and it is no later.
 *
 * Many plans share that t_L: while backward goes on, it does not matter when a message lands. They are not equal outside the model, where
 * each message takes time of the host and of others on the machine. So of the plans with the least t_L the one with the fewest messages is
 * taken: the same sums, once for each number k of messages, t_j^k from the t_i^(k-1), until t_L^k is t_L. Of those with as many its
 * prefixes land earliest, so that nothing is put off needlessly.
 *
 * The paper decides from the last layer on, for one tensor after the other: message l waits for tensor l+1 if that is final less than
 * a after l could leave. Between two tensors that is the optimum: together they land at max(t, r) + a + b (M_l + M_{l+1}), apart at
 * max(t + a + b M_l, r) + a + b M_{l+1}, which is later exactly if r < t + a. In a row it need not be: with a = 10, b = 1, M = 5, 5, 5
 * and r = 0, 9, 15 the rule merges all, t_3 = 40, and (1)(2 3) lands at 35. To look at all cuts costs nothing, so it is done.
 *
 * a, b and r are measured on this machine before the first step (cmd/profile.c), the slowest worker's, or read from a file
 * (schedule.facts): the plan is a function of that file and the model. It is made once; until then, and for one worker, the plan is one
 * message.
 *
 * Sent: what the schedule "none" sends, to the byte, in fewer messages (a parameter arena's padding is sent as well).
 *
 * Limits: the line T(M) is of an all-reduce of floats alone on the machine. A compressor is taken to shorten M by its ratio over the whole
 * model, to exchange as often in each message as at most in one (powersgd twice, also where no tensor is worth it), always with the latency
 * of an all-reduce (an all-gather of lists has half of it), and to compute nothing, which flatters it. What backward hides is free in this
 * model; where communication takes the processor from computing (the hook, or no spare core) it is not. Workers that are late for reasons
 * of their own are not in it. A tensor is not cut, so the last message is at least the first layer's.
 */
#include <math.h>
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "schedule.h"

static int plan_unknown(const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n, struct range *bucket)
{
	(void)config;
	bucket[0] = schedule_span(tensor, tensors, n, 0, tensors);
	return 1;
}

static const double ROUNDING = 1 + 1e-12;

/* When each prefix lands at the earliest, if what is in front of its last message lands as `before` says; cut: where that message begins.
 * before may be landed: prefixes are done from the shortest on. landed[0] is the caller's. */
static void land(const struct schedule_facts *f, const struct range *whole, const double *before, double *landed, int *cut)
{
	for (int end = 1; end <= whole->tensors; end++) {
		landed[end] = INFINITY;
		for (int begin = end - 1; begin >= 0; begin--) {
			struct range r = schedule_span(whole->tensor, whole->tensors, whole->n, begin, end);
			double at = fmax(before[begin], f->ready[end - 1]) + schedule_message(f, r.n);

			if (at < landed[end]) {
				landed[end] = at;
				cut[end] = begin;
			}
		}
	}
}

/* In how few messages can all have landed by then? cut: a row of tensors + 1 for each of them. */
static int count_messages(const struct schedule_facts *f, const struct range *whole, double then, int *cut)
{
	int ends = whole->tensors + 1, messages = 0;
	double *before = xcalloc((size_t)ends, sizeof(*before)), *landed = xcalloc((size_t)ends, sizeof(*landed));

	for (int i = 1; i < ends; i++)
		landed[i] = INFINITY;                   /* in no message nothing lands */
	while (messages < whole->tensors && !(landed[whole->tensors] <= then)) {
		double *swap = before;

		before = landed;
		landed = swap;
		landed[0] = INFINITY;
		land(f, whole, before, landed, cut + (size_t)messages++ * (size_t)ends);
	}
	free(before);
	free(landed);
	return messages;
}

static int plan_merged(const struct schedule_facts *f, const struct tensor_info *tensor, int tensors, int64_t n, struct range *bucket)
{
	struct range whole = { 0, n, tensor, tensors };
	size_t ends = (size_t)tensors + 1;
	double *landed = xcalloc(ends, sizeof(*landed));
	int *cut = xcalloc(ends * (size_t)tensors, sizeof(*cut)), messages;

	land(f, &whole, landed, landed, cut);
	messages = count_messages(f, &whole, landed[tensors] * ROUNDING, cut);
	for (int m = messages - 1, end = tensors; m >= 0; m--) {
		int begin = cut[(size_t)m * ends + (size_t)end];

		bucket[m] = schedule_span(tensor, tensors, n, begin, end);
		end = begin;
	}
	free(landed);
	free(cut);
	return messages;
}

static const struct option mgwfbp_options[] = {
	{ "facts", OPTION_STRING, NULL, 0, 0, NULL, "an earlier run's schedule.txt, to plan by it instead of measuring" },
	{ "bucket_mb", OPTION_FLOAT, "4.0", 0.001, 10000, NULL, "megabytes of the buckets that its prediction is compared with" },
	{ 0 },
};

extern const struct schedule_ops schedule_mgwfbp;
const struct schedule_ops schedule_mgwfbp = {
	.name = "mg-wfbp",
	.paper = "tensors merged by measured times so that the last lands earliest: Shi, Chu, Li, INFOCOM 2019",
	.options = mgwfbp_options,
	.plan = plan_unknown,
	.refine = plan_merged,
};
