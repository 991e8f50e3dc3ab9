/*
 * What the benchmarks of the CUDA device share: the device, numbers to work on, time, and what time is compared with.
 *
 * device.h has no clock of the device. So a time is the host's, around many calls of one operation between two sync(), recorded as one
 * graph where that is allowed, so that launching is not what is timed; the best of three rounds, a warm-up before each. The calls work
 * on the same buffers: what fits the second-level cache may be faster here than in a step.
 *
 * A floor is the larger of operations over the GPU's peak and bytes over its bandwidth. The peaks are the public figures of a GPU of
 * that name; $PEAK_TFLOPS (of the precision asked for) and $PEAK_GBS replace them.
 */
#ifndef BENCH_KIT_H
#define BENCH_KIT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/device.h"
#include "../core/die.h"

enum { ROUNDS = 3 };

static struct device *dev;
static const struct device_ops *ops;
static struct stream *stream;
static int repetitions = 50;
static double peak_flops, peak_bytes;   /* a second */

/* ---- the device ---- */

static void look_up_peaks(enum precision precision)
{
	static const struct { const char *name; double bf16, tf32, fp32, gbs; } known[] = {
		{ "H200", 989, 495, 67, 4800 }, { "H100 PCIe", 756, 378, 51, 2000 }, { "H100", 989, 495, 67, 3350 },
		{ "A100", 312, 156, 19.5, 2039 }, { "", 989, 495, 67, 3350 },
	};
	const char *words = ops->describe(dev), *tflops = getenv("PEAK_TFLOPS"), *gbs = getenv("PEAK_GBS");
	size_t i = 0;

	while (!strstr(words, known[i].name))
		i++;
	peak_flops = 1e12 * (tflops ? atof(tflops) : precision == PRECISION_BF16 ? known[i].bf16 :
	                     precision == PRECISION_TF32 ? known[i].tf32 : known[i].fp32);
	peak_bytes = 1e9 * (gbs ? atof(gbs) : known[i].gbs);
	printf("%s\nfloors: %.0f TFLOP/s and %.0f GB/s, %s\n", words, peak_flops / 1e12, peak_bytes / 1e9,
	       tflops && gbs ? "as given" : *known[i].name ? "public figures" : "taken from an H100: this GPU's are not known here");
}

static void open_device(const char *precision)
{
	struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto", .index = -1 };

	config.precision = !strcmp(precision, "fp32") ? PRECISION_FP32 : !strcmp(precision, "tf32") ? PRECISION_TF32 : PRECISION_BF16;
	ops = device_find("cuda");
	dev = ops ? ops->open(&config) : NULL;
	if (!dev) {
		fprintf(stderr, "%sbench_gpu: there is no CUDA device here\n", errors_text());
		exit(STATUS_FAILURE);
	}
	stream = ops->stream->open(dev, STREAM_COMPUTE);
	look_up_peaks(config.precision);
}

static void *device_bytes(size_t n) { return ops->mem->alloc(dev, n); }

/* Long tails, as gradients have them; all different, more or less. */
static float *random_floats(int64_t n, float scale)
{
	static uint64_t seed = 1;
	float *host = xaligned((size_t)n * sizeof(float)), *x = device_bytes((size_t)n * sizeof(float));

	for (int64_t i = 0; i < n; i++) {
		float u;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		u = (float)(int64_t)(seed >> 32) / (1u << 31) - 1;
		host[i] = scale * u * u * u;
	}
	ops->mem->copy(stream, x, host, (size_t)n * sizeof(float), COPY_TO_DEVICE);
	ops->stream->sync(stream);
	free(host);
	return x;
}

/* ---- time ---- */

typedef void work(void *context);

/* Seconds of one call. `recordable`: it queues only what a graph may hold. */
static double time_of(work *f, void *context, bool recordable)
{
	struct graph *graph = NULL;
	double best = INFINITY;

	f(context);                     /* what is made in the first call */
	ops->stream->sync(stream);
	if (recordable && ops->stream->capture_begin) {
		ops->stream->capture_begin(stream);
		for (int i = 0; i < repetitions; i++)
			f(context);
		graph = ops->stream->capture_end(stream);
		ops->stream->replay(stream, graph);
	}
	for (int round = 0; round < ROUNDS; round++) {
		double start;

		ops->stream->sync(stream);
		start = clock_now();
		if (graph)
			ops->stream->replay(stream, graph);
		for (int i = 0; i < repetitions && !graph; i++)
			f(context);
		ops->stream->sync(stream);
		start = clock_now() - start;
		best = start < best ? start : best;
	}
	if (graph)
		ops->stream->graph_free(graph);
	return best / repetitions;
}

__attribute__((unused)) static double floor_of(double flops, double bytes)
{
	return flops / peak_flops > bytes / peak_bytes ? flops / peak_flops : bytes / peak_bytes;
}

static const char *word(int argc, char **argv, int i, const char *otherwise) { return argc > i ? argv[i] : otherwise; }

#endif
