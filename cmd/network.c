/* What the config says of the network, for predictions, and what follows from it: how the all-reduce is built. */
#include <stdlib.h>
#include <string.h>

#include "../comm/topology/topology.h"
#include "../core/die.h"
#include "run.h"

bool run_all_reduces(const struct run *run) { return !strcmp(config_string(run->config, "topology.kind"), "all-reduce"); }

bool run_link_given(const struct run *run)
{
	return config_given(run->config, "cluster.inter.latency_us") || config_given(run->config, "cluster.inter.gbit_per_s");
}

/* What the config says of them; both 0: nothing. */
static struct seats given_seats(const struct run *run)
{
	int group = run_all_reduces(run) ? (int)config_int(run->config, "topology.group") : 0;
	int node = (int)config_int(run->config, "cluster.workers_per_node");

	if (group || node)
		return (struct seats){ .per_node = group ? group : node };
	return (struct seats){ .nodes = (int)config_int(run->config, "cluster.nodes") };
}

static int given_per_node(const struct run *run, int workers) { return seats_per_node(given_seats(run), workers); }
static bool ranks_are_nodes(const struct run *run) { return run->world.nodes == 1 && run_link_given(run); }

/* The same on all ranks, whatever their own host has. */
struct seats run_seats(const struct run *run)
{
	struct seats given = given_seats(run);

	if (given.per_node || given.nodes)
		return given;
	return (struct seats){ .per_node = ranks_are_nodes(run) ? 1 : (run->world.size + run->world.nodes - 1) / run->world.nodes };
}

int run_per_node(const struct run *run, int workers) { return seats_per_node(run_seats(run), workers); }

struct cost_model run_link(const struct run *run, int workers)
{
	const struct config *c = run->config;

	return (struct cost_model){
		.workers = workers,
		.latency = config_float(c, "cluster.inter.latency_us") * 1e-6,
		.per_byte = 8e-9 / config_float(c, "cluster.inter.gbit_per_s"),
		.per_node = run_per_node(run, workers),
		.intra_latency = config_float(c, "cluster.intra.latency_us") * 1e-6,
		.intra_per_byte = 8e-9 / config_float(c, "cluster.intra.gbit_per_s"),
		.delay = config_float(c, "comm.delay_ms") * 1e-3,
	};
}

/* A number for each rank's host: the first rank on it. */
static void find_hosts(const struct run *run, int *host)
{
	enum { NAME = sizeof(run->world.host) };
	int ranks = run->world.size;
	char (*name)[NAME] = xcalloc((size_t)ranks, NAME);

	comm_host_gather(run->control, run->world.host, name, NAME);
	for (int r = 0; r < ranks; r++) {
		host[r] = 0;
		while (strncmp(name[host[r]], name[r], NAME))
			host[r]++;
	}
	free(name);
}

/* A number for each rank's node, as run_seats() has it, but with the ranks of a host wherever they are. */
static void find_nodes(const struct run *run, int *node)
{
	int given = given_per_node(run, run->world.size), each = given ? given : ranks_are_nodes(run) ? 1 : 0;

	find_hosts(run, node);
	for (int r = 0; r < run->world.size && each; r++)
		node[r] = r / each;
}

void run_plan_allreduce(struct run *run)
{
	struct cost_model link = run_link(run, run->world.size);
	int *host, given;

	if (!run_all_reduces(run))
		return;
	host = xcalloc((size_t)run->world.size, sizeof(*host));
	given = given_per_node(run, run->world.size);
	find_nodes(run, host);
	if (run->world.nodes == 1 && !given) {          /* nothing goes between nodes */
		link.latency = link.intra_latency;
		link.per_byte = link.intra_per_byte;
	}
	comm_plan_allreduce(run->comm, config_string(run->config, "topology.allreduce"), host, &link);
	free(host);
}
