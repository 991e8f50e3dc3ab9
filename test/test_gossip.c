/*
 * Gossip graphs by themselves, for 1 to 33 workers with equal and unequal weights: the mixing matrices written out in full, round by
 * round, and what their products do.
 */
#include <string.h>

#include "../comm/topology/gossip.h"
#include "tap.h"

enum { MOST = 33, GRAPHS = GOSSIP_RANDOM + 1 };

typedef double matrix[MOST][MOST];

/* Rounds after which all must have heard of all. Pairs of an odd number, or drawn ones, need a few more than log2 P. */
static int enough(enum gossip_graph graph, int size, bool directed)
{
	int k = 0;

	while (1 << k < size)
		k++;
	switch (graph) {
	case GOSSIP_RING: return directed ? size - 1 : size / 2;
	case GOSSIP_EXPONENTIAL: return k;
	case GOSSIP_SHUFFLE_EXCHANGE: return (size & (size - 1)) ? 2 * k : k;
	default: return 4 * k;
	}
}

static double weight(int i, int size, bool equal)
{
	static const int batch[7] = { 3, 1, 4, 2, 5, 1, 6 };
	double total = 0;

	for (int j = 0; j < size; j++)
		total += equal ? 1 : batch[j % 7];
	return (equal ? 1 : batch[i % 7]) / total;
}

/* mix[i][j]: what i takes of j. Undirected: rows sum to 1; directed: columns do. */
static void fill(struct gossip *g, int64_t round, bool directed, bool equal, matrix mix)
{
	memset(mix, 0, sizeof(matrix));
	for (int i = 0; i < g->size; i++) {
		struct gossip_peers peers = gossip_peers(g, i, round);
		int neighbour[2], degree = gossip_neighbours(g, i, round, neighbour);

		mix[i][i] = 1;
		if (directed && peers.to >= 0) {
			mix[i][i] = 0.5;
			mix[peers.to][i] += 0.5;
		}
		for (int k = 0; k < degree && !directed; k++) {
			double share = gossip_mixing(weight(i, g->size, equal), weight(neighbour[k], g->size, equal), degree);

			mix[i][neighbour[k]] += share;
			mix[i][i] -= share;
		}
	}
}

static bool is_close(double a, double b) { return fabs(a - b) <= 1e-12; }

struct claims { bool edges, degrees, sums, kept, positive, heard, period, messages; };

static void check_round(struct gossip *g, int64_t round, bool directed, bool equal, matrix mix, struct claims *c)
{
	fill(g, round, directed, equal, mix);
	for (int i = 0; i < g->size; i++) {
		struct gossip_peers peers = gossip_peers(g, i, round);
		int mine[2], theirs[2], degree = gossip_neighbours(g, i, round, mine);
		double row = 0, column = 0, kept = 0;

		c->edges = c->edges && (peers.to < 0) == (peers.from < 0) && peers.to != i && peers.to < g->size && peers.from < g->size;
		if (peers.to >= 0)
			c->edges = c->edges && gossip_peers(g, peers.to, round).from == i && gossip_peers(g, peers.from, round).to == i;
		for (int k = 0; k < degree; k++)
			c->degrees = c->degrees && gossip_neighbours(g, mine[k], round, theirs) == degree;
		for (int j = 0; j < g->size; j++) {
			row += mix[i][j];
			column += mix[j][i];
			kept += weight(j, g->size, equal) * mix[j][i];
		}
		c->sums = c->sums && is_close(directed ? column : row, 1);
		c->kept = c->kept && (directed || is_close(kept, weight(i, g->size, equal)));
		c->positive = c->positive && mix[i][i] > 0.1 / g->size;
	}
}

static void multiply(int size, matrix a, matrix product)
{
	static matrix result;

	for (int i = 0; i < size; i++)
		for (int j = 0; j < size; j++) {
			result[i][j] = 0;
			for (int k = 0; k < size; k++)
				result[i][j] += a[i][k] * product[k][j];
		}
	memcpy(product, result, sizeof(matrix));
}

static bool reaches_average(enum gossip_graph graph, bool directed)
{
	return graph == GOSSIP_SHUFFLE_EXCHANGE || (graph == GOSSIP_EXPONENTIAL && directed);
}

