/*
 * int8: whole numbers from -127 to 127, in units of a 127th of the bucket's largest |x|, rounded at random without bias.
 *
 * Papers: Gupta et al.: "Deep Learning with Limited Numerical Precision", ICML 2015 (arXiv 1502.02551), for stochastic rounding; a scale
 * for each bucket, the largest element instead of the norm: Alistarh et al., NeurIPS 2017 (qsgd.c), in their practical variants.
 *
 *     u = max |x| / 127 over the bucket;   y = |x| / u
 *     Q(x) = sign(x) u (floor(y) + 1 with probability y - floor(y), else floor(y))
 *     out = Q(sum_i w_i Q(in_i)),   drawn anew for the sum
 *
 * E Q(x) = x, and the variance of an element is at most u^2 / 4 (u^2/6 on average over its place between two levels), so that of out is
 * at most sum_i w_i^2 u_i^2 / 4 + u^2 / 4: with P equal workers the first part falls like 1/P, the second does not. The expected value
 * of out is the average exactly: unbiased, no error feedback.
 *
 * What is sent: a byte an element and 4 bytes a bucket: 2 (P-1)/P × (32 ceil(n / 32) + 4 ceil(n / bucket)) bytes a rank (a bucket that
 * the range's end cuts short is filled up to 32).
 *
 * Limits: one outlier makes the levels of its bucket coarse; smaller buckets bound that, at 4 bytes each.
 */
#include "quantize.h"

static const struct option int8_options[] = {
	QUANTIZE_BUCKET("512", "elements that share a scale, a multiple of 128"),
	QUANTIZE_SEED,
	{ 0 },
};

static int int8_init(struct compress *c, const struct config *config)
{
	struct quant q = { .code = QUANT_LEVELS, .scale = QUANT_MAX, .levels = 127 };
	struct quantize *z = c->state;

	if (quantize_bucket(config, &q.bucket))
		return -1;
	quantize_init(z, c, &q);
	z->seed = quantize_seed(config);
	return 0;
}

extern const struct compress_ops compress_int8;
const struct compress_ops compress_int8 = {
	.name = "int8",
	.paper = "8-bit integers, stochastic rounding: Gupta et al., ICML 2015, arXiv 1502.02551",
	.options = int8_options,
	.state_size = sizeof(struct quantize),
	.init = int8_init,
	QUANTIZE_OPS,
};
