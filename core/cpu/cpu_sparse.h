/* Between cpu_sparse.c (the table) and cpu_topk.c (its one long operation). */
#ifndef COCOD_CPU_SPARSE_H
#define COCOD_CPU_SPARSE_H

#include "cpu.h"

struct topk_args {
	struct cpu_device *dev;
	int64_t n, k;
	const float *in;
	float *residual;
	struct sparse *out, *work;
	const float *least;     /* NULL: exact top-k; else only what reaches it */
};

void cpu_topk_run(void *args, int team);        /* struct topk_args */
void cpu_sample_bound(struct stream *, int64_t n, int64_t k, const float *x, const float *y, float *least, void *work);
size_t cpu_topk_work(int64_t n, int64_t k);     /* bytes of work */

/* cpu_region.c: entries of cpu_sparse_ops */
void cpu_quantiles(struct stream *, int64_t k, const struct sparse *list, int parts, float *least, uint32_t *bound);
void cpu_split(struct stream *, int64_t k, const struct sparse *list, int parts, const uint32_t *bound, int64_t room,
               struct sparse *block, float *residual);
void cpu_put_back_zero(struct stream *, int64_t k, const struct sparse *own, const float *result, float *residual);

/* Where top-k samples, so that a test can set it traps: how many places (0: it takes all elements), and the i-th of m. */
int64_t cpu_topk_samples(int64_t n, int64_t k);
int64_t cpu_topk_place(int64_t n, int64_t m, int64_t i);

#endif
