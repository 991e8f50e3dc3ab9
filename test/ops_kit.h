/*
 * What the tests of single operations share: every way to run the CPU device (instruction set × threads) beside the reference
 * device, and buffers with canaries around them.
 */
#ifndef OPS_KIT_H
#define OPS_KIT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../core/cpu/cpu.h"
#include "../core/rng.h"
#include "tap.h"

enum { CANARIES = 32 };
static const uint32_t CANARY = 0x7fbadbad;      /* a NaN: whoever reads it shows it */

struct rig {
	const struct device_ops *ops;
	struct device *dev;
	struct stream *stream;
	char name[32];
};

static struct rig rig_open(const char *device, const char *isa, int threads)
{
	struct device_config config = { .threads = threads, .progress = PROGRESS_HOOK, .conv = "auto" };
	struct rig r = { .ops = device_find(device) };

	setenv("COCOD_ISA", isa, 1);
	r.dev = r.ops->open(&config);
	r.stream = r.ops->stream->open(r.dev, STREAM_COMPUTE);
	snprintf(r.name, sizeof(r.name), "%s %s x%d", device, isa, threads);
	return r;
}

static void rig_close(struct rig *r)
{
	r->ops->stream->close(r->stream);
	r->ops->close(r->dev);
}

/* Calls test(rig, reference) for all instruction sets that this machine has, on one and two threads, and the best on three. Under
 * the thread sanitizer (test/run is told TSAN=1) on one: it does not understand OpenMP's barriers. */
__attribute__((unused)) static void for_all_rigs(void (*test)(struct rig *, struct rig *))
{
	static const char *const isa[ISA_COUNT] = { "base", "avx2", "avx512" };
	const char *tsan = getenv("TSAN");
	enum cpu_isa best;

	unsetenv("COCOD_ISA");
	best = cpu_isa();
	for (int i = 0; i < ISA_COUNT; i++) {
		for (int threads = 1; threads <= 3; threads++) {
			struct rig r, reference;

			if (i > (int)best || (threads == 3 && i < (int)best) || (threads > 1 && tsan && *tsan == '1'))
				continue;
			reference = rig_open("reference", isa[i], 1);
			r = rig_open("cpu", isa[i], threads);
			test(&r, &reference);
			rig_close(&r);
			rig_close(&reference);
		}
	}
}

struct buffer {
	float *x;
	int64_t n;
	void *memory;
};

/* n floats with canaries on both sides; `shift` floats off the alignment. */
__attribute__((unused)) static struct buffer buffer_open(int64_t n, int shift)
{
	struct buffer b = { .n = n, .memory = aligned_alloc(64, ((size_t)n + 2 * CANARIES + 32) / 16 * 64) };

	b.x = (float *)b.memory + CANARIES + shift;
	for (int i = 0; i < CANARIES; i++) {
		memcpy(b.x - 1 - i, &CANARY, 4);
		if (i < CANARIES - shift)
			memcpy(b.x + n + i, &CANARY, 4);
	}
	return b;
}

__attribute__((unused)) static bool buffer_intact(const struct buffer *b)
{
	int bad = 0;

	for (int i = 0; i < CANARIES / 2; i++)
		bad += memcmp(b->x - 1 - i, &CANARY, 4) != 0 || memcmp(b->x + b->n + i, &CANARY, 4) != 0;
	return bad == 0;
}

__attribute__((unused)) static void buffer_close(struct buffer *b) { free(b->memory); }

/* Bell enough for a test, and four times as fast as a normal distribution: the sum of two uniform ones. */
__attribute__((unused)) static void fill(float *x, int64_t n, uint32_t which, double mean, double deviation)
{
	struct rng rng;

	rng_init(&rng, 7, RNG_TEST, which, 0);
	for (int64_t i = 0; i < n; i++) {
		uint32_t word = rng_u32(&rng);

		x[i] = (float)(mean + deviation * 2.449 * ((word >> 16) + (word & 0xffff) - 65535.0) / 65536);
	}
}

/* The largest |a - b| relative to the largest |b| (at least `least`); infinite if anything is not a number. */
__attribute__((unused)) static double distance(const float *a, const float *b, int64_t n, double least)
{
	double far = 0, large = least;

	for (int64_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - b[i]);

		if (!(d <= far))
			far = d;
		if (isnan(d))
			return INFINITY;
		if (fabs((double)b[i]) > large)
			large = fabs((double)b[i]);
	}
	return far / large;
}

#endif
