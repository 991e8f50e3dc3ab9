/*
 * CoCoD-SGD with a period that follows the clock: just as many local steps as one averaging takes.
 *
 * Our own; the rule of training is cocod.c's (Shen et al., IJCAI 2019), the period k of its rounds is measured:
 *
 *     k = the smallest with  k steps of computing >= one exchange,   from period_min to period_max
 *
 * A shorter period exposes communication, a longer one lets workers drift for nothing. The first rounds have period_min.
 *
 *     compute   | k steps | merge, snap | k steps      | merge, snap | k' steps           | …
 *     comm                | figures, average 1 |       | average 2           |
 *     host                measures                     decides k'
 *
 * What is measured, over `every` rounds: seconds a step computes, which is wall time less what the compute stream waited for communication
 * (waited()); seconds an exchange keeps the communication stream busy (busy()). The host takes them where the merge is queued.
 *
 * With cluster.clock = "virtual" all this is asked of the virtual clock: the periods are those of the modelled cluster, the same in every run.
 *
 * All ranks must take the same period. Their figures, two numbers each, travel in front of the next average; a round later all ranks
 * hold the same, and decide the same: by the slowest computer (max), and by the shortest exchange, since whoever comes first to an
 * exchange also measures how long it waits for the last.
 *
 * At both ends the host waits for the communication stream, which the compute stream has just been told to wait for as well. On a
 * CPU that has happened already. On a GPU the host gives up its lead, twice in `every` rounds: if the exchange is hidden, steps are still
 * queued behind it and nothing stands still; if it is not, the GPU waits with the host. There, this wait is also what makes the
 * host's clock the GPU's.
 *
 * An evaluation or a checkpoint is not training: what it takes, from consensus() or state() to the next begin(), is left out of the
 * window in which it falls. So is the average of the momentum (sync.momentum), which is waited for, and which no period hides.
 *
 * Decisions go to the decision log: the step from which it holds, the period, the figures. periods = [ … ] takes the log's periods in
 * their order and measures nothing: with the same `every`, that is the same run again, to the bit.
 *
 * Limits: those of CoCoD-SGD. The period may change the result of a run, and a measured one is not known beforehand. An exchange
 * that computing slows down is measured as slow as it is.
 */
#include <math.h>
#include <stdio.h>

#include "../../core/clock.h"
#include "../../core/config.h"
#include "../../core/die.h"
#include "../../core/timeline.h"
#include "sync.h"

enum { PERIODS = 4096 };

/* What a rank knows: negative if it has measured nothing. */
struct figures {
	double step, exchange;          /* seconds */
};

/* Where the clocks stood. */
struct clocks {
	double wall, waited, busy;
};

/* Begins at step t; what is not to be measured moves `since` on. */
struct window {
	struct clocks since;
	int64_t t;
	bool open;
};

struct adaptive {
	int64_t least, most, every;
	int64_t period, end;            /* of the round under way; the step behind its last */
	int64_t rounds;                 /* that have ended */
	int64_t decided;                /* decisions so far, the first period is one */
	int64_t replay[PERIODS];
	int replays;                    /* 0: it measures */
	struct window window;
	struct clocks pause;            /* training was interrupted here, if `paused` */
	bool paused;
	struct figures *sent, *agreed;  /* one a rank: on the device; the same on the host */
	float *z, *d, *average;
	struct event *done;
};

static const struct option adaptive_options[] = {
	{ "period_min", OPTION_INT, "1", 1, 1000000, NULL, "shortest period, and the first one" },
	{ "period_max", OPTION_INT, "64", 1, 1000000, NULL, "longest period" },
	{ "every", OPTION_INT, "4", 1, 1000000, NULL, "rounds between two decisions" },
	{ "periods", OPTION_INT | OPTION_LIST, "[]", 1, 1000000, NULL, "replays the periods of a decision log instead of measuring" },
	{ 0 },
};

static int adaptive_init(struct sync *s, const struct config *config)
{
	struct adaptive *state = s->state;
	double list[PERIODS];

	state->least = config_int(config, "sync.period_min");
	state->most = config_int(config, "sync.period_max");
	state->every = config_int(config, "sync.every");
	if (state->least > state->most) {
		error("%s: sync.period_min is %lld, and period_max %lld", config_origin(config, "sync.period_min"), (long long)state->least,
		      (long long)state->most);
		return hint("the period is chosen between the two");
	}
	state->replays = config_list(config, "sync.periods", list, PERIODS);
	if (state->replays > PERIODS) {
		error("%s: sync.periods has %d entries, and %d is the most", config_origin(config, "sync.periods"), state->replays, PERIODS);
		return hint("behind the last entry its period goes on");
	}
	for (int i = 0; i < state->replays; i++)
		state->replay[i] = (int64_t)list[i];
	state->period = state->end = state->replays ? state->replay[0] : state->least;
	s->alone = 2 * state->period;
	return 0;
}

