/*
 * QSGD: a few levels between 0 and the bucket's norm, chosen at random without bias.
 *
 * Paper: Alistarh, Grubic, Li, Tomioka, Vojnovic: "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding", NeurIPS
 * 2017 (arXiv 1610.02132).
 *
 *     Q_s(x_j) = ||x|| sign(x_j) xi_j,   xi_j = (l + 1) / s with probability |x_j| s / ||x|| - l, else l / s;  l = floor(|x_j| s / ||x||)
 *     out = Q_s(sum_i w_i Q_s(in_i)),    drawn anew for the sum
 *
 * with ||.|| over a bucket of d elements. E Q_s(x) = x, and E ||Q_s(x) - x||^2 <= min(d / s^2, sqrt(d) / s) ||x||^2 (their lemma 3.1). The
 * paper's experiments scale by the largest element as well, compress.norm = "max", which has less variance and fewer zeros.
 *
 * The paper sends each worker's message to all others; here a second Q_s of the sum keeps the volume at O(n) whatever P is (quantize.h),
 * at the price of that one's variance; out stays unbiased. No error feedback: the paper has none.
 *
 * What is sent: 1 + ceil(log2(s + 1)) bits an element, which is ceil(log2(2 s + 1)), and 4 bytes a bucket. The paper's Elias codes save
 * more where most levels are 0 (s <= sqrt(d)); these lengths do not depend on the data, so every rank knows them.
 */
#include <string.h>

#include "../../core/config.h"
#include "quantize.h"

static const struct option qsgd_options[] = {
	{ "levels", OPTION_INT, "7", 1, 127, NULL, "s: steps between 0 and the bucket's norm; 2^k - 1 of them take k + 1 bits" },
	{ "norm", OPTION_STRING, "\"l2\"", 0, 0, "l2|max", "what the highest level stands for: the bucket's norm, or its largest element" },
	QUANTIZE_BUCKET("512", "elements that share a norm, a multiple of 128"),
	QUANTIZE_SEED,
	{ 0 },
};

static int qsgd_init(struct compress *c, const struct config *config)
{
	bool max = !strcmp(config_string(config, "compress.norm"), "max");
	struct quant q = {
		.code = QUANT_LEVELS, .scale = max ? QUANT_MAX : QUANT_L2, .levels = (int)config_int(config, "compress.levels"),
	};
	struct quantize *z = c->state;

	if (quantize_bucket(config, &q.bucket))
		return -1;
	quantize_init(z, c, &q);
	z->seed = quantize_seed(config);
	return 0;
}

extern const struct compress_ops compress_qsgd;
const struct compress_ops compress_qsgd = {
	.name = "qsgd",
	.paper = "stochastic levels of the norm: Alistarh et al., NeurIPS 2017, arXiv 1610.02132",
	.options = qsgd_options,
	.state_size = sizeof(struct quantize),
	.init = qsgd_init,
	QUANTIZE_OPS,
};
