/*
 * Top-k with error feedback over all-gather.
 *
 * Papers: Aji & Heafield, EMNLP 2017 (sparse, residual kept); Stich et al., NeurIPS 2018 (convergence with memory).
 *
 *     acc = e + in;  S = the k largest |acc|;  e = acc without S                       on every worker
 *     all-gather (index, value) of S                                                  (P-1) k pairs of 8 bytes sent
 *     out = sum_i w_i scatter(S_i)                                                    on every worker, in rank order: same bits
 *
 * In a chain, ("topk", "fp16"), values go in two bytes: each worker rounds its own, once, before anybody sees them, and keeps what
 * rounding takes away in its residual: S is what the others get, and e = acc - S as before. An index and a value take 6 bytes then (a
 * list of odd length 2 more). fp16 has 11 bits, nothing above 65504 and nothing below 6e-8: such a value waits until it has grown.
 *
 * compress.selection = "sampled" (Lin et al., ICLR 2018, section 3): a sample of a few thousand elements, always at the same places,
 * estimates the magnitude that k elements reach; S is what reaches it. With about 64 of the sample above it the estimate is off
 * by an eighth (one standard deviation): if more than k reach it, S is the k largest after all; if fewer do, the list, which has its length
 * whatever happens (threshold.c says why), ends in holes, and some that would have gone wait in e. Nothing is lost either way. It is there
 * for comparison: the exact choice takes one pass over memory as well (core/cpu/cpu_topk.c).
 *
 *     compute   | backward …      |                 wait |  update
 *     comm                          top-k  all-gather  sum
 *
 * Limits: volume grows with P; with compress.scope = "model" (as in the papers' codes) nothing leaves before backward has ended.
 */
#include "sparsify.h"

static const struct option topk_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	SPARSIFY_SELECTION,
	{ 0 },
};

static void topk_choose(struct compress *c, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out)
{
	sparsify_choose(c->state, c, n, k, in, residual, out);
}

static int topk_init(struct compress *c, const struct config *config)
{
	struct sparsify *s = c->state;

	s->choose = topk_choose;
	sparsify_selection(s, config);
	return sparsify_init(s, c, config);
}

static void topk_bind(struct compress *c, const struct range *ranges, int count)
{
	sparsify_bind(c->state, c, ranges, count, c->comm->size);
}

extern const struct compress_ops compress_topk;
const struct compress_ops compress_topk = {
	.name = "topk",
	.paper = "top-k with error feedback, all-gather: Aji & Heafield, EMNLP 2017; Stich et al., NeurIPS 2018",
	.options = topk_options,
	.halves = true,
	.state_size = sizeof(struct sparsify),
	.init = topk_init,
	.bind = topk_bind,
	.average = sparsify_list_average,
	.wire = sparsify_list_wire,
	.pack = sparsify_list_pack,
	.unpack = sparsify_list_unpack,
	.epoch = sparsify_on_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = sparsify_on_state,
	.bytes = sparsify_list_bytes,
	.cost = sparsify_list_cost,
	.release = sparsify_on_release,
};
