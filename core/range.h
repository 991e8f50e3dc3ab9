/*
 * A model is flat vectors: parameters, gradients, optimizer state and batch-norm buffers are one arena each, in the order in
 * which backward finishes them (last layer first). A range is a piece of such an arena with the tensors that lie in it.
 */
#ifndef COCOD_RANGE_H
#define COCOD_RANGE_H

#include <stdint.h>

/* Arena offsets are multiples of this many floats (64 bytes); what lies between tensors is padding and stays zero. */
enum { ARENA_ALIGN = 16 };

enum tensor_kind {
	TENSOR_WEIGHT,          /* (out, height, width, in): OHWI, what cuDNN calls KRSC; in PyTorch's files OIHW or (out, in) */
	TENSOR_BIAS,            /* (c) */
	TENSOR_SCALE,           /* (c), batch norm's gamma */
	TENSOR_SHIFT,           /* (c), batch norm's beta */
	TENSOR_MEAN,            /* (c), running mean: in the buffer arena */
	TENSOR_VAR,             /* (c), running variance: in the buffer arena */
};

struct tensor_info {
	char name[64];          /* PyTorch's: "layer2.0.downsample.0.weight" */
	enum tensor_kind kind;
	int order;              /* position in PyTorch's order of this model (forward), parameters and buffers counted together */
	int dims;               /* 1, 2 (linear on a vector: out, in) or 4 */
	int64_t dim[4];         /* as stored: (out, height, width, in), (out, in) or (c) */
	int64_t offset, n;      /* floats, into the arena */
};

struct range {
	int64_t offset, n;      /* floats; n includes the padding after each tensor */
	const struct tensor_info *tensor;       /* the first of the tensors inside, in arena order */
	int tensors;
};

#endif
