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
 * Nodes are those of the hierarchical all-reduce (comm_nodes(): by the config's cluster, else hosts, whichever ranks these have), or `group`
 * consecutive ranks, which must divide P. Shards want nodes of one size: where the found ones differ, g is the largest size that all of them
 * can be divided into, and no part of the dense exchange leaves a node. With one node the dense part is all there is to send, yet only
 * the top k is applied; with g = 1 this is top-k. Either is warned of.
 *
 * Limits: one set of buffers and the same loop of exchanges for all; where one host's ranks could add faster than by messages (NVLink's
 * collectives), they do not.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "sparsify.h"

struct hierarchical {
	struct sparsify base;
	int group;                      /* compress.group; 0: as found. members() is what it became */
	int g, nodes, node, me;         /* of this run; this rank is member `me` of node `node` */
	int *seat;                      /* [node][member]: their ranks */
	float *peer, *sum;              /* a shard each, the longest */
	struct sparse *list;            /* [member][room for nodes × most_k] */
};

static const struct option hierarchical_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ "group", OPTION_INT, "0", 0, 1e6, NULL,
	  "consecutive ranks that make a node, inside which nothing is compressed; 0: nodes as those of the hierarchical all-reduce" },
	{ 0 },
};

static int common_divisor(int a, int b) { return b ? common_divisor(b, a % b) : a; }

/* The largest g that the nodes of this run can all be divided into. */
static int members_found(const int *node, int workers)
{
	int g = 0;

	for (int first = 0; first < workers; first++) {
		int count = 0;

		for (int r = first; r < workers; r++)
			count += node[r] == first;
		g = common_divisor(g, count);
	}
	return g;
}

