/*
 * fp16: IEEE's halves. 11 bits of precision, three more than bf16 for the same bytes, but a range from 2^-24 to 65504.
 *
 * Paper: Micikevicius et al.: "Mixed Precision Training", ICLR 2018 (arXiv 1710.03740).
 *
 *     out = fp16(sum_i w_i fp16(in_i)),   to the nearest, ties to even; the sum in fp32
 *
 * Each rounding is at most 2^-11 of the value, and 2^-25 where that is more. No error feedback.
 *
 * What is sent: 2 bytes an element, in groups of 32: 2 (P-1)/P × 64 ceil(n / 32) bytes a rank: half of dense fp32.
 *
 * Limits: elements below 3e-8 become 0, those below 6e-5 have fewer than 11 bits, and beyond 65520 they become infinite, which ends
 * the run. Gradients of a mean loss crowd at the lower end, differences of models even more: there bf16 costs the same and has no ends.
 */
#include "quantize.h"

static int fp16_init(struct compress *c, const struct config *config)
{
	const struct quant q = { .code = QUANT_FP16, .bits = 16, .bucket = QUANT_TILE };

	(void)config;
	quantize_init(c->state, c, &q);
	return 0;
}

extern const struct compress_ops compress_fp16;
const struct compress_ops compress_fp16 = {
	.name = "fp16",
	.paper = "IEEE half precision, to the nearest: Micikevicius et al., ICLR 2018, arXiv 1710.03740",
	.state_size = sizeof(struct quantize),
	.init = fp16_init,
	QUANTIZE_OPS,
};
