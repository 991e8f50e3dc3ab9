/*
 * gTop-k: the k largest of the sum, found by merging lists of k.
 *
 * Paper: Shi, Wang, Chu, Liu, Tang, Zhao, Li: "A Distributed Synchronous SGD Algorithm with Global Top-k Sparsification for Low
 * Bandwidth Networks", ICDCS 2019 (arXiv 1901.04359).
 *
 *     acc = e + in;  S = the k largest |acc|;  e = acc without S
 *     G = w_i S                                        weighted, so that the sum is the average
 *     merge: G = the k largest of G + H (index-wise sum), until G has everybody's S in it
 *     a pick of S that is not in G after one of the merges on its way is lost: it goes back to the residual
 *     out = scatter(G), the same on every worker
 *
 * compress.variant says who merges:
 *
 *     recursive    log2 P rounds r = 0, 1, …: send G to rank XOR 2^r, receive its list H; both merge
 *     tree         the paper's: in round r every second of those that still have a list sends it to the one 2^r below; what rank 0 has in
 *                  the end goes the same ways down again. With each list down goes a byte for each pick that came up: alive or lost
 *     tree-lossy   as the paper's published code: down goes the result alone
 *
 *     5 ranks, recursive   fold        r = 0         r = 1         unfold
 *                          4 → 0       0 ↔ 1  2 ↔ 3  0 ↔ 2  1 ↔ 3  0 → 4
 *     5 ranks, tree        r = 0       r = 1     r = 2     then down
 *                          1→0  3→2    2→0       4→0       0→4       0→2       0→1  2→3
 *
 * Conservation: whoever holds index j in its list at some round either sees it survive the merge, as do all workers whose picks
 * are summed in it, or all of them get to know it as lost and take their own value back. So applied + residuals = inputs, exactly up
 * to rounding. tree-lossy knows the final list only, and leaks: j may be lost in one subtree and survive through another, and then
 * the values of the first are neither applied nor taken back. It is there to be measured (test_mpi_gtopk prints what got lost).
 *
 * Any P. The tree needs nothing for that. Recursive: with P = 2^m + q the q last ranks first fold their lists into those of the first q.
 * Rank i < q watches over the picks of its guest as over its own, and at the end returns the result and one byte a pick. For P = 2^m
 * both variants merge the same lists in the same order: the results are the same to the bit.
 *
 * Volume, in pairs of 8 bytes: recursive: log2 P lists of k sent by each of the 2^m ranks; folded ranks send one, their hosts one more and
 * k bytes. Trees: 2 (P-1)/P lists on average, up to 1 + log2 P by one rank, and (P-1)/P k bytes: less than recursive, in twice the time.
 *
 * Limits: the result is the top k of sums of truncated lists, not the exact top k of the sum. One merge is O(k).
 */
#include <string.h>

#include "../../core/config.h"
#include "../sync/sync.h"
#include "sparsify.h"

enum variant { RECURSIVE, TREE, TREE_LOSSY };

struct gtopk {
	struct sparsify base;           /* base.list: the running sum G; recursive: and the next; trees: one a round, the first is the own */
	enum variant variant;
	struct sparse *peer;            /* what came in; trees: one a round */
	struct sparse *guest;           /* recursive: the folded rank's picks, as they came in; trees: the result, from above */
	/* Of the own picks: 1 while they are in every merged list. Recursive: of the guest's; trees: of those of a list on its way down. */
	uint8_t *alive, *guest_alive, *next_alive;
	uint8_t *ones;                  /* k times 1, to begin with */
};

static const struct option gtopk_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ "variant", OPTION_STRING, "\"recursive\"", 0, 0, "recursive|tree|tree-lossy", "who merges lists: all, pairwise; or a tree, in which "
	  "tree-lossy loses what its paper's code loses" },
	{ 0 },
};

static int largest_power(int size)
{
	int p = 1;

	while (2 * p <= size)
		p *= 2;
	return p;
}

static int rounds_up(int size)
{
	int rounds = 0;

	while (1 << rounds < size)
		rounds++;
	return rounds;
}

static int gtopk_init(struct compress *c, const struct config *config)
{
	struct gtopk *g = c->state;
	const char *variant = config_string(config, "compress.variant");

	g->variant = !strcmp(variant, "recursive") ? RECURSIVE : !strcmp(variant, "tree") ? TREE : TREE_LOSSY;
	return sparsify_init(&g->base, c, config);
}