static void adaptive_bind(struct sync *s)
{
	struct adaptive *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;

	state->z = sync_vector(s);
	state->d = sync_vector(s);
	state->average = sync_vector(s);
	state->sent = mem->alloc(s->device, (size_t)s->comm->size * sizeof(struct figures));
	state->agreed = mem->alloc_host(s->device, (size_t)s->comm->size * sizeof(struct figures));
	state->done = s->device->ops->stream->event_open(s->device);
	mem->copy(s->compute, state->z, s->x, (size_t)s->n * sizeof(float), COPY_DEVICE);
}

/* ---- measuring ---- */

static struct clocks clocks_now(const struct sync *s)
{
	const struct stream_ops *stream = s->device->ops->stream;
	struct timeline_account compute = timeline_account(s->compute), comm = timeline_account(s->comm->stream);

	if (timeline_watches(s->compute))
		return (struct clocks){ compute.now, compute.waited, comm.busy };
	return (struct clocks){ clock_now(), stream->waited(s->compute), stream->busy(s->comm->stream) };
}

static void open_window(struct sync *s, int64_t t)
{
	struct adaptive *state = s->state;

	state->window = (struct window){ clocks_now(s), t, true };
}

/* Somebody else takes over, until begin(). An exchange on its way comes to its end first: it is training's. */
static void pause_window(struct sync *s)
{
	struct adaptive *state = s->state;
	const struct stream_ops *stream = s->device->ops->stream;

	if (state->paused || state->replays || !state->window.open)
		return;
	stream->sync(s->compute);
	state->pause = clocks_now(s);
	stream->sync(s->comm->stream);
	state->pause.busy = clocks_now(s).busy;
	state->paused = true;
}

static void adaptive_begin(struct sync *s, int64_t t)
{
	struct adaptive *state = s->state;
	struct clocks *since = &state->window.since, now;

	(void)t;
	if (!state->paused)
		return;
	s->device->ops->stream->sync(s->compute);
	s->device->ops->stream->sync(s->comm->stream);
	now = clocks_now(s);
	since->wall += now.wall - state->pause.wall;
	since->waited += now.waited - state->pause.waited;
	since->busy += now.busy - state->pause.busy;
	state->paused = false;
}

/* As sync_merged(), but the averages of momentum are left out of the window. The host waits for them as the compute stream does. */
static void merged(struct sync *s)
{
	struct adaptive *state = s->state;
	const struct stream_ops *stream = s->device->ops->stream;
	bool apart = s->momentum == MOMENTUM_AVERAGE && state->replays == 0;

	if (apart) {
		stream->sync(s->comm->stream);
		state->window.since.busy -= clocks_now(s).busy;
	}
	sync_merged(s);
	if (apart) {
		stream->sync(s->comm->stream);
		state->window.since.busy += clocks_now(s).busy;
	}
}

/* Ends the window at step t and opens the next. Queues our figures to all ranks, in front of the average that is launched next. */
static void send_figures(struct sync *s, int64_t t)
{
	struct adaptive *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;
	const struct clocks *now = &state->window.since;
	struct window last = state->window;
	struct figures mine = { -1, -1 };

	open_window(s, t);
	if (last.open) {
		mine.step = (now->wall - last.since.wall - (now->waited - last.since.waited)) / (double)(t - last.t);
		mine.exchange = (now->busy - last.since.busy) / (double)state->every;
	}
	comm_fork(s->comm, s->compute);
	mem->set(s->comm->stream, &state->sent[s->comm->rank], &mine, sizeof(mine));
	comm_allgather(s->comm, state->sent, sizeof(mine));
	mem->copy(s->comm->stream, state->agreed, state->sent, (size_t)s->comm->size * sizeof(mine), COPY_TO_HOST);
}

static struct figures agree(const struct sync *s)
{
	const struct adaptive *state = s->state;
	struct figures all = state->agreed[0];

	for (int r = 1; r < s->comm->size; r++) {
		all.step = fmax(all.step, state->agreed[r].step);
		all.exchange = fmin(all.exchange, state->agreed[r].exchange);
	}
	return all;
}

/* All ranks come to the same: they hold the same figures. */
static void decide(struct sync *s, int64_t t)
{
	struct adaptive *state = s->state;
	struct figures all;
	double period;

	if (state->replays) {
		if (state->decided < state->replays)
			state->period = state->replay[state->decided];
		state->decided++;
		sync_log(s, t, "period", state->period, "replayed");
		return;
	}
	state->decided++;
	all = agree(s);
	if (!(all.step > 0 && all.exchange >= 0)) {
		sync_log(s, t, "period", state->period, "kept: nothing was measured");
		return;
	}
	period = ceil(all.exchange / all.step);
	state->period = period < (double)state->least ? state->least : period > (double)state->most ? state->most : (int64_t)period;
	sync_log(s, t, "period", state->period, "exchange %.3f ms / step %.3f ms", 1e3 * all.exchange, 1e3 * all.step);
}

/* Windows begin with the first exchange: before, pages are touched and kernels chosen. They are `every` exchanges long; the
 * decision comes a round behind the end. */
