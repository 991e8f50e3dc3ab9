/*
 * Streaming DiLoCo: the model in fragments, exchanged in turn while training goes on; what comes back is merged a few steps later.
 *
 * Paper: Douillard et al., "Streaming DiLoCo with overlapping communication: Towards a Distributed Free Lunch", 2025
 * (arXiv 2501.18512).
 *
 *     each step, s = 1, 2, … of them done:  x_i, v_i = inner optimizer(x_i, v_i, g_i)
 *     for the fragment p with s = t_p mod H, t_p = p H/F (rounded down):
 *         launch d_p = average(z_p - x_i,p)
 *     for the fragment p with s - tau = t_p mod H, launched tau steps ago:
 *         wait for d_p;   z_p, v_p = OuterOpt(z_p, v_p, d_p)                     SGD with Nesterov's momentum (outer.h)
 *         x_i,p = mixing x_i,p + (1 - mixing) z_p
 *
 *     F = 3        H
 *     compute   | steps | steps | m0 steps | m1 steps | m2 steps | m0 …          m: merges what was launched tau steps before
 *     comm                  |   0   |  |   1   |  |   2   |  |   0   |
 *
 * z_p is what all workers hold of fragment p: only averages have moved it. With tau > 0 a worker has gone on for tau steps when its
 * merge comes; mixing is the share of its own model that it keeps, and 0 forgets those steps. (What is kept is still different from
 * z_p, and is part of the next difference.) F = 1, tau = 0, mixing = 0 is DiLoCo.
 *
 * A fragment is a run of neighbouring tensors, one range of the arena, so that it is one message; a cut falls between the tensors
 * whose middles lie on the two sides of an F-th of the arena. (The paper's fragments are a few transformer blocks each, in runs or
 * interleaved.) The compressor works on each fragment by itself, with "scope = bucket" on each bucket inside of it. The first turn of
 * fragments 1, 2, … comes after t_p steps instead of H.
 *
 * Defaults: numbers that others quote for it, H = 100, tau = 1, mixing = 0.5, outer learning rate 0.4; F = 4. The 4-bit numbers that the paper
 * sends are a compressor's business.
 *
 * Limits: a tensor is not cut, so one huge layer is a huge fragment. What takes longer than tau steps is waited for. Fragments of
 * different age stand side by side in one model.
 */
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "outer.h"

struct streaming {
	int64_t period, delay;
	double mixing, lr, momentum;
	int fragments;                  /* the sync's parts */
	struct event **done;            /* of each: its average is there */
	struct outer outer;
};

static const struct option streaming_options[] = {
	{ "period", OPTION_INT, "100", 1, 1000000, NULL, "H: inner steps between two exchanges of a fragment" },
	{ "fragments", OPTION_INT, "4", 1, 10000, NULL, "F: parts of the model that are exchanged in turn" },
	{ "delay", OPTION_INT, "1", 0, 1000000, NULL, "tau: inner steps that an exchange has time for" },
	{ "mixing", OPTION_FLOAT, "0.5", 0, 0.9999, NULL, "alpha: share of its own model that a worker keeps at a merge" },
	{ "outer_lr", OPTION_FLOAT, "0.4", 1e-6, 10, NULL, "learning rate of the outer optimizer" },
	{ "outer_momentum", OPTION_FLOAT, "0.9", 0, 0.9999, NULL, "its (Nesterov's) momentum" },
	{ 0 },
};

/* ---- fragments ---- */

static int64_t tensor_end(const struct range *whole, int i)
{
	return i + 1 < whole->tensors ? whole->tensor[i + 1].offset : whole->offset + whole->n;
}

/* Fragment f takes tensors as long as their middle lies in front of its end, (f + 1) F-ths of the arena; at least one, and it leaves
 * one for each of those behind it. */
static void plan_fragments(const struct range *whole, int fragments, struct range *fragment)
{
	int i = 0;

	for (int f = 0; f < fragments; f++) {
		int first = i, last = whole->tensors - (fragments - f);
		int64_t begin = whole->tensor[first].offset, end = whole->n * (f + 1) / fragments;

		do
			i++;
		while (i <= last && (whole->tensor[i].offset + tensor_end(whole, i)) / 2 < end);
		fragment[f] = (struct range){ begin, tensor_end(whole, i - 1) - begin, &whole->tensor[first], i - first };
	}
}

static int check_keys(const struct sync *s, const struct config *config)
{
	const struct streaming *state = s->state;

	if (state->fragments > s->schedule.whole.tensors) {
		error("%s: sync.fragments = %d, and the model has only %d tensors", config_origin(config, "sync.fragments"), state->fragments,
		      s->schedule.whole.tensors);
		return hint("a fragment is made of whole tensors: take fewer");
	}
	if (state->fragments > state->period) {
		error("%s: sync.fragments = %d is more than sync.period = %lld", config_origin(config, "sync.fragments"), state->fragments,
		      (long long)state->period);
		return hint("every fragment has a step of its own in a period: take fewer, or a longer period");
	}
	if (state->delay >= state->period) {
		error("%s: sync.delay = %lld is not less than sync.period = %lld", config_origin(config, "sync.delay"), (long long)state->delay,
		      (long long)state->period);
		return hint("a fragment must have been merged before it is exchanged again: take a shorter delay, or a longer period");
	}
	return 0;
}

