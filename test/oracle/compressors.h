/* The compressors that have a file of their own beside base.h; those of compress_quantize.h are in an array there. */
#ifndef ORACLE_COMPRESSORS_H
#define ORACLE_COMPRESSORS_H

#include "compress_chain.h"
#include "compress_dgc.h"
#include "compress_gaussian_k.h"
#include "compress_gtopk.h"
#include "compress_hierarchical.h"
#include "compress_oktopk.h"
#include "compress_powersgd.h"
#include "compress_quantize.h"
#include "compress_randomk.h"
#include "compress_sampled.h"
#include "compress_threshold.h"

__attribute__((unused)) static const struct oracle_compressor *const oracle_compressors[] = {
	&oracle_gtopk_whole,
	&oracle_gtopk_lossy,
	&oracle_topk_sampled,
	&oracle_randomk,
	&oracle_threshold,
	&oracle_gaussian_k,
	&oracle_dgc,
	&oracle_dgc_unmasked,
	&oracle_dgc_clipped,
	&oracle_dgc_nesterov,
	&oracle_dgc_nesterov_unmasked,
	&oracle_dgc_sampled,
	&oracle_oktopk,
	&oracle_hierarchical,
	&oracle_hierarchical_hosts,
	&oracle_powersgd,
	&oracle_topk_fp16,
	&oracle_topk_bf16,
	&oracle_threshold_fp16,
	&oracle_gaussian_k_bf16,
	&oracle_hierarchical_fp16,
	&oracle_dgc_bf16,
	NULL,
};

#endif
