/* Links that several workers share: see cost.h. */
#include <math.h>

#include "cost.h"

static int group_of(const struct cost_model *m) { return m->per_node > 1 ? m->per_node : 1; }

double cost_step(const struct cost_model *m, int across, double bytes)
{
	double inside = m->intra_latency + bytes * m->intra_per_byte, outside = m->latency + across * bytes * m->per_byte;

	if (m->workers < 2)
		return 0;
	return across == 0 ? inside : across < group_of(m) ? fmax(inside, outside) : outside;
}

int cost_across(const struct cost_model *m, cost_peer_fn *peer, const void *context)
{
	int group = group_of(m), most = 0;

	for (int first = 0; first < m->workers; first += group) {
		int across = 0;

		for (int r = first; r < first + group && r < m->workers; r++) {
			int p = peer(context, r);

			across += p >= 0 && p / group != first / group;
		}
		most = across > most ? across : most;
	}
	return most;
}

int cost_across_ring(const struct cost_model *m, int distance)
{
	int group = group_of(m), back = m->workers - distance, elsewhere = m->workers - group, across = group;

	across = distance < across ? distance : across;
	across = back < across ? back : across;
	across = elsewhere < across ? elsewhere : across;
	return across > 0 ? across : 0;
}
