// mem->set: a few bytes from the host, taken at the call. They travel as the argument of a kernel, which CUDA copies when it is
// launched. A copy from pageable memory would be staged as well, but the runtime may then make the host wait for the stream; and
// pinned memory would have to be kept until the copy has run.
#include "../die.h"
#include "launch.cuh"

enum { SET_BYTES = 128 };

struct bytes {
	unsigned char v[SET_BYTES];
};

__global__ static void set_kernel(unsigned char *dst, const __grid_constant__ struct bytes value, int n)
{
	int i = (int)threadIdx.x;

	if (i < n)
		dst[i] = value.v[i];
}

void cuda_set(struct stream *s, void *dst, const void *src, size_t bytes)
{
	struct bytes value = {};

	CHECK(bytes <= SET_BYTES && !s->capturing);     // a graph would repeat the value of its first run
	if (bytes == 0)
		return;
	memcpy(value.v, src, bytes);
	launch(s, "set", dim3(1), dim3(SET_BYTES), set_kernel, (unsigned char *)dst, value, (int)bytes);
	cuda_written(s->dev, dst);
}
