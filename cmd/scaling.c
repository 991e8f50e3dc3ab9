/*
 * --predict: no training, and where the config says how fast workers compute (cluster.compute, a preset) no measuring and no memory
 * either: sizes and formulas. What is given per worker stays as workers are added (weak scaling): its batch, its speed.
 *
 *     step       what the algorithm's formula says (cost() of each file, sync_cost())
 *     exposed    of it, what is not computing
 *     efficiency images a second, divided by so many times what one worker computes without any communication
 *
 * --predict=all asks the formulas of every algorithm with the config's compressor (or none, where it takes none), and of every compressor
 * under the config's algorithm; keys are the config's where it has them.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/die.h"
#include "scaling.h"
#include "variant.h"

enum { DEFAULT_MOST = 1024, ALL_WORKERS = 16 };

struct figures {
	double bytes, step, exposed, images, efficiency;
};

static struct figures figures_of(const struct run *run, const struct sync *s, const struct cost_model *m)
{
	double alone = m->forward + m->backward, step = sync_cost(s, m), batch = (double)run->batch_total / run->workers;

	return (struct figures){
		.bytes = s->ops->bytes(s, m->workers), .step = step, .exposed = step - alone, .images = m->workers * batch / step,
		.efficiency = alone / step,
	};
}

/* Workers of the cluster that the config describes; 0: it does not say. */
static int cluster_size(const struct run *run)
{
	return (int)(config_int(run->config, "cluster.nodes") * config_int(run->config, "cluster.workers_per_node"));
}

static void print_header(const char *first)
{
	note("  %s %14s %12s %12s %12s %12s", first, "MB/step/rank", "step ms", "exposed ms", "images/s", "efficiency");
}

static void print_figures(const char *first, const struct figures *f)
{
	note("  %s %14.4f %12.2f %12.2f %12.1f %11.1f%%", first, f->bytes / 1e6, 1e3 * f->step, 1e3 * f->exposed, f->images, 100 * f->efficiency);
}

/* A worker more than the cluster has is marked. */
static void print_row(const struct run *run, const struct sync *s, const struct cost_model *m)
{
	int size = cluster_size(run);
	struct figures f = figures_of(run, s, m);
	char first[16];

	snprintf(first, sizeof(first), "%8d%s", m->workers, size && m->workers > size ? "+" : " ");
	print_figures(first, &f);
}

static void explain_marks(const struct run *run, int most)
{
	if (cluster_size(run) && most > cluster_size(run))
		note("  +: more than the %d workers of cluster.nodes x cluster.workers_per_node: as if there were more such nodes", cluster_size(run));
}

/* The same machine with more workers: who sits together may be another matter. */
static struct cost_model with_workers(const struct run *run, const struct cost_model *m, int workers)
{
	struct cost_model more = *m;

	more.workers = workers;
	more.per_node = run_per_node(run, workers);
	return more;
}

void scaling_print(const struct run *run, const struct sync *s, const struct cost_model *m)
{
	note("scaling    formulas of %s with %s; %.2f ms of kernels an average", s->ops->name, s->compress.name, 1e3 * m->kernels);
	if (s->schedule.ops->refine)
		note("           in the messages planned for the network that is here; for another one the plan would be another");
	print_header(" workers ");
	for (int workers = 1; workers <= DEFAULT_MOST; workers *= 2) {
		struct cost_model more = with_workers(run, m, workers);

		print_row(run, s, &more);
	}
	explain_marks(run, DEFAULT_MOST);
}

/* ---- --predict ---- */

struct answer {
	struct run *run;
	const struct question *question;
	struct cost_model machine;      /* without kernels */
};

static void print_csv(const struct answer *a, const struct variant *v, const struct cost_model *m)
{
	struct figures f = figures_of(a->run, &v->sync, m);
	int group = m->per_node > 1 ? m->per_node : 1;

	if (a->run->world.rank == 0)
		printf("%s,%s,%s,%s,%d,%d,%.0f,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g\n", config_string(a->run->config, "model.name"), v->sync.ops->name,
		       config_string(v->config, "topology.kind"), v->sync.compress.name, m->workers, (m->workers + group - 1) / group, f.bytes,
		       1e3 * (m->forward + m->backward), 1e3 * m->kernels, 1e3 * f.step, 1e3 * f.exposed, f.images, f.efficiency);
}

static struct cost_model machine_for(const struct answer *a, struct variant *v, double kernels, int workers)
{
	struct cost_model m = with_workers(a->run, &a->machine, workers);

	m.kernels = kernels;
	variant_plan(a->run, v, &m);
	return m;
}

