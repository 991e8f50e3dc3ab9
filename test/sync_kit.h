/*
 * Trains the oracle's problem with the real sync algorithms, compressors and schedules: an arena of a few made-up tensors, driven
 * through the interface of sync.h as the trainer does it. The gradient arena is poisoned with NaN before each step and becomes
 * final range by range, so that whoever reads a gradient too early shows it.
 */
#ifndef SYNC_KIT_H
#define SYNC_KIT_H

#include <string.h>
#include <time.h>

#include "../core/clock.h"
#include "kit_config.h"
#include "ranks.h"

/* ---- a device with its communicator: messages of the hook's go through pinned buffers, as those of a GPU do ---- */

struct kit {
	struct device *dev;
	struct stream *compute;
	struct comm *comm;
	const char *driver;
};

static inline struct kit kit_open_over(const struct comm_ops *transport, struct device *dev, bool staged, const char *driver)
{
	struct comm_config config = { .staged = staged, .timeout = 60 };
	struct kit k = { dev, dev->ops->stream->open(dev, STREAM_COMPUTE), NULL, driver };

	k.comm = comm_open_over(transport, &world, dev, verdicts, &config);
	return k;
}

/* On the CPU, or on $COCOD_TEST_DEVICE; over MPI (one rank alone: over itself). */
static inline struct kit kit_open(enum progress progress)
{
	const char *wish = getenv("COCOD_TEST_DEVICE");
	struct device *dev = open_device(wish ? wish : "cpu", progress);

	if (!dev)
		die(STATUS_FAILURE, "%s", errors_text());
	return kit_open_over(world.transport, dev, progress == PROGRESS_HOOK, progress == PROGRESS_HOOK ? "hook" : "thread");
}

/* The even ranks sit on one host, the odd ones on another. */
__attribute__((unused)) static inline void kit_two_hosts(struct kit *k)
{
	int host[ORACLE_WORKERS];

	for (int r = 0; r < k->comm->size; r++)
		host[r] = r % 2;
	comm_plan_allreduce(k->comm, "ring", host, &(struct cost_model){ 0 });
}

static inline void kit_close(struct kit *k)
{
	comm_close(k->comm);
	k->dev->ops->stream->close(k->compute);
	k->dev->ops->close(k->dev);
}

/* ---- training ---- */

struct reader {
	struct state_visitor visitor;
	struct kit *kit;
	struct course *trace;
	const float *x;
	float first[KIT_N];             /* x, if it is given, when the first vector was named */
	bool begun;
};

static inline void kit_read(struct kit *k, float *host, const float *from)
{
	k->dev->ops->mem->copy(k->compute, host, from, KIT_N * sizeof(float), COPY_TO_HOST);
	k->dev->ops->stream->sync(k->compute);
}

static inline void read_vector(struct state_visitor *v, const char *name, struct device *dev, float *data, int64_t n)
{
	struct reader *r = (struct reader *)v;

	CHECK(dev == r->kit->dev);
	if (r->x && !r->begun)
		kit_read(r->kit, r->first, r->x);
	r->begun = true;
	if (n == KIT_N)
		kit_read(r->kit, course_keep(r->trace, name), data);
}

static inline void read_number(struct state_visitor *v, const char *name, int64_t *value) { (void)v, (void)name, (void)value; }

static inline void kit_visit(struct kit *k, struct sync *s, struct course *trace)
{
	struct reader reader = { .visitor = { .vector = read_vector, .number = read_number }, .kit = k, .trace = trace, .x = s->x };
	float now[KIT_N];

	sync_state(s, &reader.visitor);
	kit_read(k, now, s->x);
	trace->late = trace->late || (reader.begun && memcmp(now, reader.first, sizeof(now)));
}

/* All that a run is told to keep, and its model, in host memory: saved at the end of one run, loaded into the next. */
struct snapshot {
	struct state_visitor visitor;
	struct kit *kit;
	char *name[64];
	float *vector[64];
	int64_t number[64];
	int at, entries;
	float x[KIT_N];
	bool same;                      /* names came in the same order */
};

