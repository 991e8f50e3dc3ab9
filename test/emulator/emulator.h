/* What the emulator's own files share. */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <functional>

#include "cuda_runtime.h"

struct emulator_runner;

/* All that the emulator keeps for a thread of the host; in one place, because shared memory, which is poisoned, lies beside it. */
struct emulator_self {
	struct emulator_runner *runner;         /* block.cc: where this thread runs blocks */
	cudaError_t last;
	int device;
	bool host_function;                     /* inside of one: no call of CUDA is allowed there */
};

extern __thread struct emulator_self emulator_self;

/* As the environment says: */
struct emulator_settings {
	uint64_t shuffle;
	int devices;
	size_t memory;
};

const struct emulator_settings *emulator_config(void);

/* Numbers for EMULATOR_SHUFFLE; each caller has its own state. */
uint64_t emulator_random(uint64_t *state);

/* Remembers an error for cudaGetLastError() and returns it. */
cudaError_t emulator_error(cudaError_t);

/* runtime.cc: what kind of memory this is; unregistered: the host's, pageable. fits: if it is ours, bytes do not leave it. */
enum cudaMemoryType emulator_memory(const void *, size_t bytes, bool *fits);

/* stream.cc */
cudaError_t emulator_queue(cudaStream_t, std::function<void()>);        /* in order, or recorded */
cudaError_t emulator_allowed(void);     /* for what a capture of this thread, or a host function, forbids */
bool emulator_capturing(cudaStream_t);

/* block.cc: runs all blocks of a kernel on this thread; frees what a thread needed for that. */
void emulator_blocks(dim3 grid, dim3 block, const char *name, void (*call)(const void *), const void *arguments);
void emulator_blocks_end(void);

#endif
