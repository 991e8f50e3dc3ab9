// Between sparse.cu (the table) and topk.cu (its one long operation).
#ifndef COCOD_TOPK_CUH
#define COCOD_TOPK_CUH

#include "launch.cuh"

void topk_run(struct stream *, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out, void *work);
void topk_select(struct stream *, int64_t n, int64_t k, const float *least, const float *in, float *residual, struct sparse *out,
                 void *work);
void topk_sample_bound(struct stream *, int64_t n, int64_t k, const float *x, const float *y, float *least, void *work);
size_t topk_bytes(int64_t n, int64_t k);        // of work; does not fall when k grows

size_t topk_sample_bytes(int64_t n);            // the same, of topk_sample_bound()

#endif
