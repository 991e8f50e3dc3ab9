/* Finds a device by name among those that were linked in. The list itself is made by the Makefile. */
#include <string.h>

#include "device.h"

const struct device_ops *device_find(const char *name)
{
	for (const struct device_ops *const *d = device_list; *d; d++)
		if (!strcmp((*d)->name, name))
			return *d;
	return NULL;
}
