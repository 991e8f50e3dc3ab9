/* All optimizers: see optimizer_list.h. */
#include <string.h>

#include "optimizer_list.h"

extern const struct optimizer_ops optimizer_sgd, optimizer_adamw;

const struct optimizer_ops *const optimizer_list[] = {
	&optimizer_sgd,
	&optimizer_adamw,
	NULL,
};

const struct optimizer_ops *optimizer_find(const char *name)
{
	for (int i = 0; optimizer_list[i]; i++)
		if (strcmp(optimizer_list[i]->name, name) == 0)
			return optimizer_list[i];
	return NULL;
}
