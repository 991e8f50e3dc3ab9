/*
 * The bf16 copies of parameter arenas ("shadows"). Layers compute with them; optimizers update the fp32 arena and, in the same
 * kernel, its copy, so that converting all of it once more is the exception.
 *
 * `fresh` is kept on the host, in the order in which operations are queued: the copy will be right when they have run. Events put
 * streams into that order. Who writes
 *
 *   the whole arena with its copy           makes it fresh
 *   a part of both                          keeps it as it was (an update bucket after bucket)
 *   the arena alone, whatever part          makes it stale, until the next prepare()
 *
 * A part of a stale copy is not worth writing: all of it is converted later.
 */
#include <string.h>

#include "../die.h"
#include "cuda.h"

static struct shadow *find(struct cuda_device *dev, const void *x)
{
	for (int i = 0; i < CUDA_SHADOWS; i++) {
		struct shadow *h = &dev->shadow[i];

		if (h->base && (const float *)x >= h->base && (const float *)x < h->base + h->n)
			return h;
	}
	return NULL;
}

static struct shadow *create(struct cuda_device *dev, int64_t n, const float *x)
{
	struct shadow *h = dev->shadow;

	while (h < dev->shadow + CUDA_SHADOWS && h->base)
		h++;
	if (h == dev->shadow + CUDA_SHADOWS)
		die(STATUS_FAILURE, "layers read parameters from more than %d arenas: raise CUDA_SHADOWS", CUDA_SHADOWS);
	CUDA(cudaSetDevice(dev->index));
	*h = (struct shadow){ .base = x, .n = n };
	CUDA(cudaMalloc(&h->half, 2 * (size_t)n));
	return h;
}

/* Not inside of a capture: whether there is something to convert is decided now, and may be otherwise at a replay. */
void cuda_prepare(struct stream *s, int64_t n, const float *x)
{
	struct cuda_device *dev = s->dev;
	struct shadow *h;

	if (dev->base.config.precision != PRECISION_BF16 || n == 0)
		return;
	CHECK(!s->capturing);
	h = find(dev, x);
	if (!h)
		h = create(dev, n, x);
	CHECK(h->base == x && h->n == n);
	if (h->fresh)
		return;
	cuda_to_half(s, n, x, h->half);
	h->fresh = true;
}

const void *cuda_half(struct cuda_device *dev, const float *x)
{
	struct shadow *h;

	if (dev->base.config.precision != PRECISION_BF16)
		return NULL;
	h = find(dev, x);
	if (!h || !h->fresh)
		die(STATUS_FAILURE, "a layer reads parameters that %s: nn->prepare() was not called", h ? "have changed" : "have no bf16 copy");
	return (const char *)h->half + 2 * (x - h->base);
}

void *cuda_half_out(struct cuda_device *dev, const float *x, int64_t n)
{
	struct shadow *h = find(dev, x);
	int64_t from;

	if (!h)
		return NULL;
	from = x - h->base;
	CHECK(n <= h->n - from);
	if (n == h->n)
		h->fresh = true;
	return h->fresh ? (char *)h->half + 2 * from : NULL;
}

void cuda_written(struct cuda_device *dev, const void *x)
{
	struct shadow *h = find(dev, x);

	if (h)
		h->fresh = false;
}

void cuda_forget(struct cuda_device *dev, const void *base)
{
	struct shadow *h = base ? find(dev, base) : NULL;

	if (!h || h->base != base)
		return;
	CUDA(cudaFree(h->half));
	*h = (struct shadow){ 0 };
}

unsigned cuda_fresh(const struct cuda_device *dev)
{
	unsigned fresh = 0;

	for (int i = 0; i < CUDA_SHADOWS; i++)
		fresh |= (unsigned)(!dev->shadow[i].base || dev->shadow[i].fresh) << i;
	return fresh;
}

void cuda_set_fresh(struct cuda_device *dev, unsigned fresh)
{
	for (int i = 0; i < CUDA_SHADOWS; i++)
		dev->shadow[i].fresh = dev->shadow[i].base && fresh >> i & 1;
}
