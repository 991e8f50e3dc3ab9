/*
 * What compressing costs beside its messages: choosing, packing, unpacking, adding up. Measured where it will run, by real averages over
 * the run's own transport, of which the time inside messages is left out.
 */
#ifndef COCOD_COMPRESS_KERNELS_H
#define COCOD_COMPRESS_KERNELS_H

#include "compress.h"

/*
 * Seconds of averaging the ranges once, of which the communicator's stream is not inside a message; the slowest rank's, the best of a few
 * averages (about a tenth of a second in all). The same number on all ranks, which call it together while nothing is queued. The
 * compressor is bound to those ranges and is not used for anything else: it has averaged `in` some times afterwards.
 */
double compress_kernels(struct compress *, const struct range *, int count, const float *in, float *out);

#endif
