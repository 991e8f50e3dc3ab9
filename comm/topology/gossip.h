/*
 * Gossip: in a round every worker mixes with one or two others instead of with all. Here: who, and with which weights. The algorithms
 * (sync/dpsgd.c, choco.c, sgp.c, adpsgd.c) queue the messages themselves.
 *
 * A graph says for each round r whom worker i sends to and who sends to it (P workers, ranks modulo P):
 *
 *   ring               to i+1, from i-1
 *   exponential        to i+2^k, from i-2^k, k = r modulo K, K = ceil(log2 P)      (Assran et al., ICML 2019, section 5)
 *   shuffle-exchange   pairs: positions 2p and 2p+1, after the workers were shuffled r times like a deck of cards
 *   random             pairs: a perfect matching drawn for each round from a seed that all share
 *
 * Of an odd number of workers one has no partner in a round of pairs. Directed algorithms use the edges as they are; undirected ones
 * go both ways on each, so that a worker has two neighbours, or one where both are the same. Neighbours have equally many neighbours.
 * With 2^m equal workers, m rounds make everybody's model the average of all: exponential directed, shuffle-exchange both ways.
 */
#ifndef COCOD_GOSSIP_H
#define COCOD_GOSSIP_H

#include "topology.h"

struct config;

enum gossip_graph { GOSSIP_RING, GOSSIP_EXPONENTIAL, GOSSIP_SHUFFLE_EXCHANGE, GOSSIP_RANDOM };

struct gossip {
	enum gossip_graph graph;
	uint64_t seed;
	int size;
	int *order, *partner;           /* of the random pairs: drawn, and everybody's */
	int64_t drawn;                  /* for which round; -1: none */
};

struct gossip_peers {
	int to, from;                   /* -1: none */
};

/* topology.graph, or `usual` if it is not given. */
void gossip_init(struct gossip *, const struct config *, enum gossip_graph usual);
void gossip_open(struct gossip *, int size);
void gossip_close(struct gossip *);
/*
 * When opening, all ranks together: a few bytes to and from all that the graph may ever lead to. A transport that connects in its first
 * message (NCCL does, inside the call) would else make the host wait for a partner who is still busy. spare: 8 bytes of device memory
 * that `compute` does not need meanwhile.
 */
void gossip_meet(const struct gossip *, struct comm *, struct stream *compute, float *spare);
const char *gossip_name(const struct gossip *);
bool gossip_is_pairs(const struct gossip *);

struct gossip_peers gossip_peers(struct gossip *, int rank, int64_t round);
/* Undirected: fills in who, and returns how many (0 to 2). Of two, the second is who sends to us while we send to the first. */
int gossip_neighbours(struct gossip *, int rank, int64_t round, int neighbour[2]);

/* Of so many ranks, does an edge of any round lead from one to the one `distance` further on, or back? Pairs meet at all distances. */
bool gossip_leads_to(const struct gossip *, int size, int distance);

/* Undirected: W_ij of two neighbours with weights w_i, w_j (M_i / sum M) who have `degree` neighbours each, by Metropolis and Hastings:
 * min(1, w_j/w_i) / (degree + 1). w_i W_ij is symmetric, so that x_i <- sum_j W_ij x_j keeps sum_i w_i x_i. */
double gossip_mixing(double own, double other, int degree);

/* Messages that a worker sends in a round, on average over workers and rounds; any number of workers, nothing need be open. */
double gossip_messages(const struct gossip *, int workers, bool directed);
double gossip_cost(const struct gossip *, const struct cost_model *, bool directed);     /* seconds of a round of whole models */

#endif
