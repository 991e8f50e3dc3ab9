/*
 * cluster.compute.sleep: a training pass in which every layer sleeps for its time instead of computing. What is sent, when, and what waits
 * for it are as always: hooks are called where they would be, and gradients are there, though they are noise. So many ranks can share a
 * few cores, and what a network does to them is real.
 *
 * Not asleep: the optimizer (it really runs, and sleeps for what is left of its time), what algorithms and compressors do with whole
 * vectors, and messages.
 */
#ifndef COCOD_NET_SLEEP_H
#define COCOD_NET_SLEEP_H

#include "net.h"

struct net_sleep;

/* For a net with times that is bound to a device whose memory the host may write. Its own noise for each rank. */
struct net_sleep *net_sleep_open(struct net *, uint64_t seed, int rank);
void net_sleep_close(struct net_sleep *);                       /* NULL: nothing happens */

/*
 * In the place of net_pass(): each layer takes `factor` times what net->times says. net->g is noise behind it, other noise in each step, so
 * that no compressor runs dry; the sums of the loss are those of a network that knows nothing, ln(classes) an image, none of them right.
 * A layer ends when it must have ended since the pass began, or since a hook made it wait: lateness is made up for.
 * Returns the seconds of communication that there was time for, but that the device counts as taken from computing.
 */
double net_sleep_pass(struct net_sleep *, int64_t step, double factor);

#endif
