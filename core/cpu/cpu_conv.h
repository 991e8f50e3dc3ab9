/* The convolution entries of the tables cpu_nn_ops and reference_nn_ops; struct nn_ops says what they do. */
#ifndef COCOD_CPU_CONV_H
#define COCOD_CPU_CONV_H

#include "cpu.h"

struct conv_plan *cpu_conv_plan(struct device *, const struct conv_desc *);
const char *cpu_conv_name(const struct conv_plan *);
void cpu_conv_release(struct device *, struct conv_plan *);
void cpu_conv_fwd(struct stream *, struct conv_plan *, const void *x, const float *w, const float *b, void *y);
void cpu_conv_bwd_data(struct stream *, struct conv_plan *, const void *dy, const float *w, void *dx, bool accumulate);
void cpu_conv_bwd_filter(struct stream *, struct conv_plan *, const void *x, const void *dy, float *dw, float *db);

#endif
