// Operations that need a sum over a whole vector first: between the tables (sparse.cu, vec.cu) and moments.cu.
#ifndef COCOD_MOMENTS_CUH
#define COCOD_MOMENTS_CUH

#include "launch.cuh"

void normal_bound_run(struct stream *, int64_t n, int64_t k, const float *x, const float *y, float *least);
void clip_run(struct stream *, int64_t n, float most, const float *x, float *y);

#endif
