/*
 * SSP: stale synchronous parallel. Workers push their updates to parameter servers and go on; nobody may be more than s steps
 * ahead of the slowest.
 *
 * Paper: Ho et al., "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server", NeurIPS 2013. A read at
 * clock c sees all updates with clocks up to c - s - 1, all of the worker's own, and whatever else has come.
 *
 *     at clock c = 0, 1, …, worker i:     y_i, v_i = optimizer(x_i, v_i, g_i);  u_i = y_i - x_i
 *                                         push w_i u_i: the servers add it to z;  c += 1
 *                                         read:  wait until the slowest worker's clock is >= c - s;  x_i = x_0 + z
 *
 *     compute   | forward, backward, update |     wait     | forward, backward, update | wait …
 *     comm                                  | push | read  |                           | push | the slowest is too far behind …
 *
 * Weights w_i = M_i / sum(M). With s = 0 every read sees exactly the updates of all clocks before, z = z + sum_i w_i u_i; the
 * servers then add them in the order of the ranks, so that a run repeats to the bit. For plain, momentum and Nesterov SGD, whose
 * updates are linear in the gradients, that is S-SGD up to rounding: sum_i w_i v_i = v. AdamW is not linear, so there it is
 * another algorithm. With s > 0 they add as updates come, and write down in which order.
 *
 * read_every = r: one read serves r steps; between reads x_i = x_i + w_i u_i (a worker sees its own updates), and pushes hide
 * behind the next step. The paper's cache asks for another copy when the one it has is too old. Here the schedule is fixed
 * instead, and a read waits until the slowest is at >= c + (r - 1) - s, so that the copy is not too old at its last use either.
 * That needs r <= s + 1; with r = s + 1 all workers wait for one another every r steps.
 *
 * Momentum stays on the worker. Batch-norm statistics are averaged for evaluation only. At an evaluation all workers have done
 * the same number of steps, and the servers answer when they have all updates: the consensus is x_0 + z, and nobody's x_i
 * changes.
 *
 * Limits: with r = 1 push and read are exposed in full; what is saved is waiting for stragglers. An update is old by the time it
 * is added, and with s steps of it the learning rate must be lower. Compressors average over all workers at once: refused.
 */
#include "../../core/config.h"
#include "../../core/die.h"
#include "../topology/ps.h"
#include "ssp.h"

static const struct option ssp_options[] = {
	{ "staleness", OPTION_INT, "3", 0, 1000000, NULL, "s: steps that a worker may be ahead of the slowest; 0: none, as ssgd" },
	{ "read_every", OPTION_INT, "1", 1, 1000000, NULL, "steps between two reads of the model, at most staleness + 1" },
	{ 0 },
};

static int ssp_init(struct sync *s, const struct config *config)
{
	struct ssp *state = s->state;

	state->staleness = config_int(config, "sync.staleness");
	state->read_every = config_int(config, "sync.read_every");
	if (state->read_every <= state->staleness + 1)
		return 0;
	error("sync.read_every = %lld (%s): the last of these steps would see a model older than sync.staleness = %lld allows",
	      (long long)state->read_every, config_origin(config, "sync.read_every"), (long long)state->staleness);
	return hint("read every %lld steps or more often, or set sync.staleness = %lld", (long long)state->staleness + 1,
	            (long long)state->read_every - 1);
}