static void gtopk_bind(struct compress *c, const struct range *ranges, int count)
{
	struct gtopk *g = c->state;
	struct device *dev = c->comm->device;
	int rounds = rounds_up(c->comm->size);
	uint8_t ones[128];
	size_t k;

	sparsify_bind(&g->base, c, ranges, count, g->variant == RECURSIVE ? 2 : rounds + 1);
	k = (size_t)g->base.most_k;
	g->peer = dev->ops->mem->alloc(dev, k * sizeof(struct sparse) * (size_t)(g->variant == RECURSIVE || rounds == 0 ? 1 : rounds));
	g->guest = dev->ops->mem->alloc(dev, k * sizeof(struct sparse));
	g->alive = dev->ops->mem->alloc(dev, k);
	g->guest_alive = dev->ops->mem->alloc(dev, k);
	g->next_alive = dev->ops->mem->alloc(dev, k);
	g->ones = dev->ops->mem->alloc(dev, k);
	memset(ones, 1, sizeof(ones));
	for (size_t i = 0; i < k; i += sizeof(ones))
		dev->ops->mem->set(c->comm->stream, g->ones + i, ones, k - i < sizeof(ones) ? k - i : sizeof(ones));
}

/* ---- recursive ---- */

/* G of `list[*now]` merged with what came in; picks of mine (and my guest's) that are gone are marked. */
static void merge(struct compress *c, int64_t k, int *now, const struct sparse *in, bool mine_first, bool with_guest)
{
	struct gtopk *g = c->state;
	struct stream *s = c->comm->stream;
	const struct sparse_ops *ops = c->comm->device->ops->sparse;
	struct sparse *old = g->base.list + *now * k, *new = g->base.list + (1 - *now) * k;

	trace_begin(s, "merge", "values", k);
	ops->merge(s, k, mine_first ? old : in, mine_first ? in : old, new, g->base.work);
	ops->survive(s, k, g->base.own, new, NULL, g->alive);
	if (with_guest)
		ops->survive(s, k, g->guest, new, NULL, g->guest_alive);
	trace_end(s);
	*now = 1 - *now;
}

