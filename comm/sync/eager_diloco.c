/*
 * Eager DiLoCo: the outer gradients are averaged while the next H inner steps run. Each worker applies its own at once and those of the
 * others a period late; or, "delayed", all of them a period late.
 *
 * Paper: Kale, Douillard, Donchev: "Eager Updates For Overlapped Communication and Computation in DiLoCo", 2025 (arXiv 2502.12996).
 *
 *     each step:            x_i, v_i = inner optimizer(x_i, v_i, g_i)
 *     round r, every H:     D_i(r) = theta_i - x_i                                               how far i went since its last round
 *                           wait for the average of the D(r-1);   launch the average of the D(r)
 *         eager             G_i = w_i D_i(r) + sum over the others of w_j D_j(r-1)
 *         delayed           G_i = sum over all of w_j D_j(r-1)
 *                           theta_i = OuterOpt(theta_i, G_i);   x_i = theta_i                    SGD with Nesterov's momentum
 *
 *     compute   | H inner steps | outer, snap | H inner steps          | outer, snap | H inner steps          | …
 *     comm                      |             |   average of D(1)  |   |             |   average of D(2)  |
 *
 * Nothing has come in the first round: what is missing is 0 (the delayed workers start over from x_0 then; D(1) comes a round later).
 *
 * Eager, the theta_i differ. But OuterOpt is linear and G_i = A(r-1) + w_i (D_i(r) - D_i(r-1)) with A = sum_j w_j D_j, the first part
 * the same for all and the second telescoping. So theta_i is a model z that all workers hold, moved by the A alone, plus what a worker
 * knows before the others do: with the outer lr and momentum mu
 *
 *     z, v = OuterOpt(z, v, A(r-1))
 *     p_i = mu p_i + D_i(r);   theta_i = z - w_i lr (D_i(r) + mu p_i)
 *
 * (the response of the filter to differences is the difference of its responses). The last line is one step of SGD from z, with the
 * learning rate w_i lr, that is forgotten at the next round. This is how it is computed: z is the same bits on all workers for ever,
 * where theta_i, summed up from G_i, would drift apart by rounding. It also says what a compressor does: A is what arrived, and is in z
 * on all sides; the own share is applied in full while it travels, and gives way to it then.
 *
 * Models are merged where theta_i takes in an average, so there sync.momentum holds, from the second round on. "average" is waited for.
 *
 * One worker alone is, eager, DiLoCo. Defaults: the paper's, H = 30, outer lr = 0.4, momentum = 0.9.
 *
 * Limits: hidden if the average takes no longer than H steps. Delayed loses much for long H, eager less the fewer workers there are. The
 * last round's exchange comes too late for the final model.
 */
#include <string.h>

#include "../../core/config.h"
#include "outer.h"

struct eager {
	int64_t period;
	bool eager;
	double lr, momentum;
	struct outer outer;             /* z, v, and d: D(r), then its average */
	float *start;                   /* theta_i */
	float *own_momentum;            /* p_i; NULL if there is none */
	struct hyper *own_block;
};

static const struct option eager_options[] = {
	{ "period", OPTION_INT, "30", 1, 1000000, NULL, "H: inner steps between two outer ones, that one averaging has time for" },
	{ "outer_gradient", OPTION_STRING, "\"eager\"", 0, 0, "eager|delayed", "own part at once, the others' a period late; or all a period late" },
	{ "outer_lr", OPTION_FLOAT, "0.4", 1e-6, 10, NULL, "learning rate of the outer optimizer" },
	{ "outer_momentum", OPTION_FLOAT, "0.9", 0, 0.9999, NULL, "its (Nesterov's) momentum" },
	{ 0 },
};

static int eager_init(struct sync *s, const struct config *config)
{
	struct eager *state = s->state;

	state->period = config_int(config, "sync.period");
	s->alone = 2 * state->period;
	state->eager = !strcmp(config_string(config, "sync.outer_gradient"), "eager");
	state->lr = config_float(config, "sync.outer_lr");
	state->momentum = config_float(config, "sync.outer_momentum");
	return 0;
}

