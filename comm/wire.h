/*
 * The modelled network: what a message or a collective takes on a cluster that is not there, on either clock.
 *
 *   virtual   the communicator's stream has a time of its own (core/timeline.h): it is moved to the end of the exchange
 *   emulate   the stream really waits until then, on the wall clock
 *
 * Beside every exchange the partners tell each other when they began; a collective begins when the last of its ranks does. Then
 *
 *   exchange     sends in alpha + beta bytes from its own beginning; receives in alpha + beta bytes from the later of the two
 *                beginnings: a message travels when both ends are ready, so whoever receives from many, gets one after the other
 *   collective   takes the time of its formula (topology/, DESIGN 5), whatever the real one is built of
 *
 * Ranks of a node are neighbours (link.per_node), and between nodes they share its link. Who sends and receives at once takes part in a pattern
 * of all ranks (a ring, pairs), see cost_across_ring(); who does one of them, in a tree: one rank of a node at a time.
 */
#ifndef COCOD_WIRE_H
#define COCOD_WIRE_H

#include "comm.h"
#include "cost.h"

struct wire;

/* All ranks, while nothing is queued. Of `link` the network and per_node are used. kernel: seconds that compressing an element takes beside
 * the messages (virtual only; a real wait contains it). offset: what makes this host's wall clock rank 0's. Freed by comm_close(). */
void wire_open(struct comm *, const struct cost_model *link, double kernel, bool emulate, double offset);
void wire_release(struct comm *);

/* Around the exchanges of a collective, or around one exchange. begin returns false if no time is kept (no wire, paused, inside of another
 * one); then there is no end. */
bool wire_begin(struct comm *);
void wire_end_collective(struct comm *, double seconds);
void wire_end_exchange(struct comm *, int to, int64_t send_bytes, int from, int64_t recv_bytes);
/* Queues what compressing n elements takes; and a pause. False: the caller has to wait for real. */
void wire_kernels(struct comm *, int64_t n);
bool wire_pause(struct comm *, double seconds);

/*
 * Servers (topology/ps_server.c) handle what was sent first, by the virtual clock, whatever came first: so they receive muted, which takes no
 * time; learn when the worker began; and take the message in when its turn has come: from the later of `asked` and now. A worker that is
 * paused says NAN: muted is what is done for it.
 */
bool wire_orders(const struct comm *);                  /* is there such a clock? */
void wire_mute(struct comm *, bool);
double wire_heard(const struct comm *);                 /* of the last message; the host has synced the stream */
void wire_take_in(struct comm *, int from, double asked, int64_t bytes);

/* What of a model holds for this communicator's collectives. */
const struct cost_model *wire_link(const struct comm *);

#endif
