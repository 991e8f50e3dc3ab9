/* What the config says of the network, for predictions, and what follows from it: how the all-reduce is built. */
#include <stdlib.h>
#include <string.h>

#include "../comm/topology/topology.h"
#include "../core/die.h"
#include "predict.h"
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

static bool chooses(const struct run *run) { return !strcmp(config_string(run->config, "topology.allreduce"), "auto"); }

int run_check_link(const struct run *run)
{
	double given[2] = { 0, 0 };

	if (!run_all_reduces(run) || !config_has(run->config, "topology.link"))
		return 0;
	if (config_list(run->config, "topology.link", given, 2) == 2 && given[1] > 0) {
		if (!chooses(run))
			warn("topology.link (%s) is what topology.allreduce = \"auto\" goes by: \"%s\" does not read it",
			     config_origin(run->config, "topology.link"), config_string(run->config, "topology.allreduce"));
		return 0;
	}
	error("%s: topology.link has two numbers, a latency in microseconds and a bandwidth in Gbit/s, above 0",
	      config_origin(run->config, "topology.link"));
	hint("topology.link = [50.0, 10.0], or leave it out");
	return STATUS_CONFIG;
}

static void read_link(const struct run *run, struct cost_model *link)
{
	double given[2];

	config_list(run->config, "topology.link", given, 2);
	link->latency = given[0] * 1e-6;
	link->per_byte = 8e-9 / given[1];
}

/* Times messages, and writes what was found into the config: it tells the same run again, whatever messages take then. */
static void fit_link(struct run *run)
{
	run->fit = predict_network(run, false);
	config_decide_floats(run->config, "topology.link", (double[]){ run->fit.latency * 1e6, 8e-9 / run->fit.per_byte }, 2);
	if (run->world.rank == 0 && !run->dry)
		rundir_write_config(&run->dir, run->config);
}

/* What "auto" goes by. Networks that are not here, and nodes that only the config tells apart, are as the config says. */
static struct cost_model find_link(struct run *run)
{
	struct cost_model link = run_link(run, run->world.size);
	bool apart = run->world.nodes > 1 || given_per_node(run, run->world.size) || ranks_are_nodes(run);
	bool modelled = run->virtual || config_bool(run->config, "cluster.emulate");

	if (!apart) {           /* nothing goes between nodes */
		link.latency = link.intra_latency;
		link.per_byte = link.intra_per_byte;
	}
	if (!chooses(run) || run->comm->ops->allreduce || run->workers == 1)
		return link;
	if (!config_has(run->config, "topology.link") && !modelled && !run_link_given(run))
		fit_link(run);
	if (config_has(run->config, "topology.link"))
		read_link(run, &link);
	if (!apart) {
		link.intra_latency = link.latency;
		link.intra_per_byte = link.per_byte;
	}
	return link;
}

void run_plan_allreduce(struct run *run)
{
	struct cost_model link;
	int *host;

	if (!run_all_reduces(run))
		return;
	link = find_link(run);
	host = xcalloc((size_t)run->world.size, sizeof(*host));
	find_nodes(run, host);
	comm_plan_allreduce(run->comm, config_string(run->config, "topology.allreduce"), host, &link);
	free(host);
}