static void eager_bind(struct sync *s)
{
	struct eager *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;
	struct hyper own;

	outer_bind(&state->outer, s, state->lr, state->momentum, true);
	state->start = sync_vector(s);
	mem->copy(s->compute, state->start, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	if (!state->eager)
		return;
	state->own_momentum = state->momentum != 0 ? sync_vector(s) : NULL;
	own = state->outer.hyper;
	own.lr = (float)(s->weight[s->comm->rank] * state->lr);
	state->own_block = mem->alloc(s->device, sizeof(own));
	mem->set(s->compute, state->own_block, &own, sizeof(own));
}

/* x_i = theta_i: from z, which all hold, and what only this worker knows, its D(r) in d. */
static void go_on(struct sync *s)
{
	struct eager *state = s->state;
	const struct device_ops *dev = s->device->ops;
	size_t bytes = (size_t)s->n * sizeof(float);
	float *p = state->own_momentum;

	if (state->eager)
		dev->vec->sgd(s->compute, s->n, state->own_block, state->outer.d, p, state->outer.z, p, s->x);
	else
		dev->mem->copy(s->compute, s->x, state->outer.z, bytes, COPY_DEVICE);
	dev->mem->copy(s->compute, state->start, s->x, bytes, COPY_DEVICE);
}

/* In the first round d is 0, and the outer step changes nothing. */
static void eager_step(struct sync *s, int64_t t)
{
	struct eager *state = s->state;
	struct outer *outer = &state->outer;
	const struct device_ops *dev = s->device->ops;

	sync_optimize(s);
	if ((t + 1) % state->period)
		return;
	sync_phase(s, state->eager ? "eager outer step" : "outer step");
	dev->stream->wait(s->compute, outer->done);
	outer_step(outer, s, 0, s->n);
	dev->vec->diff(s->compute, s->n, state->start, s->x, outer->d);
	go_on(s);
	if (t + 1 > state->period)      /* there was something to merge */
		sync_merged(s);
	sync_average(s, outer->d, outer->d, outer->done);
}

/* The exchange in flight is state, too: whoever saves waits for it, and saves its result. */
static void eager_state(struct sync *s, struct state_visitor *v)
{
	struct eager *state = s->state;

	s->device->ops->stream->wait(s->compute, state->outer.done);
	outer_state(&state->outer, s, v);
	v->vector(v, "average", s->device, state->outer.d, s->n);
	v->vector(v, "start", s->device, state->start, s->n);
	if (state->own_momentum)
		v->vector(v, "own_momentum", s->device, state->own_momentum, s->n);
}

static double eager_bytes(const struct sync *s, int workers)
{
	const struct eager *state = s->state;

	return sync_merge_bytes(s, workers) / (double)state->period;
}

static double eager_cost(const struct sync *s, const struct cost_model *m)
{
	const struct eager *state = s->state;
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m) / (double)state->period;

	return (compute > comm ? compute : comm) + sync_merged_cost(s, m) / (double)state->period;
}

static void eager_release(struct sync *s)
{
	struct eager *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;

	outer_release(&state->outer, s);
	mem->free(s->device, state->start);
	if (state->own_momentum)
		mem->free(s->device, state->own_momentum);
	if (state->own_block)
		mem->free(s->device, state->own_block);
}

extern const struct sync_ops sync_eager_diloco;
const struct sync_ops sync_eager_diloco = {
	.name = "eager-diloco",
	.paper = "eager and delayed DiLoCo: Kale et al. 2025, arXiv 2502.12996",
	.topology = "all-reduce|ps",
	.options = eager_options,
	.averages_models = true,
	.state_size = sizeof(struct eager),
	.init = eager_init,
	.bind = eager_bind,
	.step = eager_step,
	.consensus = sync_mean_model,
	.state = eager_state,
	.bytes = eager_bytes,
	.cost = eager_cost,
	.release = eager_release,
};
