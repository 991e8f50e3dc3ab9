/*
 * CHOCO-SGD: gossip with compressed messages. Every worker has a public copy of its model, which all its neighbours have as well; what it
 * sends is compressed news of how far its model has moved away from the copy.
 *
 * Papers: Koloskova, Stich, Jaggi: "Decentralized Stochastic Optimization and Gossip Algorithms with Compressed Communication", ICML 2019
 * (arXiv 1902.00340), algorithm 2; Koloskova, Lin, Stich, Jaggi: "Decentralized Deep Learning with Arbitrary Communication Compression",
 * ICLR 2020 (arXiv 1907.09356), for momentum, and messages beside the next gradient.
 *
 *     each step, worker i:   x_i = optimizer(x_i, g_i)
 *                            q_i = Q(x_i - y_i)                                y_i: the public copy, at first 0
 *                            send q_i to all neighbours j, receive their q_j
 *                            y_i = y_i + q_i;  y_j = y_j + q_j                 on all who have them: the same bits
 *                            x_i = x_i + gamma sum_j W_ij (y_j - y_i)
 *
 *     compute   | forward | backward | update, x - y |                    | mix | forward | …
 *     comm                                           Q, news to and fro
 *
 *     overlap = 1:           x_i = optimizer(x_i, g_i) + gamma sum_j W_ij (y_j - y_i), then the same news, which has a whole step's time
 *
 *     compute   | forward | backward | update, mix, x - y | forward | backward | update, mix, …
 *     comm                                                Q, news to and fro
 *
 * Each worker keeps the copies of all its neighbours. Their weighted sum would do, and is kept in the second paper; but as it grows by
 * sum_j W_ij q_j its rounding stays in it, a little of which moves the mean in every step for ever. The copies are the same bits wherever
 * they are, and rounding differences of them is forgotten. Here y begins as the model that all begin with, not as 0, so that no message
 * is spent on what everybody knows.
 *
 * Error feedback is what the copies do: what Q left out is still in x_i - y_i in the next step, where a change of mind has cancelled what
 * it may. So Q is the compressor without its residual (compress.h: pack, unpack), and any Q with E |Q(v) - v|^2 <= (1 - delta) |v|^2
 * will do; quantisers that are unbiased but not near are scaled down to be (quantize.c). The model converges for gamma small enough:
 * with delta, gamma has to fall. The paper tunes it for each Q; for top-k of 1 % it finds about 0.04, for four bits and more, near 1.
 * A fixed threshold is no such Q: of news that is all below it nothing is sent. That waits in x_i - y_i until it has grown, so that models
 * agree up to about the threshold and no better.
 *
 * W, as in dpsgd: reversible for w_i = M_i / sum M, w_i W_ij = w_j W_ji, so that whatever the copies are
 *
 *     sum_i w_i x_i <- sum_i w_i optimizer(x_i, g_i)                           the mean moves by gradients only: nothing is lost
 *
 * Whoever is a neighbour once must be one always: who misses news has another copy. So of the graphs of gossip.h each is taken with all
 * its edges at the same time: ring: two neighbours; exponential: all at distances 2^k, up to 2 log2 P. Graphs of pairs, in which everybody
 * meets everybody, are refused.
 *
 * Without compression and with gamma = 1, y_i = x_i and x_i <- sum_j W_ij optimizer(x_j): D-PSGD which mixes after its gradient and
 * not beside it; up to 3 equal workers on a ring then share one model after each step.
 *
 * What is sent: degree × wire bytes of Q a step and worker. Kept: degree + 2 vectors of n.
 *
 * Limits: on a larger or sparser graph workers drift apart, the more the smaller gamma has to be; sync.overlap adds a step of delay.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../topology/gossip.h"
#include "sync.h"

struct choco {
	struct gossip graph;
	float gamma;
	bool overlap;
	int degree;
	int *distance;                  /* of the neighbours: ranks rank - distance, all of which have us at theirs */
	float *public, **copy;          /* y_i; y_j of each neighbour */
	float *news;                    /* x - y, then differences of copies */
	char *mine, *arrived;           /* a piece's message each */
	struct event *done;
};

