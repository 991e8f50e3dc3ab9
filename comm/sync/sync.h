/*
 * The whole interface of a synchronisation algorithm: who waits for what, and when. The trainer calls
 *
 *     begin(t) → forward (param_needed …) → loss → backward (grad_ready …) → step(t)
 *
 * and never asks for a name. The algorithm calls the optimizer: when the update happens relative to what is sent and awaited is
 * what makes S-SGD, Local SGD or CoCoD-SGD what they are.
 *
 * Steps are a worker's own, epochs count the samples of all. Most algorithms keep the workers in step, so that t steps of one are
 * t sum(M) samples. Where each goes at its own pace, the algorithm knows how far they are together: claim().
 *
 * Algorithms that average models exchange the difference to a reference z that all workers hold, z <- z + average(x_i - z): for a
 * dense exchange that is plain averaging up to rounding, and every compressor with error feedback works with it.
 *
 * One file an algorithm plus one line in sync_list.c.
 */
#ifndef COCOD_SYNC_H
#define COCOD_SYNC_H

#include "../../core/optimizer.h"
#include "../../core/trace.h"
#include "../compress/compress.h"
#include "../schedule/schedule.h"

struct lr_schedule;
struct sync;

/* Is told of every tensor and number that must survive; saving, loading and hashing are visitors. Loading goes to an algorithm that has
 * been bound and has taken no step. */
struct state_visitor {
	void (*vector)(struct state_visitor *, const char *name, struct device *, float *data, int64_t n);
	void (*number)(struct state_visitor *, const char *name, int64_t *value);
	bool loads;                                                     /* it writes what it is told of, instead of reading it */
};

/* A real number as state: the visitor gets its bits. */
union state_real {
	double value;
	int64_t bits;
};

/* What becomes of the optimizers' state where models have been averaged (sync.momentum). */
enum momentum { MOMENTUM_LOCAL, MOMENTUM_AVERAGE, MOMENTUM_RESET };

struct sync_ops {
	const char *name, *paper;
	const char *topology;                                           /* values of topology.kind it works on, "ps|all-reduce"; NULL: all-reduce */
	const struct option *options;
	bool averages_models;                                           /* it calls sync_merged(): sync.momentum has a meaning */
	bool averages_gradients;                                        /* of every step, and nothing else goes through the compressor */
	const struct sync_ops *split, *priority;                        /* (optional) take its place where schedule.split, .priority is true */
	size_t state_size;
	int (*init)(struct sync *, const struct config *);              /* reads its keys; -1: error recorded. No device needed */
	void (*bind)(struct sync *);                                    /* allocates; x holds the initial model, the same everywhere */
	/* (optional) Workers go at their own pace: asked before each step. Returns how many samples all have processed so far, as far as is
	 * known here. If that is `until` or more, this worker takes no step now: the number is the same for all then, and exact, and
	 * all go on with a larger `until`. Otherwise it takes one. The host may wait. */
	int64_t (*claim)(struct sync *, int64_t until);
	void (*begin)(struct sync *, int64_t t);                        /* (optional) before forward of step t */
	/* These two return whether they queued anything on, or waited on, the compute stream's behalf (net_hooks). */
	bool (*param_needed)(struct sync *, const struct range *);      /* (optional) forward is about to read it */
	bool (*grad_ready)(struct sync *, const struct range *);        /* (optional) the kernels that finish it are queued */
	void (*step)(struct sync *, int64_t t);                         /* backward of step t is queued */
	/* These four are collective, at the same point of all workers' trainings.
	 * (optional) Before an evaluation and before state(): who is behind with his exchanges catches up, and what is in flight lands, also
	 * in x. What is sent then counts as training's; the time does not, most of it is waiting for the slowest. */
	void (*settle)(struct sync *);
	/* The averaged model into out (device memory, n floats), in stream order of `compute`; does not disturb the trajectory, except that
	 * adpsgd settles for it, which changes when models meet. */
	void (*consensus)(struct sync *, float *out);
	void (*state)(struct sync *, struct state_visitor *);           /* what there is beside x and the optimizer's */
	double (*bytes)(const struct sync *, int workers);              /* that a rank sends per step, on average */
	double (*cost)(const struct sync *, const struct cost_model *); /* predicted seconds a step; sync_cost() asks */
	/* (optional) Warns, before a run of so many steps, if what the keys promise will not happen in it (beyond `alone`). */
	void (*foresee)(const struct sync *, const struct lr_schedule *, int64_t steps_per_epoch, int64_t steps);
	void (*release)(struct sync *);                                 /* (optional) */
};

struct sync {
	const struct sync_ops *ops;
	struct compress compress;
	struct schedule schedule;
	struct range *part, *piece;     /* the arena in parts (sync_cut), and in pieces as the compressor sees it; in order, owned */
	int parts, pieces;
	int64_t period;                 /* sync.period, 1 for who has none */
	int64_t alone;                  /* steps until a worker has first heard of the others: one sync.period, unless init() knows better */

	/* from sync_bind on */
	struct device *device;
	struct stream *compute;
	struct comm *comm;
	struct optimizer *optimizer;
	float *x, *g;                   /* the arenas of n floats */
	int64_t n;
	double *weight;                 /* M_i / sum M of every rank; owned */
	int64_t batch, batch_total;     /* our M_i, sum M */
	double lr;                      /* of the step under way; set by the trainer before begin() */
	int64_t epoch;                  /* of the step under way; set by sync_epoch() */
	/* (optional) The decision log; set behind sync_init(). why: a few words, no commas. */
	void (*log)(void *context, int64_t t, const char *what, int64_t value, const char *why);
	void *log_context;
	enum momentum momentum;
	bool own_batchnorm;             /* evaluation and fingerprint take each worker's own statistics */
	void *state;
};

