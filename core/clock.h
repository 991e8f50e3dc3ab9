/* Clocks: seconds, monotonic, from an arbitrary start. */
#ifndef COCOD_CLOCK_H
#define COCOD_CLOCK_H

double clock_now(void);         /* the wall's */
double clock_cpu(void);         /* processor time of the calling thread */
void clock_sleep(double until); /* until clock_now() says so, or little later */

#endif
