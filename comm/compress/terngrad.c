/*
 * TernGrad: -1, 0 or 1 times a scale, chosen at random; large elements are clipped first.
 *
 * Paper: Wen, Xu, Yan, Wu, Wang, Chen, Li: "TernGrad: Ternary Gradients to Reduce Communication in Distributed Deep Learning", NeurIPS
 * 2017 (arXiv 1705.07878).
 *
 *     f(x) = x clipped to [-c sigma, c sigma], c = 2.5
 *     s = max |f(x)|;   Q(x) = s sign(x) b,   b = 1 with probability |f(x)| / s, else 0
 *     out = Q(sum_i w_i Q(in_i)),   drawn anew for the sum
 *
 * E Q(x) = f(x): unbiased but for the clipping, which the paper finds to be worth its bias, as a large s makes nearly all elements 0. The
 * paper takes s and sigma of each layer, here they are those of a bucket, which only makes s smaller; sigma is the root of the mean
 * square (the paper's Gaussian has mean 0). clip = 0 leaves it out. No error feedback: the paper has none.
 *
 * The paper's server adds up ternary numbers (with one s for all workers, so that the sum has 2 P + 1 levels) and sends more bits back;
 * here the sum is made ternary again, so both ways cost the same.
 *
 * What is sent: 2 bits an element (log2 3 = 1.58 would need words across elements) and 4 bytes a bucket:
 * 2 (P-1)/P × (8 ceil(n / 32) + 4 ceil(n / bucket)) bytes a rank.
 *
 * Limits: much noise; the learning rate has to average over it, P workers help only the first of the two roundings.
 */
#include "../../core/config.h"
#include "quantize.h"

static const struct option terngrad_options[] = {
	{ "clip", OPTION_FLOAT, "2.5", 0, 1000, NULL, "elements are clipped at so many standard deviations; 0: none is" },
	QUANTIZE_BUCKET("512", "elements that share a scale, a multiple of 128"),
	QUANTIZE_SEED,
	{ 0 },
};

static int terngrad_init(struct compress *c, const struct config *config)
{
	struct quant q = { .code = QUANT_LEVELS, .levels = 1, .clip = (float)config_float(config, "compress.clip") };
	struct quantize *z = c->state;

	q.scale = q.clip > 0 ? QUANT_CLIP : QUANT_MAX;
	if (quantize_bucket(config, &q.bucket))
		return -1;
	quantize_init(z, c, &q);
	z->seed = quantize_seed(config);
	return 0;
}

extern const struct compress_ops compress_terngrad;
const struct compress_ops compress_terngrad = {
	.name = "terngrad",
	.paper = "ternary, stochastic, clipped: Wen et al., NeurIPS 2017, arXiv 1705.07878",
	.options = terngrad_options,
	.state_size = sizeof(struct quantize),
	.init = terngrad_init,
	QUANTIZE_OPS,
};
