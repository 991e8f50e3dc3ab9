/* The compressors. A new one: one file plus one line in each half. */
#include <stddef.h>

#include "compress.h"

extern const struct compress_ops compress_none, compress_topk, compress_gtopk, compress_randomk, compress_threshold, compress_gaussian_k, compress_dgc;
extern const struct compress_ops compress_oktopk, compress_hierarchical;
extern const struct compress_ops compress_bf16, compress_fp16, compress_int8, compress_qsgd, compress_natural, compress_terngrad;
extern const struct compress_ops compress_onebit, compress_efsign, compress_signsgd;
extern const struct compress_ops compress_powersgd;

const struct compress_ops *const compress_list[] = {
	&compress_none,
	&compress_topk,
	&compress_gtopk,
	&compress_randomk,
	&compress_threshold,
	&compress_gaussian_k,
	&compress_dgc,
	&compress_oktopk,
	&compress_hierarchical,
	&compress_bf16,
	&compress_fp16,
	&compress_int8,
	&compress_qsgd,
	&compress_natural,
	&compress_terngrad,
	&compress_onebit,
	&compress_efsign,
	&compress_signsgd,
	&compress_powersgd,
	NULL,
};
