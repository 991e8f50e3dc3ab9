/*
 * Optimizers work on the arenas and know no layers. A sync algorithm calls them (DESIGN 1.3): on the whole arena or range by
 * range, in place or out of place (look ahead and roll back). All ranges of one step share the hyper block set by
 * optimizer_begin(); the step counter advances there.
 */
#ifndef COCOD_OPTIMIZER_H
#define COCOD_OPTIMIZER_H

#include "device.h"
#include "option.h"

struct config;
struct optimizer;

enum { OPTIMIZER_SLOTS = 2 };

struct optimizer_ops {
	const char *name, *paper;
	const struct option *options;
	int (*slots)(const struct optimizer *);         /* state vectors it needs with these settings: SGD 0 or 1, AdamW 2 */
	const char *slot_name[OPTIMIZER_SLOTS];         /* "momentum_buffer" / "exp_avg", "exp_avg_sq": PyTorch's names */
	void (*init)(struct optimizer *, const struct config *);
	void (*hyper)(struct optimizer *, struct hyper *);      /* fills the block for the step `t` (1 for the first) and lr */
	void (*step)(struct optimizer *, struct stream *, int64_t offset, int64_t n, const float *g, const float *x,
	             float *x_out, float *const state[], float *const state_out[]);
};

struct optimizer {
	const struct optimizer_ops *ops;
	struct device *device;
	int64_t n;
	float *state[OPTIMIZER_SLOTS];  /* arenas of n, zeroed; owned */
	struct hyper *block;            /* in device memory; owned */
	struct hyper base;              /* the constants from the config */
	int64_t t;                      /* steps begun */
	double lr;                      /* of the step under way */
	/* An update of the whole arena takes so many seconds, of a part in proportion: by the virtual clock (timeline.h); or really, where it
	 * sleeps (on a CPU, net_sleep.h): at least so many. And the seconds of communication that the sleep had time for, but that count as
	 * taken from computing. */
	double seconds, lent;
	bool sleeps;
};

/* Takes its keys (group "optimizer") from the config, which is already checked. Bind allocates; release frees. */
void optimizer_init(struct optimizer *, const struct optimizer_ops *, const struct config *);
void optimizer_bind(struct optimizer *, struct device *, int64_t n);
void optimizer_release(struct optimizer *);

/* Starts step t+1 with this learning rate: queues the new hyper block on the stream. */
void optimizer_begin(struct optimizer *, struct stream *, double lr);
/* x, state <- step(x, state, g) on [offset, offset+n); g and x are whole arenas. */
void optimizer_step(struct optimizer *, struct stream *, int64_t offset, int64_t n, const float *g, float *x);
/* x_out, state_out <- step(x, state, g); nothing else changes. state_out: as many arenas as slots(). */
void optimizer_step_to(struct optimizer *, struct stream *, int64_t offset, int64_t n, const float *g, const float *x,
                       float *x_out, float *const state_out[]);

#endif