static inline int snapshot_entry(struct snapshot *s, const char *name)
{
	CHECK(s->at < 64);
	if (!s->visitor.loads)
		s->name[s->at] = xstrdup(name);
	s->same = s->same && s->name[s->at] && !strcmp(s->name[s->at], name);
	return s->at++;
}

static inline void snapshot_vector(struct state_visitor *v, const char *name, struct device *dev, float *data, int64_t n)
{
	struct snapshot *s = (struct snapshot *)v;
	int i = snapshot_entry(s, name);
	const struct mem_ops *mem = dev->ops->mem;

	if (!s->visitor.loads)
		s->vector[i] = xcalloc((size_t)n, sizeof(float));
	mem->copy(s->kit->compute, s->visitor.loads ? data : s->vector[i], s->visitor.loads ? s->vector[i] : data, (size_t)n * sizeof(float),
	          s->visitor.loads ? COPY_TO_DEVICE : COPY_TO_HOST);
	dev->ops->stream->sync(s->kit->compute);
}

static inline void snapshot_number(struct state_visitor *v, const char *name, int64_t *value)
{
	struct snapshot *s = (struct snapshot *)v;
	int i = snapshot_entry(s, name);

	*(s->visitor.loads ? value : &s->number[i]) = *(s->visitor.loads ? &s->number[i] : value);
}

static inline void snapshot_move(struct snapshot *s, struct kit *k, struct sync *sync, bool loads)
{
	s->visitor = (struct state_visitor){ snapshot_vector, snapshot_number, loads };
	s->kit = k;
	s->at = 0;
	s->same = true;
	sync_state(sync, &s->visitor);
	if (loads)
		k->dev->ops->mem->copy(k->compute, sync->x, s->x, KIT_N * sizeof(float), COPY_TO_DEVICE);
	else
		kit_read(k, s->x, sync->x);
	k->dev->ops->stream->sync(k->compute);
	s->entries = s->at;
}

__attribute__((unused)) static inline void snapshot_free(struct snapshot *s)
{
	for (int i = 0; i < s->entries; i++) {
		free(s->name[i]);
		free(s->vector[i]);
	}
}

struct manner {
	int64_t from;                   /* the first step, behind `load` */
	struct snapshot *load, *save;   /* (optional) what the run begins with; where its end goes */
	int64_t steps;                  /* at most, where `until` says how many */
	const int64_t *until;           /* (optional) at the worker's own pace, to these numbers of samples (the last is 0), with a look at each */
	int64_t epoch_steps;            /* sync_epoch(t / epoch_steps) */
	bool look;                      /* calls consensus() after every third step, and the state visitor */
	bool lazy;                      /* the update of a step may come as late as the next forward: the trace has what that reads */
	double delay;
	const int *batch;
	const struct schedule_facts *facts;     /* (optional) that the schedule is told */
	double pace;                    /* seconds that this rank takes longer for each step */
	double gap;                     /* (optional) what is a close choice, instead of GAP */
	/* of decisions */
	void (*log)(void *context, int64_t t, const char *what, int64_t value, const char *why);
	void *log_context;
};

/* Forward of step t, which reads the arena from its end; now: as the oracle wants it. */
static inline void kit_forward(struct kit *k, struct sync *s, const struct manner *how, int64_t t, struct course *trace, double *now)
{
	float host[KIT_N];

	for (int i = KIT_TENSORS - 1; i >= 0; i--) {
		struct range r = kit_range(i);

		sync_param_needed(s, &r);
		k->dev->ops->mem->copy(k->compute, host + r.offset, s->x + r.offset, (size_t)r.n * sizeof(float), COPY_TO_HOST);
		if (k->dev->ops->stream->progress)
			k->dev->ops->stream->progress(k->dev);
	}
	k->dev->ops->stream->sync(k->compute);
	for (int64_t j = 0; j < KIT_N; j++)
		now[j] = host[j];
	if (how->lazy && t > how->from)
		memcpy(trace->x + (t - 1) * KIT_N, host, sizeof(host));
}

