/*
 * What the files of the CPU device share beside cpu.h.
 *
 * Operations on vectors and sparse vectors may be queued on either kind of stream and go through cpu_run(). Those of nn_ops
 * belong to the compute stream alone, which runs inline: they are plain functions that use the device's team at once.
 */
#ifndef COCOD_CPU_OPS_H
#define COCOD_CPU_OPS_H

#include "cpu.h"

extern const struct device_ops device_cpu, device_reference;

/* fn(args, from, to) for slices of [0, n), cut on multiples of `unit`, by the team; one item is about `floats` floats of work. */
typedef void cpu_slice_fn(const void *args, int64_t from, int64_t to);
void cpu_for(struct cpu_device *, int team, int64_t n, int64_t unit, int64_t floats, cpu_slice_fn *, const void *args);
/* The threads worth waking, on the compute stream, for so many floats. */
int cpu_team(const struct cpu_device *, int64_t floats);

/* Scratch that batch norm and the loss need, whatever the network; reserved when the device opens. */
size_t cpu_scratch_bytes(int threads);

/* The entries of cpu_nn_ops that have a file of their own. */
void cpu_bn_train(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma,
                  const float *beta, float *running_mean, float *running_var, float *mean, float *invstd, void *y);
void cpu_bn_infer(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma,
                  const float *beta, const float *running_mean, const float *running_var, void *y);
void cpu_bn_bwd(struct stream *, const struct bn_desc *, const void *x, const void *y, const float *gamma, const float *mean,
                const float *invstd, void *dy, void *dx, bool add_dx, void *dresidual, bool add_dresidual, float *dgamma,
                float *dbeta);
void cpu_pool_fwd(struct stream *, const struct pool_desc *, const void *x, void *y, uint8_t *index);
void cpu_pool_bwd(struct stream *, const struct pool_desc *, const void *dy, const uint8_t *index, void *dx, bool accumulate);
void cpu_shortcut_fwd(struct stream *, int n, int h, int w, int c, int out, const void *x, void *y);
void cpu_shortcut_bwd(struct stream *, int n, int h, int w, int c, int out, const void *dy, void *dx, bool accumulate);

/* lowrank_ops' Gram-Schmidt, of both devices. */
void reference_orthonormalise(struct stream *, int64_t rows, int rank, float *p);

/* The same of reference_nn_ops. */
void reference_augment(struct stream *, const struct augment_desc *, const uint8_t *image, const float *table, const struct image_draw *,
                       void *y);
void reference_bn_train(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma,
                        const float *beta, float *running_mean, float *running_var, float *mean, float *invstd, void *y);
void reference_bn_infer(struct stream *, const struct bn_desc *, const void *x, const void *residual, const float *gamma,
                        const float *beta, const float *running_mean, const float *running_var, void *y);
void reference_bn_bwd(struct stream *, const struct bn_desc *, const void *x, const void *y, const float *gamma,
                      const float *mean, const float *invstd, void *dy, void *dx, bool add_dx, void *dresidual,
                      bool add_dresidual, float *dgamma, float *dbeta);

#endif
