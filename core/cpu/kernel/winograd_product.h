/* The matrix products of Winograd's 36 planes: contracts in ../winograd.h, struct winograd_kernels. */
#ifndef COCOD_WINOGRAD_PRODUCT_H
#define COCOD_WINOGRAD_PRODUCT_H

#include "../winograd.h"
#include "simd.h"

/* Tiles that the product's inner kernel takes at once: two vectors of sums each, beside the operands, fill the registers. */
enum { WINOGRAD_ROWS = VL == 16 ? 13 : 6 };

void KERNEL(winograd_multiply)(int n, int k, int cols, const struct winograd_stack *a, const struct winograd_stack *b, bool add,
                               const struct winograd_stack *c);
void KERNEL(winograd_multiply_transposed)(int n, int rows, int cols, const struct winograd_stack *a, const struct winograd_stack *b,
                                          bool add, const struct winograd_stack *c);
void KERNEL(winograd_column_sums)(int n, int cols, const struct winograd_stack *m, int plane, float *sum);

#endif
