/* Learning-rate schedules: constant, step (divide at epochs), cosine (to zero), each with a linear warm-up. Group "train.lr…"
 * lives in the optimizer group: lr, schedule, milestones, gamma, warmup_epochs, warmup_from. A function of the (fractional)
 * epoch alone, so that a resumed run needs no state. */
#ifndef COCOD_LR_H
#define COCOD_LR_H

#include "option.h"

struct config;

enum lr_kind { LR_CONSTANT, LR_STEP, LR_COSINE };

struct lr_schedule {
	enum lr_kind kind;
	double base, gamma, warmup, warmup_from, epochs;
	double milestone[64];
	int milestones;
};

extern const struct option lr_options[];

int lr_init(struct lr_schedule *, const struct config *, double epochs);        /* -1: error recorded */
/* Learning rate at this point of the run, epoch in [0, epochs]. During warm-up: base (from + (1 - from) epoch / warmup), times
 * the schedule's own factor (1 in the usual case that no milestone lies inside). */
double lr_at(const struct lr_schedule *, double epoch);

#endif
