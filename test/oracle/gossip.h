/*
 * Gossip graphs for the oracle, as matrices of who sends to whom: ring i -> i+1; exponential i -> i + 2^k, k = round modulo
 * ceil(log2 P) (Assran et al.); shuffle-exchange: the workers are a deck of cards; neighbours in it are pairs; between two rounds it is
 * shuffled perfectly (the first card stays first).
 */
#ifndef ORACLE_GOSSIP_H
#define ORACLE_GOSSIP_H

#include "course.h"

enum oracle_graph { ORACLE_RING, ORACLE_EXPONENTIAL, ORACLE_SHUFFLE_EXCHANGE, ORACLE_GRAPHS };

/* sends[i][j]: i sends to j in this round. */
static inline void oracle_graph(enum oracle_graph graph, int workers, int64_t round, bool sends[ORACLE_WORKERS][ORACLE_WORKERS])
{
	int deck[ORACLE_WORKERS], half = (workers + 1) / 2, jumps = 0, jump = 1;

	memset(sends, 0, ORACLE_WORKERS * sizeof(*sends));
	if (workers == 1)
		return;
	if (graph == ORACLE_SHUFFLE_EXCHANGE) {
		for (int i = 0; i < workers; i++)
			deck[i] = i;
		for (int64_t r = 0; r < round; r++) {
			int next[ORACLE_WORKERS];

			/* the upper half goes to the even places, the lower one between them */
			for (int i = 0; i < workers; i++)
				next[i < half ? 2 * i : 2 * (i - half) + 1] = deck[i];
			memcpy(deck, next, sizeof(deck));
		}
		for (int i = 0; i + 1 < workers; i += 2)
			sends[deck[i]][deck[i + 1]] = sends[deck[i + 1]][deck[i]] = true;
		return;
	}
	while (pow(2, jumps) < workers)
		jumps++;
	if (graph == ORACLE_EXPONENTIAL)
		jump = (int)pow(2, (double)(round % jumps));
	for (int i = 0; i < workers; i++)
		sends[i][(i + jump) % workers] = true;
}

/* Bytes of as many whole models as there are edges. */
static inline double oracle_edges(bool edge[ORACLE_WORKERS][ORACLE_WORKERS], int workers, int64_t n)
{
	double count = 0;

	for (int i = 0; i < workers; i++)
		for (int j = 0; j < workers; j++)
			count += edge[i][j];
	return count * 4 * (double)n;
}

static inline int oracle_gossip_keys(enum oracle_graph graph, const char **sets)
{
	static const char *const name[] = { "ring", "exponential", "shuffle-exchange" };

	sets[0] = xstrdup("topology.kind=gossip");
	sets[1] = xasprintf("topology.graph=%s", name[graph]);
	return 2;
}

#endif
