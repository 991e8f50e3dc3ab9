/*
 * The two devices of this folder: "cpu", and "reference", the plain C oracle on the same memory and streams. Opening one
 * resolves what the configuration left open (who drives the communication streams, the instruction set) and sizes the OpenMP
 * team, which is oneDNN's team as well: a second pool on the same cores would fight the first.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../die.h"
#include "cpu.h"
#include "cpu_ops.h"
#include "kernel/isa.h"

static const char *const isa_key[ISA_COUNT] = { "base", "avx2", "avx512" };
static const char *const isa_word[ISA_COUNT] = { "baseline vectors", "AVX2", "AVX-512" };

const char *cpu_isa_name(enum cpu_isa isa) { return isa_word[isa]; }

enum cpu_isa cpu_isa(void)
{
	enum cpu_isa best = isa_best();
	const char *wish = getenv("COCOD_ISA");

	if (!wish || !*wish)
		return best;
	for (int i = 0; i < ISA_COUNT; i++)
		if (!strcmp(wish, isa_key[i]))
			return i < (int)best ? (enum cpu_isa)i : best;
	warn("COCOD_ISA=%s is none of base, avx2, avx512; taking %s", wish, isa_key[best]);
	return best;
}

static struct device *open_as(const struct device_config *config, const struct device_ops *ops, bool reference)
{
	struct cpu_device *dev = xcalloc(1, sizeof(*dev));
	struct device_config *c = &dev->base.config;

	CHECK(config->threads >= 1);
	*c = *config;
	if (c->progress == PROGRESS_AUTO)
		c->progress = c->spare_cores > 0 ? PROGRESS_THREAD : PROGRESS_HOOK;
	c->precision = PRECISION_FP32;
	dev->base.ops = ops;
	dev->base.activation = DTYPE_F32;
	dev->base.host_memory = true;
	dev->reference = reference;
	dev->isa = cpu_isa();
	dev->threads = c->threads;
	omp_set_dynamic(0);
	omp_set_num_threads(c->threads);
	cpu_scratch_reserve(dev, cpu_scratch_bytes(dev->threads));
	cpu_streams_open(dev);
	return &dev->base;
}

static struct device *open_cpu(const struct device_config *config) { return open_as(config, &device_cpu, false); }
static struct device *open_reference(const struct device_config *config) { return open_as(config, &device_reference, true); }

static void device_close(struct device *device)
{
	struct cpu_device *dev = cpu(device);

	cpu_streams_close(dev);
	free(dev->scratch);
	free(dev->describe);
	free(dev);
}

/* "AMD EPYC 9R14" from /proc/cpuinfo, or the machine's kind where the kernel does not say. */
static void cpu_model(char *out, size_t size)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "r");

	snprintf(out, size, "CPU");
	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, "model name", 10))
			continue;
		colon += 1 + strspn(colon + 1, " \t");
		colon[strcspn(colon, "\n")] = 0;
		snprintf(out, size, "%s", colon);
		break;
	}
	if (f)
		fclose(f);
}

static const char *device_describe(struct device *device)
{
	struct cpu_device *dev = cpu(device);
	char model[160];

	if (dev->describe)
		return dev->describe;
	cpu_model(model, sizeof(model));
	if (dev->reference)
		dev->describe = xasprintf("%s, plain C, 1 thread", model);
	else
		dev->describe = xasprintf("%s, %s, %d thread%s, %s", model, cpu_isa_name(dev->isa), dev->threads,
		                          dev->threads == 1 ? "" : "s", dnnl_words());
	return dev->describe;
}

const struct device_ops device_cpu = {
	.name = "cpu",
	.help = "vector kernels, Winograd and oneDNN on the cores of the machine",
	.mem = &cpu_mem_ops,
	.stream = &cpu_stream_ops,
	.vec = &cpu_vec_ops,
	.sparse = &cpu_sparse_ops,
	.lowrank = &cpu_lowrank_ops,
	.quant = &cpu_quant_ops,
	.nn = &cpu_nn_ops,
	.open = open_cpu,
	.close = device_close,
	.describe = device_describe,
};

const struct device_ops device_reference = {
	.name = "reference",
	.help = "every operation in plain C on one thread: slow, for tests",
	.mem = &cpu_mem_ops,
	.stream = &cpu_stream_ops,
	.vec = &reference_vec_ops,
	.sparse = &reference_sparse_ops,
	.lowrank = &reference_lowrank_ops,
	.quant = &reference_quant_ops,
	.nn = &reference_nn_ops,
	.open = open_reference,
	.close = device_close,
	.describe = device_describe,
};