extern const struct option sync_policies[];                     /* keys of group "sync" that hold for all algorithms */
int sync_read_policies(struct sync *, const struct config *);    /* -1: error recorded */
extern const struct sync_ops *const sync_list[];                /* NULL-terminated */
const struct sync_ops *sync_find(const char *name);

/* By sync.algorithm and compress.method; tensors describe the parameter arena of n floats. Needs no device. -1: error recorded. */
int sync_init(struct sync *, const struct config *, const struct tensor_info *, int tensors, int64_t n);
/* Predicted seconds a step: the algorithm's formula, and beside it what communication takes from computing (cost.h). */
double sync_cost(const struct sync *, const struct cost_model *);
/* Before a run of several workers: warns if their models will not meet in so many steps, or not as the keys promise. */
/* Steps until the compressor sends what its keys say: behind its warm-up, behind dense rounds. */
int64_t sync_warm_steps(const struct sync *, int64_t steps_per_epoch);
void sync_foresee(const struct sync *, const struct lr_schedule *, int64_t steps_per_epoch, int64_t steps);
/* Before sync_bind(), with so many workers: do pieces go by a schedule that wants facts? Then it is to be told, and plans again. */
bool sync_wants_facts(const struct sync *, int workers);
void sync_refine(struct sync *, const struct schedule_facts *, int workers);
/* batch[i] = M_i of every rank of the communicator. */
void sync_bind(struct sync *, struct comm *, struct stream *compute, struct optimizer *, float *x, float *g, const int *batch);
void sync_release(struct sync *);                               /* nothing may be queued on the communicator any more: sync its stream first */

/* NULL-safe calls of the optional hooks. */
int64_t sync_claim(struct sync *, int64_t t, int64_t until);    /* in front of own step t; workers in step: t sum(M) */
void sync_begin(struct sync *, int64_t t);
bool sync_param_needed(struct sync *, const struct range *);
bool sync_grad_ready(struct sync *, const struct range *);
void sync_step(struct sync *, int64_t t);
void sync_settle(struct sync *);
void sync_epoch(struct sync *, int64_t epoch);                  /* a new epoch begins: density warm-up, switches */
/* The algorithm's, the compressor's, the optimizer's; not x, which may change here: save it afterwards. All workers together. */
void sync_state(struct sync *, struct state_visitor *);

/* ---- for the algorithms ---- */

/* For init(): -1, with error() and hint(), if there is a compressor. why: what it would spoil. */
int sync_dense_only(const struct sync *, const struct config *, const char *why);
/* Local optimizer step on the whole arena. */
void sync_optimize(struct sync *);
/* out = average over the workers of in (whole arenas; out may be in), through the compressor: forks from compute, queues, and
 * records `done` behind it. */
void sync_average(struct sync *, const float *in, float *out, struct event *done);
double sync_average_bytes(const struct sync *, int workers);    /* of one such average, a rank */
double sync_average_cost(const struct sync *, const struct cost_model *);       /* its seconds: each piece has latencies of its own */
/* What may go by compress_average() as backward finishes it, the whole arena in the worst case; returns how many. Bytes and seconds of
 * averaging such ranges one after the other. */
int sync_buckets(const struct sync *, int workers, const struct range **bucket);
double sync_ranges_bytes(const struct sync *, const struct range *, int count, int workers);
double sync_ranges_cost(const struct sync *, const struct range *, int count, const struct cost_model *);
/* Behind which share of backward the i-th of these ranges is final: where that is not known, the last one at its end, the others when the
 * network has time for them. */
double sync_final(const struct sync *, const struct range *, int count, int i, const struct cost_model *);
/* When the last of these ranges has been averaged, counted from where backward begins: each leaves when its last gradient is final. share:
 * of the time of an average, 1, or 0.5 for the first half of an all-reduce. */
double sync_landed(const struct sync *, const struct range *, int count, const struct cost_model *, double share);
/* Called in init by an algorithm that exchanges the arena in parts: the compressor sees nothing across their bounds. The parts cover
 * the arena, in order, each whole tensors; the array (xcalloc) is the sync's from then on. And the average of one of them. */
void sync_cut(struct sync *, struct range *part, int parts);
void sync_average_part(struct sync *, int part, const float *in, float *out, struct event *done);
double sync_part_cost(const struct sync *, int part, const struct cost_model *);
/* Models have been averaged, and the result is queued on `compute`: follows sync.momentum. "average" is a dense all-reduce of the
 * optimizer's vectors for which compute waits; an algorithm that launches an exchange here calls this before it. */
void sync_merged(struct sync *);
/* Of one average of models and what sync_merged() sends with it; cost: its exposed seconds beside those of the compressor. */
double sync_merge_bytes(const struct sync *, int workers);
double sync_merged_cost(const struct sync *, const struct cost_model *);
/* out = plain weighted average of x over the workers, uncompressed: what consensus() is for algorithms whose models differ. */
void sync_mean_model(struct sync *, float *out);
void sync_sum(struct sync *, float *v);                         /* v = sum over the workers of v, in stream order of `compute` */
/* A decision from measured times, good from step t on: such a run repeats only by its log. what: the name, value: what was decided. */
void sync_log(struct sync *, int64_t t, const char *what, int64_t value, const char *why, ...) __attribute__((format(printf, 5, 6)));
/* For the trace: what the worker does from here on, in the paper's words; until the step ends or the next phase begins. */
static inline void sync_phase(struct sync *s, const char *name) { trace_phase(s->compute, name); }
float *sync_vector(struct sync *);                              /* a zeroed arena of n on the device; freed with mem->free */

#endif
