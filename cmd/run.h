/*
 * One training run: everything that was opened for it, in the order in which it was opened. setup.c fills it in and takes it
 * apart, train.c drives it, the reports and metrics.c tell of it.
 */
#ifndef COCOD_RUN_H
#define COCOD_RUN_H

#include "../comm/comm.h"
#include "../comm/fit.h"
#include "../comm/sync/sync.h"
#include "../comm/topology/ps.h"
#include "../core/config.h"
#include "../core/lr.h"
#include "../core/net.h"
#include "../core/optimizer.h"
#include "../core/slowdown.h"
#include "../core/timeline.h"
#include "../data/loader.h"
#include "../data/partition.h"
#include "../models/model.h"
#include "options.h"
#include "rundir.h"

struct metrics;

/* Where time went, summed since the start of training; evaluation is not in it. Seconds. */
struct spent {
	double wall;            /* of all steps */
	double data;            /* waiting for the loader */
	double exposed;         /* computing stood still for communication, or lent its thread to it */
	double comm;            /* the communication stream was busy */
	double bytes;           /* sent by this rank */
};

/* Where all that stood behind some step. */
struct mark {
	int64_t step;
	struct spent spent;
	struct timeline_account compute, comm;
};

/* Of a step, before the first one. Seconds and bytes. */
struct prediction {
	bool made;
	double step, exposed, bytes;    /* exposed: beyond what computing alone takes; bytes: sent by a rank */
	double kernels;                 /* of one average, beside its messages */
	double latency, per_byte, fit_error;    /* of the network */
	double took;                    /* finding it out */
};

/* output.trace: see trace.c. */
struct trace_reading {
	double at, offset, uncertain;   /* own clock; what makes it rank 0's; by how much that may be wrong; seconds */
};
struct run_trace {
	int64_t first, last;            /* own steps that are traced */
	double origin;                  /* the beginning of training on rank 0's clock */
	struct trace_reading clock[2];  /* at the beginning and at the end */
};

struct run {
	struct config *config;
	double started;                 /* clock_now() when the program began */
	bool dry;                       /* --dry-run, --predict, --calibrate: nothing is trained */
	bool calibrates;                /* --calibrate: one process, as if it were alone in the config, too */
	bool virtual;                   /* cluster.clock: streams have times of their own */
	double clock_error;             /* of other hosts' clocks, where they are read; seconds */
	const struct question *question;        /* --predict; else NULL */
	bool formulas;                  /* of what can be predicted without measuring: nothing is bound, no file is read */
	struct world world;
	int workers, servers;           /* ranks that train: the first ones; parameter servers: the others */
	struct device *device;          /* computes */
	struct device *host;            /* a CPU device for control; the same one where the CPU computes */
	struct comm *control;           /* host-side agreement and metrics: a communicator and a queue of its own */
	struct comm *team;              /* as control, of the workers alone; the same one where nobody serves */
	struct comm *comm;              /* the model's traffic; NULL where nothing is bound */
	char comm_why[256];             /* why over this transport */
	struct stream *compute;

	struct dataset data;
	struct partition partition;     /* who owns which training image */
	struct net net;
	struct net_times *times;        /* what its layers take; NULL: nobody needs to know (calibrate.h) */
	struct net_sleep *sleep;        /* cluster.compute.sleep: layers sleep, and nothing is learnt; NULL: they compute */
	struct optimizer optimizer;
	struct lr_schedule lr;
	struct sync sync;
	struct loader *train, *test;
	struct images images;           /* the data set in device memory, where the device augments; else all NULL */
	float *mean_x, *mean_buffer;    /* the averaged model, for evaluation; device memory */

	int *batch;                     /* M_i of every worker */
	double *speed;                  /* that they were chosen by; NULL: they were given */
	int batch_total;
	struct slowdown slowdown;
	double epochs;                  /* planned */
	int64_t steps_per_epoch, steps; /* steps: of the whole run; where each goes at its own pace, of a worker on average */
	int threads;

	struct rundir dir;
	struct metrics *metrics;
	struct run_trace trace;
	struct ps_record served;        /* a server's */

	int64_t step;                   /* own ones, done so far */
	int64_t samples;                /* that all workers together have processed, as far as this one knows; exact at an evaluation */
	struct spent aside;             /* what was spent before training and in evaluations; not counted */
	struct spent spent;
	int64_t warm_steps;             /* until the compressor sends what its keys say: what was predicted is held against what comes then */
	struct mark warmed;
	double eval_seconds;
	struct fit fit;                 /* of the network, where the all-reduce was planned by it; points 0: it was not */
	struct prediction predicted;
	double train_loss;              /* of the last complete row, all ranks */
	double test_loss, test_accuracy, best_accuracy;
	int64_t evaluated_at;           /* step of the last evaluation; -1: none */
};

