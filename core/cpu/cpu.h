/*
 * Inside the CPU device. Three layers, bottom up:
 *
 *   kernel/        single-threaded loops over a slice, compiled once for each instruction set (base, avx2, avx512); each file
 *                  exports one table named KERNEL(x): x_base, x_avx2, x_avx512. The CPU picks one at start (cpu_isa()).
 *   cpu_….c        the tables of device.h: cut work into slices for the OpenMP team, or queue it on the communication stream
 *   reference.c    every operation again in plain C, one thread, double accumulation: the oracle, device "reference"
 *
 * dnnl.h is the one header that knows oneDNN (2.6 and 3.x), dnnl_conv.c the only file that uses it (dnnl_none.c without it).
 */
#ifndef COCOD_CPU_H
#define COCOD_CPU_H

#include "../device.h"

enum cpu_isa { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_COUNT };

/* The best instruction set that this CPU has and that was compiled in; COCOD_ISA=base|avx2|avx512 asks for a lower one. */
enum cpu_isa cpu_isa(void);
const char *cpu_isa_name(enum cpu_isa);

struct cpu_device {
	struct device base;
	bool reference;                 /* device "reference": plain kernels everywhere */
	enum cpu_isa isa;
	int threads;
	struct cpu_queue *queue;        /* the communication streams' driver, cpu_stream.c */
	void *scratch;                  /* one scratchpad, shared by all plans that run on the compute stream, kept at the largest size */
	size_t scratch_bytes;
	char *describe;                 /* the line of describe(), once asked for */
};

static inline struct cpu_device *cpu(struct device *dev) { return (struct cpu_device *)dev; }
struct cpu_device *stream_cpu(struct stream *);         /* the device of a stream */

/* Memory of at least this many bytes for a plan; grown while planning, so read ->scratch when executing. */
void cpu_scratch_reserve(struct cpu_device *, size_t bytes);

/* Runs fn(args) on the stream: at once, in the caller, if it is the compute stream; else queued with a copy of args
 * (<= CPU_ARGS bytes). `team` tells fn how many threads it may use: the device's on the compute stream, 1 on the other. */
enum { CPU_ARGS = 160 };
typedef void cpu_fn(void *args, int team);
void cpu_run(struct stream *, cpu_fn *, const void *args, size_t bytes);

/* For long loops of the compute stream: lets the communication stream advance if it is driven by the hook and some time has
 * passed. Cheap; may be called inside a parallel region, by its thread 0 only (other threads return at once). */
void cpu_poll(struct cpu_device *);

/* The cut of n into `team` slices on multiples of `unit`: slice t is [*from, *to). */
static inline void cpu_slice(int64_t n, int team, int t, int64_t unit, int64_t *from, int64_t *to)
{
	int64_t units = (n + unit - 1) / unit;

	*from = units * t / team * unit;
	*to = units * (t + 1) / team * unit;
	if (*to > n)
		*to = n;
	if (*from > n)
		*from = n;
}

extern const struct mem_ops cpu_mem_ops;
extern const struct stream_ops cpu_stream_ops;
extern const struct vec_ops cpu_vec_ops, reference_vec_ops;
extern const struct sparse_ops cpu_sparse_ops, reference_sparse_ops;
extern const struct lowrank_ops cpu_lowrank_ops, reference_lowrank_ops;
extern const struct quant_ops cpu_quant_ops, reference_quant_ops;
extern const struct nn_ops cpu_nn_ops, reference_nn_ops;

/* reference_region.c: entries of reference_sparse_ops */
void reference_quantiles(struct stream *, int64_t k, const struct sparse *list, int parts, float *least, uint32_t *bound);
void reference_split(struct stream *, int64_t k, const struct sparse *list, int parts, const uint32_t *bound, int64_t room,
                     struct sparse *block, float *residual);
void reference_put_back_zero(struct stream *, int64_t k, const struct sparse *own, const float *result, float *residual);

/* cpu_stream.c: called by open and close of the device */
void cpu_streams_open(struct cpu_device *);
void cpu_streams_close(struct cpu_device *);

/* Convolutions: cpu_conv.c asks each in turn; a NULL plan means "not mine". All take the descriptor as in device.h. */
struct conv_plan {
	const struct conv_impl *impl;
	struct conv_desc desc;
	char name[64];
};
struct conv_impl {
	const char *name;               /* "winograd", "direct" (oneDNN), "reference" */
	struct conv_plan *(*plan)(struct cpu_device *, const struct conv_desc *);
	void (*release)(struct conv_plan *);
	void (*fwd)(struct cpu_device *, struct conv_plan *, const float *x, const float *w, const float *b, float *y);
	void (*bwd_data)(struct cpu_device *, struct conv_plan *, const float *dy, const float *w, float *dx, bool accumulate);
	void (*bwd_filter)(struct cpu_device *, struct conv_plan *, const float *x, const float *dy, float *dw, float *db);
};
extern const struct conv_impl conv_winograd, conv_dnnl, conv_reference;
const char *dnnl_words(void);           /* "oneDNN 2.6.3", or "no oneDNN" */

#endif
