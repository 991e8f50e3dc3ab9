/* Memory of the CPU device: 64-byte aligned, large blocks on huge pages; copies by the team on the compute stream. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../die.h"
#include "cpu.h"

enum { HUGE = 2 << 20 };

static void *mem_alloc(struct device *dev, size_t bytes)
{
	size_t align = bytes >= 2 * HUGE ? HUGE : 64;
	void *p = aligned_alloc(align, (bytes + align) / align * align);

	(void)dev;
	if (!p)
		die(STATUS_FAILURE, "out of memory: %.1f MB wanted. Use a smaller train.batch or model.width", (double)bytes / 1e6);
	if (align == HUGE)
		madvise(p, bytes, MADV_HUGEPAGE);       /* worth about 3 % of a step; no matter if the kernel refuses */
	return memset(p, 0, bytes);
}

static void mem_free(struct device *dev, void *p)
{
	(void)dev;
	free(p);
}

struct copy_args {
	void *dst;
	const void *src;
	size_t bytes;
};

/* Below this it is not worth waking the team. */
static const int64_t PARALLEL_BYTES = 1 << 18;

static void run_copy(void *args, int team)
{
	const struct copy_args *a = args;
	int64_t bytes = (int64_t)a->bytes;

	if (team == 1 || bytes < PARALLEL_BYTES) {
		if (a->src)
			memcpy(a->dst, a->src, a->bytes);
		else
			memset(a->dst, 0, a->bytes);
		return;
	}
#pragma omp parallel for num_threads(team) schedule(static)
	for (int t = 0; t < team; t++) {
		int64_t from, to;

		cpu_slice(bytes, team, t, 4096, &from, &to);
		if (a->src)
			memcpy((char *)a->dst + from, (const char *)a->src + from, (size_t)(to - from));
		else
			memset((char *)a->dst + from, 0, (size_t)(to - from));
	}
}

static void mem_copy(struct stream *s, void *dst, const void *src, size_t bytes, enum copy_kind kind)
{
	(void)kind;
	cpu_run(s, run_copy, &(struct copy_args){ dst, src, bytes }, sizeof(struct copy_args));
}

static void mem_zero(struct stream *s, void *dst, size_t bytes)
{
	cpu_run(s, run_copy, &(struct copy_args){ dst, NULL, bytes }, sizeof(struct copy_args));
}

struct set_args {
	void *dst;
	size_t bytes;
	unsigned char value[128];
};

static void run_set(void *args, int team)
{
	const struct set_args *a = args;

	(void)team;
	memcpy(a->dst, a->value, a->bytes);
}

static void mem_set(struct stream *s, void *dst, const void *src, size_t bytes)
{
	struct set_args a = { dst, bytes, { 0 } };

	CHECK(bytes <= sizeof(a.value));
	memcpy(a.value, src, bytes);
	cpu_run(s, run_set, &a, sizeof(a));
}

const struct mem_ops cpu_mem_ops = {
	.alloc = mem_alloc,
	.free = mem_free,
	.alloc_host = mem_alloc,
	.free_host = mem_free,
	.copy = mem_copy,
	.zero = mem_zero,
	.set = mem_set,
};

void cpu_scratch_reserve(struct cpu_device *dev, size_t bytes)
{
	if (bytes <= dev->scratch_bytes)
		return;
	free(dev->scratch);
	dev->scratch = mem_alloc(&dev->base, bytes);
	dev->scratch_bytes = bytes;
}