/* Phases of opening. Each returns 0 or an exit status; mistakes are recorded with error(). All ranks return the same. */
int run_open_world(struct run *, struct config *);              /* transport, device, control communicator */
int run_open_devices(struct run *);                             /* devices.c: the part of the above behind the transport */
int run_open_model(struct run *);                               /* data set, network, optimizer, algorithm: sizes only */
int run_bind(struct run *);                                     /* memory, plans, communicator, loaders */
void run_close(struct run *);
/* If any rank has failed: the lowest one prints what it recorded; returns the highest status of all ranks. */
int run_agree(struct run *, int status);

/* batches.c: cluster.slowdown, and from train.batch the M_i; -1: error recorded on every rank. All ranks together. */
int run_choose_batches(struct run *);
char *run_batch_list(const struct run *);                       /* "[21, 20, 7]", as train.batch takes it; to be freed */
int run_build_net(struct run *, struct net *, int batch);       /* the model, without a device; -1: error recorded */

/* profile.c: for a schedule that goes by facts. All ranks together; an exit status. */
int run_find_facts(struct run *);
void report_schedule(const struct run *);

/* clocks.c: cluster.clock and cluster.emulate. The checks: -1: error recorded, alike on all ranks. */
int run_check_clock(const struct run *);
int run_check_clocked_sync(const struct run *);                 /* once there is a sync */
const char *run_transport(const struct run *);                  /* comm.transport, or what modelled times need */
void run_open_clock(struct run *);                              /* device is open, and no stream of it */
void run_open_wire(struct run *);                               /* comm is open */
void run_start_clock(struct run *);                             /* training begins */
void report_clock(const struct run *);                         /* which clock and network hold, where it is not only what is here */
double run_virtual_now(const struct run *);                     /* of this rank, once the compute stream has run; NAN on the wall clock */

/* trace.c: output.trace; all do nothing without it. start and write: all ranks together. */
int run_check_trace(const struct run *);                        /* -1: error recorded, alike on all ranks */
void run_open_trace(struct run *);                              /* device is open, and no stream of it; behind run_open_clock() */
void run_start_trace(struct run *);                             /* training begins */
void run_trace_step(struct run *, int64_t t);                   /* begins the span of step t */
double run_trace_time(const struct run *, double at);           /* of this process's clock_now(): seconds since training began, on rank 0's */
void run_write_trace(struct run *);                             /* when all is over: trace.json */

void run_load(struct run *, const struct batch *);              /* the batch into the network */
void run_clock(struct run *);                                   /* brings run->spent up to now */
struct spent run_counters(struct run *);                        /* where the counters behind it stand, evaluation included */
void run_set_aside(struct run *, const struct spent *since);    /* what was spent since those counters is not counted */
/* Epochs count samples, without those that are left over when all take whole steps. */
static inline int64_t run_epoch_samples(const struct run *run) { return run->steps_per_epoch * run->batch_total; }
static inline double run_epochs(const struct run *run, int64_t samples) { return (double)samples / (double)run_epoch_samples(run); }
static inline bool run_serves(const struct run *run) { return run->world.rank >= run->workers; }
bool run_all_reduces(const struct run *);                       /* topology.kind */
/* cluster.inter, .intra and who sits together; of computing it says nothing */
struct cost_model run_link(const struct run *, int workers);
/* Neighbouring ranks of a node: topology.group, cluster.workers_per_node, .nodes; else as found, or one, if a network is given and all are
 * on one host: then each stands for a node. */
struct seats run_seats(const struct run *);
int run_per_node(const struct run *, int workers);              /* the same of so many workers */
bool run_link_given(const struct run *);                        /* cluster.inter is */
int run_check_link(const struct run *);                         /* topology.link; a status */
void run_plan_allreduce(struct run *);                          /* topology.allreduce, for run->comm */
void run_rest(struct run *);                                    /* servers are told that the host is about to wait for other workers */
int run_train(struct run *);                                    /* exit status */
int run_serve(struct run *);                                    /* what a server does instead, until all workers have ended */
void run_evaluate(struct run *);                                /* averaged model on the test set: sets test_loss, test_accuracy */
void run_fingerprint(struct run *, char hex[65]);               /* of the averaged model, PyTorch's order and layout */

void report_start(struct run *);                                /* report_start.c: config, layers, world */
void report_predict(struct run *);                              /* predict.c: what a step will take, and whether compressing pays */
void report_end(struct run *);                                  /* report_end.c: the truth about overlap; writes summary.json */
void report_dry_run(struct run *);                              /* dryrun.c: memory, bytes, predicted step times */
int report_scaling(struct run *);                               /* scaling.c: --predict; an exit status */

#endif
