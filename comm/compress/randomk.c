/*
 * Random-k with a shared seed: all workers send the same k places, so no index travels, and the sum stays k numbers long.
 *
 * Papers: Stich, Cordonnier, Jaggi: "Sparsified SGD with Memory", NeurIPS 2018 (random-k with error feedback); that workers who draw
 * the same places can all-reduce their values: Vogels, Karimireddy, Jaggi: "PowerSGD", NeurIPS 2019 (its random-k baseline).
 *
 *     S = k of the n places, from (seed, round): the same on every worker      round counts the averages
 *     acc = e + in;  v = acc[S];  e = acc without S
 *     all-reduce  V = sum_i w_i v_i                                            2 (P-1)/P k numbers of 4 bytes sent
 *     out = V at S, 0 elsewhere
 *
 *     compute   | backward …      |                      wait |  update
 *     comm                          draw  all-reduce of k  put
 *
 * Places: core/draw.h. Each is taken with probability k / n, so E |acc - C(acc)|^2 = (1 - k/n) |acc|^2, which is all that the theory
 * of error feedback asks for. Nothing is scaled by n / k: what is not sent now waits in e. Nothing gets lost: applied + residuals =
 * inputs.
 *
 * The volume does not grow with P, there is nothing to sort, and servers and libraries can add it as they add any vector. One pass
 * over the residual and O(k) random accesses.
 *
 * Limits: an element waits n / k rounds on average, large or not: the delay that top-k spares those that matter. So k must be larger.
 */
#include "../../core/config.h"
#include "../sync/sync.h"
#include "sparsify.h"

struct randomk {
	struct sparsify base;           /* for density, warm-up and residual; no lists */
	struct draw draw;               /* round: averages so far */
	float *value;                   /* most_k numbers: what is summed */
};

static const struct option randomk_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ "seed", OPTION_INT, "1", 0, 4294967295.0, NULL, "which places are drawn" },
	{ 0 },
};

static int randomk_init(struct compress *c, const struct config *config)
{
	struct randomk *r = c->state;

	r->draw.seed = (uint64_t)config_int(config, "compress.seed");
	return sparsify_init(&r->base, c, config);
}

static void randomk_bind(struct compress *c, const struct range *ranges, int count)
{
	struct randomk *r = c->state;

	sparsify_bind(&r->base, c, ranges, count, 0);
	r->value = c->comm->device->ops->mem->alloc(c->comm->device, (size_t)r->base.most_k * sizeof(float));
	comm_expect_allreduce(c->comm, r->base.most_k, DTYPE_F32);
}

static void randomk_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct randomk *r = c->state;
	struct comm *comm = c->comm;
	const struct device_ops *dev = comm->device->ops;
	struct stream *s = comm->stream;
	float *residual = r->base.residual + range->offset;
	int64_t k = sparsify_k(&r->base, range->n);

	trace_begin(s, "draw", "values", k);
	dev->vec->axpby(s, range->n, 1, in + range->offset, 1, residual);
	dev->sparse->take_drawn(s, range->n, k, &r->draw, (float)c->weight[comm->rank], residual, r->value);
	trace_end(s);
	comm_allreduce(comm, r->value, k, DTYPE_F32, REDUCE_SUM);
	dev->mem->zero(s, out + range->offset, (size_t)range->n * sizeof(float));
	dev->sparse->add_drawn(s, range->n, k, &r->draw, 1, r->value, out + range->offset);
	r->draw.round++;
}

static int64_t randomk_wire(const struct compress *c, int64_t n, bool most)
{
	const struct randomk *r = c->state;

	return (most ? r->base.most_k : sparsify_k(&r->base, n)) * (int64_t)sizeof(float);
}

static void randomk_pack(struct compress *c, const struct range *range, float *v, void *wire)
{
	struct randomk *r = c->state;

	r->draw.round++;
	c->comm->device->ops->sparse->take_drawn(c->comm->stream, range->n, sparsify_k(&r->base, range->n), &r->draw, 1, v + range->offset,
	                                             wire);
}

static void randomk_unpack(struct compress *c, const struct range *range, const void *wire, float a, float *out)
{
	struct randomk *r = c->state;

	c->comm->device->ops->sparse->add_drawn(c->comm->stream, range->n, sparsify_k(&r->base, range->n), &r->draw, a, wire,
	                                            out + range->offset);
}

static void randomk_state(struct compress *c, struct state_visitor *v)
{
	struct randomk *r = c->state;
	int64_t round = (int64_t)r->draw.round;

	sparsify_on_state(c, v);
	v->number(v, "compress.round", &round);
	r->draw.round = (uint64_t)round;
}

static double randomk_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct randomk *r = c->state;

	return comm_allreduce_bytes(c->comm, (double)sparsify_k(&r->base, n), workers);
}

static double randomk_cost(const struct compress *c, const struct cost_model *m)
{
	const struct randomk *r = c->state;

	return comm_allreduce_cost(c->comm, m, 4.0 * (double)sparsify_k(&r->base, m->n));
}

static void randomk_release(struct compress *c)
{
	struct randomk *r = c->state;

	c->comm->device->ops->mem->free(c->comm->device, r->value);
	sparsify_release(&r->base, c);
}

extern const struct compress_ops compress_randomk;
const struct compress_ops compress_randomk = {
	.name = "randomk",
	.paper = "the same random k on every worker, with error feedback: Stich et al., NeurIPS 2018",
	.options = randomk_options,
	.only_sums = true,
	.state_size = sizeof(struct randomk),
	.init = randomk_init,
	.bind = randomk_bind,
	.average = randomk_average,
	.wire = randomk_wire,
	.pack = randomk_pack,
	.unpack = randomk_unpack,
	.epoch = sparsify_on_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = randomk_state,
	.bytes = randomk_bytes,
	.cost = randomk_cost,
	.release = randomk_release,
};
