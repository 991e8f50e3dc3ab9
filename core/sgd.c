/*
 * Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch defines them:
 *
 *     g' = g + weight_decay x
 *     v' = g' on the first step, momentum v + g' later
 *     x' = x - lr (nesterov ? g' + momentum v' : v')
 *
 * The learning rate multiplies v where it is used, not where it is summed up: when the schedule lowers it, old gradients are
 * scaled down with the new ones.
 */
#include "config.h"
#include "optimizer.h"

static const struct option sgd_options[] = {
	{ "momentum", OPTION_FLOAT, "0.9", 0, 0.9999, 0, "how much of the last step's direction is kept" },
	{ "nesterov", OPTION_BOOL, "false", 0, 0, 0, "look ahead along the momentum (Nesterov)" },
	{ "weight_decay", OPTION_FLOAT, "5e-4", 0, 1, 0, "L2 penalty, added to the gradient" },
	{ 0 },
};

static void sgd_init(struct optimizer *o, const struct config *config)
{
	o->base.momentum = (float)config_float(config, "optimizer.momentum");
	o->base.nesterov = config_bool(config, "optimizer.nesterov");
	o->base.weight_decay = (float)config_float(config, "optimizer.weight_decay");
}

static int sgd_slots(const struct optimizer *o) { return o->base.momentum != 0; }
static void sgd_hyper(struct optimizer *o, struct hyper *h) { h->first = o->t == 1; }

static void sgd_step(struct optimizer *o, struct stream *s, int64_t offset, int64_t n, const float *g, const float *x,
                     float *x_out, float *const state[], float *const state_out[])
{
	bool momentum = sgd_slots(o) > 0;

	o->device->ops->vec->sgd(s, n, o->block, g + offset, momentum ? state[0] + offset : NULL, x + offset,
	                         momentum ? state_out[0] + offset : NULL, x_out + offset);
}

const struct optimizer_ops optimizer_sgd = {
	.name = "sgd",
	.paper = "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning",
	.options = sgd_options,
	.slots = sgd_slots,
	.slot_name = { "momentum_buffer" },
	.init = sgd_init,
	.hyper = sgd_hyper,
	.step = sgd_step,
};
