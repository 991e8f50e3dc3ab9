/*
 * DGC: deep gradient compression, top-k of velocities instead of gradients.
 *
 * Paper: Lin, Han, Mao, Wang, Dally: "Deep Gradient Compression: Reducing the Communication Bandwidth for Distributed Training", ICLR
 * 2018 (arXiv 1712.01887).
 *
 *     g = in, clipped to the norm clip / sqrt(P) (if clip > 0)      local gradient clipping
 *     u = m u + g;  v = v + u                                       momentum correction: what waits is velocity
 *     u = m (u + g);  v = v + u + g                                 instead, by Nesterov (nesterov = true), as in the authors' code
 *     S = the k largest |v|;  v = v without S;  u = u without S     momentum factor masking
 *     all-gather (index, value) of S                                (P-1) k pairs of 8 bytes sent
 *     out = sum_i w_i scatter(S_i)                                  on every worker, in rank order: same bits
 *     then x = x - lr out                                           no momentum in the optimizer
 *
 * Without the correction a gradient that waits k rounds would be discounted as if it were new when it is sent. So the momentum is here,
 * and an optimizer with one of its own would apply it twice: refused. Without masking u of what was just sent would go on pushing in
 * a direction that is out of date. The density comes down over the first epochs (warmup). The paper chooses by a threshold from a sample
 * (selection = "sampled", topk.c has how); the exact choice is as fast here.
 *
 * sum of all that v was raised by = sent + v: nothing of the velocity gets lost. At density 1 and without masking it is SGD with momentum m
 * on every worker, plain or Nesterov's (u is m times its velocity then), and the average of their steps; at density 1 with masking, u is
 * cleared everywhere in every step: SGD without momentum, 1 + m times as far by Nesterov. An optimizer that was told to look ahead, and has
 * no momentum to do it along, would quietly not: refused.
 *
 * Limits: in must be a gradient: of model differences there is no velocity (refused). With scope = "bucket" each bucket is clipped by
 * its own norm. Memory: two vectors of n. Weight decay stays in the optimizer, on the dense model, as in the authors' code for
 * parameters.
 */
#include <math.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../sync/sync.h"
#include "sparsify.h"

struct dgc {
	struct sparsify base;           /* base.residual: v */
	float *velocity;                /* u: arena of n */
	float momentum, clip;
	bool nesterov, masking;
};

