/* The method of the largest remainder: see apportion.h. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "apportion.h"
#include "die.h"

/* Who deserves less than the least gets that, which leaves less for the others, of whom one may now deserve less, … */
static void settle_least(int64_t *total, double *sum, int n, const double *weight, int64_t least, int64_t *share, bool *settled)
{
	for (bool again = true; again;) {
		again = false;
		for (int i = 0; i < n; i++) {
			if (settled[i] || (double)*total * weight[i] >= (double)least * *sum)
				continue;
			settled[i] = again = true;
			share[i] = least;
			*total -= least;
			*sum -= weight[i];
		}
	}
}

void apportion(int64_t total, int n, const double *weight, int64_t least, int64_t *share)
{
	bool *settled = xcalloc((size_t)n, sizeof(*settled));
	double sum = 0, *rest = xcalloc((size_t)n, sizeof(*rest));
	int64_t left;

	CHECK(n > 0 && total >= n * least);
	for (int i = 0; i < n; i++) {
		CHECK(isfinite(weight[i]) && weight[i] > 0);
		sum += weight[i];
	}
	settle_least(&total, &sum, n, weight, least, share, settled);
	left = total;
	for (int i = 0; i < n; i++) {
		double quota = settled[i] ? 0 : (double)total * weight[i] / sum;

		if (settled[i])
			continue;
		share[i] = (int64_t)floor(quota);
		rest[i] = quota - floor(quota);
		left -= share[i];
	}
	for (; left > 0; left--) {
		int best = -1;

		for (int i = 0; i < n; i++)
			if (!settled[i] && (best < 0 || rest[i] > rest[best]))
				best = i;
		share[best]++;
		rest[best] = -1;
	}
	free(rest);
	free(settled);
}