/* g. Without ranks there are neighbours: full nodes, and one with the rest. */
static int members(const struct compress *c, int workers)
{
	const struct hierarchical *h = c->state;
	const int *found = c->comm && c->comm->size == workers ? comm_nodes(c->comm) : NULL;
	int each = h->group ? h->group : seats_per_node(c->seats, workers);

	if (found && !h->group)
		return members_found(found, workers);
	return workers <= each ? workers : common_divisor(workers, each > 1 ? each : 1);
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

static int hierarchical_check(const struct compress *c, const struct config *config, int workers)
{
	const struct hierarchical *h = c->state;
	int smaller = h->group < workers ? h->group : workers;

	if (!h->group || workers == 1 || workers % h->group == 0)
		return 0;
	while (workers % smaller)
		smaller--;
	error("compress.group = %d (%s) does not divide %d workers into nodes of one size", h->group, config_origin(config, "compress.group"), workers);
	return hint("set compress.group = %d, or leave it out: nodes are then the cluster's, or the hosts", smaller);
}

/* Node after node, in the order of their first ranks. */
static void take_seats(struct compress *c)
{
	struct hierarchical *h = c->state;
	const int *found = h->group ? NULL : comm_nodes(c->comm);
	int size = c->comm->size, count = 0;

	h->g = members(c, size);
	h->nodes = size / h->g;
	h->seat = xcalloc((size_t)size, sizeof(*h->seat));
	for (int first = 0; first < size; first++)
		for (int r = first; r < size; r++)
			if (found ? found[r] == first : r == first)
				h->seat[count++] = r;
	for (int i = 0; i < size; i++)
		if (h->seat[i] == c->comm->rank) {
			h->node = i / h->g;
			h->me = i % h->g;
		}
}

static void hierarchical_bind(struct compress *c, const struct range *ranges, int count)
{
	struct hierarchical *h = c->state;
	struct device *dev = c->comm->device;
	int64_t longest = 0;

	take_seats(c);
	sparsify_bind(&h->base, c, ranges, count, 0);
	for (int i = 0; i < count; i++)
		longest = ranges[i].n > longest ? ranges[i].n : longest;
	longest = longest / h->g + 2 * ARENA_ALIGN;     /* shards are whole units */
	h->peer = dev->ops->mem->alloc(dev, (size_t)longest * sizeof(float));
	h->sum = dev->ops->mem->alloc(dev, (size_t)longest * sizeof(float));
	h->list = dev->ops->mem->alloc(dev, (size_t)c->comm->size * (size_t)h->base.most_k * sizeof(struct sparse));
}

static int rank_of(const struct hierarchical *h, int node, int member) { return h->seat[node * h->g + member]; }

/* The lists of one member of all nodes: one after the other, as they are sent. */
static char *lists_of(const struct hierarchical *h, int member)
{
	return (char *)(h->list + (int64_t)member * h->nodes * h->base.most_k);
}

/* sum = the node's weighted sum of this member's shard, in rank order. v: all of it, weighted. */
static void reduce_scatter(struct compress *c, const float *v, int64_t n)
{
	struct hierarchical *h = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int g = h->g, me = h->me;
	int64_t from, to, peer_from, peer_to;

	shard(n, g, me, &from, &to);
	dev->mem->copy(comm->stream, h->sum, v + from, (size_t)(to - from) * sizeof(float), COPY_DEVICE);
	for (int step = 1; step < g; step++) {
		int dst = (me + step) % g, src = (me + g - step) % g;

		shard(n, g, dst, &peer_from, &peer_to);
		comm_exchange(comm, rank_of(h, h->node, dst), v + peer_from, (peer_to - peer_from) * (int64_t)sizeof(float),
		              rank_of(h, h->node, src), h->peer, (to - from) * (int64_t)sizeof(float));
		dev->vec->reduce(comm->stream, to - from, DTYPE_F32, REDUCE_SUM, h->peer, h->sum);
	}
}

/* This member's list to its like in all nodes, then all their lists to all members of this node. */
static void gather(struct compress *c, int64_t n)
{
	struct hierarchical *h = c->state;
	struct comm *comm = c->comm;
	int g = h->g, nodes = h->nodes, node = h->node, me = h->me;
	int64_t bytes = sparsify_bytes(c, shard_k(h, n, g, me));
	char *mine = lists_of(h, me);

	for (int step = 1; step < nodes; step++) {
		int dst = (node + step) % nodes, src = (node + nodes - step) % nodes;

		comm_exchange(comm, rank_of(h, dst, me), mine + node * bytes, bytes, rank_of(h, src, me), mine + src * bytes, bytes);
	}
	for (int step = 1; step < g; step++) {
		int dst = (me + step) % g, src = (me + g - step) % g;

		comm_exchange(comm, rank_of(h, node, dst), mine, nodes * bytes, rank_of(h, node, src), lists_of(h, src),
		              nodes * sparsify_bytes(c, shard_k(h, n, g, src)));
	}
}

/* This member's list, of the node's sum of its shard and what was left of it. */
static void choose(struct compress *c, const struct range *range)
{
	struct hierarchical *h = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;
	int64_t from, to, k = shard_k(h, range->n, h->g, h->me);
	void *mine = lists_of(h, h->me) + h->node * sparsify_bytes(c, k);
	float *residual;

	if (k == 0)
		return;
	shard(range->n, h->g, h->me, &from, &to);
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
	int g = h->g;
	float *y = out + range->offset;
	int64_t n = range->n, from, to;

	dev->vec->scale(comm->stream, n, (float)c->weight[comm->rank], in + range->offset, y);
	reduce_scatter(c, y, n);
	choose(c, range);
	gather(c, n);
	dev->mem->zero(comm->stream, y, (size_t)n * sizeof(float));
	for (int m = 0; m < g; m++) {
		int64_t k = shard_k(h, n, g, m), bytes = sparsify_bytes(c, k);

		shard(n, g, m, &from, &to);
		for (int node = 0; node < h->nodes && k > 0; node++)
			sparsify_add(&h->base, c, k, (float)c->weight[rank_of(h, node, m)], lists_of(h, m) + node * bytes, y + from);
	}
}

/* ---- what the user is told ---- */

/* Do ranks that an explicit group puts together sit on different nodes? */
static bool crosses(const struct compress *c, int g)
{
	const int *found = comm_nodes(c->comm);
	bool any = false;

	for (int r = 0; found && r < c->comm->size; r++)
		any = any || found[r] != found[r / g * g];
	return any;
}

static void warn_nodes(const struct compress *c, int g)
{
	const struct hierarchical *h = c->state;
	const char *method = "compress.method = \"hierarchical\"";

	if (g == c->comm->size)
		warn("%s finds all %d workers on one node: all is sent dense, and yet only the largest sums are applied. Set compress.method = "
		     "\"none\", or compress.group to the workers that are close to each other", method, g);
	else if (g == 1)
		warn("%s finds no two workers on one node%s: this is \"topk\". Set compress.group or cluster.workers_per_node to the workers that are "
		     "close to each other", method, h->group ? "" : ", or nodes of no common size");
	else if (h->group && crosses(c, g))
		warn("%s: compress.group = %d puts workers of several nodes together, and what they exchange is dense. Leave it out to have the nodes "
		     "themselves", method, g);
}

static void hierarchical_describe(const struct compress *c, const struct range *whole, char *text, size_t size)
{
	const struct hierarchical *h = c->state;
	int g = members(c, c->comm->size), nodes = c->comm->size / g;

	(void)whole;
	if (c->comm->size == 1)
		return;
	snprintf(text, size, "%d node%s of %d worker%s (%s): dense inside, the largest between", nodes, nodes == 1 ? "" : "s", g,
	         g == 1 ? "" : "s", h->group ? "compress.group" : "as the hierarchical all-reduce has them");
	warn_nodes(c, g);
}

static double hierarchical_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct hierarchical *h = c->state;
	int g = members(c, workers), nodes = workers / g;
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
	int g = members(c, m->workers), nodes = m->workers / g;
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

	free(h->seat);
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
	.check = hierarchical_check,
	.bind = hierarchical_bind,
	.average = hierarchical_average,
	.describe = hierarchical_describe,
	.epoch = sparsify_on_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = sparsify_on_state,
	.bytes = hierarchical_bytes,
	.cost = hierarchical_cost,
	.release = hierarchical_release,
};