static int streaming_init(struct sync *s, const struct config *config)
{
	struct streaming *state = s->state;
	struct range *fragment;

	state->period = config_int(config, "sync.period");
	state->fragments = (int)config_int(config, "sync.fragments");
	state->delay = config_int(config, "sync.delay");
	state->mixing = config_float(config, "sync.mixing");
	state->lr = config_float(config, "sync.outer_lr");
	state->momentum = config_float(config, "sync.outer_momentum");
	if (check_keys(s, config))
		return -1;
	s->alone = state->period / state->fragments + state->delay;
	fragment = xcalloc((size_t)state->fragments, sizeof(*fragment));
	plan_fragments(&s->schedule.whole, state->fragments, fragment);
	sync_cut(s, fragment, state->fragments);
	return 0;
}

static void streaming_bind(struct sync *s)
{
	struct streaming *state = s->state;

	outer_bind(&state->outer, s, state->lr, state->momentum, true);
	state->done = xcalloc((size_t)state->fragments, sizeof(*state->done));
	for (int f = 0; f < state->fragments; f++)
		state->done[f] = s->device->ops->stream->event_open(s->device);
}

/* ---- steps ---- */

static void launch(struct sync *s, int f)
{
	struct streaming *state = s->state;
	const struct range *r = &s->part[f];
	float *d = state->outer.d;

	sync_phase(s, "send a fragment");
	s->device->ops->vec->diff(s->compute, r->n, state->outer.z + r->offset, s->x + r->offset, d + r->offset);
	sync_average_part(s, f, d, d, state->done[f]);
}

static void merge(struct sync *s, int f)
{
	struct streaming *state = s->state;
	const struct device_ops *dev = s->device->ops;
	const struct range *r = &s->part[f];
	float *z = state->outer.z + r->offset, *x = s->x + r->offset;

	sync_phase(s, "outer step of a fragment");
	dev->stream->wait(s->compute, state->done[f]);
	outer_step(&state->outer, s, r->offset, r->n);
	if (state->mixing == 0)
		dev->mem->copy(s->compute, x, z, (size_t)r->n * sizeof(float), COPY_DEVICE);
	else
		dev->vec->axpby(s->compute, r->n, (float)(1 - state->mixing), z, (float)state->mixing, x);
}

/* Is it fragment f's turn after so many steps? */
static bool is_due(const struct streaming *state, int f, int64_t steps)
{
	return steps > 0 && (steps - f * state->period / state->fragments) % state->period == 0;
}

static void streaming_step(struct sync *s, int64_t t)
{
	struct streaming *state = s->state;

	sync_optimize(s);
	for (int f = 0; f < state->fragments; f++)
		if (is_due(state, f, t + 1))
			launch(s, f);
	for (int f = 0; f < state->fragments; f++)
		if (is_due(state, f, t + 1 - state->delay))
			merge(s, f);
}

/* Fragments on their way are state, too: whoever saves waits for them, and saves their averages. */
static void streaming_state(struct sync *s, struct state_visitor *v)
{
	struct streaming *state = s->state;

	for (int f = 0; f < state->fragments; f++)
		s->device->ops->stream->wait(s->compute, state->done[f]);
	outer_state(&state->outer, s, v);
	v->vector(v, "average", s->device, state->outer.d, s->n);
}

/* ---- cost ---- */

static double streaming_bytes(const struct sync *s, int workers)
{
	const struct streaming *state = s->state;

	return sync_average_bytes(s, workers) / (double)state->period;
}

/* A fragment has tau steps; all of them together have H. */
static double streaming_cost(const struct sync *s, const struct cost_model *m)
{
	const struct streaming *state = s->state;
	double compute = m->forward + m->backward, exposed = 0, comm = 0;

	for (int f = 0; f < state->fragments; f++) {
		double seconds = sync_part_cost(s, f, m);

		comm += seconds;
		if (seconds > (double)state->delay * compute)
			exposed += seconds - (double)state->delay * compute;
	}
	compute += exposed / (double)state->period;
	comm /= (double)state->period;
	return compute > comm ? compute : comm;
}

static void streaming_release(struct sync *s)
{
	struct streaming *state = s->state;

	for (int f = 0; f < state->fragments; f++)
		s->device->ops->stream->event_close(state->done[f]);
	free(state->done);
	outer_release(&state->outer, s);
}

extern const struct sync_ops sync_streaming_diloco;
const struct sync_ops sync_streaming_diloco = {
	.name = "streaming-diloco",
	.paper = "Streaming DiLoCo: Douillard et al. 2025, arXiv 2501.18512",
	.topology = "all-reduce|ps",
	.options = streaming_options,
	.state_size = sizeof(struct streaming),
	.init = streaming_init,
	.bind = streaming_bind,
	.step = streaming_step,
	.consensus = sync_mean_model,
	.state = streaming_state,
	.bytes = streaming_bytes,
	.cost = streaming_cost,
	.release = streaming_release,
};
