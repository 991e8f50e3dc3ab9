/* Gossip graphs: who sends to whom in which round (gossip.h). Every rank computes the same, from the round's number alone. */
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../../core/rng.h"
#include "gossip.h"

static const char *const graph_name[] = { "ring", "exponential", "shuffle-exchange", "random" };

static const struct option gossip_options[] = {
	{ "graph", OPTION_STRING, NULL, 0, 0, "ring|exponential|shuffle-exchange|random",
	  "who sends to whom; left out: as in the algorithm's paper" },
	{ "graph_seed", OPTION_INT, "1", 0, 1e15, NULL, "random: other pairs for another number" },
	{ 0 },
};

extern const struct topology_ops topology_gossip;
const struct topology_ops topology_gossip = {
	.name = "gossip",
	.paper = "every worker mixes with one or two neighbours in a round: Lian et al., NeurIPS 2017",
	.options = gossip_options,
};

void gossip_init(struct gossip *g, const struct config *config, enum gossip_graph usual)
{
	*g = (struct gossip){ .graph = usual, .seed = (uint64_t)config_int(config, "topology.graph_seed") };
	if (!config_has(config, "topology.graph"))
		return;
	g->graph = GOSSIP_RING;
	while (strcmp(config_string(config, "topology.graph"), gossip_name(g)))
		g->graph++;
}

void gossip_open(struct gossip *g, int size)
{
	g->size = size;
	g->order = xcalloc((size_t)size, sizeof(int));
	g->partner = xcalloc((size_t)size, sizeof(int));
	g->drawn = -1;
}

void gossip_close(struct gossip *g)
{
	free(g->order);
	free(g->partner);
}

const char *gossip_name(const struct gossip *g) { return graph_name[g->graph]; }

bool gossip_is_pairs(const struct gossip *g) { return g->graph == GOSSIP_SHUFFLE_EXCHANGE || g->graph == GOSSIP_RANDOM; }

static int log2_up(int size)
{
	int k = 0;

	while (1 << k < size)
		k++;
	return k;
}

/* Who sits across the table at `seat`; `size` itself: nobody (an odd number of seats). */
static int across(int seat, int size) { return (seat ^ 1) < size ? seat ^ 1 : size; }

/*
 * The perfect shuffle moves the card at i to 2 i modulo m, m = P-1 if P is even (the last card stays where it is), m = P if it is odd.
 * For P = 2^b this rotates the b bits of i, so that r shuffles bring bit b-r to the place where neighbours differ. m is odd, so that 2 has
 * an inverse.
 */
static int shuffled(int card, int64_t times, int size, bool back)
{
	uint64_t m = (uint64_t)(size - (size % 2 == 0)), base = back ? (m + 1) / 2 : 2, at = (uint64_t)card;

	if (at == m)
		return card;
	for (; times > 0; times /= 2) {
		if (times % 2)
			at = at * base % m;
		base = base * base % m;
	}
	return (int)(at % m);
}

static int shuffle_partner(int rank, int64_t round, int size)
{
	int seat = across(shuffled(rank, round, size, false), size);

	return seat == size ? -1 : shuffled(seat, round, size, true);
}

/* Fisher and Yates; who is dealt first and second, third and fourth … are pairs. Algorithms ask for all ranks of a round. */
static int random_partner(struct gossip *g, int rank, int64_t round)
{
	struct rng rng;

	if (g->drawn == round)
		return g->partner[rank];
	g->drawn = round;
	rng_init(&rng, g->seed, RNG_GOSSIP, (uint64_t)round, 0);
	for (int i = 0; i < g->size; i++) {
		int j = (int)rng_below(&rng, (uint32_t)i + 1);

		g->order[i] = g->order[j];
		g->order[j] = i;
	}
	for (int seat = 0; seat < g->size; seat++)
		g->partner[g->order[seat]] = across(seat, g->size) == g->size ? -1 : g->order[across(seat, g->size)];
	return g->partner[rank];
}

