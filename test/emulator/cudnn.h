/* What core/cuda's headers name of cuDNN: types only. What the emulator has of cuDNN is in conv.c, above cuDNN's interface. */
#ifndef EMULATOR_CUDNN_H
#define EMULATOR_CUDNN_H

#include <cuda_runtime_api.h>

typedef struct cudnnContext *cudnnHandle_t;
typedef void *cudnnBackendDescriptor_t;
typedef int cudnnStatus_t;

#endif
