/* What the formulas know of a machine: enough to predict a step (DESIGN 5). Seconds and bytes. */
#ifndef COCOD_COST_H
#define COCOD_COST_H

#include <stdint.h>

struct cost_model {
	int workers;                    /* P */
	double latency;                 /* alpha: seconds a message */
	double per_byte;                /* beta: seconds a byte, point to point */
	double forward, backward;       /* seconds of computing a step, optimizer included in backward */
	/* Of each tensor: the share of backward behind which its gradient is final; never falls along the arena. NULL: not known; then what is
	 * not the last to be sent is taken to be final when the network has time for it. */
	const double *ready;
	int64_t n;                      /* floats in the model */
	int per_node;                   /* neighbouring workers on one node, which share its link to the others; 0: not known, each by itself */
	double intra_latency, intra_per_byte;   /* between them; no two share anything there */
	double kernels;                 /* seconds of one average of the model beside its messages: choosing, packing, adding up */
	double delay;                   /* seconds in front of every exchange (comm.delay_ms) */
	/* Shares of the kernels' and of the messages' time that the communication stream takes from computing, 0 to 1: 1 where both have
	 * one core or one GPU. What is taken cannot hide. Only sync_cost() asks. */
	double kernels_lent, messages_lent;
};

/* Who sits together, however many workers there are: so many neighbours on each node, or so many nodes; both 0: not known, each by itself. */
struct seats {
	int per_node, nodes;
};
static inline int seats_per_node(struct seats s, int workers) { return s.nodes ? (workers + s.nodes - 1) / s.nodes : s.per_node; }

/*
 * Contention. A node's link carries alpha, beta in either direction at once, and its workers share it: if `across` of them send out of
 * the node at the same time (or receive from outside), each has 1/across of the bandwidth. Latencies do not share. So a step in which every
 * worker sends one message of so many bytes, and waits for one, takes
 *
 *     alpha + across * bytes * beta                           between nodes; across 0: everybody stays inside
 *     alpha' + bytes * beta'                                  inside, by those who have their partner there
 *
 * whichever is longer. Rounds are taken to begin together: where they do not, the sum over the rounds is an upper bound.
 */
double cost_step(const struct cost_model *, int across, double bytes);

/* The most messages that leave one node if worker r sends to peer(context, r); -1: to nobody. Counts them. With whom it receives from: that
 * enter one. */
typedef int cost_peer_fn(const void *context, int worker);
int cost_across(const struct cost_model *, cost_peer_fn *peer, const void *context);
/* The same where r sends to r + distance modulo P, in closed form: of the g of a node the last `distance` leave it, unless the way around
 * brings them back into it, and no more than there are workers elsewhere. A ring (distance 1) crosses each link once. 0 < distance < P. */
int cost_across_ring(const struct cost_model *, int distance);

#endif
