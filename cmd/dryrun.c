/*
 * --dry-run: everything is opened and checked, nothing is trained. Memory and bytes are computed; the step's compute time is measured
 * on this machine (or given by cluster.compute), as are the kernels of the compressor, and the formulas of the chosen algorithm
 * and compressor (each file's cost()) say what a step would take on 1 to 1024 workers: behind the network of cluster.inter, or, if that
 * is not given and several workers were started, behind the one that they have. Several workers are also told whether compressing pays.
 *
 * Where workers are unequal (a list as train.batch, cluster.slowdown), each finds its own time; a step takes as long as the slowest's,
 * and the formulas know P such workers with the mean of the batches.
 *
 * One process is enough for topology.kind = "ps" too: what servers cost is a matter of formulas.
 */
#include <string.h>

#include "../core/die.h"
#include "predict.h"
#include "scaling.h"

/* The formulas ask the communicator how many servers there are. */
static void imagine_servers(struct run *run)
{
	if (strcmp(config_string(run->config, "topology.kind"), "ps"))
		return;
	run->comm->servers = (int)config_int(run->config, "topology.servers");
	note("servers    %d beside the workers%s", run->comm->servers, run->servers ? "" : ", none of them started: in the formulas only");
}

void report_dry_run(struct run *run)
{
	double network = (double)net_memory(&run->net, run->device, true), arena = 4.0 * (double)run->net.n;
	int slots = run->optimizer.ops->slots(&run->optimizer);
	struct pace pace = pace_find(run);
	struct fit fit = predict_network(run, true);
	struct cost_model m = predict_machine(run, &pace, &fit);

	note("memory     %.1f MB a rank: network %.1f, optimizer %.1f, algorithm and evaluation at least %.1f",
	     (network + arena * (slots + 2)) / 1e6, network / 1e6, arena * slots / 1e6, arena / 1e6);
	predict_print_compute(run, &pace);
	imagine_servers(run);
	predict_print_network(run, &m, &fit);
	scaling_print(run, &run->sync, &m);
	if (predict_applies(run))
		predict_print(run, &m);
	run->comm->servers = run->servers;
	pace_release(&pace);
	note("nothing was trained");
	if (run->servers)
		ps_end(run->comm);
}