/* The config's own choices, a line for each number of workers. */
static int predict_own(const struct answer *a, const int *workers, int count)
{
	struct variant v;
	double kernels;
	int most = 0;

	if (!variant_open(a->run, &v, NULL, NULL, NULL))
		return STATUS_CONFIG;
	kernels = variant_kernels(a->run, &v);
	if (!a->question->csv) {
		char name[80];

		variant_name(&v, name, sizeof(name));
		note("scaling    formulas of %s with %s; %.2f ms of kernels an average", v.sync.ops->name, name, 1e3 * kernels);
		if (v.sync.schedule.ops->refine)
			note("           %s goes by measured times, which are not there: the model is one message", v.sync.schedule.ops->name);
		print_header(" workers ");
	}
	for (int i = 0; i < count; i++) {
		struct cost_model m = machine_for(a, &v, kernels, workers[i]);

		if (a->question->csv)
			print_csv(a, &v, &m);
		else
			print_row(a->run, &v.sync, &m);
		most = workers[i] > most ? workers[i] : most;
	}
	if (!a->question->csv)
		explain_marks(a->run, most);
	variant_close(&v);
	return STATUS_DONE;
}

/* A line of the list of all: one algorithm, one compressor. own: it is the config's choice. */
static void predict_one(const struct answer *a, struct variant *v, int workers, bool own)
{
	struct cost_model m = machine_for(a, v, variant_kernels(a->run, v), workers);
	struct figures f = figures_of(a->run, &v->sync, &m);
	char compress[80], first[160];

	if (a->question->csv) {
		print_csv(a, v, &m);
		return;
	}
	variant_name(v, compress, sizeof(compress));
	snprintf(first, sizeof(first), "%c %-17s %-11s %-26s", own ? '*' : ' ', v->sync.ops->name, config_string(v->config, "topology.kind"), compress);
	print_figures(first, &f);
}

/* An algorithm on the config's topology, else on the first that it works on; with the config's compressor, else with none. */
static bool open_algorithm(struct run *run, struct variant *v, const struct sync_ops *ops)
{
	char kind[32] = "all-reduce";

	if (ops->topology)
		snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(ops->topology, "|"), ops->topology);
	return variant_open(run, v, ops->name, NULL, NULL) || variant_open(run, v, ops->name, NULL, "none") ||
	       variant_open(run, v, ops->name, kind, NULL) || variant_open(run, v, ops->name, kind, "none");
}

static void predict_all(const struct answer *a, int workers)
{
	struct run *run = a->run;
	struct variant v;

	if (!a->question->csv) {
		note("all        %d workers: every algorithm, then every compressor under %s. *: the config's choice", workers, run->sync.ops->name);
		print_header("  algorithm         topology    compress                  ");
	}
	for (int i = 0; sync_list[i]; i++)
		if (open_algorithm(run, &v, sync_list[i])) {
			predict_one(a, &v, workers, v.sync.ops == run->sync.ops);
			variant_close(&v);
		}
	for (int i = 0; compress_list[i]; i++)
		if (compress_list[i] != run->sync.compress.ops && variant_open(run, &v, NULL, NULL, compress_list[i]->name)) {
			predict_one(a, &v, workers, false);
			variant_close(&v);
		}
}

static void print_facts(const struct answer *a, const struct pace *pace, const struct fit *fit)
{
	const struct run *run = a->run;
	const char *preset = config_has(run->config, "cluster.preset") ? config_string(run->config, "cluster.preset") : NULL;

	note("model      %s, %lld parameters, %d images a step of a worker%s%s", config_string(run->config, "model.name"),
	     (long long)run->net.param_count, run->batch_total / run->workers, preset ? "; preset " : "", preset ? preset : "");
	predict_print_compute(run, pace);
	predict_print_network(run, &a->machine, fit);
	if (run->formulas && config_float(run->config, "cluster.compute.compress_ns") <= 0 && strcmp(run->sync.compress.name, "none"))
		note("kernels    what compressing itself takes is not counted: cluster.compute.compress_ns does not say, and nothing is measured");
}

int report_scaling(struct run *run)
{
	struct pace pace = pace_find(run);
	struct fit fit = run->formulas ? (struct fit){ 0 } : predict_network(run, true);
	struct answer a = { .run = run, .question = run->question, .machine = predict_machine(run, &pace, &fit) };
	int workers[PREDICTED_MOST], count = a.question->count, status = STATUS_DONE;

	memcpy(workers, a.question->workers, sizeof(workers));
	if (!count && a.question->all)
		workers[count++] = cluster_size(run) ? cluster_size(run) : ALL_WORKERS;
	for (int p = 1; !a.question->count && !a.question->all && p <= DEFAULT_MOST; p *= 2)
		workers[count++] = p;
	print_facts(&a, &pace, &fit);
	if (a.question->csv && run->world.rank == 0)
		puts("model,algorithm,topology,compress,workers,nodes,bytes_per_step,compute_ms,kernels_ms,step_ms,exposed_ms,images_per_s,efficiency");
	if (!a.question->all)
		status = predict_own(&a, workers, count);
	for (int i = 0; i < count && a.question->all; i++)
		predict_all(&a, workers[i]);
	fflush(stdout);
	pace_release(&pace);
	return status;
}
