/* The wall clock: seconds, monotonic, from an arbitrary start. */
#ifndef COCOD_CLOCK_H
#define COCOD_CLOCK_H

double clock_now(void);

#endif
