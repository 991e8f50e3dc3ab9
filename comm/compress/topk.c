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

/* Of a list of k. Of 8 bytes a pair, or fewer: s->list has room for either. */
static int64_t list_bytes(const struct compress *c, int64_t k)
{
	return c->half ? sparse_half_bytes(k) : k * (int64_t)sizeof(struct sparse);
}

static void average_halves(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct sparsify *s = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int64_t k = sparsify_k(s, range->n), bytes = list_bytes(c, k);
	float *residual = s->residual + range->offset;
	char *wire = (char *)s->list;

	dev->sparse->topk(comm->stream, range->n, k, in + range->offset, residual, s->own, s->work);
	dev->sparse->pack(comm->stream, k, c->half, s->own, residual, wire + comm->rank * bytes);
	comm_allgather(comm, wire, bytes);
	dev->mem->zero(comm->stream, out + range->offset, (size_t)range->n * sizeof(float));
	for (int r = 0; r < comm->size; r++) {
		dev->sparse->unpack(comm->stream, k, c->half, wire + r * bytes, s->own);
		dev->sparse->scatter_add(comm->stream, k, (float)c->weight[r], s->own, out + range->offset);
	}
}

static void topk_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct sparsify *s = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int64_t k = sparsify_k(s, range->n);

	if (c->half) {
		average_halves(c, range, in, out);
		return;
	}
	dev->sparse->topk(comm->stream, range->n, k, in + range->offset, s->residual + range->offset, s->list + comm->rank * k, s->work);
	comm_allgather(comm, s->list, list_bytes(c, k));
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
	return (double)(workers - 1) * (double)list_bytes(c, sparsify_k(c->state, n));
}

static double topk_cost(const struct compress *c, const struct cost_model *m)
{
	return ring_allgather_cost(m, (double)list_bytes(c, sparsify_k(c->state, m->n)));
}

static void topk_release(struct compress *c) { sparsify_release(c->state, c); }

extern const struct compress_ops compress_topk;
const struct compress_ops compress_topk = {
	.name = "topk",
	.paper = "top-k with error feedback, all-gather: Aji & Heafield, EMNLP 2017; Stich et al., NeurIPS 2018",
	.options = sparsify_options,
	.halves = true,
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
