/*
 * The CUDA device and the NCCL transport live in a shared object, libcocod-cuda.so, which is opened when a GPU is first asked for:
 * a run on the CPU pays neither their memory nor their start-up, and a machine without CUDA runs the same program.
 *
 * It is looked for in $COCOD_BACKEND (a path), beside the program, and in ../lib/cocod-train from there.
 */
#ifndef COCOD_BACKEND_H
#define COCOD_BACKEND_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct device_ops;
struct comm_ops;

enum { BACKEND_ABI = 2 };               /* changes with every table that crosses the border */

struct backend {
	int abi;
	const struct device_ops *device;
	const struct comm_ops *transport;       /* NULL: built without */
};

/* The one symbol that the shared object exports. */
#define BACKEND_SYMBOL "cocod_backend"
typedef const struct backend *backend_fn(void);

/* Opens it once. NULL: *why says what is missing (one clause, valid for ever). */
const struct backend *backend_open(const char **why);
/* Cheap: does this machine look as if a GPU's driver were loaded? Nothing is opened. */
bool backend_likely(void);

#ifdef __cplusplus
}
#endif
#endif
