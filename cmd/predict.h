/*
 * What a step will take, before the first one: from how fast the workers compute (pace.h), what messages cost (comm/fit.h) and what
 * compressing costs (comm/compress/kernels.h) here, by the algorithm's formulas. And whether compressing pays (comm/sync/pays.h).
 */
#ifndef COCOD_PREDICT_H
#define COCOD_PREDICT_H

#include "../comm/fit.h"
#include "pace.h"

/* Is there anything to predict: several workers that all-reduce? */
bool predict_applies(const struct run *);
/* All workers together, while nothing is queued. Alpha, beta for run_link(); points 0: not measured, cluster.inter holds. */
struct fit predict_network(struct run *, bool given_wins);
/* The machine for the formulas, of so many workers; kernels of the run's own compressor (0 where none is needed). Measures them. The pace must
 * outlive it. */
struct cost_model predict_machine(struct run *, const struct pace *, const struct fit *);
/* The table and the warning. Fills in run->predicted. */
void predict_print(struct run *, const struct cost_model *);
void predict_print_compute(const struct run *, const struct pace *);
void predict_print_network(const struct run *, const struct cost_model *, const struct fit *);

#endif
