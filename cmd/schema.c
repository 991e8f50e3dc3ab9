/* The keys that every run has, group by group, and the collection of all tables: see schema.h. */
#include <stdlib.h>

#include "../comm/comm.h"
#include "../comm/compress/compress.h"
#include "../comm/schedule/schedule.h"
#include "../comm/sync/sync.h"
#include "../comm/topology/topology.h"
#include "../core/device.h"
#include "../core/die.h"
#include "../core/lr.h"
#include "../core/optimizer_list.h"
#include "../data/dataset.h"
#include "../data/partition.h"
#include "../models/model.h"
#include "schema.h"

#define MANY 9e15       /* "no upper bound", and still exact in a double */

static const struct option top_options[] = {
	{ "world_size", OPTION_INT, NULL, 1, 65536, NULL, "if given, the run refuses to start with another number of ranks, workers and servers" },
	{ 0 },
};

static const struct option model_options[] = {
	{ "name", OPTION_STRING, "\"resnet18\"", 0, 0, NULL, "the network" },
	{ "width", OPTION_FLOAT, "1.0", 0.01, 16, NULL, "multiplies the channels of all layers (multiples of 8, at least 8)" },
	{ 0 },
};

static const struct option data_options[] = {
	{ "name", OPTION_STRING, "\"auto\"", 0, 0, NULL, "the images" },
	{ "dir", OPTION_STRING, NULL, 0, 0, NULL, "folder of their files; unset: where the data set is usually found" },
	{ "augment", OPTION_BOOL, "true", 0, 0, NULL, "random crops and flips of the training images, as the data set allows" },
	{ "prefetch", OPTION_INT, "2", 0, 64, NULL, "batches that a thread makes ahead; 0: made when they are needed" },
	{ 0 },
};

static const struct option train_options[] = {
	{ "epochs", OPTION_INT | OPTION_FLOAT, "10", 1e-6, 1e6, NULL, "how often all workers together see the training images" },
	{ "max_steps", OPTION_INT, "0", 0, MANY, NULL, "ends the training after so many steps (asp, adpsgd: of a worker on average); 0: after the epochs" },
	{ "batch", OPTION_INT | OPTION_LIST | OPTION_STRING, "64", 1, 65536, "proportional",
	  "images of a worker in one step; a list gives each worker its own, [64, 32]; \"proportional\" to its speed" },
	{ "batch_mean", OPTION_INT, "64", 1, 65536, NULL, "batch proportional: images of a step, divided by the workers" },
	{ "speeds", OPTION_LIST, "[]", 1e-9, 1e9, NULL, "batch proportional: a speed of each worker, in any unit; []: measured at the start" },
	{ "seed", OPTION_INT, "1", 0, MANY, NULL, "of the initial weights, the order of the images, augmentation and dropout" },
	{ "eval_every", OPTION_INT | OPTION_FLOAT, "1", 0, 1e6, NULL,
	  "evaluates the averaged model every so many epochs; 0: only at the end" },
	{ 0 },
};

static const struct option optimizer_options[] = {
	{ "name", OPTION_STRING, "\"sgd\"", 0, 0, NULL, "how a gradient changes the weights" },
	{ 0 },
};

static const struct option sync_options[] = {
	{ "algorithm", OPTION_STRING, "\"cocod\"", 0, 0, NULL, "who waits for what, and when" },
	{ 0 },
};

static const struct option topology_options[] = {
	{ "kind", OPTION_STRING, "\"all-reduce\"", 0, 0, NULL, "who mixes with whom" },
	{ 0 },
};

static const struct option compress_options[] = {
	{ "method", OPTION_STRING | OPTION_LIST, "\"none\"", 0, 0, NULL, "what of a vector is sent; (\"topk\", \"fp16\"): and its values as what" },
	{ 0 },
};

static const struct option schedule_options[] = {
	{ "fusion", OPTION_STRING, "\"size\"", 0, 0, NULL, "in which pieces it is sent" },
	{ 0 },
};

static const struct option comm_options[] = {
	{ "transport", OPTION_STRING, "\"auto\"", 0, 0, NULL, "what carries the messages" },
	{ "progress", OPTION_STRING, "\"auto\"", 0, 0, "auto|thread|hook",
	  "who drives communication: a thread, or a hook between the layers; auto: a thread if a core is spare" },
	{ "delay_ms", OPTION_FLOAT, "0.0", 0, 1e6, NULL, "makes each exchange so much longer, for experiments" },
	{ 0 },
};