void ssp_bind(struct sync *s)
{
	struct ssp *state = s->state;

	state->start = sync_vector(s);
	state->update = sync_vector(s);
	state->ticket = s->device->ops->mem->alloc_host(s->device, sizeof(*state->ticket));
	state->done = s->device->ops->stream->event_open(s->device);
	s->device->ops->mem->copy(s->compute, state->start, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* x = x_0 + z; x may be z. */
static void place(struct sync *s, const float *z, float *x)
{
	const struct ssp *state = s->state;

	if (x != z)
		s->device->ops->mem->copy(s->compute, x, z, (size_t)s->n * sizeof(float), COPY_DEVICE);
	s->device->ops->vec->axpby(s->compute, s->n, 1, state->start, 1, x);
}

void ssp_step(struct sync *s, int64_t t)
{
	struct ssp *state = s->state;
	const struct device_ops *dev = s->device->ops;
	float weight = (float)s->weight[s->comm->rank];
	bool read = (t + 1) % state->read_every == 0;
	struct ps_step step = {
		.clock = state->clock,
		.ordered = state->staleness == 0,
		.uses = read ? (int)state->read_every : 0,
		.least = state->staleness < 0 ? 0 : state->clock + state->read_every - state->staleness,
		.until = state->until,
		.batch = s->batch,
		.ticket = state->ticket,
	};

	state->clock++;
	dev->stream->wait(s->compute, state->done);     /* the last push has left */
	dev->mem->copy(s->compute, state->update, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
	sync_optimize(s);
	dev->vec->diff(s->compute, s->n, s->x, state->update, state->update);
	if (!read)
		dev->vec->axpby(s->compute, s->n, weight - 1, state->update, 1, s->x);
	dev->vec->scale(s->compute, s->n, weight, state->update, state->update);
	sync_phase(s, read ? "push and read" : "push");
	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, read ? "push and read" : "push", "clock", step.clock);
	comm_delay(s->comm);
	ps_push(s->comm, state->update, s->n, &step);
	comm_mark(s->comm, state->done);
	trace_end(s->comm->stream);
	if (!read)
		return;
	dev->stream->wait(s->compute, state->done);
	place(s, state->update, s->x);
	state->asked = state->until > 0;
}

void ssp_consensus(struct sync *s, float *out)
{
	comm_fork(s->comm, s->compute);
	ps_total(s->comm, out, s->n);
	comm_mark(s->comm, s->comm->forked);
	s->device->ops->stream->wait(s->compute, s->comm->forked);
	place(s, out, out);
}

void ssp_take_ticket(struct sync *s)
{
	struct ssp *state = s->state;

	if (!state->asked)
		return;
	s->device->ops->stream->sync(s->comm->stream);
	state->asked = false;
	state->left = state->ticket->steps;
	state->samples = state->ticket->from;
}

/* What the servers hold, into `update`; and how many samples they have given tickets for. Behind the round nobody takes any more. */
static void fetch(struct sync *s)
{
	struct ssp *state = s->state;

	ssp_take_ticket(s);
	s->device->ops->stream->wait(s->compute, state->done);
	comm_fork(s->comm, s->compute);
	ps_total(s->comm, state->update, s->n);
	if (state->until)
		ps_ticket(s->comm, 0, s->batch, state->until, state->ticket);
	comm_mark(s->comm, state->done);
	s->device->ops->stream->wait(s->compute, state->done);
	s->device->ops->stream->sync(s->comm->stream);
	state->taken = state->until ? state->ticket->from : 0;
}

static void put_back(struct sync *s)
{
	struct ssp *state = s->state;

	comm_fork(s->comm, s->compute);
	ps_load(s->comm, state->update, s->n, state->clock, state->taken);
	comm_mark(s->comm, state->done);
	s->device->ops->stream->wait(s->compute, state->done);
}

/* The servers' state travels with the workers': each names all of it, and gives it back together with the others. */
void ssp_state(struct sync *s, struct state_visitor *v)
{
	struct ssp *state = s->state;

	if (!v->loads)
		fetch(s);
	v->vector(v, "reference", s->device, state->start, s->n);
	v->vector(v, "updates", s->device, state->update, s->n);
	v->number(v, "clock", &state->clock);
	v->number(v, "samples taken", &state->taken);
	v->number(v, "samples", &state->samples);
	v->number(v, "steps left", &state->left);
	if (v->loads)
		put_back(s);
}

double ssp_bytes(const struct sync *s, int workers)
{
	(void)workers;
	return ps_bytes(s->n, s->comm->servers);
}

double ssp_cost(const struct sync *s, const struct cost_model *m)
{
	const struct ssp *state = s->state;
	double bytes = 4.0 * (double)m->n;

	return m->forward + m->backward + ps_cost(m, bytes, bytes / (double)state->read_every, s->comm->servers);
}

void ssp_release(struct sync *s)
{
	struct ssp *state = s->state;

	s->device->ops->mem->free(s->device, state->start);
	s->device->ops->mem->free(s->device, state->update);
	s->device->ops->mem->free_host(s->device, state->ticket);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_ssp;
const struct sync_ops sync_ssp = {
	.name = "ssp",
	.paper = "stale synchronous parallel: Ho et al., NeurIPS 2013",
	.topology = "ps",
	.options = ssp_options,
	.state_size = sizeof(struct ssp),
	.init = ssp_init,
	.bind = ssp_bind,
	.step = ssp_step,
	.consensus = ssp_consensus,
	.state = ssp_state,
	.bytes = ssp_bytes,
	.cost = ssp_cost,
	.release = ssp_release,
};
