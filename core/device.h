/*
 * What a device is: memory, ordered queues, kernels. cpu/ and cuda/ fill these tables in; nothing above core/ knows which one it
 * drives.
 *
 * Everything is ordered by streams and events. A stream is a FIFO queue of operations; all functions below that take a
 * `struct stream *` only queue and return. record() and wait() join two streams; the host never waits in the step path.
 *   CUDA: CUDA streams.
 *   CPU:  STREAM_COMPUTE runs inline, in its caller, with the device's OpenMP team; an operation has happened when the call
 *         returns. STREAM_COMM is a real queue, advanced by a thread of its own or by progress() (struct device_config), each
 *         operation on one thread.
 * An operation's arguments are copied when it is queued; what they point to must live, and keep its meaning, until it ran.
 * Between fork and join a buffer belongs to the stream that works on it.
 *
 * Sizes: n counts elements. Vectors (parameters, gradients, statistics) are fp32. Activations and their gradients are `void *`: of
 * the device's type device->activation, fp32 or bf16. Buffers do not overlap unless a comment allows it.
 * Errors: nothing here returns one. What cannot go on dies (die.h).
 */
#ifndef COCOD_DEVICE_H
#define COCOD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant.h"

#ifdef __cplusplus
extern "C" {
#endif

struct device;
struct stream;
struct event;

/* Every stream and every event of a backend begins with this, zeroed: it is timeline.c's. */
struct shadowed {
	void *shadow;
};

enum copy_kind { COPY_DEVICE, COPY_TO_DEVICE, COPY_TO_HOST };

struct mem_ops {
	void *(*alloc)(struct device *, size_t bytes);          /* zeroed, 64-byte aligned; huge pages where that helps */
	void (*free)(struct device *, void *);
	void *(*alloc_host)(struct device *, size_t bytes);     /* zeroed host memory that copies fast (pinned on a GPU) */
	void (*free_host)(struct device *, void *);
	void (*copy)(struct stream *, void *dst, const void *src, size_t bytes, enum copy_kind);
	void (*zero)(struct stream *, void *dst, size_t bytes);
	/* Writes up to 128 bytes from the host, captured at the call: src may change right after. */
	void (*set)(struct stream *, void *dst, const void *src, size_t bytes);
};

enum stream_kind { STREAM_COMPUTE, STREAM_COMM };

/* A host function on a stream: called again and again by whoever drives the stream until it returns true. It must not block. */
typedef bool host_fn(void *args);

struct stream_ops {
	struct stream *(*open)(struct device *, enum stream_kind);
	void (*close)(struct stream *);                         /* waits for what is queued */
	void (*sync)(struct stream *);                          /* the HOST waits until all that is queued has run */
	struct event *(*event_open)(struct device *);
	void (*event_close)(struct event *);
	void (*record)(struct event *, struct stream *);        /* the event happens when all queued on the stream so far has run */
	void (*wait)(struct stream *, struct event *);          /* what is queued on the stream next runs after the last record */
	bool (*done)(const struct event *);                     /* the host asks whether the last record happened; never waits */
	void (*call)(struct stream *, host_fn *, const void *args, size_t bytes);       /* args: copied, at most 128 bytes */
	double (*busy)(const struct stream *);                  /* seconds this stream has spent in operations other than waiting for events */
	bool (*active)(const struct stream *);                  /* is such an operation under way? (for the overlap report) */
	double (*waited)(const struct stream *);                /* seconds a compute stream stood still in wait() or lent its thread to communication */
	/* (optional) Queues: *at = clock_now(), once all that was queued before has run. Written by the next sync() at the latest. Where it is
	 * NULL, a host function does that and holds nothing up. */
	void (*stamp)(struct stream *, double *at);
	void (*progress)(struct device *);                      /* (optional) lets the queues advance; cheap; called between layers */
	/* (optional) The queue in the backend's own type (a cudaStream_t), for a library that queues its operations itself: NCCL. */
	void *(*native)(struct stream *);
	/* (optional, all four or none) Between begin and end, kernels, copies inside the device and zero() on this compute stream are
	 * recorded instead of run; no other operation is allowed there. replay() queues them again, with the same pointers and sizes:
	 * a whole pass costs the host one call. */
	void (*capture_begin)(struct stream *);
	struct graph *(*capture_end)(struct stream *);
	void (*replay)(struct stream *, struct graph *);
	void (*graph_free)(struct graph *);
};

/* ---- vectors ---- */

enum dtype { DTYPE_F32, DTYPE_F64, DTYPE_I64, DTYPE_BF16 };
enum reduce { REDUCE_SUM, REDUCE_MAX, REDUCE_MIN };

static inline size_t dtype_size(enum dtype t) { return t == DTYPE_F32 ? 4 : t == DTYPE_BF16 ? 2 : 8; }

/* What changes from step to step, in device memory (so that a captured step can be replayed): written by mem->set(). */
struct hyper {
	float lr, momentum, weight_decay;
	int nesterov;                   /* SGD */
	float beta1, beta2, epsilon;    /* AdamW */
	float correct1, correct2;       /* AdamW: 1 - beta1^t, 1 - beta2^t */
	int first;                      /* SGD: 1 on the first step: v = g, as in PyTorch */
};

struct vec_ops {
	void (*scale)(struct stream *, int64_t n, float a, const float *x, float *y);               /* y = a x; y may be x */
	void (*axpby)(struct stream *, int64_t n, float a, const float *x, float b, float *y);      /* y = a x + b y */
	void (*diff)(struct stream *, int64_t n, const float *x, const float *z, float *d);         /* d = x - z; d may be x or z */
	/* dst = dst op src, elementwise; any dtype but bf16 */
	void (*reduce)(struct stream *, int64_t n, enum dtype, enum reduce, const void *src, void *dst);
	/* Periodic averaging: z += avg; x = z. */
	void (*adopt)(struct stream *, int64_t n, const float *avg, float *z, float *x);
	/* CoCoD-SGD's delay-corrected merge and next snapshot in one pass: z += avg; x += avg - d; d = x - z. */
	void (*merge)(struct stream *, int64_t n, const float *avg, float *x, float *z, float *d);
	/* PyTorch's SGD: g' = g + wd x; v' = first ? g' : mu v + g'; x' = x - lr (nesterov ? g' + mu v' : v').
	 * v_out may be v, x_out may be x. With momentum 0 neither v is touched (may be NULL). */
	void (*sgd)(struct stream *, int64_t n, const struct hyper *, const float *g, const float *v, const float *x,
	            float *v_out, float *x_out);
	/* PyTorch's AdamW: x' = (1 - lr wd) x - lr (m'/c1) / (sqrt(s'/c2) + eps). Out-of-place pointers may equal the in ones. */
	void (*adamw)(struct stream *, int64_t n, const struct hyper *, const float *g, const float *m, const float *s,
	              const float *x, float *m_out, float *s_out, float *x_out);
	/* y = x min(1, most / |x|), |x| the Euclidean norm; y may be x. */
	void (*clip)(struct stream *, int64_t n, float most, const float *x, float *y);
};

/* ---- sparse vectors ---- */

/* The wire format of all sparse exchanges. Lists are sorted by index; an index occurs once. */
struct sparse {
	uint32_t index;
	float value;
};

/* How the values of a list are sent in two bytes each: IEEE's binary16, or the upper half of a float. */
enum half_type { HALF_NONE, HALF_FP16, HALF_BF16 };

/* Such a list of k on the wire: k indices, then k values, then up to a multiple of 4. */
static inline int64_t sparse_half_bytes(int64_t k) { return 4 * k + (k + 1) / 2 * 4; }

/* An index that no element has. Lists that may come out short are filled up with it, and value 0. */
static const uint32_t SPARSE_HOLE = UINT32_MAX;

/* k of n places, the same for whoever draws with the same numbers: core/draw.h says which. 1 <= k <= n <= 2^32 - 1. */
struct draw {
	uint64_t seed, round;
};

struct sparse_ops {
	size_t (*work_size)(int64_t n, int64_t k);      /* bytes of scratch that those below need for these sizes */
	/* Error feedback and exact top-k: acc = residual + in; out = the k largest |acc| (ties: lower index wins), sorted by index;
	 * residual = acc with those k set to zero. 1 <= k <= n <= 2^32 - 1. in may be NULL: acc = residual. */
	void (*topk)(struct stream *, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out, void *work);
	/* As topk(), but of those alone whose magnitude is not 0 and at least *least (in device memory, >= 0). Are they fewer than k, holes
	 * follow. */
	void (*select)(struct stream *, int64_t n, int64_t k, const float *least, const float *in, float *residual, struct sparse *out,
	               void *work);
	/* What about k of the magnitudes |x + y| (y NULL: |x|) reach, if they are normally distributed: *least = |mean| + z deviation, where a normal
	 * variable is beyond z deviations with probability k / n. Then up to twice: are they fewer than 2/3 k, half of it, are they
	 * more than 4/3 k, one and a half times. 0 for k = n. The last bit depends on the order of the sums. */
	void (*normal_bound)(struct stream *, int64_t n, int64_t k, const float *x, const float *y, float *least);
	/* What about k of the magnitudes |x + y| reach (y NULL: |x|), by a sample: *least = the sample_rank()-th largest of sample_count() of
	 * them, those at sample_place() (formulas.h). 0 for k = n. */
	void (*sample_bound)(struct stream *, int64_t n, int64_t k, const float *x, const float *y, float *least, void *work);
	void (*scale)(struct stream *, int64_t k, float a, const struct sparse *in, struct sparse *out);     /* out may be in */
	/* These two pass over holes. */
	void (*scatter_add)(struct stream *, int64_t k, float a, const struct sparse *in, float *y);         /* y[i] += a v */
	void (*clear)(struct stream *, int64_t k, const struct sparse *list, float *y);                      /* y[i] = 0 */
	/* gTop-k's operator: the k largest |.| of the index-wise sum of two lists of k (ties: lower index), sorted by index.
	 * A sum of exactly 0 counts as a value. out differs from both. If the union has fewer than k, it cannot: each has k. */
	void (*merge)(struct stream *, int64_t k, const struct sparse *a, const struct sparse *b, struct sparse *out, void *work);
	/* alive[j] &= own[j].index is in list (k of each), and is alive there: kept[its place], or kept is NULL. */
	void (*survive)(struct stream *, int64_t k, const struct sparse *own, const struct sparse *list, const uint8_t *kept, uint8_t *alive);
	/* What did not survive goes back: residual[own[j].index] += own[j].value where !alive[j]. */
	void (*put_back)(struct stream *, int64_t k, const struct sparse *own, const uint8_t *alive, float *residual);
	/* Values to the nearest half (ties to even; beyond the largest one: the largest), wire: sparse_half_bytes(k), 4-byte aligned.
	 * What rounding takes away goes back: residual[in[j].index] += what is lost. Holes stay holes. */
	void (*pack)(struct stream *, int64_t k, enum half_type, const struct sparse *in, float *residual, void *wire);
	void (*unpack)(struct stream *, int64_t k, enum half_type, const void *wire, struct sparse *out);
	/* Of a full list, sorted: *least = its smallest magnitude, and the `parts` regions with as many of its places each: region p is
	 * [bound[p], bound[p + 1]), bound[0] = 0, bound[parts] = SPARSE_HOLE. In device memory both. */
	void (*quantiles)(struct stream *, int64_t k, const struct sparse *list, int parts, float *least, uint32_t *bound);
	/* Deals a list out by regions, in order: block p of `room` places takes those of region p, then holes. What finds no room goes back
	 * to the residual. */
	void (*split)(struct stream *, int64_t k, const struct sparse *list, int parts, const uint32_t *bound, int64_t room,
	              struct sparse *block, float *residual);
	/* What is 0 in the result goes back: residual[own[j].index] += own[j].value where result is 0 there. Passes over holes. */
	void (*put_back_zero)(struct stream *, int64_t k, const struct sparse *own, const float *result, float *residual);
	/* At the k places that the draw gives, in its order: value[j] = a x, and x = 0; y += a value[j]. */
	void (*take_drawn)(struct stream *, int64_t n, int64_t k, const struct draw *, float a, float *x, float *value);
	void (*add_drawn)(struct stream *, int64_t n, int64_t k, const struct draw *, float a, const float *value, float *y);
};

/* ---- matrices of low rank ---- */

/*
 * A matrix lies row by row, as tensors do in an arena; its factors of rank r are r vectors each, one after the other: p_k has an
 * element a row, q_k one a column. 1 <= r <= rows. Sums are taken in a fixed order: a device repeats its bits.
 */
struct lowrank_ops {
	/* Error feedback and the product with q: m += in;  p_k = m q_k. */
	void (*right)(struct stream *, int64_t rows, int64_t cols, int rank, const float *in, float *m, const float *q, float *p);
	/* The product with p: q_k = m^T p_k. */
	void (*left)(struct stream *, int64_t rows, int64_t cols, int rank, const float *m, const float *p, float *q);
	/* Gram-Schmidt in the order of k: p_0 … become orthonormal. A vector that, but for rounding, lies in the span of those before
	 * it (zero does) gives way to a random one; on all devices the same. */
	void (*orthonormalise)(struct stream *, int64_t rows, int rank, float *p);
	/* out = sum_k p_k q_k^T;  m -= sum_k p_k own_k^T. */
	void (*expand)(struct stream *, int64_t rows, int64_t cols, int rank, const float *p, const float *q, const float *own, float *m,
	               float *out);
};

/* ---- vectors in few bits: quant.h has the formats ---- */

struct quant_ops {
	/* acc = residual ? residual + in : in, a vector of n, goes to packed (quant_bytes(q, n) bytes, 4-byte aligned), and residual = acc
	 * minus what will come out. q and draw are captured at the call. */
	void (*encode)(struct stream *, const struct quant *q, int64_t n, const float *in, float *residual, const struct quant_draw *draw,
	               void *packed);
	/* out = a value, or out += a value. */
	void (*decode)(struct stream *, const struct quant *q, int64_t n, const void *packed, float a, bool add, float *out);
};

/* ---- layers: NHWC activations, OHWI weights ---- */

struct conv_desc {
	int n, h, w, c;                 /* input */
	int out, kh, kw, stride, pad;   /* square stride and padding */
	bool bias;
	int pitch;                      /* channels of an input pixel in memory (input_pitch()); those behind c are zero. 0: c */
};

static inline int conv_pitch(const struct conv_desc *d) { return d->pitch ? d->pitch : d->c; }

static inline int conv_out(int in, int kernel, int stride, int pad) { return (in + 2 * pad - kernel) / stride + 1; }

struct conv_plan;                       /* planned once, executed many times; owned by the device until conv_release */

struct bn_desc {
	int64_t pixels;                 /* n h w */
	int c;
	float epsilon, momentum;        /* running = (1 - momentum) running + momentum batch (variance unbiased there) */
	bool relu;                      /* y = max(0, .) fused; backward masks by y > 0 */
};

struct pool_desc {
	int n, h, w, c;
	int kernel, stride, pad;
	bool max;                       /* else average, padding not counted (count_include_pad = False has no effect at pad 0) */
};

/* Sums over the samples seen, in device memory; the trainer zeroes and reads it. */
struct loss_stats {
	double loss;                    /* sum of -log p(label) */
	int64_t correct, count;
};

/* How a batch comes out of a resident data set: one record a sample, drawn on the host (data/augment.h). */
struct image_draw {
	uint32_t sample;                /* index into the stored images */
	int16_t dy, dx;                 /* the window's place in the padded image, 0 … 2 pad */
	uint16_t flip;                  /* 1: mirrored, after cropping */
	uint16_t empty;                 /* 1: no sample, all zero */
};

struct augment_desc {
	int n, h, w, c, pitch;          /* the batch; stored images are h × w × c bytes */
	int pad;
};

struct nn_ops {
	/* (optional: where they are NULL, the activation type is fp32 and the pitch of the input is c.)
	 * Channels that a pixel of a convolution's input image should have in memory. */
	int (*input_pitch)(struct device *, int c);
	/* fp32 pixels of c channels to activations of `pitch`, zero behind c. */
	void (*from_f32)(struct stream *, int64_t pixels, int c, int pitch, const float *x, void *y);
	/* fp32 from activations; for whoever must look at them. */
	void (*to_f32)(struct stream *, int64_t n, const void *x, float *y);
	/* Layers are about to read parameters from this arena of n: the device brings its own copy (of another type) up to date. The
	 * first call for an arena makes the copy; it ends with the arena's memory. Layers read parameters of prepared arenas only. */
	void (*prepare)(struct stream *, int64_t n, const float *x);
	/* Crop, flip and normalise from images in device memory; table: c × 256 floats, a stored byte's value (device memory).
	 * What the window takes from outside an image has the stored value 0. */
	void (*augment)(struct stream *, const struct augment_desc *, const uint8_t *image, const float *table,
	                const struct image_draw *draw, void *y);

	/* Convolutions. bwd_data writes dx, or adds to it if `accumulate`; bwd_filter overwrites dw (and db, NULL if no bias).
	 * A linear layer is the convolution whose kernel is as large as its image; backends may see that and use a matrix product. */
	struct conv_plan *(*conv_plan)(struct device *, const struct conv_desc *);
	const char *(*conv_name)(const struct conv_plan *);     /* which kernel was chosen, for the layer table */
	void (*conv_release)(struct device *, struct conv_plan *);
	void (*conv_fwd)(struct stream *, struct conv_plan *, const void *x, const float *w, const float *b, void *y);
	void (*conv_bwd_data)(struct stream *, struct conv_plan *, const void *dy, const float *w, void *dx, bool accumulate);
	void (*conv_bwd_filter)(struct stream *, struct conv_plan *, const void *x, const void *dy, float *dw, float *db);

	/* y = relu?(gamma (x - mean) invstd + beta + residual?). Saves the batch mean and 1/sqrt(var + eps) for backward (c each).
	 * residual may be NULL. y may be x only in bn_infer. */
	void (*bn_train)(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma,
	                 const float *beta, float *running_mean, float *running_var, float *mean, float *invstd, void *y);
	void (*bn_infer)(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma,
	                 const float *beta, const float *running_mean, const float *running_var, void *y);
	/* dz = relu ? (y > 0 ? dy : 0) : dy. dx = its gradient (added if add_dx), dgamma, dbeta overwritten.
	 * dresidual: NULL: none wanted; == dy: dz is left in dy; else dz is written there (added if add_dresidual).
	 * dx may be dy if dresidual is not dy. */
	void (*bn_bwd)(struct stream *, const struct bn_desc *, const void *x, const void *y, const float *gamma,
	               const float *mean, const float *invstd, void *dy, void *dx, bool add_dx, void *dresidual,
	               bool add_dresidual, float *dgamma, float *dbeta);

	void (*relu_fwd)(struct stream *, int64_t n, const void *x, void *y);                       /* y may be x */
	void (*relu_bwd)(struct stream *, int64_t n, const void *y, const void *dy, void *dx, bool accumulate);     /* dx may be dy */
	void (*add_fwd)(struct stream *, int64_t n, const void *a, const void *b, bool relu, void *y);
	/* dx += dy: a gradient that several readers of an output sum up */
	void (*grad_add)(struct stream *, int64_t n, const void *dy, void *dx);
	/* Window positions of the maxima go to `index` (one byte an output, row-major in the window; NULL for average). */
	void (*pool_fwd)(struct stream *, const struct pool_desc *, const void *x, void *y, uint8_t *index);
	void (*pool_bwd)(struct stream *, const struct pool_desc *, const void *dy, const uint8_t *index, void *dx, bool accumulate);
	/* ResNet's option A shortcut: every second pixel, channels padded with zeros on both sides, (out - c)/2 in front.
	 * x: n h w c; y: n (h+1)/2 (w+1)/2 out. */
	void (*shortcut_fwd)(struct stream *, int n, int h, int w, int c, int out, const void *x, void *y);
	void (*shortcut_bwd)(struct stream *, int n, int h, int w, int c, int out, const void *dy, void *dx, bool accumulate);
	/* Inverted dropout: y = x / (1 - p) where kept. The mask is a function of (seed, *step, layer, element). Backward is the
	 * same function on dy. y may be x. */
	void (*dropout)(struct stream *, int64_t n, float p, uint64_t seed, const int64_t *step, uint32_t layer, const void *x, void *y);
	/* Softmax cross-entropy. Labels of -1 are padding: no loss, no gradient. dx = scale (softmax - onehot), NULL: not wanted.
	 * Adds to *stats. */
	void (*softmax_xent)(struct stream *, int n, int classes, const void *x, const int32_t *label, float scale, void *dx,
	                     struct loss_stats *stats);
};

/* ---- the device ---- */

enum progress { PROGRESS_AUTO, PROGRESS_THREAD, PROGRESS_HOOK };

enum precision { PRECISION_AUTO, PRECISION_FP32, PRECISION_TF32, PRECISION_BF16 };

struct device_config {
	int threads;                    /* compute threads; >= 1 */
	enum progress progress;         /* who advances STREAM_COMM on the CPU; AUTO: a thread if spare_cores > 0, else the hook */
	int spare_cores;                /* cores that no rank computes on */
	const char *conv;               /* "auto" | "winograd" | "direct" | "reference" */
	enum precision precision;       /* of layers. AUTO: bf16 on a GPU, fp32 on the CPU, which has no other */
	bool deterministic;             /* only kernels that give the same bits every time (all of ours do; cuDNN has others) */
	int index;                      /* which GPU; -1: the only one visible, else local_rank modulo their number */
	int local_rank;
};

struct device_ops {
	const char *name, *help;
	const struct mem_ops *mem;
	const struct stream_ops *stream;
	const struct vec_ops *vec;
	const struct sparse_ops *sparse;
	const struct lowrank_ops *lowrank;
	const struct quant_ops *quant;
	const struct nn_ops *nn;
	/* NULL: it cannot be used here; error() and hint() say why. The CPU always can. */
	struct device *(*open)(const struct device_config *);
	void (*close)(struct device *);
	const char *(*describe)(struct device *);       /* one line: "AMD EPYC, AVX-512, 2 threads, oneDNN 2.6.3" */
};

/* Every device begins with this; the rest is the backend's own. */
struct device {
	const struct device_ops *ops;
	struct device_config config;    /* as resolved: progress and precision are never AUTO */
	enum dtype activation;          /* DTYPE_F32 or DTYPE_BF16 */
	struct timeline *timeline;      /* timeline.h's; NULL: no virtual clock */
	bool host_memory;               /* the host may read and write what mem->alloc() gave; so may MPI */
	char where[64];                 /* which GPU of this host: its PCI bus id; "": none, this device computes on the CPU */
};

/* The devices that were linked in; NULL-terminated. Made by the Makefile's choice. */
extern const struct device_ops *const device_list[];
/* By name; "cuda" opens the shared object that holds it (backend.h). NULL: not there, error() and hint() say why. */
const struct device_ops *device_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
