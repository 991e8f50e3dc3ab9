/*
 * What libcocod-cuda.so exports: the two tables of backend.h, and nothing else. The transport is there if comm_nccl.c was linked in;
 * a weak symbol that is not is NULL.
 */
#include "../backend.h"
#include "cuda.h"

extern const struct comm_ops comm_nccl __attribute__((weak));

const struct backend *cocod_backend(void);

__attribute__((visibility("default"))) const struct backend *cocod_backend(void)
{
	static const struct backend backend = { BACKEND_ABI, &device_cuda, &comm_nccl };

	return &backend;
}
