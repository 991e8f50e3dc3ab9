/*
 * AD-PSGD: asynchronous decentralised SGD. Each worker takes steps at its own pace; beside them, pairs of workers average their models.
 *
 * Paper: Lian, Zhang, Zhang, Liu, "Asynchronous Decentralized Parallel Stochastic Gradient Descent", ICML 2018.
 *
 *     the paper:  x_i = x_i - lr g_i(an earlier x_i);   and, at any time, a pair at random:  x_i, x_j = (x_i + x_j) / 2
 *     here, w_i = M_i / sum(M):
 *     each own step:   x_i, v_i = optimizer(x_i, v_i, g_i)
 *     then, if no exchange is in flight:  snapshot_i = x_i;  exchange snapshots with the partner of the next round
 *     or, if the one in flight is over:   x_i = x_i + w_j / (w_i + w_j) (snapshot_j - snapshot_i);  then the next round
 *
 *     worker 0   compute   | step | step | step | step, merge | step | step, merge | step | …
 *                comm             |  pair with 1, who is slow |  pair with 2 |
 *     worker 1   compute   | step              | step               | step, merge  | …
 *                comm                          |  pair with 0 |             …
 *
 * Who is paired with whom in round r is drawn from a seed that all share (topology/gossip.h), a perfect matching: nobody need ask.
 * Everybody takes the rounds in order, one at a time, so that nobody waits in a circle: whoever the lowest unfinished round lacks has
 * only finished ones before it, and gets there step by step. And meanwhile nobody stands still.
 *
 * The paper averages in one instant what both have then. Here a snapshot is a step old or more when it is merged, and own steps since
 * are kept, as in CoCoD-SGD: with u_i what x_i moved meanwhile, x_i = average(snapshots) + u_i for equal batches. In the paper's terms
 * the average happened when the snapshots were taken, and the gradients of the steps since were of an earlier model: the staleness that
 * its analysis allows. The two movements, times w, are opposite: sum_i w_i x_i moves by gradients only.
 *
 * Evaluation, saving and the end: all agree on the highest round that anybody launched, launch and merge up to there, and then nothing
 * is in flight. That changes when models meet, not what their mean is. What is sent there counts as training's; the time it takes,
 * most of it waiting for the slowest, does not: comm is that of the exchanges beside steps.
 *
 * Who is faster takes more steps: what is planned between two evaluations is a number of samples, and the workers tell one another how
 * many they have processed (tally.h, which says how far they overshoot). Learning rate and epochs follow what a worker knows of all.
 *
 * When an exchange is over is a matter of time: runs are not repeatable. What was decided goes to the log of decisions, the own
 * steps taken when round r was launched and merged, and what was heard of all samples; with all workers' logs a run can be replayed
 * step by step.
 *
 * A device that runs behind the host would take its decisions early, so there the host waits for it after each step.
 *
 * Limits: all take part in the same rounds: a slow worker does not slow the others' steps, but it makes their exchanges fewer, and by
 * them it pulls the average towards its own model, which has moved less. bytes() is an upper bound, and cost() knows of no slow
 * worker. No compressor: there is no reference that all workers hold.
 */
#include "../../core/config.h"
#include "../../core/die.h"
#include "../topology/gossip.h"
#include "sync.h"
#include "tally.h"

struct adpsgd {
	struct gossip graph;
	struct tally tally;
	int64_t round;                  /* the next one to launch */
	int64_t steps;                  /* own, so far */
	int partner;                    /* of the exchange in flight; -1: none is */
	float *snapshot, *arrived;
	struct event *done;
};

static int adpsgd_init(struct sync *s, const struct config *config)
{
	struct adpsgd *state = s->state;

	gossip_init(&state->graph, config, GOSSIP_RANDOM);
	if (!gossip_is_pairs(&state->graph)) {
		error("sync.algorithm = \"adpsgd\" (%s) averages pairs, but topology.graph = \"%s\" (%s) has none",
		      config_origin(config, "sync.algorithm"), gossip_name(&state->graph), config_origin(config, "topology.graph"));
		return hint("leave topology.graph out, or set it to \"random\" or \"shuffle-exchange\"");
	}
	return sync_dense_only(s, config, "pairs exchange whole models, since no reference is the same on all");
}

static void adpsgd_bind(struct sync *s)
{
	struct adpsgd *state = s->state;

	CHECK(s->comm->control || s->comm->size == 1);  /* to agree on a round while an exchange is in flight */
	gossip_open(&state->graph, s->comm->size);
	tally_open(&state->tally, s->comm->size > 1 ? s->comm->control : NULL, (double)(s->batch_total - s->batch) / (double)s->batch);
	state->partner = -1;
	state->snapshot = sync_vector(s);
	state->arrived = sync_vector(s);
	state->done = s->device->ops->stream->event_open(s->device);
	gossip_meet(&state->graph, s->comm, s->compute, state->arrived);
}

