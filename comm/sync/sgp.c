/*
 * SGP: stochastic gradient push. Each worker sends a share of its model to one other and does not care whether it gets as much back;
 * a weight that travels along corrects for what it gets (push-sum).
 *
 * Paper: Assran, Loizou, Ballas, Rabbat, "Stochastic Gradient Push for Distributed Deep Learning", ICML 2019; algorithm 2 is its
 * overlapped form, OSGP. P workers, x_i and w_i: what worker i holds of the models and of the weights, z_i the model it computes with.
 *
 *     a_i = P M_i / sum(M);  x_i = a_i x_0,  w_i = a_i                                      1 and x_0 for equal batches
 *     each step t:  x_i = x_i + a_i (optimizer(z_i, g_i(z_i)) - z_i)                        x_i - lr g_i for plain SGD and equal batches
 *                   x_i, w_i = sum_j p_ij x_j, sum_j p_ij w_j                               p_ij: share of what j has that goes to i
 *                   z_i = x_i / w_i
 *
 *     overlap 0     compute   | forward | backward | update, wait       | forward | …
 *                   comm                                   | push       |
 *     overlap 2     compute   | step, halve | step | step, halve, merge | step | step, halve, merge | …
 *                   comm                    |    push 0    |            |    push 1   |             |
 *
 * overlap = tau > 0: every tau steps a worker keeps its own half, pushes the other, and has what was pushed to it when it does so the
 * next time: tau steps late, model and weight alike. 0: every step, and everybody waits. One message is in flight at a time.
 *
 * The columns of p sum to 1, so that sum_i x_i and sum_i w_i = P (with what is in flight) change by gradients only:
 *
 *     sum_i x_i / P <- sum_i x_i / P - lr sum_i M_i/sum(M) g_i
 *
 * as in S-SGD. That is why the paper's initial weights of 1 become a_i here, and a step counts a_i times: wherever the w_i go, every z_i
 * goes to the weighted mean. p: half goes to the one that the graph names, half stays (all, where there is none). The w_i follow
 * from the graph alone: every rank computes all of them, and none is sent.
 *
 * Momentum is local, of gradients at z.
 *
 * Limits: one whole model a round and worker. A step moves z_i by a_i / w_i times what the optimizer says: more than it says where
 * batches are large; and with overlap, where a third of all weight is in flight and w_i settles at 2/3. No compressor: there is no
 * reference that all workers hold.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../topology/gossip.h"
#include "sync.h"

struct push_weight {
	union state_real here, arriving;        /* arriving: in flight to this rank */
	double leaving;
};

struct sgp {
	struct gossip graph;
	int64_t overlap, every;         /* every: steps from one round to the next */
	float *x, *leaving, *arriving;  /* s->x is z */
	struct push_weight *w;          /* of every rank */
	struct event *done;
};

static const struct option sgp_options[] = {
	{ "overlap", OPTION_INT, "0", 0, 1000, NULL, "tau: steps that a message has time for; 0: wait for it" },
	{ 0 },
};

static int sgp_init(struct sync *s, const struct config *config)
{
	struct sgp *state = s->state;

	state->overlap = config_int(config, "sync.overlap");
	state->every = state->overlap > 0 ? state->overlap : 1;
	gossip_init(&state->graph, config, GOSSIP_EXPONENTIAL);
	return sync_dense_only(s, config, "shares of whole models are pushed, since no reference is the same on all");
}

/* a_i: what its batch makes of a rank's 1 of P. */
static double part(const struct sync *s, int rank) { return s->comm->size * s->weight[rank]; }

static void sgp_bind(struct sync *s)
{
	struct sgp *state = s->state;

	gossip_open(&state->graph, s->comm->size);
	state->x = sync_vector(s);
	state->leaving = sync_vector(s);
	state->arriving = sync_vector(s);
	state->w = xcalloc((size_t)s->comm->size, sizeof(*state->w));
	for (int r = 0; r < s->comm->size; r++)
		state->w[r].here.value = part(s, r);
	state->done = s->device->ops->stream->event_open(s->device);
	gossip_meet(&state->graph, s->comm, s->compute, state->arriving);
	s->device->ops->vec->scale(s->compute, s->n, (float)part(s, s->comm->rank), s->x, state->x);
}

/* x += a (optimizer(z) - z) */
static void take_step(struct sync *s)
{
	struct sgp *state = s->state;
	float a = (float)part(s, s->comm->rank);

	s->device->ops->vec->axpby(s->compute, s->n, -a, s->x, 1, state->x);
	sync_optimize(s);
	s->device->ops->vec->axpby(s->compute, s->n, a, s->x, 1, state->x);
}

