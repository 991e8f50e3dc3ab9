/*
 * A GPU that is played on the host, for test/conv_check.c: the parts of CUDA and of core/cuda that convolutions need, done at once in
 * the caller. Linked in place of the real ones. The clock is played too: it advances when something is executed (play_libraries.h).
 */
#ifndef PLAY_CUDA_H
#define PLAY_CUDA_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/cuda/cuda.h"
#include "../core/die.h"

/* How the game stands, and what a test may change. */
static struct {
	int executions;                 /* of plans, so far */
	bool timing;                    /* between two events: then nothing is computed */
	double now;                     /* µs */
	float fastest;                  /* of what was timed, since a test set it */
	bool deaf;                      /* no engine adds */
	int broken;                     /* this engine refuses to run */
	bool full;                      /* no device memory is left */
} play = { .broken = -1 };

/* ---- numbers ---- */

static float from_half(uint16_t h)
{
	uint32_t bits = (uint32_t)h << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static uint16_t to_half(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float get(enum dtype t, const void *p, int64_t i) { return t == DTYPE_BF16 ? from_half(((const uint16_t *)p)[i]) : ((const float *)p)[i]; }

static void put(enum dtype t, void *p, int64_t i, double v)
{
	if (t == DTYPE_BF16)
		((uint16_t *)p)[i] = to_half((float)v);
	else
		((float *)p)[i] = (float)v;
}

/* ---- the rest of core/cuda, at once and on the host ---- */

static enum dtype activation(struct stream *s) { return s->dev->base.activation; }

static void *mem_alloc(struct device *dev, size_t bytes)
{
	(void)dev;
	return xcalloc(1, bytes);
}

static void mem_free(struct device *dev, void *p)
{
	(void)dev;
	free(p);
}

const struct mem_ops cuda_mem_ops = { .alloc = mem_alloc, .free = mem_free };

static struct stream *stream_open(struct device *dev, enum stream_kind kind)
{
	struct stream *s = xcalloc(1, sizeof(*s));

	*s = (struct stream){ .dev = cuda(dev), .kind = kind, .handle = (cudaStream_t)s, .scratch = xaligned(CUDA_SCRATCH) };
	return s;
}

static void stream_close(struct stream *s)
{
	free(s->scratch);
	free(s);
}

const struct stream_ops cuda_stream_ops = { .open = stream_open, .close = stream_close };

void *cuda_scratch(struct stream *s, size_t bytes)
{
	CHECK(bytes <= CUDA_SCRATCH);
	return s->scratch;
}

void cuda_check(cudaError_t status, const char *call, const char *file, int line)
{
	if (status)
		die(STATUS_FAILURE, "%s:%d: %s: %d", file, line, call, status);
}

void cuda_queued(struct stream *s, const char *what) { (void)s, (void)what; }

static const float *half_base;          /* the only arena, */
static uint16_t *half;                  /* and its copy */

const void *cuda_half(struct cuda_device *dev, const float *x)
{
	(void)dev;
	CHECK(half);
	return half + (x - half_base);
}

void cuda_to_f32(struct stream *s, int64_t n, const void *x, float *y)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = get(activation(s), x, i);
}

void cuda_grad_add(struct stream *s, int64_t n, const void *dy, void *dx)
{
	for (int64_t i = 0; i < n; i++)
		put(activation(s), dx, i, get(activation(s), dx, i) + get(activation(s), dy, i));
}

void cuda_bias_add(struct stream *s, int64_t rows, int c, const float *b, void *y)
{
	for (int64_t i = 0; i < rows * c; i++)
		put(activation(s), y, i, get(activation(s), y, i) + b[i % c]);
}

void cuda_bias_sum(struct stream *s, int64_t rows, int c, const void *dy, float *db)
{
	for (int j = 0; j < c; j++) {
		double sum = 0;

		for (int64_t i = 0; i < rows; i++)
			sum += get(activation(s), dy, i * c + j);
		db[j] = (float)sum;
	}
}

void cuda_weight_pad(struct stream *s, int64_t rows, int c, int pitch, const void *w, void *padded)
{
	for (int64_t i = 0; i < rows * pitch; i++)
		put(activation(s), padded, i, i % pitch < c ? get(activation(s), w, i / pitch * c + i % pitch) : 0);
}

void cuda_weight_trim(struct stream *s, int64_t rows, int c, int pitch, const float *padded, float *dw)
{
	(void)s;
	for (int64_t i = 0; i < rows * c; i++)
		dw[i] = padded[i / c * pitch + i % c];
}

/* ---- CUDA ---- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
	*p = play.full ? NULL : xaligned(bytes);
	return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *p)
{
	free(p);
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return (void)device, cudaSuccess; }

cudaError_t cudaGetLastError(void) { return cudaSuccess; }

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s)
{
	(void)kind, (void)s;
	memcpy(dst, src, bytes);
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
	(void)s;
	memset(p, value, bytes);
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) { return (void)s, cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
	*e = xcalloc(1, sizeof(double));
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	free(e);
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
	(void)s;
	*(double *)e = play.now;
	play.timing = !play.timing;
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e) { return (void)e, cudaSuccess; }

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
	*ms = (float)((*(double *)to - *(double *)from) / 1000);
	return cudaSuccess;
}

#endif
