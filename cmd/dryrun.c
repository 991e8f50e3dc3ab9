/*
 * --dry-run: everything is opened and checked, nothing is trained. Memory and bytes are computed; the step's compute time is measured
 * on this machine (or given by cluster.compute.images_per_s) and the formulas of the chosen algorithm and compressor (each file's
 * cost()) say what a step would take on 1 to 1024 workers behind the network of cluster.inter.
 */
#include "../core/clock.h"
#include "../core/die.h"
#include "run.h"

/* Seconds of forward and backward on the first batch: the best of a few, after one that warms up. */
static void measure(struct run *run, double *forward, double *backward)
{
	const struct stream_ops *stream = run->device->ops->stream;
	struct batch batch;

	loader_start(run->train, 0, 0);
	CHECK(loader_next(run->train, &batch));
	*forward = *backward = 1e30;
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
		if (i > 0 && middle - start < *forward)
			*forward = middle - start;
		if (i > 0 && end - middle < *backward)
			*backward = end - middle;
	}
	net_take_stats(&run->net);
}

void report_dry_run(struct run *run)
{
	const struct config *c = run->config;
	double given = config_float(c, "cluster.compute.images_per_s"), forward, backward, alone;
	double latency = config_float(c, "cluster.inter.latency_us") * 1e-6, gbit = config_float(c, "cluster.inter.gbit_per_s");

	if (given > 0) {
		forward = run->batch[0] / given / 3;
		backward = 2 * forward;
	} else {
		measure(run, &forward, &backward);
	}
	alone = forward + backward;
	note("memory     %.1f MB a rank: network %.1f, optimizer %.1f, algorithm and evaluation at least %.1f",
	     ((double)net_memory(&run->net, run->device, true) + 4.0 * (double)run->net.n * (run->optimizer.ops->slots(&run->optimizer) + 2)) / 1e6,
	     (double)net_memory(&run->net, run->device, true) / 1e6, 4.0 * (double)run->net.n * run->optimizer.ops->slots(&run->optimizer) / 1e6,
	     4.0 * (double)run->net.n / 1e6);
	note("compute    %.2f ms a step of %d images (forward %.2f, backward %.2f), %s", 1e3 * alone, run->batch[0], 1e3 * forward,
	     1e3 * backward, given > 0 ? "from cluster.compute.images_per_s" : "measured here");
	note("network    %g us latency, %g Gbit/s (cluster.inter); formulas of %s with %s, no contention", latency * 1e6, gbit,
	     run->sync.ops->name, run->sync.compress.name);
	note("  %8s %14s %12s %12s %12s", "workers", "MB/step/rank", "step ms", "images/s", "efficiency");
	for (int p = 1; p <= 1024; p *= 2) {
		struct cost_model m = run_link(run, p);
		double step;

		m.forward = forward;
		m.backward = backward;
		m.n = run->net.n;
		step = run->sync.ops->cost(&run->sync, &m);
		note("  %8d %14.4f %12.2f %12.1f %11.1f%%", p, run->sync.ops->bytes(&run->sync, p) / 1e6, 1e3 * step, p * run->batch[0] / step,
		     100 * alone / step);
	}
	note("nothing was trained");
	if (run->servers)
		ps_end(run->comm);
}
