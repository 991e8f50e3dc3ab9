/*
 * gTop-k: the k largest of the sum, found by merging lists of k.
 *
 * Paper: Shi, Wang, Chu, Liu, Tang, Zhao, Li: "A Distributed Synchronous SGD Algorithm with Global Top-k Sparsification for Low
 * Bandwidth Networks", ICDCS 2019 (arXiv 1901.04359).
 *
 *     acc = e + in;  S = the k largest |acc|;  e = acc without S
 *     G = w_i S                                        weighted, so that the sum is the average
 *     log2 P rounds r = 0, 1, …: send G to rank XOR 2^r, receive its list H;  G = the k largest of G + H (index-wise sum)
 *                                a pick of S that is not in G after a round is lost: it goes back to the residual
 *     out = scatter(G), the same on every worker
 *
 * Conservation: whoever holds index j in its list at some round either sees it survive the merge, as do all workers whose picks
 * are summed in it, or all of them see it lost and take their own value back. So applied + residuals = inputs, exactly up to
 * rounding. (Testing membership only in the final list, as the tree of the paper's first code does, leaks: j may be lost in one
 * subtree and survive through another.)
 *
 * Any P: with P = 2^m + q the q last ranks first fold their lists into those of the first q. Rank i < q watches over the picks of
 * its guest as over its own, and at the end returns the result and one byte a pick: alive or lost.
 *
 *     5 ranks      fold        r = 0         r = 1         unfold
 *                  4 → 0       0 ↔ 1  2 ↔ 3  0 ↔ 2  1 ↔ 3  0 → 4
 *
 * Volume: log2 P lists of k pairs of 8 bytes sent by each of the 2^m ranks; folded ranks send one, their hosts one more and k bytes.
 *
 * Limits: the result is the top k of sums of truncated lists, not the exact top k of the sum. One merge is O(k).
 */
#include <string.h>

#include "../sync/sync.h"
#include "sparsify.h"

struct gtopk {
	struct sparsify base;           /* base.list: two lists, the running sum G and the next */
	struct sparse *peer;            /* what came in */
	struct sparse *guest;           /* the folded rank's picks, as they came in */
	uint8_t *alive, *guest_alive;   /* of the own and of the guest's picks: 1 while they are in every merged list */
	uint8_t *ones;                  /* k times 1, to begin with */
};

static int largest_power(int size)
{
	int p = 1;

	while (2 * p <= size)
		p *= 2;
	return p;
}

static int gtopk_init(struct compress *c, const struct config *config)
{
	struct gtopk *g = c->state;

	return sparsify_init(&g->base, c, config);
}

static void gtopk_bind(struct compress *c, const struct range *ranges, int count)
{
	struct gtopk *g = c->state;
	struct device *dev = c->comm->device;
	uint8_t ones[128];
	size_t k;

	sparsify_bind(&g->base, c, ranges, count, 2);
	k = (size_t)g->base.most_k;
	g->peer = dev->ops->mem->alloc(dev, k * sizeof(struct sparse));
	g->guest = dev->ops->mem->alloc(dev, k * sizeof(struct sparse));
	g->alive = dev->ops->mem->alloc(dev, k);
	g->guest_alive = dev->ops->mem->alloc(dev, k);
	g->ones = dev->ops->mem->alloc(dev, k);
	memset(ones, 1, sizeof(ones));
	for (size_t i = 0; i < k; i += sizeof(ones))
		dev->ops->mem->set(c->comm->stream, g->ones + i, ones, k - i < sizeof(ones) ? k - i : sizeof(ones));
}

/* G of `list[*now]` merged with what came in; picks of mine (and my guest's) that are gone are marked. */
static void merge(struct compress *c, int64_t k, int *now, const struct sparse *in, bool mine_first, bool with_guest)
{
	struct gtopk *g = c->state;
	struct stream *s = c->comm->stream;
	const struct sparse_ops *ops = c->comm->device->ops->sparse;
	struct sparse *old = g->base.list + *now * k, *new = g->base.list + (1 - *now) * k;

	ops->merge(s, k, mine_first ? old : in, mine_first ? in : old, new, g->base.work);
	ops->survive(s, k, g->base.own, new, g->alive);
	if (with_guest)
		ops->survive(s, k, g->guest, new, g->guest_alive);
	*now = 1 - *now;
}

