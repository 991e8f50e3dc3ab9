/*
 * The CUDA device: which GPU, what it is, and the end of what cannot go on.
 *
 * One process drives one GPU. Where several are visible and none is named, the ranks of a host take them in turn. The variable
 * CUDA_VISIBLE_DEVICES is the launcher's business and only obeyed.
 *
 *   COCOD_CUDA_SYNC=1      the host waits for every operation on a compute stream: a fault then names its operation. Communication
 *                          streams are let alone: what they wait for may need this thread.
 *   COCOD_CUDA_MANAGED=1   memory that the host can read and write as well, and COCOD_CUDA_SYNC with it: for tests that were made
 *                          for a CPU and look at device memory right after an operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../die.h"
#include "cuda.h"

void cuda_check(cudaError_t e, const char *call, const char *file, int line)
{
	if (e != cudaSuccess)
		die(STATUS_FAILURE, "%s:%d: %s: %s (%s)", file, line, call, cudaGetErrorString(e), cudaGetErrorName(e));
}

void cuda_queued(struct stream *s, const char *what)
{
	cudaError_t e = cudaGetLastError();

	if (e == cudaErrorNotReady)             /* somebody asked for an event: remembered, but no error */
		e = cudaSuccess;
	if (e == cudaSuccess && s->dev->sync_all && s->kind == STREAM_COMPUTE && !s->capturing)
		e = cudaStreamSynchronize(s->handle);
	if (e != cudaSuccess)
		die(STATUS_FAILURE, "the GPU's operation \"%s\" failed: %s (%s)%s", what, cudaGetErrorString(e), cudaGetErrorName(e),
		    s->dev->sync_all ? "" : ". It may have been an earlier one: COCOD_CUDA_SYNC=1 finds out");
}

void *cuda_scratch(struct stream *s, size_t bytes)
{
	CHECK(bytes <= CUDA_SCRATCH);
	return s->scratch;
}

/* ---- opening ---- */

static bool asked_for(const char *variable)
{
	const char *value = getenv(variable);

	return value && *value && strcmp(value, "0");
}

/* CUDA's number of the GPU to take, or -1. */
static int choose(const struct device_config *config)
{
	int count = 0;
	cudaError_t e = cudaGetDeviceCount(&count);

	if (e != cudaSuccess || count < 1) {
		cudaGetLastError();
		error("no CUDA device answers: %s", e == cudaSuccess ? "there is none" : cudaGetErrorString(e));
		return hint("nvidia-smi shows the GPUs and their driver, which must be as new as CUDA %d; CUDA_VISIBLE_DEVICES may hide them",
		            CUDART_VERSION / 1000);
	}
	if (config->index >= count) {
		error("there is no GPU %d: %d %s visible", config->index, count, count == 1 ? "is" : "are");
		return hint("GPUs are counted from 0, among those that CUDA_VISIBLE_DEVICES shows");
	}
	return config->index >= 0 ? config->index : count == 1 ? 0 : config->local_rank % count;
}

/* Kernels are built for 8.0 and later: bf16 and TF32 begin there. */
static int inspect(struct cuda_device *dev)
{
	struct cudaDeviceProp p;
	cudaError_t e = cudaSetDevice(dev->index);

	if (e != cudaSuccess) {
		cudaGetLastError();
		error("GPU %d cannot be used: %s", dev->index, cudaGetErrorString(e));
		return hint("another process may have it to itself: see nvidia-smi -q -d COMPUTE");
	}
	CUDA(cudaGetDeviceProperties(&p, dev->index));
	if (p.major < 8) {
		error("GPU %d (%s) has compute capability %d.%d, and 8.0 is the least", dev->index, p.name, p.major, p.minor);
		return hint("any of the Ampere generation or later will do; device.kind = \"cpu\" needs none");
	}
	if (dev->base.host_memory && !p.concurrentManagedAccess) {
		error("COCOD_CUDA_MANAGED=1: GPU %d (%s) cannot share memory with the host while it computes", dev->index, p.name);
		return hint("leave the variable unset");
	}
	dev->processors = p.multiProcessorCount;
	snprintf(dev->name, sizeof(dev->name), "%.95s", p.name);
	for (size_t i = 0; i < sizeof(p.uuid.bytes); i++)
		snprintf(dev->uuid + 2 * i, sizeof(dev->uuid) - 2 * i, "%02x", (unsigned)(unsigned char)p.uuid.bytes[i]);
	CUDA(cudaDeviceGetPCIBusId(dev->bus, (int)sizeof(dev->bus), dev->index));
	snprintf(dev->base.where, sizeof(dev->base.where), "%s", dev->bus);
	return 0;
}

static struct device *device_open(const struct device_config *config)
{
	struct cuda_device *dev;
	int index = choose(config);

	if (index < 0)
		return NULL;
	dev = xcalloc(1, sizeof(*dev));
	dev->index = index;
	dev->base.ops = &device_cuda;
	dev->base.config = *config;
	dev->base.config.index = index;
	if (config->precision == PRECISION_AUTO)
		dev->base.config.precision = PRECISION_BF16;
	dev->base.activation = dev->base.config.precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32;
	dev->base.host_memory = asked_for("COCOD_CUDA_MANAGED");
	dev->sync_all = dev->base.host_memory || asked_for("COCOD_CUDA_SYNC");
	if (inspect(dev)) {
		free(dev);
		return NULL;
	}
	return &dev->base;
}

static void device_close(struct device *device)
{
	struct cuda_device *dev = cuda(device);

	cuda_conv_library_close(dev);
	for (int i = 0; i < CUDA_SHADOWS; i++)
		if (dev->shadow[i].base)
			cuda_forget(dev, dev->shadow[i].base);
	free(dev->describe);
	free(dev);
}

static const char *device_describe(struct device *device)
{
	static const char *const precision[] = {
		[PRECISION_FP32] = "fp32", [PRECISION_TF32] = "tf32", [PRECISION_BF16] = "bf16",
	};
	struct cuda_device *dev = cuda(device);
	int runtime = 0, driver = 0;

	if (dev->describe)
		return dev->describe;
	CUDA(cudaRuntimeGetVersion(&runtime));
	CUDA(cudaDriverGetVersion(&driver));
	dev->describe = xasprintf("%s, GPU %d (PCI %s), %s%s, CUDA %d.%d, driver %d.%d, %s, %d SMs", dev->name, dev->index, dev->bus,
	                          precision[dev->base.config.precision], dev->base.host_memory ? ", managed memory" : "", runtime / 1000,
	                          runtime % 1000 / 10, driver / 1000, driver % 1000 / 10, cuda_conv_words(), dev->processors);
	return dev->describe;
}

const struct device_ops device_cuda = {
	.name = "cuda",
	.help = "an NVIDIA GPU: cuDNN, cuBLASLt and kernels of our own",
	.mem = &cuda_mem_ops,
	.stream = &cuda_stream_ops,
	.vec = &cuda_vec_ops,
	.sparse = &cuda_sparse_ops,
	.lowrank = &cuda_lowrank_ops,
	.quant = &cuda_quant_ops,
	.nn = &cuda_nn_ops,
	.open = device_open,
	.close = device_close,
	.describe = device_describe,
};
