/*
 * AdamW: Adam with the weight decay taken out of the gradient, as PyTorch defines it:
 *
 *     m' = beta1 m + (1 - beta1) g,   s' = beta2 s + (1 - beta2) g²
 *     x' = (1 - lr weight_decay) x - lr (m' / (1 - beta1^t)) / (sqrt(s' / (1 - beta2^t)) + epsilon)
 *
 * The two corrections depend on the step alone and are computed here, in double: 1 - 0.999^t loses three digits in float.
 */
#include <math.h>

#include "config.h"
#include "optimizer.h"

static const struct option adamw_options[] = {
	{ "beta1", OPTION_FLOAT, "0.9", 0, 0.99999, 0, "decay of the mean of the gradients" },
	{ "beta2", OPTION_FLOAT, "0.999", 0, 0.9999999, 0, "decay of the mean of their squares" },
	{ "epsilon", OPTION_FLOAT, "1e-8", 1e-30, 1, 0, "added to the root of the squares" },
	{ "weight_decay", OPTION_FLOAT, "0.01", 0, 1, 0, "share of the weights that a step with learning rate 1 takes away" },
	{ 0 },
};

static void adamw_init(struct optimizer *o, const struct config *config)
{
	o->base.beta1 = (float)config_float(config, "optimizer.beta1");
	o->base.beta2 = (float)config_float(config, "optimizer.beta2");
	o->base.epsilon = (float)config_float(config, "optimizer.epsilon");
	o->base.weight_decay = (float)config_float(config, "optimizer.weight_decay");
}

static int adamw_slots(const struct optimizer *o)
{
	(void)o;
	return 2;
}

static void adamw_hyper(struct optimizer *o, struct hyper *h)
{
	h->correct1 = (float)(1 - pow(h->beta1, (double)o->t));
	h->correct2 = (float)(1 - pow(h->beta2, (double)o->t));
}

static void adamw_step(struct optimizer *o, struct stream *s, int64_t offset, int64_t n, const float *g, const float *x,
                       float *x_out, float *const state[], float *const state_out[])
{
	o->device->ops->vec->adamw(s, n, o->block, g + offset, state[0] + offset, state[1] + offset, x + offset,
	                           state_out[0] + offset, state_out[1] + offset, x_out + offset);
}

const struct optimizer_ops optimizer_adamw = {
	.name = "adamw",
	.paper = "Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization",
	.options = adamw_options,
	.slots = adamw_slots,
	.slot_name = { "exp_avg", "exp_avg_sq" },
	.init = adamw_init,
	.hyper = adamw_hyper,
	.step = adamw_step,
};
