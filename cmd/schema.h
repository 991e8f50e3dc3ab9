/* All tables of options that were linked in: the base tables of each group, and what models, data sets and algorithms bring. */
#ifndef COCOD_SCHEMA_H
#define COCOD_SCHEMA_H

#include "../core/config.h"

const struct schema *schema_all(void);  /* ended by group == NULL; made once, lives for ever */

#endif
