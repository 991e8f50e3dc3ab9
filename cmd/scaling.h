/* Step times on many workers, by the formulas: the table of --dry-run, and all of --predict. */
#ifndef COCOD_SCALING_H
#define COCOD_SCALING_H

#include "predict.h"

/* A line for 1, 2, 4 … 1024 workers, with what sync's formulas say on that machine. */
void scaling_print(const struct run *, const struct sync *, const struct cost_model *);

#endif