struct gossip_peers gossip_peers(struct gossip *g, int rank, int64_t round)
{
	int size = g->size, jump = 1, partner;

	if (size == 1)
		return (struct gossip_peers){ -1, -1 };
	if (gossip_is_pairs(g)) {
		partner = g->graph == GOSSIP_RANDOM ? random_partner(g, rank, round) : shuffle_partner(rank, round, size);
		return (struct gossip_peers){ partner, partner };
	}
	if (g->graph == GOSSIP_EXPONENTIAL)
		jump = 1 << round % log2_up(size);
	return (struct gossip_peers){ (rank + jump) % size, (rank + size - jump) % size };
}

bool gossip_leads_to(const struct gossip *g, int size, int distance)
{
	int back = size - distance;

	if (g->graph == GOSSIP_RING)
		return distance == 1 || back == 1;
	if (g->graph == GOSSIP_EXPONENTIAL)
		return !(distance & (distance - 1)) || !(back & (back - 1));
	return true;
}

/* All take the distances in the same order, so that nobody waits in a circle. */
void gossip_meet(const struct gossip *g, struct comm *comm, struct stream *compute, float *spare)
{
	int size = g->size, rank = comm->rank;

	comm_fork(comm, compute);
	for (int distance = 1; distance < size; distance++)
		if (gossip_leads_to(g, size, distance))
			comm_exchange(comm, (rank + distance) % size, spare, sizeof(float), (rank + size - distance) % size, spare + 1, sizeof(float));
	comm_mark(comm, comm->forked);
	comm->device->ops->stream->wait(compute, comm->forked);
}

int gossip_neighbours(struct gossip *g, int rank, int64_t round, int neighbour[2])
{
	struct gossip_peers peers = gossip_peers(g, rank, round);

	neighbour[0] = peers.to;
	neighbour[1] = peers.from;
	return peers.to < 0 ? 0 : peers.to == peers.from ? 1 : 2;
}

double gossip_mixing(double own, double other, int degree) { return (other < own ? other / own : 1) / (degree + 1); }

double gossip_messages(const struct gossip *g, int workers, bool directed)
{
	double rounds = log2_up(workers);

	if (workers == 1)
		return 0;
	if (gossip_is_pairs(g))
		return (double)(workers - workers % 2) / workers;
	if (directed || workers == 2)
		return 1;
	/* Half way round, both directions lead to the same worker: that is the last jump if their number is a power of two. */
	return g->graph == GOSSIP_EXPONENTIAL && 1 << (int)rounds == workers ? (2 * rounds - 1) / rounds : 2;
}

struct meeting {
	struct gossip *graph;
	int64_t round;
	bool back;
};

static int met(const void *context, int rank)
{
	const struct meeting *m = context;
	struct gossip_peers peers = gossip_peers(m->graph, rank, m->round);

	return m->back ? peers.from : peers.to;
}

/* The mean of a few rounds, after which most graphs begin anew. Who has nobody to meet does not wait. */
double gossip_cost(const struct gossip *g, const struct cost_model *m, bool directed)
{
	enum { DRAWS = 16 };
	int rounds = g->graph == GOSSIP_RING ? 1 : g->graph == GOSSIP_RANDOM ? DRAWS : log2_up(m->workers);
	double bytes = (double)m->n * sizeof(float), seconds = 0;
	struct gossip all = *g;
	struct meeting meeting = { .graph = &all };

	if (m->workers == 1)
		return 0;
	gossip_open(&all, m->workers);
	for (; meeting.round < rounds; meeting.round++) {
		struct gossip_peers first = gossip_peers(&all, 0, meeting.round);
		bool both = !directed && !gossip_is_pairs(g) && first.to != first.from;

		for (int way = 0; way <= both; way++) {
			meeting.back = way;
			seconds += cost_step(m, cost_across(m, met, &meeting), bytes);
		}
	}
	gossip_close(&all);
	return seconds / rounds * (gossip_is_pairs(g) ? (double)(m->workers - m->workers % 2) / m->workers : 1);
}
