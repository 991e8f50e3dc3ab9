/* Chains: compressors that send lists, with the values in two bytes each (compress_list.h has the rounding). */
#ifndef ORACLE_COMPRESS_CHAIN_H
#define ORACLE_COMPRESS_CHAIN_H

#include "compress_dgc.h"
#include "compress_gaussian_k.h"
#include "compress_hierarchical.h"
#include "compress_list.h"
#include "compress_threshold.h"

static inline void oracle_topk_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);
	struct candidate *c = malloc((size_t)n * sizeof(*c));

	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		for (int64_t j = from; j < from + n; j++) {
			o->residual[i][j] += in[i][j];
			c[j - from] = (struct candidate){ o->residual[i][j], j };
		}
		choose(o, c, n, k);
		for (int64_t j = 0; j < k; j++)
			oracle_send(o, i, c[j].index, c[j].v, out);
	}
	free(c);
}

static inline void oracle_chain_draw(struct oracle_setup *p, struct rng *rng) { (void)rng, p->density = 0.02; }

#define CHAIN_OF(first, second, sends, ...) \
	{ .name = first " + " second, .method = "(\"" first "\", \"" second "\")", .few = true, .draw = oracle_chain_draw, .bytes = sends, \
	  __VA_ARGS__ }
#define CHAIN(first, second, ...) CHAIN_OF(first, second, oracle_list_bytes, __VA_ARGS__)
#define FP16 .digits = 11, .least = -13
#define BF16 .digits = 8, .least = -125

static const struct oracle_compressor oracle_topk_fp16 = CHAIN("topk", "fp16", FP16, .average = oracle_topk_average);
static const struct oracle_compressor oracle_topk_bf16 = CHAIN("topk", "bf16", BF16, .average = oracle_topk_average);
static const struct oracle_compressor oracle_threshold_fp16 =
	CHAIN("threshold", "fp16", FP16, .keys = oracle_threshold_keys, .average = oracle_threshold_average);
static const struct oracle_compressor oracle_gaussian_k_bf16 = CHAIN("gaussian-k", "bf16", BF16, .average = oracle_gaussian_k_average);
static const struct oracle_compressor oracle_hierarchical_fp16 = CHAIN_OF("hierarchical", "fp16", oracle_hierarchical_bytes, FP16,
	.keys = oracle_hierarchical_keys, .average = oracle_hierarchical_average);
static const struct oracle_compressor oracle_dgc_bf16 =
	CHAIN("dgc", "bf16", BF16, .gradients = true, .keys = oracle_dgc_keys, .average = oracle_dgc_average);

#endif
