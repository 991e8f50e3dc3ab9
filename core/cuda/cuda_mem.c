/*
 * Memory of the GPU, and pinned memory of the host. Allocation waits for the device: it belongs in front of the first step. Its
 * zeros are written by stream 0, which our streams do not wait for; so the host does.
 *
 * A thread that has not chosen a GPU gets number 0, hence the cudaSetDevice() in front of what makes something.
 */
#include <string.h>

#include "../die.h"
#include "cuda.h"

static void out_of_memory(struct cuda_device *dev, size_t bytes, cudaError_t e)
{
	size_t left = 0, total = 0;

	cudaGetLastError();
	if (e != cudaErrorMemoryAllocation)
		cuda_check(e, "allocation on the GPU", __FILE__, __LINE__);
	cudaMemGetInfo(&left, &total);
	die(STATUS_FAILURE, "out of memory on GPU %d (%s): %.1f MB wanted, %.1f of its %.1f MB are free. Use a smaller train.batch "
	    "or model.width", dev->index, dev->name, (double)bytes / 1e6, (double)left / 1e6, (double)total / 1e6);
}

static void *mem_alloc(struct device *device, size_t bytes)
{
	struct cuda_device *dev = cuda(device);
	void *p = NULL;
	cudaError_t e;

	if (bytes == 0)
		bytes = 1;
	CUDA(cudaSetDevice(dev->index));
	e = device->host_memory ? cudaMallocManaged(&p, bytes, cudaMemAttachGlobal) : cudaMalloc(&p, bytes);
	if (e != cudaSuccess)
		out_of_memory(dev, bytes, e);
	CUDA(cudaMemset(p, 0, bytes));
	CUDA(cudaStreamSynchronize(0));
	return p;
}

static void mem_free(struct device *device, void *p)
{
	cuda_forget(cuda(device), p);
	CUDA(cudaFree(p));
}

static void *mem_alloc_host(struct device *device, size_t bytes)
{
	void *p = NULL;
	cudaError_t e;

	CUDA(cudaSetDevice(cuda(device)->index));
	e = cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocPortable);
	if (e != cudaSuccess)
		die(STATUS_FAILURE, "cannot get %.1f MB of pinned host memory: %s. Use a smaller train.batch", (double)bytes / 1e6,
		    cudaGetErrorString(e));
	return memset(p, 0, bytes);
}

static void mem_free_host(struct device *device, void *p)
{
	(void)device;
	CUDA(cudaFreeHost(p));
}

/* The runtime knows what each pointer is. With pinned memory nobody waits. With pageable memory the host may: that is right, but
 * not for the step path. */
static void mem_copy(struct stream *s, void *dst, const void *src, size_t bytes, enum copy_kind kind)
{
	CHECK(!s->capturing || kind == COPY_DEVICE);
	cuda_begin(s);
	CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, s->handle));
	cuda_queued(s, "copy");
	if (kind != COPY_TO_HOST)
		cuda_written(s->dev, dst);
}

static void mem_zero(struct stream *s, void *dst, size_t bytes)
{
	if (!bytes)
		return;
	cuda_begin(s);
	CUDA(cudaMemsetAsync(dst, 0, bytes, s->handle));
	cuda_queued(s, "zero");
	cuda_written(s->dev, dst);
}

const struct mem_ops cuda_mem_ops = {
	.alloc = mem_alloc,
	.free = mem_free,
	.alloc_host = mem_alloc_host,
	.free_host = mem_free_host,
	.copy = mem_copy,
	.zero = mem_zero,
	.set = cuda_set,
};
