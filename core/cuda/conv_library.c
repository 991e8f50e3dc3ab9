/* Opens and closes the libraries behind the convolutions, and says which they are. */
#include "conv_library.h"

#include <stdio.h>
#include <stdlib.h>

#include "../die.h"
#include "conv_cache.h"
#include "conv_select.h"
#include "cublas.h"

static const char *cudnn_version(char text[24])
{
	size_t v = cudnnGetVersion();           /* 91900 is 9.19.0 */

	snprintf(text, 24, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
	return text;
}

struct conv_library *conv_library(struct cuda_device *device)
{
	struct conv_library *l = device->conv;
	cudnnStatus_t status;
	char version[24];

	if (l)
		return l;
	l = xcalloc(1, sizeof(*l));
	l->device = device;
	CUDA(cudaSetDevice(device->index));
	status = cudnnCreate(&l->target.handle);
	if (status != CUDNN_STATUS_SUCCESS)
		die(STATUS_FAILURE, "cuDNN %s does not start on %s: %s. %s It wants all its libraries in one folder and a driver for CUDA %d",
		    cudnn_version(version), device->name, cudnnGetErrorString(status), cudnn_words(), CUDART_VERSION / 1000);
	CUBLAS(cublasLtCreate(&l->blas));
	l->cache = conv_cache_open(device->name, cudnn_version(version));
	device->conv = l;
	return l;
}

cudnnHandle_t conv_library_on(struct conv_library *l, struct stream *s)
{
	if (l->stream != s->handle) {
		CUDNN(cudnnSetStream(l->target.handle, s->handle));
		l->stream = s->handle;
	}
	return l->target.handle;
}

void cuda_conv_library_close(struct cuda_device *device)
{
	struct conv_library *l = device->conv;

	if (!l)
		return;
	conv_kept_free(l);
	conv_cache_close(l->cache);
	CUBLAS(cublasLtDestroy(l->blas));
	CUDNN(cudnnDestroy(l->target.handle));
	free(l);
	device->conv = NULL;
}

const char *cuda_conv_words(void)
{
	static char words[64];
	size_t blas = cublasLtGetVersion();     /* 130100 is 13.1.0 */
	char version[24];

	snprintf(words, sizeof(words), "cuDNN %s, cuBLASLt %zu.%zu", cudnn_version(version), blas / 10000, blas / 100 % 100);
	return words;
}
