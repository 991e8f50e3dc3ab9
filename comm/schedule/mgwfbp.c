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
 *     for j = 1 … L:  t_j = the least, over i < j, of the above;  keep i                    L^2 / 2 sums; L is some hundreds at most
 *
 * Why that is the optimum: the right side never falls when t_i grows, so if the best plan cuts behind i, its messages before i may be
 * replaced by those that land earliest there, and it is no later. So every prefix lands as early as it can, too: where times turn out
 * other than measured, nothing had been put off to the last moment.
 *
 * The paper decides from the last layer on, for one tensor after the other: message l waits for tensor l+1 if that is final less than
 * a after l could leave. Between two tensors that is the optimum: together they land at max(t, r) + a + b (M_l + M_{l+1}), apart at
 * max(t + a + b M_l, r) + a + b M_{l+1}, which is later exactly if r < t + a. In a row it need not be: with a = 10, b = 1, M = 5, 5, 5
 * and r = 0, 9, 15 the rule merges all, t_3 = 40, and (1)(2 3) lands at 35. The sum over all cuts costs nothing, so it is made.
 *
 * Where ties are, the shorter last message is taken: with a = 0 nothing is merged.
 *
 * a, b and r are measured on this machine before the first step (cmd/profile.c), the slowest worker's, or read from a file
 * (schedule.facts): the plan is a function of that file and the model. It is made once; until then, and for one worker, the plan is one
 * message.
 *
 * Sent: what the schedule "none" sends, to the byte, in fewer messages (a parameter arena's padding is sent as well).
 *
 * Limits: the line T(M) is of an all-reduce of floats alone on the machine. A compressor is taken to shorten M by its ratio and to cost
 * nothing, which flatters it. A message that backward hides is free in this model; where communication takes the processor from computing
 * (the hook, or no spare core) it is not, and fewer, later messages may win (docs/results.md). Workers that are late for other
 * reasons are not in it. A tensor is not cut, so the last message is at least the first layer's.
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

static const double LESS = 1 - 1e-12;   /* what is earlier by rounding alone is not earlier */

/* cut[j]: behind which tensor the message before the one that ends with tensor j ends. */
static void find_cuts(const struct schedule_facts *f, const struct tensor_info *tensor, int tensors, int64_t n, int *cut)
{
	double *landed = xcalloc((size_t)tensors + 1, sizeof(*landed));

	for (int end = 1; end <= tensors; end++) {
		landed[end] = INFINITY;
		for (int begin = end - 1; begin >= 0; begin--) {
			struct range r = schedule_span(tensor, tensors, n, begin, end);
			double at = fmax(landed[begin], f->ready[end - 1]) + schedule_message(f, r.n);

			if (at < landed[end] * LESS) {
				landed[end] = at;
				cut[end] = begin;
			}
		}
	}
	free(landed);
}

static int plan_merged(const struct schedule_facts *f, const struct tensor_info *tensor, int tensors, int64_t n, struct range *bucket)
{
	int *cut = xcalloc((size_t)tensors + 1, sizeof(*cut)), *next = xcalloc((size_t)tensors + 1, sizeof(*next)), count = 0;

	find_cuts(f, tensor, tensors, n, cut);
	for (int end = tensors; end > 0; end = cut[end])
		next[cut[end]] = end;
	for (int begin = 0; begin < tensors; begin = next[begin])
		bucket[count++] = schedule_span(tensor, tensors, n, begin, next[begin]);
	free(cut);
	free(next);
	return count;
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
