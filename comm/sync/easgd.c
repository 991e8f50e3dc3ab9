/*
 * EASGD: each worker is tied to a centre by an elastic force. In the synchronous form: all workers exchange in the same step.
 *
 * Paper: Zhang, Choromanska, LeCun: "Deep learning with Elastic Averaging SGD", NeurIPS 2015 (arXiv 1412.6651), equations (5) and (6):
 *
 *     each step:              x_i, m_i = optimizer(x_i, m_i, g_i)
 *     when tau divides t + 1: x_i = x_i - alpha (x_i - z),    z = z + beta sum_i w_i (x_i - z),    alpha = beta / P
 *                             both with the x_i and the z from before                       z: the centre, at first x_0
 *
 *     compute   | tau steps | pull | tau steps     | pull | tau steps     | pull | …
 *     comm                  |      centre 1   |    |      centre 2   |
 *
 * The workers need the centre from before the exchange only, so z has time to move until the next one: all is hidden. What is sent is
 * d_i = x_i - z (DESIGN 3); z is kept by all workers, the same bits, and moved when the average has come.
 *
 * Weights. For equal batches z moves by alpha sum_i (x_i - z) = P alpha times their mean, the paper's beta. For unequal ones minimise
 *
 *     sum_i w_i ( f_i(x_i) + rho/2 |x_i - z|^2 ),     w_i = M_i / sum M
 *
 * Its derivative by x_i is w_i times g_i + rho (x_i - z). A worker steps by lr g_i, not by lr w_i g_i, so its force is alpha = lr rho,
 * the same for all; z's is -rho sum_i w_i (x_i - z), of which it goes P lr. So beta = P alpha as before, w_i takes the place of 1/P,
 * and what a worker gives the centre gets: an exchange leaves (P sum_i w_i x_i + z) / (P + 1) where it is. With a compressor too, if
 * z counts with beta times what is in flight and in the residuals.
 *
 * EAMSGD is this with optimizer.nesterov (the paper takes a momentum of 0.99). Here the exchange follows the step; in the paper's
 * asynchronous program the gradient is added after it, but was taken before. The averaged model is the centre.
 *
 * Limits: the more workers, the looser each is tied (alpha = beta / P), and the farther they stray in tau steps.
 */
#include "../../core/config.h"
#include "sync.h"

struct easgd {
	int64_t period;
	double beta;
	float alpha;
	float *z, *d;                   /* d: what is sent, then its average */
	struct event *done;
};

static const struct option easgd_options[] = {
	{ "period", OPTION_INT, "10", 1, 1000000, NULL, "tau: local steps between two exchanges" },
	{ "beta", OPTION_FLOAT, "0.9", 0.001, 1, NULL, "how far the centre goes to the average of the workers; each of P goes beta / P to it" },
	{ 0 },
};

static int easgd_init(struct sync *s, const struct config *config)
{
	struct easgd *state = s->state;

	state->period = config_int(config, "sync.period");
	s->alone = 2 * state->period;
	state->beta = config_float(config, "sync.beta");
	return 0;
}

static void easgd_bind(struct sync *s)
{
	struct easgd *state = s->state;

	state->alpha = (float)(state->beta / s->comm->size);
	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* Before the first exchange d is 0. */
static void easgd_step(struct sync *s, int64_t t)
{
	struct easgd *state = s->state;
	const struct device_ops *dev = s->device->ops;

	sync_optimize(s);
	if ((t + 1) % state->period)
		return;
	sync_phase(s, "elastic step");
	dev->stream->wait(s->compute, state->done);
	dev->vec->axpby(s->compute, s->n, (float)state->beta, state->d, 1, state->z);
	dev->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	dev->vec->axpby(s->compute, s->n, -state->alpha, state->d, 1, s->x);
	sync_average(s, state->d, state->d, state->done);
}

/* The centre, with the exchange that is in flight. */
static void easgd_consensus(struct sync *s, float *out)
{
	struct easgd *state = s->state;
	const struct device_ops *dev = s->device->ops;

	dev->mem->copy(s->compute, out, state->z, (size_t)s->n * sizeof(float), COPY_DEVICE);
	dev->stream->wait(s->compute, state->done);
	dev->vec->axpby(s->compute, s->n, (float)state->beta, state->d, 1, out);
}

/* The exchange in flight is state, too: whoever saves waits for it, and saves its result. */
static void easgd_state(struct sync *s, struct state_visitor *v)
{
	struct easgd *state = s->state;

	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "reference", s->device, state->z, s->n);
	v->vector(v, "average", s->device, state->d, s->n);
}

static double easgd_bytes(const struct sync *s, int workers)
{
	const struct easgd *state = s->state;

	return sync_average_bytes(s, workers) / (double)state->period;
}

static double easgd_cost(const struct sync *s, const struct cost_model *m)
{
	const struct easgd *state = s->state;
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m) / (double)state->period;

	return compute > comm ? compute : comm;
}

static void easgd_release(struct sync *s)
{
	struct easgd *state = s->state;

	s->device->ops->mem->free(s->device, state->z);
	s->device->ops->mem->free(s->device, state->d);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_easgd;
const struct sync_ops sync_easgd = {
	.name = "easgd",
	.paper = "elastic averaging SGD, synchronous form: Zhang et al., NeurIPS 2015, arXiv 1412.6651",
	.topology = "all-reduce|ps",
	.options = easgd_options,
	.state_size = sizeof(struct easgd),
	.init = easgd_init,
	.bind = easgd_bind,
	.step = easgd_step,
	.consensus = easgd_consensus,
	.state = easgd_state,
	.bytes = easgd_bytes,
	.cost = easgd_cost,
	.release = easgd_release,
};