/* All rounds from `first` on until all should have heard of all. */
static void check_product(struct gossip *g, int64_t first, bool directed, bool equal, struct claims *c)
{
	static matrix mix, product;
	int rounds = enough(g->graph, g->size, directed);
	bool power = (g->size & (g->size - 1)) == 0;

	memset(product, 0, sizeof(product));
	for (int i = 0; i < g->size; i++)
		product[i][i] = 1;
	for (int r = 0; r < rounds; r++) {
		check_round(g, first + r, directed, equal, mix, c);
		multiply(g->size, mix, product);
	}
	for (int i = 0; i < g->size; i++)
		for (int j = 0; j < g->size; j++) {
			c->heard = c->heard && product[i][j] > 0;
			if (power && equal && reaches_average(g->graph, directed))
				c->period = c->period && is_close(product[i][j], 1.0 / g->size);
		}
}

static void check_messages(struct gossip *g, bool directed, struct claims *c)
{
	enum { ROUNDS = 60 };   /* a multiple of 1 to 6, the number of jumps */
	double sent = 0;
	int neighbour[2];

	for (int r = 0; r < ROUNDS; r++)
		for (int i = 0; i < g->size; i++)
			sent += directed ? gossip_peers(g, i, r).to >= 0 : gossip_neighbours(g, i, r, neighbour);
	c->messages = c->messages && is_close(sent / ROUNDS / g->size, gossip_messages(g, g->size, directed));
}

static void test_graph(enum gossip_graph graph, bool directed)
{
	struct claims c = { true, true, true, true, true, true, true, true };
	const char *way = directed ? "directed" : "both ways", *name = NULL;

	for (int size = 1; size <= MOST; size++) {
		struct gossip g = { .graph = graph, .seed = 1 };

		gossip_open(&g, size);
		name = gossip_name(&g);
		for (int equal = 0; equal < 2; equal++)
			for (int64_t first = 0; first < 7; first += 3)
				check_product(&g, first, directed, equal, &c);
		check_product(&g, 1000000007, directed, true, &c);
		check_messages(&g, directed, &c);
		gossip_close(&g);
	}
	ok(c.edges, "%s, %s: who is sent to receives, nobody sends to himself", name, way);
	ok(c.degrees, "%s, %s: neighbours have equally many neighbours", name, way);
	ok(c.sums, "%s, %s: %s sum to 1", name, way, directed ? "columns" : "rows");
	ok(c.kept, "%s, %s: the weighted sum is kept", name, way);
	ok(c.positive, "%s, %s: everybody keeps a part of his own", name, way);
	ok(c.heard, "%s, %s: all have heard of all after the rounds that this takes", name, way);
	if (reaches_average(graph, directed))
		ok(c.period, "%s, %s: log2 P rounds of 2^m equal workers make the average", name, way);
	ok(c.messages, "%s, %s: as many messages as the formula says", name, way);
}

/* Each of many pairs about equally often; another seed, other pairs. */
static void test_random(void)
{
	enum { SIZE = 6, ROUNDS = 5000 };
	struct gossip g = { .graph = GOSSIP_RANDOM, .seed = 1 }, h = { .graph = GOSSIP_RANDOM, .seed = 2 };
	int met[SIZE] = { 0 }, least = ROUNDS, most = 0, same = 0;

	gossip_open(&g, SIZE);
	gossip_open(&h, SIZE);
	for (int r = 0; r < ROUNDS; r++) {
		met[gossip_peers(&g, 0, r).to]++;
		same += gossip_peers(&g, 0, r).to == gossip_peers(&h, 0, r).to;
	}
	for (int i = 1; i < SIZE; i++) {
		least = met[i] < least ? met[i] : least;
		most = met[i] > most ? met[i] : most;
	}
	ok(least > 900 && most < 1100, "random: of 5000 rounds worker 0 spends %d to %d with each of the 5 others", least, most);
	ok(same > 900 && same < 1100, "random: another seed draws other pairs (%d of 5000 the same by chance)", same);
	gossip_close(&g);
	gossip_close(&h);
}

int main(void)
{
	for (int graph = 0; graph < GRAPHS; graph++)
		for (int directed = 0; directed < 2; directed++)
			test_graph((enum gossip_graph)graph, directed);
	test_random();
	return done_testing();
}
