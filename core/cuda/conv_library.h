/*
 * What all convolutions of a device share: cuDNN's and cuBLASLt's handles, the plans that were measured before. Opened with the first
 * plan, so that a program without convolutions does not load half a gigabyte of libraries.
 */
#ifndef COCOD_CONV_LIBRARY_H
#define COCOD_CONV_LIBRARY_H

#include <cublasLt.h>

#include "cuda.h"
#include "cudnn_graph.h"

struct conv_cache;
struct conv_kept;

struct conv_library {
	struct cuda_device *device;
	struct cudnn_target target;
	cudaStream_t stream;            /* which the handle is set to; NULL: none yet */
	cublasLtHandle_t blas;
	struct conv_cache *cache;
	struct conv_kept *kept;         /* engines that are open: conv_select.c */
	bool announced, crowded;        /* said once: that plans are measured; that there is no memory to do so */
};

struct conv_library *conv_library(struct cuda_device *);
/* The handle, queuing on this stream. */
cudnnHandle_t conv_library_on(struct conv_library *, struct stream *);

#endif
