/* Vectors in few bits on the CPU: cut between buckets, done by the kernels of its instruction set. */
#define HOST_DEVICE static inline

#include "../philox.h"
#include "../rng.h"
#include "cpu_ops.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

KERNEL_TABLES(struct quant_kernels, quant_kernels);

enum { ENCODE_FLOATS = 4, DECODE_FLOATS = 2 };  /* of work for each element, about */

struct quant_args {
	struct cpu_device *dev;
	struct quant q;
	struct quant_draw draw;
	int64_t n;
	const float *in;
	float *residual, *out;
	void *packed;
	float a;
	bool add;
};

static uint32_t *record_at(const struct quant_args *a, int64_t from)
{
	return (uint32_t *)((char *)a->packed + quant_bytes(&a->q, from));
}

static void slice_encode(const void *args, int64_t from, int64_t to)
{
	const struct quant_args *a = args;
	struct quant_draw draw = a->draw;
	uint32_t key[2];

	draw.first += from;
	philox_key(draw.seed, RNG_COMPRESS, key);
	quant_kernels_tables[a->dev->isa]->encode(&a->q, to - from, a->in + from, a->residual ? a->residual + from : NULL, &draw, key,
	                                          record_at(a, from));
}

static void run_encode(void *args, int team)
{
	const struct quant_args *a = args;

	cpu_for(a->dev, team, a->n, a->q.bucket, ENCODE_FLOATS, slice_encode, a);
}

static void encode(struct stream *s, const struct quant *q, int64_t n, const float *in, float *residual, const struct quant_draw *draw,
                   void *packed)
{
	struct quant_args a = {
		.dev = stream_cpu(s), .q = *q, .draw = *draw, .n = n, .in = in, .residual = residual, .packed = packed,
	};

	cpu_run(s, run_encode, &a, sizeof(a));
}

static void slice_decode(const void *args, int64_t from, int64_t to)
{
	const struct quant_args *a = args;

	quant_kernels_tables[a->dev->isa]->decode(&a->q, to - from, record_at(a, from), a->a, a->add, a->out + from);
}

static void run_decode(void *args, int team)
{
	const struct quant_args *a = args;

	cpu_for(a->dev, team, a->n, a->q.bucket, DECODE_FLOATS, slice_decode, a);
}

static void decode(struct stream *s, const struct quant *q, int64_t n, const void *packed, float a, bool add, float *out)
{
	struct quant_args args = {
		.dev = stream_cpu(s), .q = *q, .n = n, .packed = (void *)packed, .a = a, .add = add, .out = out,
	};

	cpu_run(s, run_decode, &args, sizeof(args));
}

const struct quant_ops cpu_quant_ops = {
	.encode = encode,
	.decode = decode,
};
