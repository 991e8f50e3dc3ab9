/*
 * Hierarchical top-k: dense inside a node, sparse between nodes.
 *
 * Paper: Shi et al.: "Towards Scalable Distributed Training of Deep Learning on Public Cloud Clusters", MLSys 2021 (arXiv 2010.10458),
 * its HiTopKComm.
 *
 * P workers are G nodes of g = P / G; the vector is cut into g shards, of which member m of every node owns shard m.
 *
 *     reduce-scatter in the node:    member m gets  a = sum over the node of w_i in_i, of its shard
 *     acc = e + a / w_m;  S = the k_m largest |acc|;  e = acc without S         k_m: the density's share of the shard
 *     all-gather of S among the members m of all nodes
 *     all-gather in the node of what each member then has; out = sum of w_m S_m over all, shard by shard in the nodes' order: same bits
 *
 *     4 ranks, 2 nodes     0 ↔ 1   2 ↔ 3      0 ↔ 2   1 ↔ 3      0 ↔ 1   2 ↔ 3
 *                          n / 2 floats       k / 2 pairs        k pairs
 *
 * Sent by a rank on average, in bytes: 4 n (g-1)/g inside its node for the dense part, 8 K (G-1)/g between nodes and 8 K G (g-1)/g inside
 * for the lists, K = sum k_m. What goes between nodes is what top-k over all-gather would send for G workers, spread over g links.
 *
 * In a chain, ("hierarchical", "fp16"), the values of the lists go in two bytes, as topk.c has it; the dense part inside a node does not.
 *
 * A residual belongs to a shard and its owner, in the owner's units (hence a / w_m): applied + sum of w_m e_m = inputs. Top-k sees sums
 * of g workers, which have less noise, and per shard instead of over all: a shard gets its share whatever is in it.
 *
 * Nodes are `group` consecutive ranks, or the largest divisor of P that is not larger: mpirun fills one host after the other unless it is
 * told otherwise. With one node the dense part is all there is to send, yet only the top k is applied; with group = 1 this is top-k.
 *
 * Limits: one set of buffers and the same loop of exchanges for all; where one host's ranks could add faster than by messages (NVLink's
 * collectives), they do not.
 */
#include "../../core/config.h"
#include "sparsify.h"

struct hierarchical {
	struct sparsify base;
	int group;                      /* as wished; members() is what it became */
	float *peer, *sum;              /* a shard each, the longest */
	struct sparse *list;            /* [member][room for nodes × most_k] */
};

static const struct option hierarchical_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ "group", OPTION_INT, "8", 1, 1e6, NULL, "consecutive ranks that make a node, inside which nothing is compressed" },
	{ 0 },
};

static int members(const struct hierarchical *h, int workers)
{
	int g = h->group < workers ? h->group : workers;

	while (workers % g)
		g--;
	return g;
}

static void shard(int64_t n, int g, int m, int64_t *from, int64_t *to)
{
	int64_t units = (n + ARENA_ALIGN - 1) / ARENA_ALIGN;

	*from = units * m / g * ARENA_ALIGN;
	*to = units * (m + 1) / g * ARENA_ALIGN;
	*from = *from < n ? *from : n;
	*to = *to < n ? *to : n;
}

/* k_m; 0 if there are more members than shards. */
static int64_t shard_k(const struct hierarchical *h, int64_t n, int g, int m)
{
	int64_t from, to;

	shard(n, g, m, &from, &to);
	return from < to ? sparsify_k(&h->base, to - from) : 0;
}

static int hierarchical_init(struct compress *c, const struct config *config)
{
	struct hierarchical *h = c->state;

	h->group = (int)config_int(config, "compress.group");
	return sparsify_init(&h->base, c, config);
}

static void hierarchical_bind(struct compress *c, const struct range *ranges, int count)
{
	struct hierarchical *h = c->state;
	struct device *dev = c->comm->device;
	int64_t longest = 0;

	sparsify_bind(&h->base, c, ranges, count, 0);
	for (int i = 0; i < count; i++)
		longest = ranges[i].n > longest ? ranges[i].n : longest;
	longest = longest / members(h, c->comm->size) + 2 * ARENA_ALIGN;        /* shards are whole units */
	h->peer = dev->ops->mem->alloc(dev, (size_t)longest * sizeof(float));
	h->sum = dev->ops->mem->alloc(dev, (size_t)longest * sizeof(float));
	h->list = dev->ops->mem->alloc(dev, (size_t)c->comm->size * (size_t)h->base.most_k * sizeof(struct sparse));
}

/* The lists of one member of all nodes: one after the other, as they are sent. */
static char *lists_of(const struct hierarchical *h, int nodes, int member)
{
	return (char *)(h->list + (int64_t)member * nodes * h->base.most_k);
}

/* sum = the node's weighted sum of this member's shard, in rank order. v: all of it, weighted. */
static void reduce_scatter(struct compress *c, const float *v, int64_t n, int g)
{
	struct hierarchical *h = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int node = comm->rank / g, me = comm->rank % g;
	int64_t from, to, peer_from, peer_to;

	shard(n, g, me, &from, &to);
	dev->mem->copy(comm->stream, h->sum, v + from, (size_t)(to - from) * sizeof(float), COPY_DEVICE);
	for (int step = 1; step < g; step++) {
		int dst = (me + step) % g, src = (me + g - step) % g;

		shard(n, g, dst, &peer_from, &peer_to);
		comm_exchange(comm, node * g + dst, v + peer_from, (peer_to - peer_from) * (int64_t)sizeof(float),
		              node * g + src, h->peer, (to - from) * (int64_t)sizeof(float));
		dev->vec->reduce(comm->stream, to - from, DTYPE_F32, REDUCE_SUM, h->peer, h->sum);
	}
}

