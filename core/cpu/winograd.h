/*
 * Winograd's minimal filtering F(4x4, 3x3) for 3x3 convolutions of stride 1 (Lavin and Gray, "Fast Algorithms for Convolutional
 * Neural Networks", CVPR 2016): the output is cut into tiles of 4x4 pixels, and with d the 6x6 input pixels that a tile sees and
 * g the filter,
 *
 *     y = A' [ sum over c of (G g G') * (B' d B) ] A             (' is transposed, * is elementwise)
 *
 * The 36 elements are 36 independent matrix products, (tiles x in) times (in x out): 36 multiplications where the plain sum
 * takes 144. The gradient of the input is the same with the filter turned round and its channels swapped; that of the filter is
 *
 *     dg = G' [ sum over tiles of (A dy A') * (B' d B) ] G
 *
 * This header is the contract between the kernels (kernel/winograd.c: single-threaded slices, compiled for each instruction set)
 * and the plans (winograd.c: buffers, threads).
 */
#ifndef COCOD_WINOGRAD_H
#define COCOD_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WINOGRAD_PLANES = 36, WINOGRAD_TILE = 4 };

/* A batch of NHWC images as seen by the tiles: tile (i, j) of an image begins at pixel (4i - pad, 4j - pad). */
struct winograd_map {
	int h, w, c, pad;
	int th, tw;                     /* the grid of tiles over one image */
};

/* 36 matrices, each cut into blocks of VL columns: (plane, row, column) lies at
 * data[plane * plane_size + column / VL * block + row * VL + column % VL]. */
struct winograd_stack {
	float *data;
	size_t plane_size, block;
};

struct winograd_kernels {
	int vl;                         /* all channel counts and offsets below are multiples of it */
	int rows;                       /* of tiles that the product's inner kernel takes at once */

	/* Rows [0, n) of v = B' d B of the tiles [tile, tile + n), all channels of the map. */
	void (*input)(const struct winograd_map *, const float *x, int64_t tile, int n, const struct winograd_stack *v);
	/* Rows [0, n) of m = A dy A'. */
	void (*gradient)(const struct winograd_map *, const float *dy, int64_t tile, int n, const struct winograd_stack *m);
	/* y = A' m A + bias, or y += that; channels [col, col + cols) of the map from columns [0, cols) of m. bias may be NULL. */
	void (*output)(const struct winograd_map *, const struct winograd_stack *m, int64_t tile, int n, int col, int cols,
	               const float *bias, bool accumulate, float *y);

	/* u = G g G' for weights (out, 3, 3, in). Forward sums over the input channels: they are u's rows, the output channels its
	 * columns. Turned (for the gradient of the input): the other way round, and the filters upside down. Rows
	 * [row, row + rows) and columns [col, col + cols) go to u's rows [0, rows) and columns [0, cols). */
	void (*filter)(const float *w, int in, bool turned, int row, int rows, int col, int cols, const struct winograd_stack *u);
	/* dw = G' u G, where u is the sum of `copies` stacks that lie `distance` floats apart; u's rows [0, rows) are the output
	 * channels from `row` on, its columns [0, cols) the input channels from `col` on. */
	void (*filter_gradient)(const struct winograd_stack *u, int copies, size_t distance, int in, int row, int rows, int col,
	                        int cols, float *dw);

	/* In every plane: c (n x cols) = a (n x k) b (k x cols), or c += that. */
	void (*multiply)(int n, int k, int cols, const struct winograd_stack *a, const struct winograd_stack *b, bool add,
	                 const struct winograd_stack *c);
	/* In every plane: c (rows x cols) = a' b with a (n x rows) and b (n x cols), or c += that. */
	void (*multiply_transposed)(int n, int rows, int cols, const struct winograd_stack *a, const struct winograd_stack *b, bool add,
	                            const struct winograd_stack *c);
	/* sum[i] += the sum of column i over the rows [0, n) of one plane. */
	void (*column_sums)(int n, int cols, const struct winograd_stack *m, int plane, float *sum);
};

#endif
