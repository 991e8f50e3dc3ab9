/*
 * What the tests of the CUDA device's layers share. Its operations run beside the reference's on the same inputs, with fp32 and
 * with bf16 activations. All data moves by mem->copy(), so the tests run on a GPU as well as on the emulator (test/emulator).
 *
 * Where activations are bf16, inputs are rounded first, so what is compared is the arithmetic: an error is what is left of a
 * distance when half a unit in the last place of the result's type is taken off.
 */
#ifndef CUDA_KIT_H
#define CUDA_KIT_H

#include <string.h>

#include "../core/device.h"
#include "../core/rng.h"
#include "tap.h"

enum { MARGIN = 64 };           /* canary bytes on both sides of an array */
static const unsigned char CANARY = 0xdb;

struct rig {
	const struct device_ops *ops;
	const struct nn_ops *nn;
	struct device *dev;
	struct stream *stream;
	const char *name;
	bool half;              /* activations are bf16 */
};

static struct rig ref;         /* the reference device */

static bool rig_open(struct rig *r, const char *device, enum precision precision, const char *name)
{
	struct device_config config = {
		.threads = 1, .progress = PROGRESS_HOOK, .conv = "reference", .precision = precision, .index = -1,
	};

	*r = (struct rig){ .ops = device_find(device), .name = name };
	r->dev = r->ops ? r->ops->open(&config) : NULL;
	if (!r->dev)
		return false;
	r->nn = r->ops->nn;
	r->stream = r->ops->stream->open(r->dev, STREAM_COMPUTE);
	r->half = r->dev->activation == DTYPE_BF16;
	return true;
}

static void rig_close(struct rig *r)
{
	r->ops->stream->close(r->stream);
	r->ops->close(r->dev);
}

/* ---- bf16 on the host ---- */

static uint16_t to_half(float v)
{
	uint32_t word;

	memcpy(&word, &v, 4);
	return isnan(v) ? 0x7fff : (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

static float from_half(uint16_t h)
{
	uint32_t word = (uint32_t)h << 16;
	float v;

	memcpy(&v, &word, 4);
	return v;
}

/* ---- arrays that live on both devices ---- */

enum kind { ACTIVATION, FLOATS, BYTES };

struct array {
	struct rig *r;
	enum kind kind;
	int64_t n;
	size_t size, shift;     /* bytes of an element on the device; bytes off the alignment */
	void *memory;           /* on the device: MARGIN + shift, the array, MARGIN */
	unsigned char *image;   /* the same bytes on the host, as they were at the last push or pull */
	float *want;            /* the reference's */
	float *got;             /* what pull() found on the device */
};

static struct array array_open(struct rig *r, enum kind kind, int64_t n, int shift)
{
	struct array a = { .r = r, .kind = kind, .n = n };

	a.size = kind == BYTES ? 1 : kind == ACTIVATION && r->half ? 2 : 4;
	a.shift = a.size * (size_t)shift;
	a.memory = r->ops->mem->alloc(r->dev, 2 * MARGIN + a.shift + a.size * (size_t)n);
	a.image = malloc(2 * MARGIN + a.shift + a.size * (size_t)n);
	a.want = calloc((size_t)n, sizeof(float));
	a.got = calloc((size_t)n, sizeof(float));
	return a;
}

static void array_close(struct array *a)
{
	a->r->ops->mem->free(a->r->dev, a->memory);
	free(a->image);
	free(a->want);
	free(a->got);
}

static size_t front(const struct array *a) { return MARGIN + a->shift; }
static size_t bytes(const struct array *a) { return a->size * (size_t)a->n; }
static void *on_device(const struct array *a) { return (char *)a->memory + front(a); }

/* Uploads `want`; where activations are bf16 it is rounded first. */
static void push(struct array *a)
{
	unsigned char *at = a->image + front(a);

	memset(a->image, CANARY, front(a));
	memset(at + bytes(a), CANARY, MARGIN);
	for (int64_t i = 0; i < a->n; i++) {
		uint16_t h = to_half(a->want[i]);

		if (a->size == 2) {
			a->want[i] = from_half(h);
			memcpy(at + 2 * i, &h, 2);
		} else if (a->size == 4) {
			memcpy(at + 4 * i, &a->want[i], 4);
		} else {
			at[i] = (unsigned char)a->want[i];
		}
	}
	a->r->ops->mem->copy(a->r->stream, a->memory, a->image, front(a) + bytes(a) + MARGIN, COPY_TO_DEVICE);
	a->r->ops->stream->sync(a->r->stream);
}

/* Downloads into `got`; false: something was written outside the array. */
static bool pull(struct array *a)
{
	unsigned char *at = a->image + front(a);
	int bad = 0;

	a->r->ops->mem->copy(a->r->stream, a->image, a->memory, front(a) + bytes(a) + MARGIN, COPY_TO_HOST);
	a->r->ops->stream->sync(a->r->stream);
	for (int64_t i = 0; i < a->n; i++) {
		uint16_t h;

		if (a->size == 4)
			memcpy(&a->got[i], at + 4 * i, 4);
		else if (a->size == 1)
			a->got[i] = at[i];
		else
			a->got[i] = from_half((memcpy(&h, at + 2 * i, 2), h));
	}
	for (size_t i = 0; i < front(a); i++)
		bad += a->image[i] != CANARY;
	for (size_t i = 0; i < MARGIN; i++)
		bad += at[bytes(a) + i] != CANARY;
	return bad == 0;
}

/* Bell enough for a test: the sum of two uniform numbers. */
__attribute__((unused)) static void fill(struct array *a, uint32_t which, double mean, double deviation)
{
	struct rng rng;

	rng_init(&rng, 7, RNG_TEST, which, 0);
	for (int64_t i = 0; i < a->n; i++) {
		uint32_t word = rng_u32(&rng);

		a->want[i] = (float)(mean + deviation * 2.449 * ((word >> 16) + (word & 0xffff) - 65535.0) / 65536);
	}
}

/* Downloads, and the largest |got - want| beyond the rounding of the result, relative to the largest |want| (at least `least`);
 * infinite if something is not a number or was written outside. */
__attribute__((unused)) static double error_of(struct array *a, double least)
{
	double unit = a->size == 2 ? 0x1.01p-8 : 0, far = 0, large = least;

	if (!pull(a))
		return INFINITY;
	for (int64_t i = 0; i < a->n; i++) {
		double want = a->want[i], d = fabs(a->got[i] - want) - unit * fabs(want);

		if (isnan(d))
			return INFINITY;
		if (d > far)
			far = d;
		if (fabs(want) > large)
			large = fabs(want);
	}
	return far / large;
}

__attribute__((unused)) static void worse(double *worst, double d)
{
	if (!(d <= *worst))
		*worst = isnan(d) ? INFINITY : d;       /* a NaN would lose against the next finite one */
}

/* Calls tests(rig) for both types of activations. */
static void for_both_types(void (*tests)(struct rig *))
{
	static const enum precision precision[] = { PRECISION_FP32, PRECISION_BF16 };
	static const char *const name[] = { "fp32", "bf16" };

	if (!rig_open(&ref, "reference", PRECISION_FP32, "reference"))
		exit(1);
	for (int i = 0; i < 2; i++) {
		struct rig r;

		if (rig_open(&r, "cuda", precision[i], name[i])) {
			tests(&r);
			rig_close(&r);
		} else {
			skip(name[i], "no CUDA device");
		}
	}
	rig_close(&ref);
}

#endif
