/*
 * cluster.clock = "virtual" and cluster.emulate: the run as it would be on the cluster that the config describes (DESIGN 5). Here they are
 * opened; times are spent by the network's layers (core/net_run.c), the optimizer, the communicator (comm/wire.c).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../comm/offset.h"
#include "../comm/wire.h"
#include "../core/die.h"
#include "../core/net_times.h"
#include "../core/timeline.h"
#include "run.h"

static bool is_virtual(const struct run *run) { return !strcmp(config_string(run->config, "cluster.clock"), "virtual"); }
static bool is_emulated(const struct run *run) { return config_bool(run->config, "cluster.emulate"); }

static int refuse(const struct run *run, const char *key, const char *value, const char *why, const char *remedy)
{
	const struct config *c = run->config;
	const char *what = is_virtual(run) ? "cluster.clock" : "cluster.emulate";

	error("%s (%s) does not go with %s = \"%s\" (%s): %s", what, config_origin(c, what), key, value, config_origin(c, key), why);
	return hint("%s", remedy);
}

int run_check_clock(const struct run *run)
{
	const struct config *c = run->config;
	const char *transport = config_string(c, "comm.transport");

	if (!is_virtual(run) && !is_emulated(run))
		return 0;
	if (is_virtual(run) && config_bool(c, "cluster.compute.sleep"))
		return refuse(run, "cluster.compute.sleep", "true", "by the virtual clock layers take their times anyway, and really compute",
		              "leave one of them out");
	if (is_virtual(run) && is_emulated(run)) {
		error("cluster.clock = \"virtual\" (%s) and cluster.emulate = true (%s) exclude each other: modelled times are either kept or waited for",
		      config_origin(c, "cluster.clock"), config_origin(c, "cluster.emulate"));
		return hint("leave one of them out");
	}
	if (!strcmp(transport, "nccl"))
		return refuse(run, "comm.transport", transport, "who has begun when is told by messages between hosts' memories",
		              "set comm.transport = \"mpi\" or \"auto\"; what really carries the messages makes no difference to modelled times");
	return 0;
}

/* Algorithms whose workers do not keep in step: which message comes first decides their results, and that is this machine's affair. */
int run_check_clocked_sync(const struct run *run)
{
	if (!is_virtual(run))
		return 0;
	if (run->sync.ops->claim && !run->servers)
		return refuse(run, "sync.algorithm", run->sync.ops->name, "which message comes first decides the result, and here that is a matter "
		              "of the wall clock", "set cluster.emulate = true, which makes messages take their modelled time, or another algorithm");
	return 0;
}

const char *run_transport(const struct run *run)
{
	const char *name = config_string(run->config, "comm.transport");

	return run->world.size > 1 && !strcmp(name, "auto") && (is_virtual(run) || is_emulated(run)) ? "mpi" : name;
}

void run_open_clock(struct run *run)
{
	run->virtual = is_virtual(run);
	if (run->virtual)
		timeline_open(run->device);
}

void run_open_wire(struct run *run)
{
	struct cost_model link = run_link(run, run->world.size);
	bool dense = run->sync.compress.ops && !strcmp(run->sync.compress.ops->name, "none");
	double kernel = dense ? 0 : 1e-9 * config_float(run->config, "cluster.compute.compress_ns");
	double offset = 0;

	if (!run->virtual && !is_emulated(run))
		return;
	if (is_emulated(run) && run->world.nodes > 1)
		offset = comm_clock_offset(run->control, &run->clock_error);
	wire_open(run->comm, &link, kernel, is_emulated(run), offset);
}

void run_start_clock(struct run *run)
{
	if (!run->virtual)
		return;
	run->device->ops->stream->sync(run->compute);
	run->device->ops->stream->sync(run->comm->stream);
	timeline_watch(run->compute);
	timeline_watch(run->comm->stream);
}

/* "2 nodes of 4, inter 50 us 10 Gbit/s, intra 2 us 80 Gbit/s" */
static void describe_cluster(const struct run *run, char *text, size_t size)
{
	struct cost_model m = run_link(run, run->world.size);
	int near = m.per_node > 1 ? m.per_node : 1, nodes = (run->world.size + near - 1) / near;
	char inside[64] = "";

	if (near > 1)
		snprintf(inside, sizeof(inside), ", intra %g us %g Gbit/s", 1e6 * m.intra_latency, 8e-9 / m.intra_per_byte);
	snprintf(text, size, "%d node%s of %d, inter %g us %g Gbit/s%s", nodes, nodes == 1 ? "" : "s", near, 1e6 * m.latency,
	         8e-9 / m.per_byte, inside);
}

void report_clock(const struct run *run)
{
	char cluster[160];

	describe_cluster(run, cluster, sizeof(cluster));
	if (run->virtual)
		note("clock      virtual: %s; layers: %s", cluster, run->times->from);
	else if (is_emulated(run) && run->world.nodes > 1)
		note("clock      wall; messages wait as on %s; clocks of other hosts are known to %.3g us", cluster, 1e6 * run->clock_error);
	else if (is_emulated(run))
		note("clock      wall; messages wait as on %s", cluster);
}

double run_virtual_now(const struct run *run) { return run->virtual ? timeline_account(run->compute).now : NAN; }
