/*
 * Gaussian-k: top-k by a threshold that mean and deviation give.
 *
 * Paper: Shi, Chu, Cheung, See: "Understanding Top-k Sparsification in Distributed Deep Learning", 2019 (arXiv 1911.08772). Residual
 * plus gradient looks like a bell, so where its tail of k elements begins can be computed instead of searched.
 *
 *     acc = e + in;  mu, sigma = mean and deviation of acc
 *     t = |mu| + z sigma,  where P(|N(0, 1)| > z) = k / n
 *     up to twice: fewer than 2/3 k elements reach t: t = t / 2;  more than 4/3 k: t = 1.5 t
 *     S = { j : |acc_j| >= t }, at most its k largest;  e = acc without S
 *     all-gather (index, value) of S, filled up to k with holes                        (P-1) k pairs of 8 bytes sent
 *     out = sum_i w_i scatter(S_i)                                                    on every worker, in rank order: same bits
 *
 * The authors' code tries three times and uses what the third try chose, which is two corrections, and of more than k it takes the first
 * k by index; here the k largest, so that no layer is favoured. Their bound on the positive side is mu + z sigma; with |mu| it does not
 * matter which sign the mean has. The two corrections need three counts at most, so one pass counts for all three thresholds.
 *
 * Why the list has a fixed length, and what that costs: threshold.c. Nothing gets lost: applied + residuals = inputs.
 *
 * Three passes that only read or add, on a GPU faster than sorting; but the exact top-k of this program needs one and a half (its
 * bound comes from a sample, not from a bell), so here gaussian-k is for comparison.
 *
 * Limits: late in training, and over layers of different scale, the bell has heavy tails; after two corrections it may be off
 * by much more than a third, and then sends fewer than k, or has to search.
 */
#include "sparsify.h"

struct gaussian_k {
	struct sparsify base;
	float *least;                   /* t, in device memory */
};

static void gaussian_k_choose(struct compress *c, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out)
{
	struct gaussian_k *g = c->state;
	const struct sparse_ops *ops = c->comm->device->ops->sparse;
	struct stream *s = c->comm->stream;

	trace_begin(s, "select", "values", k);
	ops->normal_bound(s, n, k, residual, in, g->least);
	ops->select(s, n, k, g->least, in, residual, out, g->base.work);
	trace_end(s);
}

static int gaussian_k_init(struct compress *c, const struct config *config)
{
	struct gaussian_k *g = c->state;

	g->base.choose = gaussian_k_choose;
	return sparsify_init(&g->base, c, config);
}

static void gaussian_k_bind(struct compress *c, const struct range *ranges, int count)
{
	struct gaussian_k *g = c->state;

	sparsify_bind(&g->base, c, ranges, count, c->comm->size);
	g->least = c->comm->device->ops->mem->alloc(c->comm->device, sizeof(*g->least));
}

static void gaussian_k_release(struct compress *c)
{
	struct gaussian_k *g = c->state;

	c->comm->device->ops->mem->free(c->comm->device, g->least);
	sparsify_release(&g->base, c);
}

extern const struct compress_ops compress_gaussian_k;
const struct compress_ops compress_gaussian_k = {
	.name = "gaussian-k",
	.paper = "top-k by a threshold from mean and deviation: Shi et al., 2019, arXiv 1911.08772",
	.options = sparsify_options,
	.halves = true,
	.state_size = sizeof(struct gaussian_k),
	.init = gaussian_k_init,
	.bind = gaussian_k_bind,
	.average = sparsify_list_average,
	.wire = sparsify_list_wire,
	.pack = sparsify_list_pack,
	.unpack = sparsify_list_unpack,
	.epoch = sparsify_on_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = sparsify_on_state,
	.bytes = sparsify_list_bytes,
	.cost = sparsify_list_cost,
	.release = gaussian_k_release,
};