/* Is there a step t? At the end of a span all look at the consensus, as in an evaluation. */
static inline bool kit_goes_on(struct kit *k, struct sync *s, const struct manner *how, int64_t t, const int64_t **until, float *out,
                               struct course *trace)
{
	trace->taken = t;
	for (; how->until && **until; (*until)++) {
		trace->claimed = sync_claim(s, t, **until);
		if (trace->claimed < **until) {
			CHECK(t < how->steps);
			return true;
		}
		s->ops->consensus(s, out);
		kit_read(k, course_keep(trace, "consensus"), out);
	}
	return !how->until && t < how->steps;
}

static inline void kit_train(struct kit *k, const struct oracle_setup *p, const char *scope, const char *fusion, const struct manner *how,
                      struct course *trace)
{
	const struct mem_ops *mem = k->dev->ops->mem;
	float *x = mem->alloc(k->dev, KIT_N * sizeof(float)), *g = mem->alloc(k->dev, KIT_N * sizeof(float)),
	      *out = mem->alloc(k->dev, KIT_N * sizeof(float)), host[KIT_N];
	struct config *config = kit_config(p, scope, fusion);
	struct optimizer optimizer;
	struct sync sync;
	double now[KIT_N];
	const int64_t *span = how->until;
	int64_t before;

