/*
 * What the files of this folder share. One process drives one GPU; a stream of device.h is a CUDA stream with its own scratch.
 *
 * .c files are C11 and may call CUDA's C API; kernels are in .cu files (C++17, no exceptions, no C++ library), which launch through
 * launch.cuh, so that test/emulator can run the same sources on a CPU.
 */
#ifndef COCOD_CUDA_H
#define COCOD_CUDA_H

#include <cuda_runtime_api.h>

#include "../device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A second copy of a parameter arena, in bf16 (nn->prepare). Whoever writes parameters through this device either writes both
 * (the optimizers' kernels) or calls cuda_written(). */
struct shadow {
	const float *base;
	int64_t n;
	void *half;             /* n bf16 values */
	bool fresh;             /* `half` holds what `base` will hold when the work queued so far has run */
};

enum { CUDA_SHADOWS = 8, CUDA_SCRATCH = 32 << 20 };

struct conv_library;            /* cuDNN's and cuBLASLt's handles, the plan cache: conv_library.c */

struct cuda_device {
	struct device base;
	int index;              /* CUDA's number of the GPU */
	int processors;         /* SMs */
	char name[96], uuid[48], bus[24];
	struct shadow shadow[CUDA_SHADOWS];     /* places that are free have no base */
	struct conv_library *conv;      /* opened with the first plan */
	bool sync_all;          /* $COCOD_CUDA_SYNC=1: the host waits for every operation, so that a fault names its operation */
	char *describe;
};

struct stream {
	struct shadowed base;
	struct cuda_device *dev;
	cudaStream_t handle;
	enum stream_kind kind;
	void *scratch;          /* CUDA_SCRATCH bytes of device memory: partial sums, convolution workspaces; one operation's at a time */
	bool capturing;
	unsigned fresh;                 /* while capturing: cuda_fresh() as it was before */
	struct stopwatch *watch;        /* cuda_stream.c: where busy() and waited() come from */
	struct stamps *stamps;          /* cuda_stamp.c: moments whose time is asked for; NULL: none was */
	struct calls *calls;            /* cuda_stream.c: arguments of host functions that have not run yet */
};

static inline struct cuda_device *cuda(struct device *dev) { return (struct cuda_device *)dev; }

/* Dies with the library's own words (STATUS_FAILURE). */
void cuda_check(cudaError_t, const char *call, const char *file, int line);
#define CUDA(call) cuda_check((call), #call, __FILE__, __LINE__)

/* stream->stamp(); all that is queued has run: their times are written; in the end. */
void cuda_stamp(struct stream *, double *at);
void cuda_stamps_settle(struct stream *);
void cuda_stamps_free(struct stream *);

/* In front of an operation: the communication stream's clock starts, if it stands. launch() does it for kernels. */
void cuda_begin(struct stream *);
/* After an operation was queued: catches launch errors; under sync_all also waits. `what` is a string constant. */
void cuda_queued(struct stream *, const char *what);
/* The stream's scratch; dies if it is smaller than asked. */
void *cuda_scratch(struct stream *, size_t bytes);

/* The arena's bf16 copy at this address, for layers: never NULL in bf16 precision, dies if the arena was not prepared. */
const void *cuda_half(struct cuda_device *, const float *x);
/* The same for kernels that write n parameters: NULL if there is no copy to write (the kernel then writes x alone). A kernel that
 * gets a pointer writes both. */
void *cuda_half_out(struct cuda_device *, const float *x, int64_t n);
/* x … x + n was written otherwise: its copy is stale until the next prepare(). For any address; cheap. */
void cuda_written(struct cuda_device *, const void *x);
void cuda_forget(struct cuda_device *, const void *base);       /* the arena's memory is freed */
/* What a capture does to the copies happens at every replay, not when it is recorded. So cuda_stream.c lets all copies (a bit each;
 * free places too) count as fresh while it records, puts back what was, and makes stale after each replay what became so. */
unsigned cuda_fresh(const struct cuda_device *);
void cuda_set_fresh(struct cuda_device *, unsigned);

/* The tables, one file each (names in brackets). */
extern const struct mem_ops cuda_mem_ops;               /* cuda_mem.c */
extern const struct stream_ops cuda_stream_ops;         /* cuda_stream.c */
extern const struct vec_ops cuda_vec_ops;               /* vec.cu */
extern const struct sparse_ops cuda_sparse_ops;         /* sparse.cu */
extern const struct lowrank_ops cuda_lowrank_ops;       /* lowrank.cu */
extern const struct quant_ops cuda_quant_ops;           /* quant.cu */
extern const struct nn_ops cuda_nn_ops;                 /* cuda_nn.c, from the functions below */
extern const struct device_ops device_cuda;             /* cuda_device.c */

/* nn_ops by file; contracts in device.h. */
int cuda_input_pitch(struct device *, int c);                                                                   /* image.cu */
void cuda_from_f32(struct stream *, int64_t pixels, int c, int pitch, const float *x, void *y);
void cuda_to_f32(struct stream *, int64_t n, const void *x, float *y);
void cuda_augment(struct stream *, const struct augment_desc *, const uint8_t *image, const float *table,
                  const struct image_draw *draw, void *y);
void cuda_prepare(struct stream *, int64_t n, const float *x);                                                  /* cuda_shadow.c */
void cuda_to_half(struct stream *, int64_t n, const float *x, void *half);                                      /* vec.cu */
void cuda_set(struct stream *, void *dst, const void *src, size_t bytes);                                       /* set.cu: mem->set */

struct conv_plan *cuda_conv_plan(struct device *, const struct conv_desc *);                                    /* conv.c */
const char *cuda_conv_name(const struct conv_plan *);
void cuda_conv_release(struct device *, struct conv_plan *);
void cuda_conv_fwd(struct stream *, struct conv_plan *, const void *x, const float *w, const float *b, void *y);
void cuda_conv_bwd_data(struct stream *, struct conv_plan *, const void *dy, const float *w, void *dx, bool accumulate);
void cuda_conv_bwd_filter(struct stream *, struct conv_plan *, const void *x, const void *dy, float *dw, float *db);
void cuda_conv_library_close(struct cuda_device *);             /* NULL-safe */
const char *cuda_conv_words(void);                              /* "cuDNN 9.19.0, cuBLASLt 13.1" */

void cuda_bias_add(struct stream *, int64_t rows, int c, const float *b, void *y);                              /* bias.cu: y += b */
void cuda_bias_sum(struct stream *, int64_t rows, int c, const void *dy, float *db);                            /* db = column sums */
/* OHWI weights of c channels <-> of `pitch` channels (zero behind c): the stem's image is padded, its parameters are not. */
void cuda_weight_pad(struct stream *, int64_t rows, int c, int pitch, const void *w, void *padded);             /* activation type */
void cuda_weight_trim(struct stream *, int64_t rows, int c, int pitch, const float *padded, float *dw);

void cuda_bn_train(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma, const float *beta,
                   float *running_mean, float *running_var, float *mean, float *invstd, void *y);               /* bn.cu */
void cuda_bn_infer(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma, const float *beta,
                   const float *running_mean, const float *running_var, void *y);
void cuda_bn_bwd(struct stream *, const struct bn_desc *, const void *x, const void *y, const float *gamma, const float *mean,
                 const float *invstd, void *dy, void *dx, bool add_dx, void *dresidual, bool add_dresidual, float *dgamma, float *dbeta);

void cuda_relu_fwd(struct stream *, int64_t n, const void *x, void *y);                                         /* pointwise.cu */
void cuda_relu_bwd(struct stream *, int64_t n, const void *y, const void *dy, void *dx, bool accumulate);
void cuda_add_fwd(struct stream *, int64_t n, const void *a, const void *b, bool relu, void *y);
void cuda_grad_add(struct stream *, int64_t n, const void *dy, void *dx);
void cuda_dropout(struct stream *, int64_t n, float p, uint64_t seed, const int64_t *step, uint32_t layer, const void *x, void *y);

void cuda_pool_fwd(struct stream *, const struct pool_desc *, const void *x, void *y, uint8_t *index);          /* pool.cu */
void cuda_pool_bwd(struct stream *, const struct pool_desc *, const void *dy, const uint8_t *index, void *dx, bool accumulate);
void cuda_shortcut_fwd(struct stream *, int n, int h, int w, int c, int out, const void *x, void *y);
void cuda_shortcut_bwd(struct stream *, int n, int h, int w, int c, int out, const void *dy, void *dx, bool accumulate);

void cuda_softmax_xent(struct stream *, int n, int classes, const void *x, const int32_t *label, float scale, void *dx,
                       struct loss_stats *stats);                                                              /* softmax.cu */

#ifdef __cplusplus
}
#endif
#endif
