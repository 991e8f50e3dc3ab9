/*
 * Matrix products by cuBLASLt, for linear layers. All matrices are row-major and dense here:
 *
 *     C[m × n] = op(A)[m × k] op(B)[k × n] + beta C          op: as it is, or transposed
 */
#ifndef COCOD_CUBLAS_H
#define COCOD_CUBLAS_H

#include <cublasLt.h>

#include "../device.h"

struct matmul_shape {
	int64_t m, n, k;
	bool a_transposed, b_transposed;        /* A lies as k × m, B as n × k */
	enum dtype in, out;                     /* of A and B; of C. Sums are fp32 */
	bool tf32;                              /* fp32 factors may be rounded to TF32 */
};

struct matmul;

/* Dies if there is no kernel. Wants at most `workspace` bytes of scratch. */
struct matmul *matmul_open(cublasLtHandle_t, const struct matmul_shape *, size_t workspace);
void matmul_close(struct matmul *);                             /* NULL-safe */
size_t matmul_workspace(const struct matmul *);
/* Queues it; matrices are 16-byte aligned. May be captured. */
void matmul_run(const struct matmul *, cublasLtHandle_t, cudaStream_t, const void *a, const void *b, float beta, void *c, void *workspace);

/* Dies with cuBLAS' own words. */
#define CUBLAS(call) cublas_check((call), #call, __FILE__, __LINE__)
void cublas_check(cublasStatus_t, const char *call, const char *file, int line);

#endif
