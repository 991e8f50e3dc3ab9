/*
 * Hard threshold with error feedback: whatever has become large enough is sent.
 *
 * Papers: Strom: "Scalable Distributed DNN Training Using Commodity GPU Cloud Computing", Interspeech 2015 (a fixed threshold, the
 * rest is kept; there a pick is sent as one bit and a sign, ±tau); Sahu, Dutta, Abdelmoniem, Banerjee, Canini, Kalnis: "Rethinking
 * gradient sparsification as total error minimization", NeurIPS 2021 (whole values are sent; for the error summed over all steps no
 * number per step is as good as a threshold). Here whole values.
 *
 *     acc = e + in;  S = { j : |acc_j| >= tau, acc_j not 0 };  if |S| > k: S = its k largest;  e = acc without S
 *     all-gather (index, value) of S, filled up to k with holes                        (P-1) k pairs of 8 bytes sent
 *     out = sum_i w_i scatter(S_i)                                                    on every worker, in rank order: same bits
 *
 * Why a list of fixed length k (the density): how many reach the threshold is known only on the device, when its stream gets there.
 * A transfer's size is an argument that the host gives when it queues it: to NCCL for certain, and two ranks must give the same. To
 * send exactly |S| the host would have to stop and ask the device in every step, with a second exchange for the sizes, which for
 * lists of this length costs more than the holes. So a message has room for k, all k travel, and all k are counted as sent. What the
 * threshold saves is the search for the k-th largest: one pass over memory instead of one and a half. When more than k reach it, the
 * largest are looked for after all, and the rest waits in e: nothing gets lost, applied + residuals = inputs.
 *
 * Limits: tau is in units of what is averaged: of gradients under ssgd, of model differences (learning rate times steps smaller)
 * under the others. Too small, and it is top-k; too large, and hardly anything moves until residuals have grown.
 */
#include "../../core/config.h"
#include "sparsify.h"

struct threshold {
	struct sparsify base;
	float tau;
	float *least;                   /* tau again, in device memory */
};

static const struct option threshold_options[] = {
	{ "threshold", OPTION_FLOAT, "0.01", 0, 1e30, NULL, "magnitude from which an element is sent" },
	{ "density", OPTION_FLOAT, "0.01", 1e-7, 1, NULL, "share of the elements that a message has room for" },
	{ "warmup", OPTION_LIST, "[]", 1e-7, 1, NULL, "densities of the first epochs, e.g. [0.25, 0.0625, 0.015625]" },
	{ "scope", OPTION_STRING, "\"model\"", 0, 0, "model|bucket", "choose over the whole model, or in each bucket of the schedule" },
	{ 0 },
};

static void threshold_choose(struct compress *c, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out)
{
	struct threshold *t = c->state;

	trace_begin(c->comm->stream, "select", "values", k);
	c->comm->device->ops->sparse->select(c->comm->stream, n, k, t->least, in, residual, out, t->base.work);
	trace_end(c->comm->stream);
}

static int threshold_init(struct compress *c, const struct config *config)
{
	struct threshold *t = c->state;

	t->base.choose = threshold_choose;
	t->tau = (float)config_float(config, "compress.threshold");
	return sparsify_init(&t->base, c, config);
}

static void threshold_bind(struct compress *c, const struct range *ranges, int count)
{
	struct threshold *t = c->state;
	const struct mem_ops *mem = c->comm->device->ops->mem;

	sparsify_bind(&t->base, c, ranges, count, c->comm->size);
	t->least = mem->alloc(c->comm->device, sizeof(*t->least));
	mem->set(c->comm->stream, t->least, &t->tau, sizeof(t->tau));
}

static void threshold_release(struct compress *c)
{
	struct threshold *t = c->state;

	c->comm->device->ops->mem->free(c->comm->device, t->least);
	sparsify_release(&t->base, c);
}

extern const struct compress_ops compress_threshold;
const struct compress_ops compress_threshold = {
	.name = "threshold",
	.paper = "hard threshold with error feedback: Strom, Interspeech 2015; Sahu et al., NeurIPS 2021",
	.options = threshold_options,
	.halves = true,
	.state_size = sizeof(struct threshold),
	.init = threshold_init,
	.bind = threshold_bind,
	.average = sparsify_list_average,
	.wire = sparsify_list_wire,
	.pack = sparsify_list_pack,
	.unpack = sparsify_list_unpack,
	.epoch = sparsify_on_epoch,
	.warm_steps = sparsify_warm_steps,
	.state = sparsify_on_state,
	.bytes = sparsify_list_bytes,
	.cost = sparsify_list_cost,
	.release = threshold_release,
};