/* What stays and what leaves are the same half. The last message must have gone before its buffer is written. */
static void halve(struct sync *s, int64_t round)
{
	struct sgp *state = s->state;
	const struct device_ops *dev = s->device->ops;

	dev->stream->wait(s->compute, state->done);
	if (gossip_peers(&state->graph, s->comm->rank, round).to >= 0) {
		dev->vec->scale(s->compute, s->n, 0.5f, state->x, state->x);
		dev->mem->copy(s->compute, state->leaving, state->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	}
	for (int r = 0; r < s->comm->size; r++)
		if (gossip_peers(&state->graph, r, round).to >= 0)
			state->w[r].leaving = state->w[r].here.value *= 0.5;
}

static void push(struct sync *s, int64_t round)
{
	struct sgp *state = s->state;
	struct gossip_peers peers = gossip_peers(&state->graph, s->comm->rank, round);
	int64_t bytes = s->n * (int64_t)sizeof(float);

	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, "push", "round", round);
	comm_delay(s->comm);
	if (peers.from < 0)
		s->device->ops->mem->zero(s->comm->stream, state->arriving, (size_t)bytes);
	comm_exchange(s->comm, peers.to, state->leaving, bytes, peers.from, state->arriving, bytes);
	comm_mark(s->comm, state->done);
	trace_end(s->comm->stream);
	for (int r = 0; r < s->comm->size; r++) {
		int from = gossip_peers(&state->graph, r, round).from;

		state->w[r].arriving.value = from < 0 ? 0 : state->w[from].leaving;
	}
}

/* Before the first round what arrives is 0. */
static void merge(struct sync *s)
{
	struct sgp *state = s->state;

	s->device->ops->stream->wait(s->compute, state->done);
	s->device->ops->vec->axpby(s->compute, s->n, 1, state->arriving, 1, state->x);
	for (int r = 0; r < s->comm->size; r++)
		state->w[r].here.value += state->w[r].arriving.value;
}

static void sgp_step(struct sync *s, int64_t t)
{
	struct sgp *state = s->state;
	int64_t round = t / state->every;

	take_step(s);
	if (t % state->every == 0) {
		sync_phase(s, "push-sum");
		halve(s, round);
		if (state->overlap > 0)
			merge(s);
		push(s, round);
		if (state->overlap == 0)
			merge(s);
	}
	sync_phase(s, "de-bias");
	s->device->ops->vec->scale(s->compute, s->n, (float)(1 / state->w[s->comm->rank].here.value), state->x, s->x);
}

/* The de-biased mean: sum x_i / sum w_i, with what is in flight. */
static void sgp_consensus(struct sync *s, float *out)
{
	struct sgp *state = s->state;
	const struct device_ops *dev = s->device->ops;
	float share = 1 / (float)s->comm->size;

	dev->vec->scale(s->compute, s->n, share, state->x, out);
	if (state->overlap > 0) {
		dev->stream->wait(s->compute, state->done);
		dev->vec->axpby(s->compute, s->n, share, state->arriving, 1, out);
	}
	sync_sum(s, out);
}

static void sgp_state(struct sync *s, struct state_visitor *v)
{
	struct sgp *state = s->state;
	char name[40];

	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "numerator", s->device, state->x, s->n);
	if (state->overlap > 0)
		v->vector(v, "arriving", s->device, state->arriving, s->n);
	for (int r = 0; r < s->comm->size; r++) {
		snprintf(name, sizeof(name), "push_weight.%d", r);
		v->number(v, name, &state->w[r].here.bits);
		snprintf(name, sizeof(name), "arriving_weight.%d", r);
		v->number(v, name, &state->w[r].arriving.bits);
	}
}

static double sgp_bytes(const struct sync *s, int workers)
{
	const struct sgp *state = s->state;

	return gossip_messages(&state->graph, workers, true) * (double)s->n * sizeof(float) / (double)state->every;
}

static double sgp_cost(const struct sync *s, const struct cost_model *m)
{
	const struct sgp *state = s->state;
	double compute = m->forward + m->backward, comm = gossip_cost(&state->graph, m, true) / (double)state->every;

	if (state->overlap == 0)
		return compute + comm;
	return compute > comm ? compute : comm;
}

static void sgp_release(struct sync *s)
{
	struct sgp *state = s->state;
	const struct device_ops *dev = s->device->ops;

	gossip_close(&state->graph);
	dev->mem->free(s->device, state->x);
	dev->mem->free(s->device, state->leaving);
	dev->mem->free(s->device, state->arriving);
	dev->stream->event_close(state->done);
	free(state->w);
}

extern const struct sync_ops sync_sgp;
const struct sync_ops sync_sgp = {
	.name = "sgp",
	.paper = "stochastic gradient push, with overlap: Assran et al., ICML 2019, arXiv 1811.10792",
	.topology = "gossip",
	.options = sgp_options,
	.state_size = sizeof(struct sgp),
	.init = sgp_init,
	.bind = sgp_bind,
	.step = sgp_step,
	.consensus = sgp_consensus,
	.state = sgp_state,
	.bytes = sgp_bytes,
	.cost = sgp_cost,
	.release = sgp_release,
};
