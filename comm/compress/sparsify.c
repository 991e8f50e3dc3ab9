/*
 * Density and its warm-up, residuals and lists: what sparsifiers with error feedback have in common.
 *
 * A residual is an arena like the model's, keyed by parameter and not by bucket, so that another bucket plan changes nothing.
 */
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../sync/sync.h"
#include "sparsify.h"

const struct option sparsify_options[] = {
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ 0 },
};

int sparsify_init(struct sparsify *s, struct compress *c, const struct config *config)
{
	s->density = config_float(config, "compress.density");
	s->warmups = config_list(config, "compress.warmup", s->warmup, SPARSIFY_WARMUPS);
	if (s->warmups > SPARSIFY_WARMUPS) {
		error("%s: compress.warmup has %d densities, and %d is the most", config_origin(config, "compress.warmup"), s->warmups, SPARSIFY_WARMUPS);
		return hint("each holds for one epoch; behind the last one compress.density does");
	}
	c->per_bucket = !strcmp(config_string(config, "compress.scope"), "bucket");
	sparsify_epoch(s, 0);
	return 0;
}

void sparsify_selection(struct sparsify *s, const struct config *config)
{
	s->sampled = !strcmp(config_string(config, "compress.selection"), "sampled");
}

static int64_t count_at(double density, int64_t n)
{
	int64_t k = (int64_t)(density * (double)n);

	return k < 1 ? 1 : k > n ? n : k;
}

int64_t sparsify_k(const struct sparsify *s, int64_t n) { return count_at(s->now, n); }

void sparsify_epoch(struct sparsify *s, int64_t epoch) { s->now = epoch < s->warmups ? s->warmup[epoch] : s->density; }

void sparsify_bind(struct sparsify *s, struct compress *c, const struct range *ranges, int count, int lists)
{
	struct device *dev = c->comm->device;
	const struct mem_ops *mem = dev->ops->mem;
	double most = s->density;
	size_t work = 0;

	for (int i = 0; i < s->warmups; i++)
		most = s->warmup[i] > most ? s->warmup[i] : most;
	for (int i = 0; i < count; i++) {
		int64_t k = count_at(most, ranges[i].n);
		size_t need = dev->ops->sparse->work_size(ranges[i].n, k);

		CHECK(ranges[i].n <= UINT32_MAX);
		s->most_k = k > s->most_k ? k : s->most_k;
		work = need > work ? need : work;
	}
	s->residual = mem->alloc(dev, (size_t)c->n * sizeof(float));
	s->own = mem->alloc(dev, (size_t)s->most_k * sizeof(struct sparse));
	s->list = mem->alloc(dev, (size_t)s->most_k * sizeof(struct sparse) * (size_t)lists);
	s->work = mem->alloc(dev, work);
	if (s->sampled)
		s->least = mem->alloc(dev, sizeof(*s->least));
}

void sparsify_choose(struct sparsify *s, struct compress *c, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out)
{
	const struct sparse_ops *ops = c->comm->device->ops->sparse;
	struct stream *stream = c->comm->stream;

	trace_begin(stream, "select", "values", k);
	if (s->sampled) {
		ops->sample_bound(stream, n, k, residual, in, s->least, s->work);
		ops->select(stream, n, k, s->least, in, residual, out, s->work);
	} else {
		ops->topk(stream, n, k, in, residual, out, s->work);
	}
	trace_end(stream);
}

void sparsify_release(struct sparsify *s, struct compress *c)
{
	const struct mem_ops *mem = c->comm->device->ops->mem;

	mem->free(c->comm->device, s->residual);
	mem->free(c->comm->device, s->own);
	mem->free(c->comm->device, s->list);
	mem->free(c->comm->device, s->work);
	mem->free(c->comm->device, s->least);
}

/* Of 8 bytes a pair, or fewer: `list` has room for either. */
int64_t sparsify_bytes(const struct compress *c, int64_t k)
{
	return c->half ? sparse_half_bytes(k) : k * (int64_t)sizeof(struct sparse);
}

struct sparse *sparsify_mine(const struct sparsify *s, const struct compress *c, int64_t k)
{
	return c->half ? s->own : s->list + c->comm->rank * k;
}

void sparsify_round(struct sparsify *s, struct compress *c, int64_t k, float *residual, void *wire)
{
	if (c->half)
		c->comm->device->ops->sparse->pack(c->comm->stream, k, c->half, s->own, residual, wire);
}

void sparsify_add(struct sparsify *s, struct compress *c, int64_t k, float a, const void *wire, float *y)
{
	const struct sparse_ops *ops = c->comm->device->ops->sparse;

	if (c->half)
		ops->unpack(c->comm->stream, k, c->half, wire, s->own);
	ops->scatter_add(c->comm->stream, k, a, c->half ? s->own : wire, y);
}

void sparsify_sum(struct sparsify *s, struct compress *c, const struct range *range, int64_t k, float *out)
{
	struct comm *comm = c->comm;
	int64_t bytes = sparsify_bytes(c, k);
	char *wire = (char *)s->list;

	sparsify_round(s, c, k, s->residual + range->offset, wire + comm->rank * bytes);
	comm_allgather(comm, wire, bytes);
	trace_begin(comm->stream, "add lists", "values", k * comm->size);
	comm->device->ops->mem->zero(comm->stream, out + range->offset, (size_t)range->n * sizeof(float));
	for (int r = 0; r < comm->size; r++)
		sparsify_add(s, c, k, (float)c->weight[r], wire + r * bytes, out + range->offset);
	trace_end(comm->stream);
}

void sparsify_on_epoch(struct compress *c, int64_t epoch) { sparsify_epoch(c->state, epoch); }

int64_t sparsify_warm_steps(const struct compress *c, int64_t steps_per_epoch, int64_t period)
{
	const struct sparsify *s = c->state;

	(void)period;
	return s->warmups * steps_per_epoch;
}

void sparsify_on_state(struct compress *c, struct state_visitor *v)
{
	struct sparsify *s = c->state;

	v->vector(v, "residual", c->comm->device, s->residual, c->n);
}

void sparsify_list_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct sparsify *s = c->state;
	int64_t k = sparsify_k(s, range->n);

	s->choose(c, range->n, k, in + range->offset, s->residual + range->offset, sparsify_mine(s, c, k));
	sparsify_sum(s, c, range, k, out);
}

int64_t sparsify_list_wire(const struct compress *c, int64_t n, bool most)
{
	const struct sparsify *s = c->state;

	return sparsify_bytes(c, most ? s->most_k : sparsify_k(s, n));
}

void sparsify_list_pack(struct compress *c, const struct range *range, float *v, void *wire)
{
	struct sparsify *s = c->state;
	int64_t k = sparsify_k(s, range->n);

	s->choose(c, range->n, k, NULL, v + range->offset, c->half ? s->own : wire);
	sparsify_round(s, c, k, v + range->offset, wire);
}

void sparsify_list_unpack(struct compress *c, const struct range *range, const void *wire, float a, float *out)
{
	struct sparsify *s = c->state;

	sparsify_add(s, c, sparsify_k(s, range->n), a, wire, out + range->offset);
}

double sparsify_list_bytes(const struct compress *c, int64_t n, int workers)
{
	return (double)(workers - 1) * (double)sparsify_bytes(c, sparsify_k(c->state, n));
}

double sparsify_list_cost(const struct compress *c, const struct cost_model *m)
{
	return ring_allgather_cost(m, (double)sparsify_bytes(c, sparsify_k(c->state, m->n)));
}

void sparsify_on_release(struct compress *c) { sparsify_release(c->state, c); }
