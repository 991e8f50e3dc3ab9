/* Dividing whole things by weights: seats, images of a batch. */
#ifndef COCOD_APPORTION_H
#define COCOD_APPORTION_H

#include <stdint.h>

/* share[i] is in the ratio of weight[i], whole, at least `least`, and all are `total` together: the method of the largest remainder
 * (Hamilton), among those who deserve more than the least. Ties: the first. Weights are positive; total >= n least. */
void apportion(int64_t total, int n, const double *weight, int64_t least, int64_t *share);

#endif
