/* The two phases of quantize.h. */
#include <math.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../sync/sync.h"
#include "quantize.h"

static int bits_for(int levels)
{
	int bits = 1;                   /* the sign's */

	for (int l = levels; l; l /= 2)
		bits++;
	return bits;
}

void quantize_init(struct quantize *z, struct compress *c, const struct quant *q)
{
	*z = (struct quantize){ .first = *q, .scale = 1 };
	if (q->code == QUANT_LEVELS)
		z->first.bits = bits_for(q->levels);
	z->second = z->first;
	c->per_bucket = true;           /* nothing is compared across a bucket: pieces may go as they become final */
}

int quantize_bucket(const struct config *config, int *bucket)
{
	*bucket = (int)config_int(config, "compress.bucket");
	if (*bucket % QUANT_TILE == 0)
		return 0;
	error("compress.bucket = %d (%s) is not a multiple of %d", *bucket, config_origin(config, "compress.bucket"), QUANT_TILE);
	return hint("take %d or %d", *bucket / QUANT_TILE * QUANT_TILE, (*bucket / QUANT_TILE + 1) * QUANT_TILE);
}

uint64_t quantize_seed(const struct config *config) { return (uint64_t)config_int(config, "compress.seed"); }

struct chunk {
	int64_t from, n, at, bytes;     /* elements of the range; where it lies in the packed vector */
};

static struct chunk chunk_of(const struct quant *q, int64_t n, int size, int index)
{
	int64_t buckets = (n + q->bucket - 1) / q->bucket, from, to;

	index = (index % size + size) % size;
	from = buckets * index / size * q->bucket;
	to = buckets * (index + 1) / size * q->bucket;
	to = to < n ? to : n;
	return (struct chunk){ from, to - from, quant_bytes(q, from), quant_bytes(q, to) - quant_bytes(q, from) };
}

void quantize_bind(struct compress *c, const struct range *ranges, int count)
{
	struct quantize *z = c->state;
	struct device *dev = c->comm->device;
	int64_t packed = 0, received = 0;

	for (int i = 0; i < count; i++) {
		struct chunk mine = chunk_of(&z->first, ranges[i].n, c->comm->size, c->comm->rank);
		int64_t bytes = quant_bytes(&z->first, ranges[i].n);

		CHECK(bytes == quant_bytes(&z->second, ranges[i].n));
		packed = bytes > packed ? bytes : packed;
		received = mine.bytes > received ? mine.bytes : received;
	}
	z->packed = dev->ops->mem->alloc(dev, (size_t)packed);
	z->received = dev->ops->mem->alloc(dev, (size_t)received * (size_t)c->comm->size);
	if (!z->feedback)
		return;
	z->residual = dev->ops->mem->alloc(dev, (size_t)c->n * sizeof(float));
	z->sum_residual = dev->ops->mem->alloc(dev, (size_t)c->n * sizeof(float));
}

/* Everybody's version of my chunk comes to `received`, in rank order. */
static void scatter(struct compress *c, int64_t n)
{
	struct quantize *z = c->state;
	struct comm *comm = c->comm;
	int64_t mine = chunk_of(&z->first, n, comm->size, comm->rank).bytes;

	for (int shift = 1; shift < comm->size; shift++) {
		int to = (comm->rank + shift) % comm->size, from = (comm->rank + comm->size - shift) % comm->size;
		struct chunk out = chunk_of(&z->first, n, comm->size, to);

		comm_exchange(comm, to, z->packed + out.at, out.bytes, from, z->received + from * mine, mine);
	}
}

/* Sums go round the ring: in each step the chunk that came in last. */
static void gather(struct compress *c, int64_t n)
{
	struct quantize *z = c->state;
	struct comm *comm = c->comm;
	int right = (comm->rank + 1) % comm->size, left = (comm->rank + comm->size - 1) % comm->size;

	for (int step = 0; step < comm->size - 1; step++) {
		struct chunk out = chunk_of(&z->first, n, comm->size, comm->rank - step);
		struct chunk in = chunk_of(&z->first, n, comm->size, comm->rank - step - 1);

		comm_exchange(comm, right, z->packed + out.at, out.bytes, left, z->packed + in.at, in.bytes);
	}
}

static void clear_padding(struct compress *c, const struct range *range, float *v)
{
	const struct mem_ops *mem = c->comm->device->ops->mem;

	for (int i = 0; v && i < range->tensors; i++) {
		const struct tensor_info *t = &range->tensor[i];
		int64_t end = t->offset + t->n, next = i + 1 < range->tensors ? t[1].offset : range->offset + range->n;

		if (end < next)
			mem->zero(c->comm->stream, v + end, (size_t)(next - end) * sizeof(float));
	}
}