static const struct option choco_options[] = {
	{ "gamma", OPTION_FLOAT, "0.04", 0, 1, NULL, "how far models go to their neighbours' copies: near 1 for 4 bits and more, less for fewer" },
	{ "overlap", OPTION_INT, "0", 0, 1, NULL, "1: news is on its way during the next step, and mixed in a step later" },
	{ 0 },
};

static int refuse_graph(const struct sync *s, const struct config *config)
{
	const struct choco *state = s->state;

	error("sync.algorithm = \"choco\" (%s) needs the same neighbours in every step, and topology.graph = \"%s\" (%s) has other ones each time",
	      config_origin(config, "sync.algorithm"), gossip_name(&state->graph), config_origin(config, "topology.graph"));
	return hint("set topology.graph = \"ring\" or \"exponential\"");
}

static bool sends_to_one(const struct compress_ops *ops) { return ops->pack; }

static int refuse_compressor(const struct sync *s, const struct config *config)
{
	error("sync.algorithm = \"choco\" (%s) sends from one worker to another, but what compress.method = \"%s\" (%s) sends makes sense among "
	      "all only", config_origin(config, "sync.algorithm"), s->compress.ops->name, config_origin(config, "compress.method"));
	return compress_hint("set compress.method to one that works from one worker to another", sends_to_one);
}

static int choco_init(struct sync *s, const struct config *config)
{
	struct choco *state = s->state;

	state->gamma = (float)config_float(config, "sync.gamma");
	state->overlap = config_int(config, "sync.overlap") != 0;
	gossip_init(&state->graph, config, GOSSIP_RING);
	if (gossip_is_pairs(&state->graph))
		return refuse_graph(s, config);
	return s->compress.ops->pack ? 0 : refuse_compressor(s, config);
}

/* At which distances, if asked for; returns how many. */
static int neighbours(const struct choco *state, int workers, int *distance)
{
	int count = 0;

	for (int d = 1; d < workers; d++) {
		if (!gossip_leads_to(&state->graph, workers, d))
			continue;
		if (distance)
			distance[count] = d;
		count++;
	}
	return count;
}

static int neighbour(const struct sync *s, int i)
{
	const struct choco *state = s->state;

	return (s->comm->rank + s->comm->size - state->distance[i]) % s->comm->size;
}

