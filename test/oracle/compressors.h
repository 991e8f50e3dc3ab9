/* The compressors that have a file of their own beside base.h. */
#ifndef ORACLE_COMPRESSORS_H
#define ORACLE_COMPRESSORS_H

#include "compress_randomk.h"

__attribute__((unused)) static const struct oracle_compressor *const oracle_compressors[] = {
	&oracle_randomk,
	NULL,
};

#endif
