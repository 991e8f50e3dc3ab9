/*
 * Natural compression: each element becomes one of the two powers of two around it, at random without bias.
 *
 * Paper: Horváth, Ho, Horváth, Sahu, Canini, Richtárik: "Natural Compression for Distributed Deep Learning", 2019 (arXiv 1905.10988).
 *
 *     2^a <= |x| < 2^(a+1):   C(x) = sign(x) 2^(a+1) with probability |x| / 2^a - 1, else sign(x) 2^a;   C(0) = 0
 *     out = C(sum_i w_i C(in_i)),   drawn anew for the sum (the paper's master compresses what it sends as well)
 *
 * E C(x) = x, and E (C(x) - x)^2 <= x^2 / 8, element by element, whatever the others are: no scale, no bucket, and small elements keep
 * their relative precision. Two of them in a row: at most (9/8)^2 - 1 of x^2 for one worker. No error feedback: the paper has none.
 *
 * The probability is the float's mantissa, so a random number of 23 bits added to the float's word carries into its exponent as often as
 * it has to, exactly. Below 2^-126 the neighbours are 0 and 2^-126. Rounded up from beyond 2^127 a number becomes infinite.
 *
 * What is sent: 9 bits an element, sign and exponent: 2 (P-1)/P × 36 ceil(n / 32) bytes a rank.
 */
#include "quantize.h"

static const struct option natural_options[] = {
	QUANTIZE_SEED,
	{ 0 },
};

static int natural_init(struct compress *c, const struct config *config)
{
	const struct quant q = { .code = QUANT_POWERS, .bits = 9, .bucket = QUANT_TILE };
	struct quantize *z = c->state;

	quantize_init(z, c, &q);
	z->seed = quantize_seed(config);
	return 0;
}

extern const struct compress_ops compress_natural;
const struct compress_ops compress_natural = {
	.name = "natural",
	.paper = "powers of two, stochastic: Horvath et al., 2019, arXiv 1905.10988",
	.options = natural_options,
	.state_size = sizeof(struct quantize),
	.init = natural_init,
	QUANTIZE_OPS,
};
