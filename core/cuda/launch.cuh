// How kernels are launched here, and what they share. Through the typed form of cudaLaunchKernel instead of <<< >>>: that is plain
// C++, so any compiler can build these sources against test/emulator's cuda_runtime.h and run them on a CPU.
#ifndef COCOD_LAUNCH_CUH
#define COCOD_LAUNCH_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "cuda.h"

typedef __nv_bfloat16 bf16;

// Queues kernel<<<grid, block>>>(arguments) on the stream. The arguments are converted to the kernel's own parameter types.
template <class... P>
static void launch(struct stream *s, const char *what, dim3 grid, dim3 block, void (*kernel)(P...), typename std::common_type<P>::type... a)
{
	void *args[] = { (void *)&a... };

	cuda_begin(s);
	CUDA(cudaLaunchKernel(kernel, grid, block, args, 0, s->handle));
	cuda_queued(s, what);
}

__device__ static inline float to_float(float v) { return v; }
__device__ static inline float to_float(bf16 v) { return __bfloat162float(v); }
template <class T> __device__ static inline T from_float(float v);
template <> __device__ inline float from_float<float>(float v) { return v; }
template <> __device__ inline bf16 from_float<bf16>(float v) { return __float2bfloat16_rn(v); }

// Calls f<float> or f<bf16>, as the device computes: ACTIVATION(s, f(s, n, x)) with f a template of one type.
#define ACTIVATION(s, function, ...) \
	((s)->dev->base.activation == DTYPE_BF16 ? function<bf16>(s, __VA_ARGS__) : function<float>(s, __VA_ARGS__))

static inline unsigned blocks_for(int64_t n, int per_block, int most)
{
	int64_t blocks = (n + per_block - 1) / per_block;

	return (unsigned)(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

#endif
