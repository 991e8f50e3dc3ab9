/*
 * --dry-run: everything is opened and checked, nothing is trained. Memory and bytes are computed; the step's compute time is measured
 * on this machine (or given by cluster.compute.images_per_s) and the formulas of the chosen algorithm and compressor (each file's
 * cost()) say what a step would take on 1 to 1024 workers behind the network of cluster.inter.
 *
 * Where workers are unequal (a list as train.batch, cluster.slowdown), each finds its own time; a step takes as long as the slowest's,
 * and the formulas know P such workers with the mean of the batches.
 *
 * One process is enough for topology.kind = "ps" too: what servers cost is a matter of formulas.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "run.h"

struct pace {
	double forward, backward;       /* seconds */
};

/* On the first batch: the best of a few, after one that warms up. */
static struct pace measure(struct run *run)
{
	struct pace best = { 1e30, 1e30 };
	const struct stream_ops *stream = run->device->ops->stream;
	struct batch batch;

	loader_start(run->train, 0, 0);
	CHECK(loader_next(run->train, &batch));
	for (int i = 0; i < 4; i++) {
		double start = clock_now(), middle, end;

		run_load(run, &batch);
		net_forward(&run->net, true);
		net_loss(&run->net, 1.0f / (float)run->batch[run->world.rank]);
		stream->sync(run->compute);
		middle = clock_now();
		net_backward(&run->net);
		stream->sync(run->compute);
		end = clock_now();
		if (i > 0 && middle - start < best.forward)
			best.forward = middle - start;
		if (i > 0 && end - middle < best.backward)
			best.backward = end - middle;
	}
	net_take_stats(&run->net);
	return best;
}

/* The slowest worker's. */
static struct pace find_pace(struct run *run, int *slowest)
{
	double given = config_float(run->config, "cluster.compute.images_per_s"), factor = run->slowdown.factor;
	struct pace mine, *all = xcalloc((size_t)run->workers, sizeof(*all)), worst;

	if (given > 0)
		mine = (struct pace){ run->batch[run->world.rank] / given / 3, run->batch[run->world.rank] / given * 2 / 3 };
	else
		mine = measure(run);
	mine.forward *= factor;
	mine.backward *= factor;
	comm_host_gather(run->team, &mine, all, sizeof(mine));
	*slowest = 0;
	for (int r = 1; r < run->workers; r++)
		if (all[r].forward + all[r].backward > all[*slowest].forward + all[*slowest].backward)
			*slowest = r;
	worst = all[*slowest];
	free(all);
	return worst;
}

static void print_compute(const struct run *run, const struct pace *pace, int slowest)
{
	bool given = config_float(run->config, "cluster.compute.images_per_s") > 0;

	note("compute    %.2f ms a step of %d images (forward %.2f, backward %.2f), %s", 1e3 * (pace->forward + pace->backward),
	     run->batch[slowest], 1e3 * pace->forward, 1e3 * pace->backward, given ? "from cluster.compute.images_per_s" : "measured here");
	if (run->workers > 1)
		note("           by rank %d, the slowest; %.6g images a worker on average", slowest, (double)run->batch_total / run->workers);
}

/* The formulas ask the communicator how many servers there are. */
static void imagine_servers(struct run *run)
{
	if (strcmp(config_string(run->config, "topology.kind"), "ps"))
		return;
	run->comm->servers = (int)config_int(run->config, "topology.servers");
	note("servers    %d beside the workers%s", run->comm->servers, run->servers ? "" : ", none of them started: in the formulas only");
}

static void print_prediction(const struct run *run, const struct pace *pace)
{
	double latency = config_float(run->config, "cluster.inter.latency_us") * 1e-6, gbit = config_float(run->config, "cluster.inter.gbit_per_s");
	double alone = pace->forward + pace->backward, batch = (double)run->batch_total / run->workers;

	note("network    %g us latency, %g Gbit/s (cluster.inter); formulas of %s with %s, no contention", latency * 1e6, gbit,
	     run->sync.ops->name, run->sync.compress.name);
	if (run->sync.schedule.ops->refine)
		note("           in the messages planned for the network that is here; for that one the plan would be another");
	note("  %8s %14s %12s %12s %12s", "workers", "MB/step/rank", "step ms", "images/s", "efficiency");
	for (int p = 1; p <= 1024; p *= 2) {
		struct cost_model m = run_link(run, p);
		double step;

		m.forward = pace->forward;
		m.backward = pace->backward;
		m.n = run->net.n;
		step = run->sync.ops->cost(&run->sync, &m);
		note("  %8d %14.4f %12.2f %12.1f %11.1f%%", p, run->sync.ops->bytes(&run->sync, p) / 1e6, 1e3 * step, p * batch / step,
		     100 * alone / step);
	}
}

void report_dry_run(struct run *run)
{
	double network = (double)net_memory(&run->net, run->device, true), arena = 4.0 * (double)run->net.n;
	int slots = run->optimizer.ops->slots(&run->optimizer), slowest;
	struct pace pace = find_pace(run, &slowest);

	note("memory     %.1f MB a rank: network %.1f, optimizer %.1f, algorithm and evaluation at least %.1f",
	     (network + arena * (slots + 2)) / 1e6, network / 1e6, arena * slots / 1e6, arena / 1e6);
	print_compute(run, &pace, slowest);
	imagine_servers(run);
	print_prediction(run, &pace);
	run->comm->servers = run->servers;
	note("nothing was trained");
	if (run->servers)
		ps_end(run->comm);
}
