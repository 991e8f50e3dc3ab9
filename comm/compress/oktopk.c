/*
 * Ok-Topk: a sparse all-reduce whose volume does not grow with P. Each worker sums one region of the index, of about k / P picks.
 *
 * Paper: Li, Hoefler: "Near-Optimal Sparse Allreduce for Distributed Deep Learning", PPoPP 2022 (arXiv 2201.07598).
 *
 *     the first dense_steps rounds are dense
 *     acc = e + in;  S_i = { j : |acc_j| >= t_i }, at most its k largest;  e = acc without S_i
 *     split and reduce:  w_i S_i, cut at the regions' bounds, goes to the regions' owners: to rank + 1, rank + 2, …
 *                        the owner of region p:  R_p = sum_i w_i S_i in the region
 *     gather:            G_p = { j in R_p : |R_p| >= t };  all-gather of the G_p;  out = their union
 *     own picks that are not in out go back to e
 *
 *     every `every` rounds, from the first on:  S_i is the exact top k, t_i its smallest magnitude;  every R_p gives what it has room
 *                        for, out is the exact top k of the union, t its smallest magnitude, and its P-quantiles are the next bounds
 *
 * Room. A message's size must be known on both sides when it is queued (threshold.c says why), so every block, of a region's picks or of
 * G_p, has room for 1.5 k / P pairs; holes fill it up. The authors send exact sizes, after exchanging them, and rebalance G before
 * the gather; their bound is 6 k (P-1)/P numbers, of which balanced regions need 4. Here it is always that bound:
 *
 *     sent: 2 (P-1) blocks of 1.5 k / P pairs of 8 bytes = 24 k (P-1)/P bytes          (blocks have room for one pair at least)
 *
 * Of a region with more picks than room those with the lowest index go, of a G_p with more than room the largest; the others stay in, or
 * go back to, the residuals. Bounds from quantiles of the last exact result: the same on all workers for nothing, where the authors
 * average the workers' own quantiles every 64 rounds; both follow where the large elements are. Thresholds are not corrected between
 * two estimates (the authors' code scales by 1.2 % when the count leaves [2/3 k, 5/4 k]): "at most k" guards against too many.
 *
 * Nothing gets lost: what owner p does not pass on, every worker that had picked it sees missing in out. Applied + residuals = inputs.
 * out is the same bits everywhere: each index is summed by one owner, in rank order, and then only copied.
 *
 * Limits: at small P top-k over all-gather (8 k (P-1) bytes) is cheaper: from P = 4 on this one is. Two arenas more, and about five
 * passes over memory a round.
 */
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../sync/sync.h"
#include "sparsify.h"

/* Of one range. */
struct place {
	int64_t offset, round;          /* round: averages so far */
	int64_t k, since;               /* of the density in force, and rounds since it came into force */
};

struct oktopk {
	struct sparsify base;           /* base.own: S_i, and the exact top k of the union */
	int64_t every, dense;
	float *sum, *zero;              /* the longest range: R_p; zeros */
	struct sparse *picks, *send, *recv, *gather;    /* a block a rank: S_i by regions, w_i S_i, what came in, all G_p */
	float *least;                   /* on the device: t_i and t of each range */
	uint32_t *bound;                /* likewise: size + 1 a range */
	uint32_t *own_bound;            /* where the bounds of a single worker's list go: nobody wants them */
	struct place *place;
	int places;
};

static const struct option oktopk_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ "every", OPTION_INT, "32", 1, 1e9, NULL, "rounds from one exact choice of thresholds and regions to the next" },
	{ "dense_steps", OPTION_INT, "512", 0, 1e15, NULL, "first rounds, which are dense" },
	{ 0 },
};

static int64_t room_of(int64_t k, int size)
{
	int64_t room = 3 * k / (2 * size);

	return room < 1 ? 1 : room > k ? k : room;
}

static int oktopk_init(struct compress *c, const struct config *config)
{
	struct oktopk *o = c->state;

	o->every = config_int(config, "compress.every");
	o->dense = config_int(config, "compress.dense_steps");
	return sparsify_init(&o->base, c, config);
}

static int64_t oktopk_warm_steps(const struct compress *c, int64_t steps_per_epoch, int64_t period)
{
	const struct oktopk *o = c->state;
	int64_t warmup = sparsify_warm_steps(c, steps_per_epoch, period), dense = o->dense * period;

	return dense > warmup ? dense : warmup;
}

