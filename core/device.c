/* Finds a device by name: among those that were linked in (the Makefile makes the list), or in the backend. */
#include <string.h>

#include "backend.h"
#include "device.h"
#include "die.h"

static const struct device_ops *find_cuda(void)
{
	const char *why;
	const struct backend *b = backend_open(&why);

	if (b)
		return b->device;
	error("device \"cuda\": %s", why);
	hint("make CUDA=1 builds libcocod-cuda.so; it needs the libraries of CUDA, cuDNN and NCCL in LD_LIBRARY_PATH, and "
	     "$COCOD_BACKEND may name it where it is not beside the program");
	return NULL;
}

const struct device_ops *device_find(const char *name)
{
	for (const struct device_ops *const *d = device_list; *d; d++)
		if (!strcmp((*d)->name, name))
			return *d;
	if (!strcmp(name, "cuda"))
		return find_cuda();
	error("there is no device \"%s\"", name);
	hint("the devices are cuda, cpu and reference");
	return NULL;
}