static bool sends(const struct adaptive *state) { return state->rounds > 1 && (state->rounds - 1) % state->every == 0; }
static bool decides(const struct adaptive *state) { return state->rounds > 2 && (state->rounds - 2) % state->every == 0; }

/* ---- training ---- */

static void end_round(struct sync *s, int64_t t)
{
	struct adaptive *state = s->state;
	const struct device_ops *dev = s->device->ops;
	bool measures = state->replays == 0;

	sync_phase(s, state->rounds ? "merge and snapshot" : "snapshot");
	if (++state->rounds == 1) {
		dev->vec->diff(s->compute, s->n, s->x, state->z, state->d);
	} else {
		dev->stream->wait(s->compute, state->done);
		if (measures && (sends(state) || decides(state)))
			dev->stream->sync(s->comm->stream);
		dev->vec->merge(s->compute, s->n, state->average, s->x, state->z, state->d);
	}
	if (decides(state))
		decide(s, t);
	if (measures && state->rounds == 1)
		open_window(s, t);
	if (measures && sends(state))
		send_figures(s, t);
	if (state->rounds > 1)
		merged(s);
	sync_average(s, state->d, state->average, state->done);
	state->end = t + state->period;
}

static void adaptive_step(struct sync *s, int64_t t)
{
	struct adaptive *state = s->state;

	if (state->decided == 0) {
		state->decided++;
		sync_log(s, t, "period", state->period, "start");
	}
	sync_optimize(s);
	if (t + 1 == state->end)
		end_round(s, t + 1);
}

static void adaptive_consensus(struct sync *s, float *out)
{
	pause_window(s);
	sync_mean_model(s, out);
}

/* What the next decision will go by: on the host once the exchange behind it has come. */
static void visit_figures(struct sync *s, struct state_visitor *v)
{
	struct adaptive *state = s->state;

	s->device->ops->stream->sync(s->comm->stream);
	for (int r = 0; r < s->comm->size; r++) {
		double *value[2] = { &state->agreed[r].step, &state->agreed[r].exchange };

		for (int i = 0; i < 2; i++) {
			union state_real real = { .value = *value[i] };
			char name[40];

			snprintf(name, sizeof(name), "%s of rank %d", i ? "exchange" : "step", r);
			v->number(v, name, &real.bits);
			*value[i] = real.value;
		}
	}
}

/* The exchange in flight is state, too, and the figures on their way. The window is not: the first one of a resumed run measures
 * nothing. */
static void adaptive_state(struct sync *s, struct state_visitor *v)
{
	struct adaptive *state = s->state;

	pause_window(s);
	s->device->ops->stream->wait(s->compute, state->done);
	v->vector(v, "reference", s->device, state->z, s->n);
	v->vector(v, "sent", s->device, state->d, s->n);
	v->vector(v, "average", s->device, state->average, s->n);
	v->number(v, "period", &state->period);
	v->number(v, "round_end", &state->end);
	v->number(v, "rounds", &state->rounds);
	v->number(v, "decided", &state->decided);
	visit_figures(s, v);
}

/* With the period under way; our figures are 16 bytes to each rank. */
static double adaptive_bytes(const struct sync *s, int workers)
{
	const struct adaptive *state = s->state;
	double figures = state->replays ? 0 : (double)(workers - 1) * sizeof(struct figures) / (double)state->every;

	return (sync_merge_bytes(s, workers) + figures) / (double)state->period;
}

/* With the period that such a machine would lead to. */
static double adaptive_cost(const struct sync *s, const struct cost_model *m)
{
	const struct adaptive *state = s->state;
	double compute = m->forward + m->backward, comm = sync_average_cost(s, m), period = ceil(comm / compute);

	period = fmin(fmax(period, (double)state->least), (double)state->most);
	return fmax(compute, comm / period) + sync_merged_cost(s, m) / period;
}

static void adaptive_release(struct sync *s)
{
	struct adaptive *state = s->state;
	const struct mem_ops *mem = s->device->ops->mem;

	mem->free(s->device, state->z);
	mem->free(s->device, state->d);
	mem->free(s->device, state->average);
	mem->free(s->device, state->sent);
	mem->free_host(s->device, state->agreed);
	s->device->ops->stream->event_close(state->done);
}

extern const struct sync_ops sync_adaptive;
const struct sync_ops sync_adaptive = {
	.name = "adaptive",
	.paper = "CoCoD-SGD with a measured period; the rule: Shen et al., IJCAI 2019, arXiv 1906.12043",
	.options = adaptive_options,
	.averages_models = true,
	.state_size = sizeof(struct adaptive),
	.init = adaptive_init,
	.bind = adaptive_bind,
	.begin = adaptive_begin,
	.step = adaptive_step,
	.consensus = adaptive_consensus,
	.state = adaptive_state,
	.bytes = adaptive_bytes,
	.cost = adaptive_cost,
	.release = adaptive_release,
};