static const struct option dgc_options[] = {
	{ "density", OPTION_FLOAT, "0.001", 1e-7, 1, NULL, "share of the elements that is sent" },
	{ "warmup", OPTION_LIST, "[0.25, 0.0625, 0.015625, 0.004]", 1e-7, 1, NULL, "densities of the first epochs" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	SPARSIFY_SELECTION,
	{ "momentum", OPTION_FLOAT, "0.9", 0, 0.9999, NULL, "how much of the velocity is kept, in place of the optimizer's momentum" },
	{ "nesterov", OPTION_BOOL, "false", 0, 0, NULL, "look ahead along the velocity (Nesterov), in place of optimizer.nesterov" },
	{ "masking", OPTION_BOOL, "true", 0, 0, NULL, "the velocity of what is sent starts anew" },
	{ "clip", OPTION_FLOAT, "0", 0, 1e30, NULL, "norm to which all workers' gradients together are clipped; 0: not at all" },
	{ 0 },
};

static int check_company(const struct config *config)
{
	const char *algorithm = config_string(config, "sync.algorithm"), *optimizer = config_string(config, "optimizer.name");

	if (!sync_find(algorithm)->averages_gradients) {
		error("compress.method = \"dgc\" (%s) does not work with sync.algorithm = \"%s\" (%s): it accumulates gradients, and that "
		      "one averages something else", config_origin(config, "compress.method"), algorithm, config_origin(config, "sync.algorithm"));
		return hint("set sync.algorithm = \"ssgd\" or \"pipe\", or compress.method = \"topk\"");
	}
	if (strcmp(optimizer, "sgd")) {
		error("compress.method = \"dgc\" (%s) does not work with optimizer.name = \"%s\" (%s): what it sends are velocities of SGD",
		      config_origin(config, "compress.method"), optimizer, config_origin(config, "optimizer.name"));
		return hint("set optimizer.name = \"sgd\", or compress.method = \"topk\"");
	}
	if (config_float(config, "optimizer.momentum") != 0) {
		error("compress.method = \"dgc\" (%s) has the momentum itself (compress.momentum): optimizer.momentum = %g (%s) would apply it "
		      "twice", config_origin(config, "compress.method"), config_float(config, "optimizer.momentum"),
		      config_origin(config, "optimizer.momentum"));
		return hint("set optimizer.momentum = 0");
	}
	if (config_bool(config, "optimizer.nesterov")) {
		error("compress.method = \"dgc\" (%s) has the momentum itself: optimizer.nesterov = true (%s) has none to look ahead along",
		      config_origin(config, "compress.method"), config_origin(config, "optimizer.nesterov"));
		return hint("set compress.nesterov = true and optimizer.nesterov = false");
	}
	return 0;
}

static int check_nesterov(const struct config *config)
{
	if (!config_bool(config, "compress.nesterov") || config_float(config, "compress.momentum") > 0)
		return 0;
	error("compress.nesterov = true (%s) looks ahead along a velocity, and with compress.momentum = 0 (%s) there is none",
	      config_origin(config, "compress.nesterov"), config_origin(config, "compress.momentum"));
	return hint("set compress.momentum, for example to 0.9, or compress.nesterov = false");
}

static int dgc_init(struct compress *c, const struct config *config)
{
	struct dgc *d = c->state;

	if (check_company(config) || check_nesterov(config))
		return -1;
	d->momentum = (float)config_float(config, "compress.momentum");
	d->nesterov = config_bool(config, "compress.nesterov");
	d->masking = config_bool(config, "compress.masking");
	d->clip = (float)config_float(config, "compress.clip");
	sparsify_selection(&d->base, config);
	return sparsify_init(&d->base, c, config);
}

static void dgc_bind(struct compress *c, const struct range *ranges, int count)
{
	struct dgc *d = c->state;

	sparsify_bind(&d->base, c, ranges, count, c->comm->size);
	d->velocity = c->comm->device->ops->mem->alloc(c->comm->device, (size_t)c->n * sizeof(float));
}

/* Returns what v is to be raised by: u, or y, which has g in it or room for it, made u + g. */
static const float *correct_momentum(const struct dgc *d, struct comm *comm, int64_t n, const float *g, float *u, float *y)
{
	const struct device_ops *dev = comm->device->ops;
	struct stream *s = comm->stream;

	dev->vec->axpby(s, n, d->nesterov ? d->momentum : 1, g, d->momentum, u);
	if (!d->nesterov)
		return u;
	if (y != g)
		dev->mem->copy(s, y, g, (size_t)n * sizeof(float), COPY_DEVICE);
	dev->vec->axpby(s, n, 1, u, 1, y);
	return y;
}

static void dgc_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	struct dgc *d = c->state;
	const struct device_ops *dev = c->comm->device->ops;
	struct stream *s = c->comm->stream;
	const float *g = in + range->offset;
	float *u = d->velocity + range->offset;
	int64_t k = sparsify_k(&d->base, range->n);
	struct sparse *mine = sparsify_mine(&d->base, c, k);

	if (d->clip > 0) {
		dev->vec->clip(s, range->n, d->clip / sqrtf((float)c->comm->size), g, out + range->offset);
		g = out + range->offset;
	}
	g = correct_momentum(d, c->comm, range->n, g, u, out + range->offset);
	sparsify_choose(&d->base, c, range->n, k, g, d->base.residual + range->offset, mine);
	if (d->masking)
		dev->sparse->clear(s, k, mine, u);
	sparsify_sum(&d->base, c, range, k, out);
}

static void dgc_state(struct compress *c, struct state_visitor *v)
{
	struct dgc *d = c->state;

	sparsify_on_state(c, v);
	v->vector(v, "velocity", c->comm->device, d->velocity, c->n);
}

static void dgc_release(struct compress *c)
{
	struct dgc *d = c->state;

	c->comm->device->ops->mem->free(c->comm->device, d->velocity);
	sparsify_release(&d->base, c);
}

extern const struct compress_ops compress_dgc;
const struct compress_ops compress_dgc = {
	.name = "dgc",
	.paper = "deep gradient compression, top-k of velocities: Lin et al., ICLR 2018, arXiv 1712.01887",
	.options = dgc_options,
	.halves = true,
	.state_size = sizeof(struct dgc),
	.init = dgc_init,
	.bind = dgc_bind,
	.average = dgc_average,
	.epoch = sparsify_on_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = dgc_state,
	.bytes = sparsify_list_bytes,
	.cost = sparsify_list_cost,
	.release = dgc_release,
};