static const struct option device_options[] = {
	{ "kind", OPTION_STRING, "\"auto\"", 0, 0, NULL, "what computes" },
	{ "threads", OPTION_INT, "0", 0, 1024, NULL, "computing threads of each worker; 0: its share of the cores it may run on" },
	{ "conv", OPTION_STRING, "\"auto\"", 0, 0, "auto|winograd|direct|reference",
	  "kernels for convolutions on the CPU; auto: the fastest that fits each" },
	{ "precision", OPTION_STRING, "\"auto\"", 0, 0, "auto|fp32|tf32|bf16",
	  "of layers; parameters, gradients and optimizer are always fp32. auto: bf16 on a GPU, fp32 on the CPU" },
	{ "deterministic", OPTION_BOOL, "false", 0, 0, NULL, "only kernels that give the same bits in every run (the CPU's always do)" },
	{ "index", OPTION_INT, "-1", -1, 1023, NULL, "which GPU; -1: the only one visible, else local rank modulo their number" },
	{ "graphs", OPTION_BOOL, "true", 0, 0, NULL, "record a training pass once and replay it (GPU): one launch instead of hundreds" },
	{ 0 },
};

static const struct option cluster_options[] = {
	{ "preset", OPTION_STRING, NULL, 0, 0, NULL, "name of a file in scripts/clusters that is read first" },
	{ "nodes", OPTION_INT, "0", 0, 65536, NULL, "how many there are; 0: not said, as many as the workers need" },
	{ "workers_per_node", OPTION_INT, "0", 0, 65536, NULL,
	  "neighbouring ranks that share a node, its intra and its link to the others; 0: by nodes, else as found" },
	{ "inter.latency_us", OPTION_FLOAT, "50.0", 0, 1e7, NULL, "between two nodes: microseconds that a message takes at least" },
	{ "inter.gbit_per_s", OPTION_FLOAT, "10.0", 1e-6, 1e5, NULL, "between two nodes: bandwidth" },
	{ "intra.latency_us", OPTION_FLOAT, "2.0", 0, 1e7, NULL, "inside a node: microseconds that a message takes at least" },
	{ "intra.gbit_per_s", OPTION_FLOAT, "80.0", 1e-6, 1e5, NULL, "inside a node: bandwidth" },
	{ "slowdown", OPTION_LIST, "[]", 1, 1e6, NULL,
	  "a factor of each rank (those left out: 1): its forward and backward take so many times as long, for experiments" },
	{ "clock", OPTION_STRING, "\"wall\"", 0, 0, "wall|virtual",
	  "virtual: beside the real one, a clock that shows what the run would take on this cluster; results are the same" },
	{ "emulate", OPTION_BOOL, "false", 0, 0, NULL, "messages really take the time that they would take on this cluster, if it is longer" },
	{ "jitter", OPTION_FLOAT, "0.0", 0, 10, NULL, "each step of each rank computes 1 + jitter |z| times as long, z standard normal, for experiments" },
	{ "compute.images_per_s", OPTION_FLOAT, "0.0", 0, 1e9, NULL, "speed of one worker, for predictions and the virtual clock; 0: by compute.rates, else measured" },
	{ "compute.rates", OPTION_LIST | OPTION_STRING, "[]", 0, 0, NULL,
	  "the same by models of full width, (\"resnet50=52.9\", \"vgg16=1317\"); those not listed are measured" },
	{ "compute.compress_ns", OPTION_FLOAT, "0.0", 0, 1e6, NULL,
	  "for predictions and the virtual clock: nanoseconds that a compressor takes for an element, choosing, packing and adding up; 0: is measured" },
	{ "compute.sleep", OPTION_BOOL, "false", 0, 0, NULL,
	  "layers sleep for their times and compute nothing: to try a network with more ranks than cores" },
	{ "compute.profile", OPTION_STRING, NULL, 0, 0, NULL, "what each layer takes: a file of --calibrate, in place of measuring" },
	{ 0 },
};

