/*
 * EF-signSGD: signs times the mean magnitude, with error feedback on both ways.
 *
 * Papers: Karimireddy, Rebjock, Stich, Jaggi: "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019 (arXiv
 * 1901.09847), for one worker; Tang, Yu, Lian, Zhang, Liu: "DoubleSqueeze", ICML 2019 (arXiv 1905.05957), for the error of the server's.
 *
 *     p = in_i + e_i;   D(p) = (||p||_1 / d) sign(p) over a bucket of d elements;   e_i = p - D(p)        on every worker
 *     v = sum_i w_i D_i + E;   out = D(v);   E = v - out                                                  on the owner of a chunk
 *
 * D takes off at least ||p||_1^2 / (d ||p||^2) of ||p||^2, which is what error feedback needs to converge at SGD's rate. The paper puts
 * the learning rate into p, which matters only while it changes; here e is in the units of what is averaged, gradients or differences of
 * models. Nothing is lost: applied + sum_i w_i e_i + E = inputs, to rounding. sign(0) counts as plus; padding is cleared.
 *
 * What is sent: a bit an element, 4 bytes a bucket: 2 (P-1)/P × (4 ceil(n / 32) + 4 ceil(n / bucket)) bytes a rank.
 *
 * Limits: as onebit; the paper's d is a layer's size, a bucket's is smaller, which makes D's share larger.
 */
#include "quantize.h"

static const struct option efsign_options[] = {
	QUANTIZE_BUCKET("512", "elements that share a magnitude, a multiple of 128"),
	{ 0 },
};

static int efsign_init(struct compress *c, const struct config *config)
{
	struct quant q = { .code = QUANT_SIGN, .scale = QUANT_MEAN, .bits = 1, .tie = -1 };
	struct quantize *z = c->state;

	if (quantize_bucket(config, &q.bucket))
		return -1;
	quantize_init(z, c, &q);
	z->feedback = true;
	return 0;
}

extern const struct compress_ops compress_efsign;
const struct compress_ops compress_efsign = {
	.name = "efsign",
	.paper = "signs with error feedback: Karimireddy et al., ICML 2019; Tang et al., ICML 2019",
	.options = efsign_options,
	.state_size = sizeof(struct quantize),
	.init = efsign_init,
	QUANTIZE_OPS,
};
