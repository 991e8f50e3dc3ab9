/*
 * D-PSGD: decentralised SGD. Every step each worker takes a weighted average of its own model and those of its neighbours, while it
 * computes its gradient.
 *
 * Paper: Lian, Zhang, Zhang, Hsieh, Zhang, Liu, "Can Decentralized Algorithms Outperform Centralized Algorithms?", NeurIPS 2017.
 *
 *     each step t:  x_i = sum_j W_ij x_j - lr g_i(x_i)              both at the old x_i: mixing and gradient do not wait for each other
 *
 *     compute   | forward | backward | update, merge | forward | backward | update, merge |
 *     comm      |  x to and from neighbours |        |  x to and from neighbours |
 *
 * Nothing writes to x between begin() and step(), so that communication sends it as it lies, and forward reads it meanwhile. What
 * arrives is turned into m = sum_j W_ij (x_j - x_i) on the communication stream; then the optimizer takes its step from x_i, and
 * x_i += m. That is the paper's rule for any optimizer whose step adds to x; momentum is local.
 *
 * W: topology/gossip.h. Lian et al. want it symmetric and doubly stochastic, for a plain mean. For batches of M_i it is made reversible
 * for w_i = M_i / sum(M) instead, w_i W_ij = w_j W_ji: the rows sum to 1, so that equal models stay what they are, and
 *
 *     sum_i w_i x_i <- sum_j (sum_i w_i W_ij) x_j - lr sum_i w_i g_i = sum_j w_j x_j - lr sum_i w_i g_i
 *
 * the weighted mean moves as in S-SGD. For equal batches on a ring that is 1/3, 1/3, 1/3. With a graph that changes from round to round
 * each W has these two properties, and so has their product.
 *
 * Limits: workers drift apart the more, the larger and the more loosely connected the graph is (a ring's spectral gap falls with 1/P²).
 * One or two whole models a step and worker, whatever P. No compressor: there is no reference that all workers hold.
 */
#include "../../core/config.h"
#include "../topology/gossip.h"
#include "sync.h"

struct dpsgd {
	struct gossip graph;
	int degree;                     /* neighbours in the step under way */
	float *arrived, *mixed;
	struct event *done;
};

static int dpsgd_init(struct sync *s, const struct config *config)
{
	struct dpsgd *state = s->state;

	gossip_init(&state->graph, config, GOSSIP_RING);
	return sync_dense_only(s, config, "neighbours exchange whole models, since no reference is the same on all");
}

static void dpsgd_bind(struct sync *s)
{
	struct dpsgd *state = s->state;

	gossip_open(&state->graph, s->comm->size);
	state->arrived = sync_vector(s);
	state->mixed = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	gossip_meet(&state->graph, s->comm, s->compute, state->arrived);
}

/* Of two neighbours, everybody sends to the first and receives from the second at the same time, then the other way round. */
static void dpsgd_begin(struct sync *s, int64_t t)
{
	struct dpsgd *state = s->state;
	const struct vec_ops *vec = s->device->ops->vec;
	struct stream *stream = s->comm->stream;
	int64_t bytes = s->n * (int64_t)sizeof(float);
	int neighbour[2];

	state->degree = gossip_neighbours(&state->graph, s->comm->rank, t, neighbour);
	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, "mix", "neighbours", state->degree);
	comm_delay(s->comm);
	for (int k = 0; k < state->degree; k++) {
		int to = neighbour[k], from = neighbour[state->degree - 1 - k];
		float share = (float)gossip_mixing(s->weight[s->comm->rank], s->weight[from], state->degree);

		comm_exchange(s->comm, to, s->x, bytes, from, state->arrived, bytes);
		vec->diff(stream, s->n, state->arrived, s->x, state->arrived);
		if (k == 0)
			vec->scale(stream, s->n, share, state->arrived, state->mixed);
		else
			vec->axpby(stream, s->n, share, state->arrived, 1, state->mixed);
	}
	comm_mark(s->comm, state->done);
	trace_end(s->comm->stream);
}

/* The exchange has read x before the optimizer writes to it. */
static void dpsgd_step(struct sync *s, int64_t t)
{
	struct dpsgd *state = s->state;

	(void)t;
	s->device->ops->stream->wait(s->compute, state->done);
	sync_optimize(s);
	sync_phase(s, "mix");
	if (state->degree > 0)
		s->device->ops->vec->axpby(s->compute, s->n, 1, state->mixed, 1, s->x);
}

/* Between two steps nothing is in flight, and the round is the step: there is nothing to keep. */
static void dpsgd_state(struct sync *s, struct state_visitor *v) { (void)s, (void)v; }

static double dpsgd_bytes(const struct sync *s, int workers)
{
	const struct dpsgd *state = s->state;

	return gossip_messages(&state->graph, workers, false) * (double)s->n * sizeof(float);
}

static double dpsgd_cost(const struct sync *s, const struct cost_model *m)
{
	const struct dpsgd *state = s->state;
	double compute = m->forward + m->backward, comm = gossip_cost(&state->graph, m, false);

	return compute > comm ? compute : comm;
}

static void dpsgd_release(struct sync *s)
{
	struct dpsgd *state = s->state;

	gossip_close(&state->graph);
	s->device->ops->mem->free(s->device, state->arrived);
	s->device->ops->mem->free(s->device, state->mixed);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_dpsgd;
const struct sync_ops sync_dpsgd = {
	.name = "dpsgd",
	.paper = "D-PSGD: Lian et al., NeurIPS 2017, arXiv 1705.09056",
	.topology = "gossip",
	.state_size = sizeof(struct dpsgd),
	.init = dpsgd_init,
	.bind = dpsgd_bind,
	.begin = dpsgd_begin,
	.step = dpsgd_step,
	.consensus = sync_mean_model,
	.state = dpsgd_state,
	.bytes = dpsgd_bytes,
	.cost = dpsgd_cost,
	.release = dpsgd_release,
};