static void gtopk_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct gtopk *g = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	struct stream *s = comm->stream;
	int64_t k = sparsify_k(&g->base, range->n), bytes = k * (int64_t)sizeof(struct sparse);
	int now = 0, power = largest_power(comm->size), extra = comm->size - power;
	int folded = comm->rank >= power ? comm->rank - power : -1, guest = comm->rank < extra ? comm->rank + power : -1;

	dev->sparse->topk(s, range->n, k, in + range->offset, g->base.residual + range->offset, g->base.own, g->base.work);
	dev->sparse->scale(s, k, (float)c->weight[comm->rank], g->base.own, g->base.list);
	dev->mem->copy(s, g->alive, g->ones, (size_t)k, COPY_DEVICE);
	if (folded >= 0) {
		comm_exchange(comm, folded, g->base.list, bytes, -1, NULL, 0);
		comm_exchange(comm, -1, NULL, 0, folded, g->base.list, bytes);
		comm_exchange(comm, -1, NULL, 0, folded, g->alive, k);
	} else {
		if (guest >= 0) {
			dev->mem->copy(s, g->guest_alive, g->ones, (size_t)k, COPY_DEVICE);
			comm_exchange(comm, -1, NULL, 0, guest, g->guest, bytes);
			merge(c, k, &now, g->guest, true, true);
		}
		for (int step = 1; step < power; step *= 2) {
			int peer = comm->rank ^ step;

			comm_exchange(comm, peer, g->base.list + now * k, bytes, peer, g->peer, bytes);
			merge(c, k, &now, g->peer, comm->rank < peer, guest >= 0);
		}
		if (guest >= 0) {
			comm_exchange(comm, guest, g->base.list + now * k, bytes, -1, NULL, 0);
			comm_exchange(comm, guest, g->guest_alive, k, -1, NULL, 0);
		}
	}
	dev->sparse->put_back(s, k, g->base.own, g->alive, g->base.residual + range->offset);
	dev->mem->zero(s, out + range->offset, (size_t)range->n * sizeof(float));
	dev->sparse->scatter_add(s, k, 1, g->base.list + now * k, out + range->offset);
}

static void gtopk_epoch(struct compress *c, int64_t epoch)
{
	struct gtopk *g = c->state;

	sparsify_epoch(&g->base, epoch);
}

static void gtopk_state(struct compress *c, struct state_visitor *v)
{
	struct gtopk *g = c->state;

	v->vector(v, "residual", c->comm->device, g->base.residual, c->n);
}

/* Averaged over the ranks: power ranks send log2(power) lists, `extra` fold one and get one and k bytes back. */
static double gtopk_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct gtopk *g = c->state;
	double k = (double)sparsify_k(&g->base, n);
	int power = largest_power(workers), extra = workers - power, rounds = 0;

	for (int p = 1; p < power; p *= 2)
		rounds++;
	return ((double)power * rounds * k * 8 + extra * (2 * k * 8 + k)) / workers;
}

/* Recursive doubling: log2 P alpha + 2 k log2 P beta in the paper's units of 4 bytes; a fold adds two more messages. */
static double gtopk_cost(const struct compress *c, const struct cost_model *m)
{
	const struct gtopk *g = c->state;
	double message = m->latency + (double)sparsify_k(&g->base, m->n) * sizeof(struct sparse) * m->per_byte;
	int power = largest_power(m->workers), rounds = m->workers > power ? 2 : 0;

	for (int p = 1; p < power; p *= 2)
		rounds++;
	return rounds * message;
}

static void gtopk_release(struct compress *c)
{
	struct gtopk *g = c->state;
	struct device *dev = c->comm->device;

	dev->ops->mem->free(dev, g->peer);
	dev->ops->mem->free(dev, g->guest);
	dev->ops->mem->free(dev, g->alive);
	dev->ops->mem->free(dev, g->guest_alive);
	dev->ops->mem->free(dev, g->ones);
	sparsify_release(&g->base, c);
}

extern const struct compress_ops compress_gtopk;
const struct compress_ops compress_gtopk = {
	.name = "gtopk",
	.paper = "global top-k by merging lists: Shi et al., ICDCS 2019, arXiv 1901.04359",
	.options = sparsify_options,
	.state_size = sizeof(struct gtopk),
	.init = gtopk_init,
	.bind = gtopk_bind,
	.average = gtopk_average,
	.epoch = gtopk_epoch,
	.state = gtopk_state,
	.bytes = gtopk_bytes,
	.cost = gtopk_cost,
	.release = gtopk_release,
};