static void launch(struct sync *s)
{
	struct adpsgd *state = s->state;
	int64_t bytes = s->n * (int64_t)sizeof(float);

	state->partner = gossip_peers(&state->graph, s->comm->rank, state->round).to;
	if (state->partner >= 0) {
		sync_phase(s, "snapshot");
		s->device->ops->mem->copy(s->compute, state->snapshot, s->x, (size_t)bytes, COPY_DEVICE);
		comm_fork(s->comm, s->compute);
		trace_begin(s->comm->stream, "meet", "partner", state->partner);
		comm_delay(s->comm);
		comm_exchange(s->comm, state->partner, state->snapshot, bytes, state->partner, state->arrived, bytes);
		comm_mark(s->comm, state->done);
		trace_end(s->comm->stream);
		sync_log(s, state->steps, "launch", state->round, "with %d", state->partner);
	}
	state->round++;
}

static void merge(struct sync *s)
{
	struct adpsgd *state = s->state;
	const struct device_ops *dev = s->device->ops;
	double own = s->weight[s->comm->rank], other = s->weight[state->partner];

	sync_phase(s, "mix with the partner");
	dev->stream->wait(s->compute, state->done);
	dev->vec->diff(s->compute, s->n, state->arrived, state->snapshot, state->arrived);
	dev->vec->axpby(s->compute, s->n, (float)(other / (own + other)), state->arrived, 1, s->x);
	state->partner = -1;
	sync_log(s, state->steps, "merge", state->round - 1, "arrived");
}

static int64_t adpsgd_claim(struct sync *s, int64_t until)
{
	struct adpsgd *state = s->state;
	int64_t rounds = state->tally.rounds, samples = tally_claim(&state->tally, until);

	if (state->tally.rounds > rounds)
		sync_log(s, state->steps, "samples", samples, "heard of all");
	return samples;
}

static void adpsgd_step(struct sync *s, int64_t t)
{
	struct adpsgd *state = s->state;
	const struct stream_ops *stream = s->device->ops->stream;

	sync_optimize(s);
	state->steps = t + 1;
	state->tally.own += s->batch;
	if (!stream->progress)
		stream->sync(s->compute);
	if (state->partner >= 0 && stream->done(state->done))
		merge(s);
	if (state->partner < 0)
		launch(s);
}

/* All ranks together: afterwards nothing is in flight. The host waits, on the communicator that has nothing else to do. */
static void adpsgd_settle(struct sync *s)
{
	struct adpsgd *state = s->state;
	double last = (double)state->round;

	if (s->comm->size > 1)
		comm_host_reduce(s->comm->control, &last, 1, REDUCE_MAX);
	for (;;) {
		if (state->partner >= 0)
			merge(s);
		if (state->round >= (int64_t)last)
			return;
		launch(s);
	}
}

static void adpsgd_consensus(struct sync *s, float *out)
{
	adpsgd_settle(s);
	sync_mean_model(s, out);
}

static void adpsgd_state(struct sync *s, struct state_visitor *v)
{
	struct adpsgd *state = s->state;

	v->number(v, "round", &state->round);
	v->number(v, "samples", &state->tally.own);
}

/* At most: an exchange after each step. */
static double adpsgd_bytes(const struct sync *s, int workers)
{
	const struct adpsgd *state = s->state;

	return gossip_messages(&state->graph, workers, true) * (double)s->n * sizeof(float);
}

/* Steps wait for nobody. */
static double adpsgd_cost(const struct sync *s, const struct cost_model *m)
{
	(void)s;
	return m->forward + m->backward;
}

static void adpsgd_release(struct sync *s)
{
	struct adpsgd *state = s->state;

	gossip_close(&state->graph);
	tally_close(&state->tally);
	s->device->ops->mem->free(s->device, state->snapshot);
	s->device->ops->mem->free(s->device, state->arrived);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_adpsgd;
const struct sync_ops sync_adpsgd = {
	.name = "adpsgd",
	.paper = "AD-PSGD: Lian et al., ICML 2018, arXiv 1710.06952",
	.topology = "gossip",
	.state_size = sizeof(struct adpsgd),
	.init = adpsgd_init,
	.bind = adpsgd_bind,
	.claim = adpsgd_claim,
	.step = adpsgd_step,
	.settle = adpsgd_settle,
	.consensus = adpsgd_consensus,
	.state = adpsgd_state,
	.bytes = adpsgd_bytes,
	.cost = adpsgd_cost,
	.release = adpsgd_release,
};