/* Returns the result; marks the picks that are lost. */
static const struct sparse *merge_pairwise(struct compress *c, int64_t k)
{
	struct gtopk *g = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int64_t bytes = k * (int64_t)sizeof(struct sparse);
	int now = 0, power = largest_power(comm->size), extra = comm->size - power;
	int folded = comm->rank >= power ? comm->rank - power : -1, guest = comm->rank < extra ? comm->rank + power : -1;

	if (folded >= 0) {
		comm_exchange(comm, folded, g->base.list, bytes, -1, NULL, 0);
		comm_exchange(comm, -1, NULL, 0, folded, g->base.list, bytes);
		comm_exchange(comm, -1, NULL, 0, folded, g->alive, k);
		return g->base.list;
	}
	if (guest >= 0) {
		dev->mem->copy(comm->stream, g->guest_alive, g->ones, (size_t)k, COPY_DEVICE);
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
	return g->base.list + now * k;
}

/* ---- the tree ---- */

/* The result goes to whoever this round brought a list from. alive: of this round's sum; before: becomes that of the one before it. */
static void send_down(struct compress *c, int64_t k, int round, const struct sparse *result, const uint8_t *alive, uint8_t *before)
{
	struct gtopk *g = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	const struct sparse *sum = g->base.list + (round + 1) * k;
	int child = comm->rank + (1 << round);

	comm_exchange(comm, child, result, k * (int64_t)sizeof(struct sparse), -1, NULL, 0);
	if (g->variant == TREE_LOSSY)
		return;
	dev->mem->copy(comm->stream, g->guest_alive, g->ones, (size_t)k, COPY_DEVICE);
	dev->sparse->survive(comm->stream, k, g->peer + round * k, sum, alive, g->guest_alive);
	comm_exchange(comm, child, g->guest_alive, k, -1, NULL, 0);
	dev->mem->copy(comm->stream, before, g->ones, (size_t)k, COPY_DEVICE);
	dev->sparse->survive(comm->stream, k, sum - k, sum, alive, before);
}

/* Returns the result; marks the picks that are lost, as far as the variant gets to know. */
static const struct sparse *merge_tree(struct compress *c, int64_t k)
{
	struct gtopk *g = c->state;
	struct comm *comm = c->comm;
	const struct sparse_ops *ops = comm->device->ops->sparse;
	int64_t bytes = k * (int64_t)sizeof(struct sparse);
	struct sparse *sum = g->base.list;
	const struct sparse *result;
	uint8_t *alive = g->alive, *before = g->next_alive;
	int round = 0, child;

	for (; (child = comm->rank + (1 << round)) < comm->size && !(comm->rank >> round & 1); round++, sum += k) {
		comm_exchange(comm, -1, NULL, 0, child, g->peer + round * k, bytes);
		ops->merge(comm->stream, k, sum, g->peer + round * k, sum + k, g->base.work);
	}
	result = sum;
	if (comm->rank) {
		int above = comm->rank & (comm->rank - 1);

		comm_exchange(comm, above, sum, bytes, -1, NULL, 0);
		comm_exchange(comm, -1, NULL, 0, above, g->guest, bytes);
		if (g->variant == TREE)
			comm_exchange(comm, -1, NULL, 0, above, g->alive, k);
		result = g->guest;
	}
	while (round-- > 0) {
		uint8_t *last = alive;

		send_down(c, k, round, result, alive, before);
		alive = before;
		before = last;
	}
	if (g->variant == TREE_LOSSY)
		ops->survive(comm->stream, k, g->base.own, result, NULL, g->alive);
	else if (alive != g->alive)
		comm->device->ops->mem->copy(comm->stream, g->alive, alive, (size_t)k, COPY_DEVICE);
	return result;
}

/* ---- both ---- */

static void gtopk_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct gtopk *g = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	struct stream *s = comm->stream;
	int64_t k = sparsify_k(&g->base, range->n);
	const struct sparse *result;

	trace_begin(s, "select", "values", k);
	dev->sparse->topk(s, range->n, k, in + range->offset, g->base.residual + range->offset, g->base.own, g->base.work);
	dev->sparse->scale(s, k, (float)c->weight[comm->rank], g->base.own, g->base.list);
	dev->mem->copy(s, g->alive, g->ones, (size_t)k, COPY_DEVICE);
	trace_end(s);
	result = g->variant == RECURSIVE ? merge_pairwise(c, k) : merge_tree(c, k);
	trace_begin(s, "put back", "values", k);
	dev->sparse->put_back(s, k, g->base.own, g->alive, g->base.residual + range->offset);
	dev->mem->zero(s, out + range->offset, (size_t)range->n * sizeof(float));
	dev->sparse->scatter_add(s, k, 1, result, out + range->offset);
	trace_end(s);
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

/* Averaged over the ranks. Recursive: power ranks send log2(power) lists, `extra` fold one and get one and k bytes back. Trees: every rank
 * but the first sends one up and gets one, and k bytes. */
static double gtopk_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct gtopk *g = c->state;
	double k = (double)sparsify_k(&g->base, n);
	int power = largest_power(workers), extra = workers - power;

	if (g->variant != RECURSIVE)
		return (workers - 1) * (2 * k * 8 + (g->variant == TREE ? k : 0)) / workers;
	return ((double)power * rounds_up(power) * k * 8 + extra * (2 * k * 8 + k)) / workers;
}

/* Recursive doubling: log2 P alpha + 2 k log2 P beta in the paper's units of 4 bytes, more where workers of a node share its link; a fold adds
 * two more messages and one of k bytes. A tree: twice that, up and down, and k bytes come down as well. */
static double gtopk_cost(const struct compress *c, const struct cost_model *m)
{
	const struct gtopk *g = c->state;
	double k = (double)sparsify_k(&g->base, m->n), list = k * sizeof(struct sparse);

	if (g->variant == RECURSIVE)
		return doubling_cost(m, list) + doubling_guest_cost(m, k);
	return tree_cost(m, list) + (g->variant == TREE ? tree_cost(m, k) / 2 : 0);
}

static void gtopk_release(struct compress *c)
{
	struct gtopk *g = c->state;
	struct device *dev = c->comm->device;
	void *const all[] = { g->peer, g->guest, g->alive, g->guest_alive, g->next_alive, g->ones };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		dev->ops->mem->free(dev, all[i]);
	sparsify_release(&g->base, c);
}

extern const struct compress_ops compress_gtopk;
const struct compress_ops compress_gtopk = {
	.name = "gtopk",
	.paper = "global top-k by merging lists: Shi et al., ICDCS 2019, arXiv 1901.04359",
	.options = gtopk_options,
	.state_size = sizeof(struct gtopk),
	.init = gtopk_init,
	.bind = gtopk_bind,
	.average = gtopk_average,
	.epoch = gtopk_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = gtopk_state,
	.bytes = gtopk_bytes,
	.cost = gtopk_cost,
	.release = gtopk_release,
};