/* Regions of equal length, to begin with. */
static void equal_bounds(struct compress *c, uint32_t *bound, int64_t n)
{
	for (int p = 0; p <= c->comm->size; p++) {
		uint32_t at = p < c->comm->size ? (uint32_t)(n * p / c->comm->size) : SPARSE_HOLE;

		c->comm->device->ops->mem->set(c->comm->stream, bound + p, &at, sizeof(at));
	}
}

static void oktopk_bind(struct compress *c, const struct range *ranges, int count)
{
	struct oktopk *o = c->state;
	struct device *dev = c->comm->device;
	const struct mem_ops *mem = dev->ops->mem;
	size_t size = (size_t)c->comm->size, blocks;
	int64_t longest = 0;

	sparsify_bind(&o->base, c, ranges, count, 0);
	o->places = count;
	o->place = xcalloc((size_t)count, sizeof(*o->place));
	o->least = mem->alloc(dev, 2 * (size_t)count * sizeof(float));
	o->bound = mem->alloc(dev, (size_t)count * (size + 1) * sizeof(uint32_t));
	o->own_bound = mem->alloc(dev, (size + 1) * sizeof(uint32_t));
	for (int i = 0; i < count; i++) {
		o->place[i].offset = ranges[i].offset;
		equal_bounds(c, o->bound + (size_t)i * (size + 1), ranges[i].n);
		longest = ranges[i].n > longest ? ranges[i].n : longest;
	}
	blocks = size * (size_t)room_of(o->base.most_k, c->comm->size) * sizeof(struct sparse);
	o->picks = mem->alloc(dev, blocks);
	o->send = mem->alloc(dev, blocks);
	o->recv = mem->alloc(dev, blocks);
	o->gather = mem->alloc(dev, blocks);
	o->sum = mem->alloc(dev, (size_t)longest * sizeof(float));
	o->zero = mem->alloc(dev, (size_t)longest * sizeof(float));
	comm_expect_allreduce(c->comm, longest, DTYPE_F32);
}

static int find_place(const struct oktopk *o, const struct range *range)
{
	for (int i = 0; i < o->places; i++)
		if (o->place[i].offset == range->offset)
			return i;
	CHECK(!"a range that was not bound");
	return -1;
}

static void average_dense(struct compress *c, const struct range *range, const float *in, float *out)
{
	c->comm->device->ops->vec->scale(c->comm->stream, range->n, (float)c->weight[c->comm->rank], in + range->offset, out + range->offset);
	comm_allreduce(c->comm, out + range->offset, range->n, DTYPE_F32, REDUCE_SUM);
}

/* This rank's picks to the regions' owners; `sum` becomes the sum of its own region. */
static void split_and_reduce(struct compress *c, const struct range *range, int64_t k, const uint32_t *bound)
{
	struct oktopk *o = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	struct stream *s = comm->stream;
	int64_t room = room_of(k, comm->size), bytes = room * (int64_t)sizeof(struct sparse);

	dev->sparse->split(s, k, o->base.own, comm->size, bound, room, o->picks, o->base.residual + range->offset);
	dev->sparse->scale(s, comm->size * room, (float)c->weight[comm->rank], o->picks, o->send);
	for (int step = 1; step < comm->size; step++) {
		int to = (comm->rank + step) % comm->size, from = (comm->rank + comm->size - step) % comm->size;

		comm_exchange(comm, to, o->send + to * room, bytes, from, o->recv + from * room, bytes);
	}
	dev->mem->zero(s, o->sum, (size_t)range->n * sizeof(float));
	for (int r = 0; r < comm->size; r++)
		dev->sparse->scatter_add(s, room, 1, (r == comm->rank ? o->send : o->recv) + r * room, o->sum);
}

/* out: of every region what reaches the threshold, as far as there is room. */
static void gather(struct compress *c, int64_t n, int64_t k, const float *least, float *out)
{
	struct oktopk *o = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	int64_t room = room_of(k, comm->size);

	dev->sparse->select(comm->stream, n, room, least, o->zero, o->sum, o->gather + comm->rank * room, o->base.work);
	comm_allgather(comm, o->gather, room * (int64_t)sizeof(struct sparse));
	dev->mem->zero(comm->stream, out, (size_t)n * sizeof(float));
	for (int r = 0; r < comm->size; r++)
		dev->sparse->scatter_add(comm->stream, room, 1, o->gather + r * room, out);
}

