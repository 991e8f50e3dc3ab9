/*
 * Top-k with error feedback over all-gather.
 *
 * Papers: Aji & Heafield, EMNLP 2017 (sparse, residual kept); Stich et al., NeurIPS 2018 (convergence with memory).
 *
 *     acc = e + in;  S = the k largest |acc|;  e = acc without S                       on every worker
 *     all-gather (index, value) of S                                                  (P-1) k pairs of 8 bytes sent
 *     out = sum_i w_i scatter(S_i)                                                    on every worker, in rank order: same bits
 *
 *     compute   | backward …      |                 wait |  update
 *     comm                          top-k  all-gather  sum
 *
 * Limits: volume grows with P; with compress.scope = "model" (as in the papers' codes) nothing leaves before backward has ended.
 */
#include "../sync/sync.h"
#include "sparsify.h"

static int topk_init(struct compress *c, const struct config *config) { return sparsify_init(c->state, c, config); }

static void topk_bind(struct compress *c, const struct range *ranges, int count)
{
	sparsify_bind(c->state, c, ranges, count, c->comm->size);
}

static void topk_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct sparsify *s = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int64_t k = sparsify_k(s, range->n);

	dev->sparse->topk(comm->stream, range->n, k, in + range->offset, s->residual + range->offset, s->list + comm->rank * k, s->work);
	comm_allgather(comm, s->list, k * (int64_t)sizeof(struct sparse));
	dev->mem->zero(comm->stream, out + range->offset, (size_t)range->n * sizeof(float));
	for (int r = 0; r < comm->size; r++)
		dev->sparse->scatter_add(comm->stream, k, (float)c->weight[r], s->list + r * k, out + range->offset);
}

static void topk_epoch(struct compress *c, int64_t epoch) { sparsify_epoch(c->state, epoch); }

static void topk_state(struct compress *c, struct state_visitor *v)
{
	struct sparsify *s = c->state;

	v->vector(v, "residual", c->comm->device, s->residual, c->n);
}

static double topk_bytes(const struct compress *c, int64_t n, int workers)
{
	return (double)(workers - 1) * (double)sparsify_k(c->state, n) * sizeof(struct sparse);
}

static double topk_cost(const struct compress *c, const struct cost_model *m)
{
	return ring_allgather_cost(m, (double)sparsify_k(c->state, m->n) * sizeof(struct sparse));
}

static void topk_release(struct compress *c) { sparsify_release(c->state, c); }

extern const struct compress_ops compress_topk;
const struct compress_ops compress_topk = {
	.name = "topk",
	.paper = "top-k with error feedback, all-gather: Aji & Heafield, EMNLP 2017; Stich et al., NeurIPS 2018",
	.options = sparsify_options,
	.state_size = sizeof(struct sparsify),
	.init = topk_init,
	.bind = topk_bind,
	.average = topk_average,
	.epoch = topk_epoch,
	.state = topk_state,
	.bytes = topk_bytes,
	.cost = topk_cost,
	.release = topk_release,
};
