/* Clocks (clock.h). The wall's is monotonic, so that a correction of the system's time during a run does not make a step negative. */
#include <errno.h>
#include <math.h>
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

void clock_sleep(double until)
{
	double whole = floor(until);
	struct timespec t = { (time_t)whole, (long)(1e9 * (until - whole)) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}
