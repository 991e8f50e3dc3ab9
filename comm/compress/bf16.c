/*
 * bf16: the upper half of a float. The exponent stays whole, so nothing over- or underflows; 8 bits of precision are left.
 *
 * Paper: Kalamkar et al.: "A Study of BFLOAT16 for Deep Learning Training", 2019 (arXiv 1905.12322).
 *
 *     out = bf16(sum_i w_i bf16(in_i)),   to the nearest, ties to even; the sum in fp32
 *
 * Each rounding is at most 2^-9 of the value, so out is within sum_i w_i |in_i| 2^-9 + |sum| 2^-9 of the average: the first part is
 * relative to what the workers sent, and may exceed their average where they cancel. It is neither random nor made up for: what is
 * smaller than 2^-9 of what it is added to at the owner still counts, since nothing is added up in bf16.
 *
 * What is sent: 2 bytes an element, in groups of 32: 2 (P-1)/P × 64 ceil(n / 32) bytes a rank: half of dense fp32.
 */
#include "quantize.h"

static int bf16_init(struct compress *c, const struct config *config)
{
	const struct quant q = { .code = QUANT_BF16, .bits = 16, .bucket = QUANT_TILE };

	(void)config;
	quantize_init(c->state, c, &q);
	return 0;
}

extern const struct compress_ops compress_bf16;
const struct compress_ops compress_bf16 = {
	.name = "bf16",
	.paper = "bfloat16, to the nearest: Kalamkar et al., 2019, arXiv 1905.12322",
	.state_size = sizeof(struct quantize),
	.init = bf16_init,
	QUANTIZE_OPS,
};