/* Of out the exact top k; it gives the threshold and the regions of the next rounds. */
static void cut_down(struct compress *c, int64_t n, int64_t k, float *least, uint32_t *bound, float *out)
{
	struct oktopk *o = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;

	dev->mem->zero(s, o->sum, (size_t)n * sizeof(float));
	dev->sparse->topk(s, n, k, out, o->sum, o->base.own, o->base.work);
	dev->sparse->quantiles(s, k, o->base.own, c->comm->size, least, bound);
	dev->mem->zero(s, out, (size_t)n * sizeof(float));
	dev->sparse->scatter_add(s, k, 1, o->base.own, out);
}

static void oktopk_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct oktopk *o = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	struct stream *s = comm->stream;
	int i = find_place(o, range);
	struct place *place = &o->place[i];
	float *local = o->least + 2 * i, *global = local + 1, *residual = o->base.residual + range->offset;
	uint32_t *bound = o->bound + i * (comm->size + 1);
	int64_t n = range->n, k = sparsify_k(&o->base, n), room = room_of(k, comm->size);
	bool exact;

	if (place->round++ < o->dense) {
		average_dense(c, range, in, out);
		return;
	}
	if (place->k != k) {
		place->k = k;
		place->since = 0;
	}
	exact = place->since++ % o->every == 0 || k == n;
	trace_begin(s, "select", "values", k);
	if (exact) {
		dev->sparse->topk(s, n, k, in + range->offset, residual, o->base.own, o->base.work);
		dev->sparse->quantiles(s, k, o->base.own, comm->size, local, o->own_bound);
		dev->mem->zero(s, global, sizeof(*global));
	} else {
		dev->sparse->select(s, n, k, local, in + range->offset, residual, o->base.own, o->base.work);
	}
	trace_end(s);
	split_and_reduce(c, range, k, bound);
	gather(c, n, k, global, out + range->offset);
	if (exact)
		cut_down(c, n, k, global, bound, out + range->offset);
	dev->sparse->put_back_zero(s, comm->size * room, o->picks, out + range->offset, residual);
}

/* Thresholds and bounds as they are; the bounds are integers whose bits nobody may touch, so a vector of floats keeps them. */
static void oktopk_state(struct compress *c, struct state_visitor *v)
{
	struct oktopk *o = c->state;
	char name[64];

	sparsify_on_state(c, v);
	v->vector(v, "compress.thresholds", c->comm->device, o->least, 2 * o->places);
	v->vector(v, "compress.regions", c->comm->device, (float *)o->bound, o->places * (c->comm->size + 1));
	for (int i = 0; i < o->places; i++) {
		int64_t *number[] = { &o->place[i].round, &o->place[i].k, &o->place[i].since };
		static const char *const what[] = { "round", "k", "since" };

		for (int j = 0; j < 3; j++) {
			snprintf(name, sizeof(name), "compress.%s.%d", what[j], i);
			v->number(v, name, number[j]);
		}
	}
}

/* After the dense rounds. */
static double oktopk_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct oktopk *o = c->state;

	return 2.0 * (workers - 1) * (double)room_of(sparsify_k(&o->base, n), workers) * sizeof(struct sparse);
}

static double oktopk_cost(const struct compress *c, const struct cost_model *m)
{
	const struct oktopk *o = c->state;
	double bytes = (double)room_of(sparsify_k(&o->base, m->n), m->workers) * sizeof(struct sparse), seconds = 0;

	for (int distance = 1; distance < m->workers; distance++)
		seconds += cost_step(m, cost_across_ring(m, distance), bytes);
	return seconds + ring_allgather_cost(m, bytes);
}

static void oktopk_release(struct compress *c)
{
	struct oktopk *o = c->state;
	void *memory[] = { o->picks, o->send, o->recv, o->gather, o->sum, o->zero, o->least, o->bound, o->own_bound };

	for (size_t i = 0; i < sizeof(memory) / sizeof(*memory); i++)
		c->comm->device->ops->mem->free(c->comm->device, memory[i]);
	free(o->place);
	sparsify_release(&o->base, c);
}

extern const struct compress_ops compress_oktopk;
const struct compress_ops compress_oktopk = {
	.name = "oktopk",
	.paper = "sparse all-reduce by regions: Li & Hoefler, PPoPP 2022, arXiv 2201.07598",
	.options = oktopk_options,
	.state_size = sizeof(struct oktopk),
	.init = oktopk_init,
	.bind = oktopk_bind,
	.average = oktopk_average,
	.epoch = sparsify_on_epoch,
	.warm_steps = oktopk_warm_steps,
	.state = oktopk_state,
	.bytes = oktopk_bytes,
	.cost = oktopk_cost,
	.release = oktopk_release,
};
