/* What core/cuda's headers name of cuBLASLt: types only. What the emulator has of it is in conv.c. */
#ifndef EMULATOR_CUBLASLT_H
#define EMULATOR_CUBLASLT_H

#include <cuda_runtime_api.h>

typedef struct cublasLtContext *cublasLtHandle_t;
typedef int cublasStatus_t;

#endif