static const struct option output_options[] = {
	{ "name", OPTION_STRING, "\"run\"", 0, 0, NULL, "name of the run" },
	{ "dir", OPTION_STRING, "\"runs/%n-%t\"", 0, 0, NULL, "folder for its files; %n: the name, %t: the time of the start" },
	{ "overwrite", OPTION_BOOL, "false", 0, 0, NULL, "write over an earlier run in that folder" },
	{ "tensorboard", OPTION_BOOL, "true", 0, 0, NULL, "also write an event file for TensorBoard" },
	{ "predict", OPTION_BOOL, "true", 0, 0, NULL, "several workers: measure before the first step what one will take, and whether compressing pays" },
	{ "trace", OPTION_BOOL, "false", 0, 0, NULL, "write trace.json: what each rank did when, for ui.perfetto.dev or chrome://tracing" },
	{ "trace_steps", OPTION_INT | OPTION_LIST, "20", 0, MANY, NULL,
	  "trace: how many steps, behind the first 10; or the first and the last one, counted from 0: [100, 119]" },
	{ "trace_most", OPTION_INT, "100000", 1, 1e8, NULL, "trace: places for events of a kind on each rank; 120 bytes of memory each" },
	{ "log_every", OPTION_INT, "20", 1, 1e9, NULL, "steps between two rows of metrics.csv" },
	{ 0 },
};

/* ---- all tables ---- */

static struct schema *rows;
static int count;

static void add(const char *group, const char *select, const char *owner, const struct option *options, const char *help)
{
	rows = xrealloc(rows, (size_t)(count + 2) * sizeof *rows);
	rows[count++] = (struct schema){ group, select, owner, options, help };
	rows[count] = (struct schema){ 0 };
}

/* Every registry is a NULL-terminated list of pointers to something with a name, options and a line about it. */
#define ADD_ALL(group, select, list, about) \
	for (int i = 0; list[i]; i++) \
		add(group, select, list[i]->name, list[i]->options, list[i]->about)

/* Paper, and on which topologies it works: "…; topology.kind: all-reduce|ps". */
static void add_algorithms(void)
{
	for (int i = 0; sync_list[i]; i++) {
		const struct sync_ops *ops = sync_list[i];

		add("sync", "algorithm", ops->name, ops->options,
		    xasprintf("%s; topology.kind: %s", ops->paper, ops->topology ? ops->topology : "all-reduce"));
	}
}

const struct schema *schema_all(void)
{
	if (rows)
		return rows;
	add("", NULL, NULL, top_options, NULL);
	add("model", NULL, NULL, model_options, "the network");
	ADD_ALL("model", "name", model_list, paper);
	add("data", NULL, NULL, data_options, "the images");
	add("data", NULL, NULL, partition_options, NULL);
	ADD_ALL("data", "name", dataset_list, help);
	add("train", NULL, NULL, train_options, "how long, in which steps");
	add("optimizer", NULL, NULL, optimizer_options, "the update of the weights");
	add("optimizer", NULL, NULL, lr_options, NULL);
	ADD_ALL("optimizer", "name", optimizer_list, paper);
	add("sync", NULL, NULL, sync_options, "the synchronisation algorithm");
	add("sync", NULL, NULL, sync_policies, NULL);
	add_algorithms();
	add("topology", NULL, NULL, topology_options, "the way of the messages");
	ADD_ALL("topology", "kind", topology_list, paper);
	add("compress", NULL, NULL, compress_options, "compression of what is sent");
	ADD_ALL("compress", "method", compress_list, paper);
	for (int i = 0; compress_halves[i].name; i++)
		if (!compress_find(compress_halves[i].name))
			add("compress", "method", compress_halves[i].name, NULL, compress_halves[i].help);
	add("schedule", NULL, NULL, schedule_options, "the pieces that are sent");
	add("schedule", NULL, NULL, schedule_policies, NULL);
	ADD_ALL("schedule", "fusion", schedule_list, paper);
	add("comm", NULL, NULL, comm_options, "the transport of the messages");
	add("comm", "transport", "auto", NULL, "self for one worker, nccl where each has a GPU of its own, else mpi; says which and why");
	for (int i = 0; transport_list[i]; i++)
		add("comm", "transport", transport_list[i]->name, NULL, transport_list[i]->help);
	add("comm", NULL, NULL, transport_options, NULL);
	add("device", NULL, NULL, device_options, "what computes");
	add("device", "kind", "auto", NULL, "a GPU if one answers, else the CPU; says which");
	add("device", "kind", "cuda", NULL, "cuDNN, cuBLASLt and own kernels on an NVIDIA GPU, one worker each");
	for (int i = 0; device_list[i]; i++)
		add("device", "kind", device_list[i]->name, NULL, device_list[i]->help);
	add("cluster", NULL, NULL, cluster_options, "the network, for predictions; slower ranks");
	add("output", NULL, NULL, output_options, "the run directory");
	return rows;
}
