/*
 * The tables of kernels, one a file and instruction set: single-threaded loops over a slice. What they compute is said in
 * device.h; here only what a slice is.
 */
#ifndef COCOD_KERNELS_H
#define COCOD_KERNELS_H

#include "../../device.h"

/* vec.c. Output pointers may equal input pointers wherever device.h allows it. */
struct vec_kernels {
	void (*scale)(int64_t n, float a, const float *x, float *y);
	void (*axpby)(int64_t n, float a, const float *x, float b, float *y);
	void (*diff)(int64_t n, const float *x, const float *z, float *d);
	void (*reduce)(int64_t n, enum dtype, enum reduce, const void *src, void *dst);
	void (*adopt)(int64_t n, const float *avg, float *z, float *x);
	void (*merge)(int64_t n, const float *avg, float *x, float *z, float *d);
	void (*sgd)(int64_t n, const struct hyper *, const float *g, const float *v, const float *x, float *v_out, float *x_out);
	void (*adamw)(int64_t n, const struct hyper *, const float *g, const float *m, const float *s, const float *x,
	              float *m_out, float *s_out, float *x_out);
};

/* The part of a pooling window that lies inside the image: rows x cols pixels of c channels, `row` floats from row to row. The
 * first pixel has the window position `first`; one row down it is `kernel` more. */
struct window {
	int rows, cols, c, first, kernel;
	int64_t row;
};

/* nn.c */
struct layer_kernels {
	void (*relu_fwd)(int64_t n, const float *x, float *y);
	void (*relu_bwd)(int64_t n, const float *y, const float *dy, float *dx, bool accumulate);
	void (*add_fwd)(int64_t n, const float *a, const float *b, bool relu, float *y);
	/* One output pixel. x, dx: the window's first pixel. The backward kernels add. */
	void (*max_fwd)(const struct window *, const float *x, float *y, uint8_t *index);
	void (*max_bwd)(const struct window *, const float *dy, const uint8_t *index, float *dx);
	void (*mean_fwd)(const struct window *, float scale, const float *x, float *y);
	void (*mean_bwd)(const struct window *, float scale, const float *dy, float *dx);
	/* Elements [first, first + n) of a stream of Philox words; first is a multiple of 4. */
	void (*dropout)(int64_t first, int64_t n, uint32_t limit, float scale, const uint32_t key[2], const uint32_t counter[4],
	                const float *x, float *y);
};

/*
 * bn.c. A slice is rows x width floats, `stride` from row to row; each column is a channel of its own, with its own entry in the
 * arrays of coefficients. cpu_bn.c says how channels become columns.
 */
struct bn_slice {
	int64_t rows, stride;
	int width;
};

struct bn_kernels {
	/* Joins the moments of the slice to those of the `done` rows before: mean, and m2 = sum of (x - mean)^2. */
	void (*moments)(const struct bn_slice *, int64_t done, const float *x, double *mean, double *m2);
	/* y = relu?((x - mean) scale + shift + residual?) */
	void (*normalise)(const struct bn_slice *, const float *x, const float *residual, const float *mean, const float *scale,
	                  const float *shift, bool relu, float *y);
	/* Adds sum(dz) to `sum` and sum(dz (x - mean)) to `dot`, where dz = y ? (y > 0 ? dy : 0) : dy; keeps dz in dy if `keep`. */
	void (*sums)(const struct bn_slice *, const float *x, const float *y, const float *mean, float *dy, bool keep, double *sum,
	             double *dot);
	/* dx = scale dz + slope (x - mean) + shift, dz as above; dz also to dresidual. Either may be NULL, either may be added. */
	void (*apply)(const struct bn_slice *, const float *x, const float *y, const float *dy, const float *mean, const float *scale,
	              const float *slope, const float *shift, float *dx, bool add_dx, float *dresidual, bool add_dresidual);
};

/* sparse.c */
struct sparse_kernels {
	/*
	 * acc = residual + in (in NULL: acc = residual) on [from, to), kept in residual; lists those whose magnitude bits are at
	 * least `least`, in order. Returns how many, or -1 if that would be more than `room`; residual is finished in any case.
	 */
	int64_t (*filter)(int64_t from, int64_t to, const float *in, float *residual, uint32_t least, struct sparse *list, int64_t room);
	/* Of x + y, y may be NULL: the sum, and the sum of the squares. */
	void (*moments)(int64_t n, const float *x, const float *y, double sum[2]);
	/* How many magnitudes |x + y| reach each of three bounds. */
	void (*reach)(int64_t n, const float *x, const float *y, const float bound[3], int64_t count[3]);
};

/* lowrank.c. A slice is some rows of the matrix, or for left() some of its columns; p_k lies `p_step` floats behind p_k-1, q_k
 * `q_step` behind q_k-1. */
struct lowrank_slice {
	int64_t rows, cols, stride;     /* stride: from row to row of the matrix */
	int rank;
	int64_t p_step, q_step;
};

struct lowrank_kernels {
	void (*right)(const struct lowrank_slice *, const float *in, float *m, const float *q, float *p);
	void (*left)(const struct lowrank_slice *, const float *m, const float *p, float *q);
	void (*expand)(const struct lowrank_slice *, const float *p, const float *q, const float *own, float *m, float *out);
};

/* quant.c: whole buckets, and what is left at the vector's end. draw->first is where the slice begins, key the draw's (philox.h). */
struct quant_kernels {
	void (*encode)(const struct quant *, int64_t n, const float *in, float *residual, const struct quant_draw *draw,
	               const uint32_t key[2], uint32_t *packed);
	void (*decode)(const struct quant *, int64_t n, const uint32_t *packed, float a, bool add, float *out);
};

#endif