static void choco_bind(struct sync *s)
{
	struct choco *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;
	int64_t most = 0;

	for (int i = 0; i < s->pieces; i++) {
		int64_t bytes = s->compress.ops->wire(&s->compress, s->piece[i].n, true);

		most = bytes > most ? bytes : most;
	}
	gossip_open(&state->graph, s->comm->size);
	state->distance = xcalloc((size_t)s->comm->size, sizeof(*state->distance));
	state->degree = neighbours(state, s->comm->size, state->distance);
	state->public = sync_vector(s);
	state->copy = xcalloc((size_t)state->degree + 1, sizeof(*state->copy));
	state->news = sync_vector(s);
	state->mine = mem->alloc(s->device, (size_t)most);
	state->arrived = mem->alloc(s->device, (size_t)most);
	state->done = s->device->ops->stream->event_open(s->device);
	gossip_meet(&state->graph, s->comm, s->compute, state->news);
	mem->copy(s->compute, state->public, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	for (int i = 0; i < state->degree; i++) {
		state->copy[i] = sync_vector(s);
		mem->copy(s->compute, state->copy[i], s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	}
}

/* News of one piece goes to all neighbours and comes from them; all take the distances in the same order. */
static void exchange(struct sync *s, const struct range *piece)
{
	struct choco *state = s->state;
	struct compress *c = &s->compress;
	int64_t bytes = c->ops->wire(c, piece->n, false);

	c->ops->pack(c, piece, state->news, state->mine);
	c->ops->unpack(c, piece, state->mine, 1, state->public);
	for (int i = 0; i < state->degree; i++) {
		int to = (s->comm->rank + state->distance[i]) % s->comm->size;

		comm_exchange(s->comm, to, state->mine, bytes, neighbour(s, i), state->arrived, bytes);
		c->ops->unpack(c, piece, state->arrived, 1, state->copy[i]);
	}
}

static void mix(struct sync *s)
{
	struct choco *state = s->state;
	const struct vec_ops *vec = s->device->ops->vec;

	sync_phase(s, "gossip step");
	s->device->ops->stream->wait(s->compute, state->done);
	for (int i = 0; i < state->degree; i++) {
		double share = gossip_mixing(s->weight[s->comm->rank], s->weight[neighbour(s, i)], state->degree);

		vec->diff(s->compute, s->n, state->copy[i], state->public, state->news);
		vec->axpby(s->compute, s->n, (float)(state->gamma * share), state->news, 1, s->x);
	}
}

static void choco_step(struct sync *s, int64_t t)
{
	struct choco *state = s->state;

	(void)t;
	sync_optimize(s);
	if (state->degree == 0)
		return;
	if (state->overlap)
		mix(s);
	sync_phase(s, "difference to the public copy");
	s->device->ops->vec->diff(s->compute, s->n, s->x, state->public, state->news);
	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, "gossip", "neighbours", state->degree);
	comm_delay(s->comm);
	for (int i = 0; i < s->pieces; i++)
		exchange(s, &s->piece[i]);
	comm_mark(s->comm, state->done);
	trace_end(s->comm->stream);
	if (!state->overlap)
		mix(s);
}

static void choco_state(struct sync *s, struct state_visitor *v)
{
	struct choco *state = s->state;

	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "public", s->device, state->public, s->n);
	for (int i = 0; i < state->degree; i++) {
		char name[40];

		snprintf(name, sizeof(name), "copy.%d", state->distance[i]);
		v->vector(v, name, s->device, state->copy[i], s->n);
	}
}

static double choco_bytes(const struct sync *s, int workers)
{
	double bytes = 0;

	for (int i = 0; i < s->pieces; i++)
		bytes += (double)s->compress.ops->wire(&s->compress, s->piece[i].n, false);
	return neighbours(s->state, workers, NULL) * bytes;
}

static double choco_cost(const struct sync *s, const struct cost_model *m)
{
	const struct choco *state = s->state;
	double compute = m->forward + m->backward;
	double comm = 0;

	for (int d = 1; d < m->workers; d++)
		for (int i = 0; i < s->pieces && gossip_leads_to(&state->graph, m->workers, d); i++)
			comm += cost_step(m, cost_across_ring(m, d), (double)s->compress.ops->wire(&s->compress, s->piece[i].n, false));
	if (!state->overlap)
		return compute + comm;
	return compute > comm ? compute : comm;
}

static void choco_release(struct sync *s)
{
	struct choco *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;
	void *const all[] = { state->public, state->news, state->mine, state->arrived };

	gossip_close(&state->graph);
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		mem->free(s->device, all[i]);
	for (int i = 0; i < state->degree; i++)
		mem->free(s->device, state->copy[i]);
	free(state->copy);
	free(state->distance);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_choco;
const struct sync_ops sync_choco = {
	.name = "choco",
	.paper = "CHOCO-SGD, compressed gossip: Koloskova et al., ICML 2019, arXiv 1902.00340",
	.topology = "gossip",
	.options = choco_options,
	.state_size = sizeof(struct choco),
	.init = choco_init,
	.bind = choco_bind,
	.step = choco_step,
	.consensus = sync_mean_model,
	.state = choco_state,
	.bytes = choco_bytes,
	.cost = choco_cost,
	.release = choco_release,
};
