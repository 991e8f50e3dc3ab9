/* The compressors. A new one: one file plus one line in each half. */
#include <stddef.h>

#include "compress.h"

extern const struct compress_ops compress_none, compress_topk, compress_gtopk, compress_randomk, compress_threshold, compress_gaussiank, compress_dgc,
	compress_oktopk, compress_hitopk;

const struct compress_ops *const compress_list[] = {
	&compress_none,
	&compress_topk,
	&compress_gtopk,
	&compress_randomk,
	&compress_threshold,
	&compress_gaussiank,
	&compress_dgc,
	&compress_oktopk,
	&compress_hitopk,
	NULL,
};
