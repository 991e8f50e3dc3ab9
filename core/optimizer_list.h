/* All optimizers. A new one is a file and a line in optimizer_list.c. */
#ifndef COCOD_OPTIMIZER_LIST_H
#define COCOD_OPTIMIZER_LIST_H

#include "optimizer.h"

extern const struct optimizer_ops *const optimizer_list[];      /* NULL-terminated */
const struct optimizer_ops *optimizer_find(const char *name);   /* NULL: unknown */

#endif
