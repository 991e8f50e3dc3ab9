/* The topologies. A new one: one file plus one line here. */
#include <stddef.h>

#include "topology.h"

static const struct option all_reduce_options[] = {
	{ "allreduce", OPTION_STRING, "\"ring\"", 0, 0, "ring|doubling|tree|hierarchical|auto",
	  "how the all-reduce is built; auto: for each length what is fastest by the formulas for link" },
	{ "link", OPTION_LIST, NULL, 0, 1e9, NULL,
	  "auto: the latency, us, and the bandwidth, Gbit/s, to go by; left out: cluster.inter if given, else fitted at the start" },
	{ "group", OPTION_INT, "0", 0, 1000000, NULL, "hierarchical: so many neighbouring ranks are a group; 0: by cluster.workers_per_node or .nodes, else those of a host" },
	{ 0 },
};

static const struct topology_ops all_reduce = {
	.name = "all-reduce",
	.paper = "every worker gets the average of all; ring: Patarasuk & Yuan, JPDC 2009",
	.options = all_reduce_options,
};

static const struct option ps_options[] = {
	{ "servers", OPTION_INT, "1", 1, 4096, NULL, "how many of the ranks serve, the last ones; each holds a part of the model" },
	{ 0 },
};

static const struct topology_ops ps = {
	.name = "ps",
	.paper = "workers push to sharded parameter servers and pull from them: Li et al., OSDI 2014",
	.options = ps_options,
};

extern const struct topology_ops topology_gossip;

const struct topology_ops *const topology_list[] = {
	&all_reduce,
	&topology_gossip,
	&ps,
	NULL,
};
