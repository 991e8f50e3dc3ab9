/* The wall clock (clock.h). Monotonic, so that a correction of the system's time during a run does not make a step negative. */
#include <time.h>

#include "clock.h"

double clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