	for (int64_t j = 0; j < KIT_N; j++)
		host[j] = (float)problem_start(p, j);
	mem->copy(k->compute, x, host, sizeof(host), COPY_TO_DEVICE);
	optimizer_init(&optimizer, optimizer_find(p->adamw ? "adamw" : "sgd"), config);
	optimizer_bind(&optimizer, k->dev, KIT_N);
	CHECK(sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	if (how->facts)
		sync_refine(&sync, how->facts, k->comm->size);
	sync.log = how->log;
	sync.log_context = how->log_context;
	sync_bind(&sync, k->comm, k->compute, &optimizer, x, g, how->batch);
	k->comm->delay = how->delay;
	before = k->comm->bytes_sent;
	trace->rank = world.rank;
	trace->said = sync.ops->bytes(&sync, k->comm->size);
	if (how->load)
		snapshot_move(how->load, k, &sync, true);
	for (int64_t t = how->from; kit_goes_on(k, &sync, how, t, &span, out, trace); t++) {
		if (how->epoch_steps && t % how->epoch_steps == 0)
			sync_epoch(&sync, t / how->epoch_steps);
		sync.lr = problem_lr(p, t);
		sync_begin(&sync, t);
		kit_forward(k, &sync, how, t, trace, now);
		for (int64_t j = 0; j < KIT_N; j++)
			host[j] = NAN;
		mem->copy(k->compute, g, host, sizeof(host), COPY_TO_DEVICE);
		for (int i = 0; i < KIT_TENSORS; i++) {
			struct range r = kit_range(i);

			for (int64_t j = r.offset; j < r.offset + r.n; j++) {
				host[j] = (float)problem_gradient(p, world.rank, t, j, now);
				trace->moved[j] += sync.lr * host[j];
			}
			mem->copy(k->compute, g + r.offset, host + r.offset, (size_t)r.n * sizeof(float), COPY_TO_DEVICE);
			sync_grad_ready(&sync, &r);
			if (k->dev->ops->stream->progress)
				k->dev->ops->stream->progress(k->dev);
		}
		for (double until = clock_now() + how->pace; clock_now() < until; nanosleep(&(struct timespec){ 0, 100000 }, NULL))
			if (k->dev->ops->stream->progress)
				k->dev->ops->stream->progress(k->dev);
		trace->took[t] = -clock_now();
		sync_step(&sync, t);
		kit_read(k, host, x);
		trace->took[t] += clock_now();
		memcpy(trace->x + t * KIT_N, host, sizeof(host));
		if (how->look && t % 3 == 1) {
			sync.ops->consensus(&sync, out);
			kit_read(k, trace->consensus + t * KIT_N, out);
		}
		if (how->look && t % 5 == 3)
			kit_visit(k, &sync, trace);
	}
	if (how->save)
		snapshot_move(how->save, k, &sync, false);
	kit_visit(k, &sync, trace);
	/* What waits of a sum is worth as much as what waits of the owner's own, divided by its weight. */
	for (int64_t j = 0; p->compressor && j < KIT_N; j++)
		course_keep(trace, "residual")[j] += course_state(trace, "sum_residual")[j] / (float)p->weight[world.rank];
	kit_read(k, course_keep(trace, "model"), x);
	if (how->lazy && trace->taken > how->from)
		memcpy(trace->x + (trace->taken - 1) * KIT_N, course_keep(trace, "model"), sizeof(host));
	k->dev->ops->stream->sync(k->comm->stream);
	trace->bytes = how->look ? NAN : (double)(k->comm->bytes_sent - before);
	k->comm->delay = 0;
	sync_release(&sync);
	optimizer_release(&optimizer);
	config_free(config);
	mem->free(k->dev, x);
	mem->free(k->dev, g);
	mem->free(k->dev, out);
}

/* ---- cases ---- */

static const char *filter = "";         /* argv[1]: only groups whose name contains it */

/* Absolute, on a model whose weights are of order 1. Float rounding leaves less than 1e-6 after these few steps; a mistake in the
 * algorithm leaves 1e-3 or more. */
static const double BOUND = 5e-6;
__attribute__((unused)) static inline double bound_through(const struct oracle_compressor *c) { return c && c->bound > 0 ? c->bound : BOUND; }
/* Choices of the oracle that float rounding could turn round: another seed, please. */
static const double GAP = 5e-6;

static inline bool wanted(const char *name) { return strstr(name, filter) != NULL; }

static inline double worst(double a, double d) { return isnan(a) || isnan(d) ? NAN : d > a ? d : a; }   /* NaN wins, for ever */

__attribute__((unused)) static const struct { const char *name; double momentum, weight_decay; bool nesterov, adamw; double lr; } optimizers[] = {
	{ "plain", 0, 0, false, false, 0.06 },
	{ "momentum", 0.9, 0, false, false, 0.03 },
	{ "nesterov+wd", 0.8, 0.01, true, false, 0.03 },
	{ "adamw", 0.9, 0.02, false, true, 0.03 },
};
__attribute__((unused)) static const int even[ORACLE_WORKERS] = { 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4 },
	uneven[ORACLE_WORKERS] = { 3, 1, 4, 2, 5, 1, 2, 6, 3, 5, 1, 4, 2, 2, 6, 1 };

static inline struct oracle_setup setup(const struct oracle_algorithm *algorithm, enum oracle_method method, double density, int period, int optimizer,
                                 const int *batch, const char *scope, const char *fusion)
{
	struct oracle_setup p = {
		.workers = world.size, .n = KIT_N, .real = kit_real, .algorithm = algorithm, .period = period, .method = method, .density = density,
		.lr = optimizers[optimizer].lr, .lr_decay = 0.01, .momentum = optimizers[optimizer].momentum,
		.weight_decay = optimizers[optimizer].weight_decay, .nesterov = optimizers[optimizer].nesterov, .adamw = optimizers[optimizer].adamw,
	};
	double total = 0;

	for (int i = 0; i < world.size; i++)
		total += batch[i];
	for (int i = 0; i < world.size; i++)
		p.weight[i] = batch[i] / total;
	kit_ranges(&p, scope, fusion);
	return p;
}

/* The same through a compressor that has a file of its own. */
__attribute__((unused)) static inline struct oracle_setup setup_through(const struct oracle_compressor *c, struct oracle_setup p)
{
	p.compressor = c;
	if (c->gradients) {             /* the optimizer has no momentum then */
		p.momentum = 0;
		p.nesterov = false;
	}
	return p;
}

/* Bytes that all ranks together send for one average of one range, from the formulas of the papers. */
static inline double expected_bytes(const struct oracle_setup *p, int64_t n)
{
	double k = (double)oracle_k(p->density, n), rounds = 0;
	int power = 1, P = world.size;

	if (p->method == DENSE)
		return 2.0 * (P - 1) * 4 * (double)n;
	if (p->method == TOPK)
		return (double)P * (P - 1) * k * 8;
	for (; 2 * power <= P; power *= 2)
		rounds++;
	return power * rounds * 8 * k + (P - power) * (2 * 8 * k + k);
}

static inline double expected_range_bytes(const struct oracle_setup *p, int range)
{
	return p->compressor ? p->compressor->bytes(p, range) : expected_bytes(p, p->length[range]);
}

/* What the optimizers do with their state at a merge, and what of it that takes: one dense average of each vector. */
__attribute__((unused)) static inline void setup_merged(struct oracle_setup *p, enum oracle_merged merged)
{
	double vectors = p->adamw ? 2 : p->momentum != 0;

	p->merged = merged;
	p->merged_bytes = merged == SHARE ? vectors * 2.0 * (world.size - 1) * 4 * KIT_N : 0;
}

/* What the oracle leaves behind. */
struct oracle_run {
	double *x, *mean;               /* steps × n: own model after each step; the consensus */
	bool *shared;                   /* steps after which all models are one */
	double bytes, per_step;         /* that all ranks send: in all; in a step, on average over a long run */
};

static inline void oracle_run_free(struct oracle_run *run)
{
	free(run->x);
	free(run->mean);
	free(run->shared);
}

/* Runs the oracle until a seed leaves no close choices; every rank does the same, so all take the same seed. Each average is a choice of
 * every worker and, under gtopk, of each merge: with six workers one seed in hundreds is left. */
static inline struct oracle_run oracle_run(struct oracle_setup *p, const struct manner *how)
{
	struct oracle_run run = {
		xcalloc((size_t)how->steps * KIT_N, sizeof(double)), xcalloc((size_t)how->steps * KIT_N, sizeof(double)),
		xcalloc((size_t)how->steps, sizeof(bool)), 0, 0,
	};

	for (p->seed = 1; p->seed < 4000; p->seed++) {
		struct oracle o;
		double gap, least = how->gap > 0 ? how->gap : GAP, unit = 0;

		oracle_open(&o, p);
		for (int64_t t = 0; t < how->steps && o.gap >= least; t++) {
			o.epoch = how->epoch_steps ? t / how->epoch_steps : 0;
			oracle_step(&o);
			for (int64_t j = 0; j < KIT_N; j++) {
				run.x[t * KIT_N + j] = o.x[world.rank][j];
				run.mean[t * KIT_N + j] = oracle_consensus(&o, j);
			}
			run.shared[t] = o.shared;
		}
		run.bytes = 0;
		for (int r = 0; r < p->ranges; r++) {
			unit += expected_range_bytes(p, r);
			run.bytes += expected_range_bytes(p, r) * (double)o.range_averages[r];
		}
		if (p->algorithm->bytes)
			run.bytes = p->algorithm->bytes(&o);
		run.bytes += p->merged_bytes * (double)o.shared_states;
		run.per_step = p->algorithm->bytes_per_step ? p->algorithm->bytes_per_step(p, unit) :
		               p->algorithm->every_step ? unit : (unit + p->merged_bytes) / (double)p->period;
		gap = o.gap;
		oracle_close(&o);
		if (gap >= least)
			return run;
	}
	die(STATUS_FAILURE, "no seed without a close choice");
}

#endif
