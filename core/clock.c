/* Clocks (clock.h). The wall's is monotonic, so that a correction of the system's time during a run does not make a step negative. */
#include <time.h>

#include "clock.h"

static double clock_of(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clock_now(void) { return clock_of(CLOCK_MONOTONIC); }
double clock_cpu(void) { return clock_of(CLOCK_THREAD_CPUTIME_ID); }
