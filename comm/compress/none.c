/*
 * No compression: out = sum_i w_i in_i by an all-reduce. The weight is applied before the sum, so that unequal batches cost
 * nothing extra and large worlds do not overflow. With parameter servers each worker sends its vector once, and gets the sum back.
 */
#include <stddef.h>

#include "compress.h"

static int none_init(struct compress *c, const struct config *config)
{
	(void)c, (void)config;
	return 0;
}

static void none_bind(struct compress *c, const struct range *ranges, int count)
{
	for (int i = 0; i < count; i++)
		comm_expect_allreduce(c->comm, ranges[i].n, DTYPE_F32);
}

static void none_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct comm *comm = c->comm;

	if (comm->size > 1 || in != out)
		comm->device->ops->vec->scale(comm->stream, range->n, (float)c->weight[comm->rank], in + range->offset,
		                              out + range->offset);
	comm_allreduce(comm, out + range->offset, range->n, DTYPE_F32, REDUCE_SUM);
}

static int64_t none_wire(const struct compress *c, int64_t n, bool most)
{
	(void)c, (void)most;
	return n * (int64_t)sizeof(float);
}

static void none_pack(struct compress *c, const struct range *range, float *v, void *wire)
{
	c->comm->device->ops->mem->copy(c->comm->stream, wire, v + range->offset, (size_t)range->n * sizeof(float), COPY_DEVICE);
}

static void none_unpack(struct compress *c, const struct range *range, const void *wire, float a, float *out)
{
	c->comm->device->ops->vec->axpby(c->comm->stream, range->n, a, wire, 1, out + range->offset);
}

static double none_bytes(const struct compress *c, int64_t n, int workers)
{
	return comm_allreduce_bytes(c->comm, (double)n, workers);
}

static double none_cost(const struct compress *c, const struct cost_model *m)
{
	return comm_allreduce_cost(c->comm, m, 4.0 * (double)m->n);
}

extern const struct compress_ops compress_none;
const struct compress_ops compress_none = {
	.name = "none",
	.paper = "dense fp32",
	.only_sums = true,
	.any_cut = true,
	.plain = true,
	.init = none_init,
	.bind = none_bind,
	.average = none_average,
	.wire = none_wire,
	.pack = none_pack,
	.unpack = none_unpack,
	.bytes = none_bytes,
	.cost = none_cost,
};
