/*
 * ASP: asynchronous SGD on parameter servers. Workers push and read whenever they are ready, and never wait for one another.
 *
 * Paper: Dean et al., "Large Scale Distributed Deep Networks", NeurIPS 2012 (Downpour SGD, n_push = 1, n_fetch = read_every).
 *
 *     worker i, as fast as it can:    y_i, v_i = optimizer(x_i, v_i, g_i);  push w_i (y_i - x_i), which is added to z;  x_i = x_0 + z
 *
 *     worker 0, compute   | step |wait| step |wait| step |wait| step |        a push and a read each time, however far behind
 *     worker 1, compute   | step … … … … … … |wait| step … … … …              the others are
 *
 * SSP without a bound (ssp.c, which has all of it). The paper's servers run the optimizer; here the worker does, with its own
 * momentum, so that all optimizers work, and an update is what one worker's share of a synchronous step would be: w_i of it.
 *
 * Who is faster takes more steps: what is planned between two evaluations is a number of samples, and a server gives out tickets for
 * them, as many steps to each worker as its next read serves, together with the read before. The last step may end behind the plan, by
 * less than its batch, and the fast wait for the steps that others still hold tickets for. Learning rate and epochs follow the tickets.
 *
 * Limits: nothing bounds how old a model is when its update is added. To know whether it may go on, the host waits for each read: a GPU
 * loses its lead there.
 */
#include "../../core/config.h"
#include "ssp.h"

static const struct option asp_options[] = {
	{ "read_every", OPTION_INT, "1", 1, 1000000, NULL, "steps between two reads of the model" },
	{ 0 },
};

static int asp_init(struct sync *s, const struct config *config)
{
	struct ssp *state = s->state;

	state->staleness = -1;
	state->read_every = config_int(config, "sync.read_every");
	return 0;
}

/* Tickets end where a read does, so there is never more than one. */
static int64_t asp_claim(struct sync *s, int64_t until)
{
	struct ssp *state = s->state;

	state->until = until;
	if (state->left == 0 && !state->asked) {
		ps_ticket(s->comm, (int)(state->read_every - state->clock % state->read_every), s->batch, until, state->ticket);
		state->asked = true;
	}
	ssp_take_ticket(s);
	if (state->left == 0)
		return state->samples;
	state->left--;
	state->samples += s->batch;
	return state->samples - s->batch;
}

extern const struct sync_ops sync_asp;
const struct sync_ops sync_asp = {
	.name = "asp",
	.paper = "asynchronous SGD: Dean et al., NeurIPS 2012 (Downpour)",
	.topology = "ps",
	.options = asp_options,
	.state_size = sizeof(struct ssp),
	.init = asp_init,
	.bind = ssp_bind,
	.claim = asp_claim,
	.step = ssp_step,
	.consensus = ssp_consensus,
	.state = ssp_state,
	.bytes = ssp_bytes,
	.cost = ssp_cost,
	.release = ssp_release,
};
