/*
 * ACCO: accumulate while you communicate. Gradients are averaged while the next ones are computed, and no update is late: half of
 * the gradients are taken at an estimate of where the model will be.
 *
 * Paper: Nabli, Fournier, Erbacher, Serrano, Belilovsky, Oyallon, "ACCO: Accumulate While You Communicate for Communication-Overlapped
 * Sharded LLM Training", NeurIPS 2025 (arXiv 2406.02613).
 *
 *     theta_r   the model, and the optimizer's state with it;  theta~_r   an estimate of it, from half of the gradients
 *
 *     step 0:      g~_0 at theta_0
 *     step 2r+1:   g_r at theta_r           meanwhile average(g~_r);  then  theta~_{r+1} = Opt(theta_r, average(g~_r)), and the
 *                                           optimizer's state is as before
 *     step 2r+2:   g~_{r+1} at theta~_{r+1} meanwhile average(g_r);   then  theta_{r+1} = Opt(theta_r, average of all g~_r and g_r)
 *
 *     compute   | g~_0 at theta_0 | g_0 at theta_0 | look ahead | g~_1 at theta~_1 | update | g_1 at theta_1 | look ahead | …
 *     comm                        | average g~_0   |            | average g_0      |        | average g~_1   |
 *
 * A step of the trainer is half a step of the paper, with a batch of its own: an update every two steps, from the samples of both. Both
 * halves have the same M_i, so the average over all samples is the mean of the two averages.
 *
 * The look-ahead is the optimizer out of place: model and state go elsewhere, its step counter goes back. It and the update take the rate
 * of the step in which they happen. The update begins from theta_r again: nothing of the estimate remains but the gradients taken there.
 *
 * Compressors: both kinds of gradients go through one residual. What a g~ could not send comes with the next g, and is in the next
 * update, as in S-SGD.
 *
 * All workers hold the same x at any time. Consensus is theta, never the estimate. Unequal batches: weights M_i / sum(M). In the paper
 * fast workers fill the time with further micro-batches; here a step has one batch (train.batch gives each worker its own).
 *
 * Limits: twice the volume of S-SGD for an update (the same for a step); an update sees gradients of theta_r and theta~_r, the latter as
 * far from theta_r as half of the gradients point elsewhere than all of them; four vectors and the optimizer's state once more. Hidden if
 * an average takes no longer than a step; all of backward is over when it leaves.
 */
#include "../../core/config.h"
#include "sync.h"

struct acco {
	float *theta;
	float *early, *late;            /* g~_r and g_r, then their averages in their place */
	float *aside[OPTIMIZER_SLOTS];  /* the optimizer's state behind the look-ahead: nobody reads it */
	struct event *early_done, *late_done;
};

static int acco_init(struct sync *s, const struct config *config)
{
	(void)s, (void)config;
	return 0;
}

static void acco_bind(struct sync *s)
{
	struct acco *state = s->state;
	const struct device_ops *dev = s->device->ops;

	state->theta = sync_vector(s);
	state->early = sync_vector(s);
	state->late = sync_vector(s);
	for (int i = 0; i < s->optimizer->ops->slots(s->optimizer); i++)
		state->aside[i] = sync_vector(s);
	state->early_done = dev->stream->event_open(s->device);
	state->late_done = dev->stream->event_open(s->device);
	dev->mem->copy(s->compute, state->theta, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* Backward of the next step writes into g: a copy goes on its way. */
static void launch(struct sync *s, float *gradient, struct event *done)
{
	s->device->ops->mem->copy(s->compute, gradient, s->g, (size_t)s->n * sizeof(float), COPY_DEVICE);
	sync_average(s, gradient, gradient, done);
}

/* x = theta~ */
static void look_ahead(struct sync *s)
{
	struct acco *state = s->state;

	optimizer_begin(s->optimizer, s->compute, s->lr);
	optimizer_step_to(s->optimizer, s->compute, 0, s->n, state->early, state->theta, s->x, state->aside);
	s->optimizer->t--;
}

/* theta and x = the next theta */
static void update(struct sync *s)
{
	struct acco *state = s->state;

	s->device->ops->vec->axpby(s->compute, s->n, 0.5f, state->early, 0.5f, state->late);
	optimizer_begin(s->optimizer, s->compute, s->lr);
	optimizer_step_to(s->optimizer, s->compute, 0, s->n, state->late, state->theta, s->x, s->optimizer->state);
	s->device->ops->mem->copy(s->compute, state->theta, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

static void acco_step(struct sync *s, int64_t t)
{
	struct acco *state = s->state;
	const struct stream_ops *stream = s->device->ops->stream;

	if (t % 2) {
		launch(s, state->late, state->late_done);
		sync_phase(s, "look ahead");
		stream->wait(s->compute, state->early_done);
		look_ahead(s);
		return;
	}
	if (t > 0) {
		sync_phase(s, "update");
		stream->wait(s->compute, state->late_done);
		update(s);
	}
	launch(s, state->early, state->early_done);
}

static void acco_consensus(struct sync *s, float *out)
{
	const struct acco *state = s->state;

	s->device->ops->mem->copy(s->compute, out, state->theta, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* Behind an odd step both averages are needed, behind an even one the early one; x follows from them, and is the trainer's. */
static void acco_state(struct sync *s, struct state_visitor *v)
{
	struct acco *state = s->state;
	const struct stream_ops *stream = s->device->ops->stream;

	stream->wait(s->compute, state->early_done);
	stream->wait(s->compute, state->late_done);
	v->vector(v, "reference", s->device, state->theta, s->n);
	v->vector(v, "early", s->device, state->early, s->n);
	v->vector(v, "late", s->device, state->late, s->n);
}

static double acco_bytes(const struct sync *s, int workers) { return sync_average_bytes(s, workers); }

static double acco_cost(const struct sync *s, const struct cost_model *m)
{
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m);

	return compute > comm ? compute : comm;
}

static void acco_release(struct sync *s)
{
	struct acco *state = s->state;
	const struct device_ops *dev = s->device->ops;

	dev->mem->free(s->device, state->theta);
	dev->mem->free(s->device, state->early);
	dev->mem->free(s->device, state->late);
	for (int i = 0; i < OPTIMIZER_SLOTS; i++)
		dev->mem->free(s->device, state->aside[i]);
	dev->stream->event_close(state->early_done);
	dev->stream->event_close(state->late_done);
}

extern const struct sync_ops sync_acco;
const struct sync_ops sync_acco = {
	.name = "acco",
	.paper = "ACCO: Nabli et al., NeurIPS 2025, arXiv 2406.02613",
	.topology = "all-reduce|ps",
	.state_size = sizeof(struct acco),
	.init = acco_init,
	.bind = acco_bind,
	.step = acco_step,
	.consensus = acco_consensus,
	.state = acco_state,
	.bytes = acco_bytes,
	.cost = acco_cost,
	.release = acco_release,
};