void quantize_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct quantize *z = c->state;
	struct comm *comm = c->comm;
	const struct quant_ops *ops = comm->device->ops->quant;
	struct chunk mine = chunk_of(&z->first, range->n, comm->size, comm->rank);
	struct quant_draw draw = { z->seed, (uint64_t)z->averages, 2 * (uint32_t)comm->rank, 0 };
	float *sum = out + range->offset + mine.from;   /* what was in there has been encoded by then */

	trace_begin(comm->stream, "encode", "values", range->n);
	ops->encode(comm->stream, &z->first, range->n, in + range->offset, z->feedback ? z->residual + range->offset : NULL, &draw,
	            z->packed);
	trace_end(comm->stream);
	scatter(c, range->n);
	trace_begin(comm->stream, "add and encode", "values", mine.n);
	for (int r = 0; r < comm->size && mine.n; r++)
		ops->decode(comm->stream, &z->first, mine.n, r == comm->rank ? z->packed + mine.at : z->received + r * mine.bytes,
		            (float)c->weight[r], r > 0, sum);
	if (z->first.code == QUANT_SIGN)
		clear_padding(c, range, out);
	draw.stream++;
	draw.first = mine.from;
	if (mine.n)
		ops->encode(comm->stream, &z->second, mine.n, sum, z->feedback ? z->sum_residual + range->offset + mine.from : NULL, &draw,
		            z->packed + mine.at);
	trace_end(comm->stream);
	gather(c, range->n);
	trace_begin(comm->stream, "decode", "values", range->n);
	ops->decode(comm->stream, &z->second, range->n, z->packed, z->scale, false, out + range->offset);
	trace_end(comm->stream);
	z->averages++;
	if (z->first.code != QUANT_SIGN)
		return;
	clear_padding(c, range, out);
	clear_padding(c, range, z->residual);
	clear_padding(c, range, z->sum_residual);
}

/*
 * What is unbiased need not be near: E |Q(x) - x|^2 <= (tau - 1) |x|^2, and tau may be more than 2. Q / tau is near whatever tau is,
 * E |Q(x) / tau - x|^2 <= (1 - 1 / tau) |x|^2 (Koloskova et al., ICML 2019, section 3.5). A level is scale / s, with a scale of at most |x|,
 * and the variance of drawing between two of them at most a fourth of its square, and at most level × |x_j|: for d elements that
 * makes tau = 1 + min(d / (4 s^2), sqrt(d) / s). Powers of two: 9/8. The others are near already.
 */
static float nearness(const struct quant *q)
{
	double d = q->bucket, s = q->levels, variance;

	if (q->code == QUANT_POWERS)
		return 8.0f / 9;
	if (q->code != QUANT_LEVELS)
		return 1;
	variance = fmin(d / (4 * s * s), sqrt(d) / s);
	return (float)(1 / (1 + variance));
}

int64_t quantize_wire(const struct compress *c, int64_t n, bool most)
{
	const struct quantize *z = c->state;

	(void)most;
	return quant_bytes(&z->first, n);
}

void quantize_pack(struct compress *c, const struct range *range, float *v, void *wire)
{
	struct quantize *z = c->state;
	struct quant_draw draw = { z->seed, (uint64_t)z->averages++, 2 * (uint32_t)c->comm->rank, 0 };

	c->comm->device->ops->quant->encode(c->comm->stream, &z->first, range->n, v + range->offset, NULL, &draw, wire);
}

void quantize_unpack(struct compress *c, const struct range *range, const void *wire, float a, float *out)
{
	struct quantize *z = c->state;

	c->comm->device->ops->quant->decode(c->comm->stream, &z->first, range->n, wire, a * nearness(&z->first), true,
	                                     out + range->offset);
	if (z->first.code == QUANT_SIGN)
		clear_padding(c, range, out);
}

void quantize_state(struct compress *c, struct state_visitor *v)
{
	struct quantize *z = c->state;

	v->number(v, "compress.averages", &z->averages);
	if (!z->feedback)
		return;
	v->vector(v, "residual", c->comm->device, z->residual, c->n);
	v->vector(v, "sum_residual", c->comm->device, z->sum_residual, c->n);
}

double quantize_bytes(const struct compress *c, int64_t n, int workers)
{
	const struct quantize *z = c->state;

	return 2.0 * (workers - 1) / workers * (double)quant_bytes(&z->first, n);
}

double quantize_cost(const struct compress *c, const struct cost_model *m)
{
	const struct quantize *z = c->state;
	double bytes = (double)quant_bytes(&z->first, m->n), seconds = ring_allreduce_cost(m, bytes) / 2;

	for (int shift = 1; shift < m->workers; shift++)        /* the scatter: more of a node's ranks send out of it than in a ring */
		seconds += cost_step(m, cost_across_ring(m, shift), bytes / m->workers);
	return seconds;
}

void quantize_release(struct compress *c)
{
	struct quantize *z = c->state;
	struct device *dev = c->comm->device;
	void *const all[] = { z->residual, z->sum_residual, z->packed, z->received };

	for (int i = 0; i < 4; i++)
		dev->ops->mem->free(dev, all[i]);
}