/* This member's list to its like in all nodes, then all their lists to all members of this node. */
static void gather(struct compress *c, int64_t n, int g)
{
	struct hierarchical *h = c->state;
	struct comm *comm = c->comm;
	int nodes = comm->size / g, node = comm->rank / g, me = comm->rank % g;
	int64_t bytes = sparsify_bytes(c, shard_k(h, n, g, me));
	char *mine = lists_of(h, nodes, me);

	for (int step = 1; step < nodes; step++) {
		int dst = (node + step) % nodes, src = (node + nodes - step) % nodes;

		comm_exchange(comm, dst * g + me, mine + node * bytes, bytes, src * g + me, mine + src * bytes, bytes);
	}
	for (int step = 1; step < g; step++) {
		int dst = (me + step) % g, src = (me + g - step) % g;

		comm_exchange(comm, node * g + dst, mine, nodes * bytes, node * g + src, lists_of(h, nodes, src),
		              nodes * sparsify_bytes(c, shard_k(h, n, g, src)));
	}
}

/* This member's list, of the node's sum of its shard and what was left of it. */
static void choose(struct compress *c, const struct range *range, int g)
{
	struct hierarchical *h = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;
	int nodes = c->comm->size / g, node = c->comm->rank / g, me = c->comm->rank % g;
	int64_t from, to, k = shard_k(h, range->n, g, me);
	void *mine = lists_of(h, nodes, me) + node * sparsify_bytes(c, k);
	float *residual;

	if (k == 0)
		return;
	shard(range->n, g, me, &from, &to);
	residual = h->base.residual + range->offset + from;
	dev->vec->scale(s, to - from, 1 / (float)c->weight[c->comm->rank], h->sum, h->sum);
	dev->sparse->topk(s, to - from, k, h->sum, residual, c->half ? h->base.own : mine, h->base.work);
	sparsify_round(&h->base, c, k, residual, mine);
}

static void hierarchical_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct hierarchical *h = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int g = members(h, comm->size), nodes = comm->size / g;
	float *y = out + range->offset;
	int64_t n = range->n, from, to;

	dev->vec->scale(comm->stream, n, (float)c->weight[comm->rank], in + range->offset, y);
	reduce_scatter(c, y, n, g);
	choose(c, range, g);
	gather(c, n, g);
	dev->mem->zero(comm->stream, y, (size_t)n * sizeof(float));
	for (int m = 0; m < g; m++) {
		int64_t k = shard_k(h, n, g, m), bytes = sparsify_bytes(c, k);

		shard(n, g, m, &from, &to);
		for (int node = 0; node < nodes && k > 0; node++)
			sparsify_add(&h->base, c, k, (float)c->weight[node * g + m], lists_of(h, nodes, m) + node * bytes, y + from);
	}
}

static double hierarchical_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct hierarchical *h = c->state;
	int g = members(h, workers), nodes = workers / g;
	double lists = 0;

	for (int m = 0; m < g; m++)
		lists += (double)sparsify_bytes(c, shard_k(h, n, g, m));
	return (4.0 * (double)n * (g - 1) + lists * (workers - 1)) * nodes / workers;
}

struct inside {
	int g, step;
};

static int member(const void *context, int rank)
{
	const struct inside *i = context;

	return rank / i->g * i->g + (rank + i->step) % i->g;
}

/* The groups here need not be the cluster's nodes: what they share is counted. */
static double hierarchical_cost(const struct compress *c, const struct cost_model *m)
{
	const struct hierarchical *h = c->state;
	int g = members(h, m->workers), nodes = m->workers / g;
	double list = (double)sparsify_bytes(c, shard_k(h, m->n, g, 0)), seconds = 0;
	struct inside i = { g, 1 };

	for (; i.step < g; i.step++) {
		int across = nodes == 1 ? cost_across_ring(m, i.step) : cost_across(m, member, &i);

		seconds += cost_step(m, across, 4.0 * (double)m->n / g);
	}
	i.step = 1;     /* the lists go round in a ring */
	seconds += (g - 1) * cost_step(m, cost_across(m, member, &i), nodes * list);
	return seconds + (nodes - 1) * cost_step(m, nodes > 1 ? cost_across_ring(m, g) : 0, list);
}

static void hierarchical_release(struct compress *c)
{
	struct hierarchical *h = c->state;
	struct device *dev = c->comm->device;

	dev->ops->mem->free(dev, h->peer);
	dev->ops->mem->free(dev, h->sum);
	dev->ops->mem->free(dev, h->list);
	sparsify_release(&h->base, c);
}

extern const struct compress_ops compress_hierarchical;
const struct compress_ops compress_hierarchical = {
	.name = "hierarchical",
	.paper = "dense inside a node, top-k between nodes: Shi et al., MLSys 2021, arXiv 2010.10458",
	.options = hierarchical_options,
	.halves = true,
	.state_size = sizeof(struct hierarchical),
	.init = hierarchical_init,
	.bind = hierarchical_bind,
	.average = hierarchical_average,
	.epoch = sparsify_on_epoch,
	.state = sparsify_on_state,
	.bytes = hierarchical_bytes,
	.cost = hierarchical_cost,
	.release = hierarchical_release,
};
