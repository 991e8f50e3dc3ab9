/*
 * signSGD with majority vote: each worker votes up or down for every element, and the majority is what is applied.
 *
 * Papers: Bernstein, Wang, Azizzadenesheli, Anandkumar: "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018 (arXiv
 * 1802.04434); Bernstein, Zhao, Azizzadenesheli, Anandkumar: "signSGD with Majority Vote is Communication Efficient and Fault
 * Tolerant", ICLR 2019 (arXiv 1810.05291).
 *
 *     m_i = beta m_i + (1 - beta) in_i                   beta = 0.9 (Signum); 0: signSGD
 *     s_i = sign(m_i)                                    one bit to the owner of the chunk
 *     out = scale sign(sum_i w_i s_i)                    one bit to everybody
 *
 * With equal batches that is the paper's majority; else a worker has as many votes as samples. The paper leaves open what a bit says of
 * 0. Here a coin decides, each worker's for an element that is 0, and the owner's for a tie (a sum within 2^-16 of 0, that is, of
 * rounding): always the same side would make ties, half of all votes of two workers, a drift.
 *
 * out is +scale or -scale, whatever the gradients' size: under "ssgd" a step moves every weight by lr × scale, so that the learning
 * rate is the size of a step, some 1e-4 (the paper's for ImageNet), not that of plain SGD; weight decay and the optimizer's momentum come
 * on top of it (the paper's momentum is beta, in front of the vote: optimizer.momentum = 0). Algorithms that average models exchange
 * differences: each average then moves every weight by scale, which should be about the size of a period's movement.
 *
 * What is sent: a bit an element, nothing else: 2 (P-1)/P × 4 ceil(n / 32) bytes a rank, 1/32 of dense fp32.
 *
 * Limits: nothing is conserved, magnitudes are lost, and it may not converge where noise is skewed: efsign and onebit are the cure. A NaN
 * votes plus, so that only the loss shows it.
 */
#include "../../core/config.h"
#include "../../core/die.h"
#include "../sync/sync.h"
#include "quantize.h"

struct signsgd {
	struct quantize base;
	float beta;
	float *momentum;                /* m, an arena of n; NULL for beta = 0 */
};

static const struct option signsgd_options[] = {
	{ "momentum", OPTION_FLOAT, "0.9", 0, 0.9999, NULL, "beta: of what votes; 0: the gradient itself" },
	{ "scale", OPTION_FLOAT, "1.0", 1e-12, 1e6, NULL, "what a vote that is won is worth" },
	QUANTIZE_SEED,
	{ 0 },
};

static int signsgd_init(struct compress *c, const struct config *config)
{
	const struct quant q = { .code = QUANT_SIGN, .scale = QUANT_UNSCALED, .bits = 1, .bucket = QUANT_TILE, .tie = 0 };
	struct signsgd *s = c->state;

	quantize_init(&s->base, c, &q);
	s->base.second.tie = 0x1p-16f;
	s->base.scale = (float)config_float(config, "compress.scale");
	s->base.seed = quantize_seed(config);
	s->beta = (float)config_float(config, "compress.momentum");
	return 0;
}

static void signsgd_bind(struct compress *c, const struct range *ranges, int count)
{
	struct signsgd *s = c->state;
	struct device *dev = c->comm->device;

	quantize_bind(c, ranges, count);
	if (s->beta > 0)
		s->momentum = dev->ops->mem->alloc(dev, (size_t)c->n * sizeof(float));
}

static void signsgd_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct signsgd *s = c->state;

	if (s->momentum)
		c->comm->device->ops->vec->axpby(c->comm->stream, range->n, 1 - s->beta, in + range->offset, s->beta,
		                                 s->momentum + range->offset);
	quantize_average(c, range, s->momentum ? s->momentum : in, out);
}

static void signsgd_state(struct compress *c, struct state_visitor *v)
{
	struct signsgd *s = c->state;

	quantize_state(c, v);
	if (s->momentum)
		v->vector(v, "votes", c->comm->device, s->momentum, c->n);
}

/* Weights measure some hundredths. */
static void signsgd_foresee(const struct compress *c, double rate)
{
	const struct signsgd *s = c->state;
	double moved = rate * (double)s->base.scale;

	if (moved > 0.01)
		warn("compress.method = \"signsgd\" moves every weight by %.3g in each average, more than most of them measure: the model will not "
		     "learn. Set compress.scale so that it is about 0.001 (%.3g)", moved, 0.001 / rate);
}

static void signsgd_release(struct compress *c)
{
	struct signsgd *s = c->state;
	struct device *dev = c->comm->device;

	quantize_release(c);
	dev->ops->mem->free(dev, s->momentum);
}

extern const struct compress_ops compress_signsgd;
const struct compress_ops compress_signsgd = {
	.name = "signsgd",
	.paper = "signs, majority vote: Bernstein et al., ICML 2018, ICLR 2019, arXiv 1810.05291",
	.options = signsgd_options,
	.state_size = sizeof(struct signsgd),
	.init = signsgd_init,
	.foresee = signsgd_foresee,
	.bind = signsgd_bind,
	.average = signsgd_average,
	.state = signsgd_state,
	.bytes = quantize_bytes,
	.cost = quantize_cost,
	.release = signsgd_release,
};
