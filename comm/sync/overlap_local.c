/*
 * Overlap-Local-SGD: the workers never meet; each is pulled towards an anchor z that was averaged while it computed.
 *
 * Paper: Wang, Liang, Joshi: "Overlap Local-SGD: An Algorithmic Approach to Hide Communication Delays in Distributed SGD", ICASSP 2020
 * (arXiv 2002.09539).
 *
 *     each step:              x_i, m_i = optimizer(x_i, m_i, g_i)
 *     when tau divides t + 1: wait for the anchor z whose average was launched tau steps ago (at first z = x_0, v = 0)
 *                             x_i = (1 - alpha) x_i + alpha z                                      the pull-back
 *                             launch:  v = beta v + (sum_i w_i x_i - z);  z = z + v                the next anchor
 *
 *     compute   | tau steps | pull | tau steps     | pull | tau steps     | pull | …
 *     comm                  |      anchor 1   |    |      anchor 2   |
 *
 * What is sent is d_i = x_i - z after the pull-back, to an anchor z that all workers hold (DESIGN 3). Its average is all that z and v
 * need, so that both are computed by everyone when it arrives, and nobody sends a momentum. d_i itself is needed no more once it is on
 * its way: the average takes its place. Before the first launch it is 0, and v and z stay what they are.
 *
 * Its authors' program keeps v in units of model/lr: v = beta v + (mean - z)/lr, z = z + lr v. Here v is lr v, with lr the sum of the rates
 * of the period that ends with the launch (lr_sum.h): beta becomes beta Lambda'/Lambda when the sum has changed from Lambda to Lambda'.
 * A period whose rates are all 0 has no direction: v waits, and z becomes the mean. For a constant rate all this is the rule above.
 *
 * Nothing gets lost: for a constant rate, with e = sum_i w_i e_i in the residuals and a the average in flight, plain SGD moves
 *
 *     (1 - alpha) sum_i w_i x_i + alpha (z + a + e) - alpha beta (z - v)
 *
 * by -(1 - alpha) lr sum_i w_i g_i in each step, and a synchronisation does not move it. For beta = 0 it is the sequence that the
 * paper's analysis follows. Why, for a dense exchange: let X be the average of the x_i right after a synchronisation, G what the next tau
 * steps take off it. Then a = X - z, and the next one makes
 *
 *     z' = X + beta v,    v' = z' - z,    X' = (1 - alpha)(X - G) + alpha z' = X - (1 - alpha) G + alpha beta v
 *     X' - alpha beta (z' - v') = X - alpha beta (z - v) - (1 - alpha) G
 *
 * Momentum of the workers, weight decay: local. alpha = 0: nobody hears of anybody; alpha = 1: every period is thrown away.
 * Limits: a gradient counts (1 - alpha)/(1 - alpha beta) of what it does in S-SGD. The workers stay apart, in balance with the pull.
 */
#include "../../core/config.h"
#include "../../core/die.h"
#include "lr_sum.h"

struct overlap_local {
	int64_t period;
	float alpha, beta;
	struct lr_sum rate;
	union state_real carry;         /* of the exchange in flight: Lambda'/Lambda, or -1 if its period had no rate */
	float *z, *v, *d;               /* d: what is sent, then its average */
	struct event *done;
};

static const struct option overlap_local_options[] = {
	{ "period", OPTION_INT, "2", 1, 1000000, NULL, "tau: local steps that one averaging has time for" },
	{ "alpha", OPTION_FLOAT, "0.6", 0, 1, NULL, "how far the workers are pulled back to the anchor" },
	{ "beta", OPTION_FLOAT, "0.7", 0, 0.999, NULL, "momentum of the anchor" },
	{ 0 },
};

static int overlap_local_init(struct sync *s, const struct config *config)
{
	struct overlap_local *state = s->state;

	state->period = config_int(config, "sync.period");
	s->alone = 2 * state->period;
	state->alpha = (float)config_float(config, "sync.alpha");
	state->beta = (float)config_float(config, "sync.beta");
	return 0;
}

static void overlap_local_bind(struct sync *s)
{
	struct overlap_local *state = s->state;

	if (state->alpha == 1)          /* here, where a forecast of other compressors does not get to */
		warn("sync.alpha = 1: the model will stand still, each pull-back undoes the whole period");
	state->z = sync_vector(s);
	state->v = sync_vector(s);
	state->d = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

static void overlap_local_step(struct sync *s, int64_t t)
{
	struct overlap_local *state = s->state;
	const struct device_ops *dev = s->device->ops;

	sync_optimize(s);
	lr_sum_add(&state->rate, s->lr);
	if ((t + 1) % state->period)
		return;
	sync_phase(s, "pull to the anchor");
	dev->stream->wait(s->compute, state->done);
	if (state->carry.value < 0) {
		dev->vec->axpby(s->compute, s->n, 1, state->d, 1, state->z);
	} else {
		dev->vec->axpby(s->compute, s->n, 1, state->d, (float)state->carry.value * state->beta, state->v);
		dev->vec->axpby(s->compute, s->n, 1, state->v, 1, state->z);
	}
	dev->vec->axpby(s->compute, s->n, state->alpha, state->z, 1 - state->alpha, s->x);
	dev->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	sync_average(s, state->d, state->d, state->done);
	state->carry.value = lr_sum_end(&state->rate);
}

/* The exchange in flight is state, too: whoever saves waits for it, and saves its result. */
static void overlap_local_state(struct sync *s, struct state_visitor *v)
{
	struct overlap_local *state = s->state;

	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "reference", s->device, state->z, s->n);
	v->vector(v, "anchor_momentum", s->device, state->v, s->n);
	v->vector(v, "average", s->device, state->d, s->n);
	lr_sum_state(&state->rate, v);
	v->number(v, "carry", &state->carry.bits);
}

static double overlap_local_bytes(const struct sync *s, int workers)
{
	const struct overlap_local *state = s->state;

	return sync_average_bytes(s, workers) / (double)state->period;
}

static double overlap_local_cost(const struct sync *s, const struct cost_model *m)
{
	const struct overlap_local *state = s->state;
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m) / (double)state->period;

	return compute > comm ? compute : comm;
}

static void overlap_local_release(struct sync *s)
{
	struct overlap_local *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->v);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_overlap_local;
const struct sync_ops sync_overlap_local = {
	.name = "overlap-local",
	.paper = "Overlap-Local-SGD: Wang et al., ICASSP 2020, arXiv 2002.09539",
	.topology = "all-reduce|ps",
	.options = overlap_local_options,
	.state_size = sizeof(struct overlap_local),
	.init = overlap_local_init,
	.bind = overlap_local_bind,
	.step = overlap_local_step,
	.consensus = sync_mean_model,
	.state = overlap_local_state,
	.bytes = overlap_local_bytes,
	.cost = overlap_local_cost,
	.release = overlap_local_release,
};
