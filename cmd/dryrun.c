/*
 * --dry-run: everything is opened and checked, nothing is trained. Memory and bytes are computed; the step's compute time is measured
 * on this machine (or given by cluster.compute.images_per_s), as are the kernels of the compressor, and the formulas of the chosen algorithm
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

/* The formulas ask the communicator how many servers there are. */
static void imagine_servers(struct run *run)
{
	if (strcmp(config_string(run->config, "topology.kind"), "ps"))
		return;
	run->comm->servers = (int)config_int(run->config, "topology.servers");
	note("servers    %d beside the workers%s", run->comm->servers, run->servers ? "" : ", none of them started: in the formulas only");
}

static void print_workers(const struct run *run, struct cost_model m)
{
	double alone = m.forward + m.backward, batch = (double)run->batch_total / run->workers;

	note("scaling    formulas of %s with %s, no contention; %.2f ms of kernels an average", run->sync.ops->name, run->sync.compress.name,
	     1e3 * m.kernels);
	if (run->sync.schedule.ops->refine)
		note("           in the messages planned for the network that is here; for another one the plan would be another");
	note("  %8s %14s %12s %12s %12s", "workers", "MB/step/rank", "step ms", "images/s", "efficiency");
	for (m.workers = 1; m.workers <= 1024; m.workers *= 2) {
		double step = sync_cost(&run->sync, &m);

		note("  %8d %14.4f %12.2f %12.1f %11.1f%%", m.workers, run->sync.ops->bytes(&run->sync, m.workers) / 1e6, 1e3 * step,
		     m.workers * batch / step, 100 * alone / step);
	}
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
	print_workers(run, m);
	if (predict_applies(run))
		predict_print(run, &m);
	run->comm->servers = run->servers;
	pace_release(&pace);
	note("nothing was trained");
	if (run->servers)
		ps_end(run->comm);
}
