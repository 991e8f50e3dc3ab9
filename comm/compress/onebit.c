/*
 * 1-bit SGD: each element's sign, and for each bucket what the two signs stand for; all that is rounded off is made up for later.
 *
 * Paper: Seide, Fu, Droppo, Li, Yu: "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training of
 * Speech DNNs", Interspeech 2014.
 *
 *     acc = in_i + e_i                                          on every worker
 *     Q(x) = mean of the x >= 0 of the bucket if x >= 0, else mean of the x < 0;   e_i = acc - Q(acc)
 *     sum = sum_i w_i Q_i + E;   out = Q(sum);   E = sum - out  on the owner of a chunk
 *
 * The two means are the least squares choice for the partition at 0, and keep the bucket's sum. The paper takes a column of a weight
 * matrix for a bucket, and quantises the sum a second time with an error of its own in its data-parallel exchange, as here.
 *
 * Nothing is lost: applied + sum_i w_i e_i + E = inputs, to rounding; the errors stay bounded because Q takes off a share of acc in
 * every step (quantize.h has how they are kept). Padding counts as x >= 0 and is cleared afterwards.
 *
 * What is sent: a bit an element, 8 bytes a bucket: 2 (P-1)/P × (4 ceil(n / 32) + 8 ceil(n / bucket)) bytes a rank: 1/28 of dense fp32 with
 * buckets of 512.
 *
 * Limits: a bucket of few large elements sends its small ones with values far too large, and takes that back in later steps: a
 * learning rate warm-up helps, as does a smaller bucket (the paper starts with dense steps).
 */
#include "quantize.h"

static const struct option onebit_options[] = {
	QUANTIZE_BUCKET("512", "elements that share the values of their signs, a multiple of 128"),
	{ 0 },
};

static int onebit_init(struct compress *c, const struct config *config)
{
	struct quant q = { .code = QUANT_SIGN, .scale = QUANT_SIDES, .bits = 1, .tie = -1 };
	struct quantize *z = c->state;

	if (quantize_bucket(config, &q.bucket))
		return -1;
	quantize_init(z, c, &q);
	z->feedback = true;
	return 0;
}

extern const struct compress_ops compress_onebit;
const struct compress_ops compress_onebit = {
	.name = "onebit",
	.paper = "1-bit SGD, two means a bucket, error feedback: Seide et al., Interspeech 2014",
	.options = onebit_options,
	.state_size = sizeof(struct quantize),
	.init = onebit_init,
	QUANTIZE_OPS,
};
