/* Predictions for this run on this machine: see predict.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../comm/sync/pays.h"
#include "../comm/wire.h"
#include "../core/clock.h"
#include "../core/die.h"
#include "predict.h"
#include "variant.h"

/* What a choice is compared with, as far as the algorithm takes it: of each kind one that is cheap. Shown are the fastest two. */
static const char *const alternatives[] = { "topk", "bf16", "int8", "powersgd" };
enum { ALTERNATIVES = sizeof(alternatives) / sizeof(*alternatives), SHOWN = 2 };

static const double MARGIN = 0.03;              /* of a step: less than that is no difference */
static const double FASTEST = 8e-9 / 1e5;       /* seconds a byte; a link that shows no bandwidth at all has this one */

bool predict_applies(const struct run *run) { return run->workers > 1 && run_all_reduces(run); }

/* ---- the network ---- */

/* Where a library reduces, what a step of its ring would have to take; else a step of ours. */
struct fit predict_network(struct run *run, bool given_wins)
{
	bool library = run->comm->ops->allreduce != NULL;
	double size = 4.0 * (double)run->net.n / (library ? 1 : run->workers), least = 1 << 18, most = 4 << 20;
	struct fit fit;

	if (!predict_applies(run) || run->virtual || (given_wins && run_link_given(run)))
		return (struct fit){ 0 };
	fit = comm_fit(run->comm, library ? fit_allreduce : fit_exchange, (int64_t)fmin(fmax(size, least), most));
	if (library) {
		fit.latency /= 2 * (run->workers - 1);
		fit.per_byte *= run->workers / (2.0 * (run->workers - 1));
	}
	fit.per_byte = fmax(fit.per_byte, FASTEST);
	return fit;
}

/* Of the communication stream's time: what it takes from computing. GPUs share their processors, and CPUs a core unless there is a spare one.
 * A cluster that is not here, and the virtual clock, is taken to have none. */
static double share_lent(const struct run *run)
{
	const struct device_config *c = &run->device->config;

	if (run->virtual)
		return 0;
	if (run->formulas || run->device != run->host || (c->progress == PROGRESS_HOOK && run->world.size > 1))
		return 1;
	return fmax(0, 1 - (double)c->spare_cores / run->world.sharing);
}

struct cost_model predict_machine(struct run *run, const struct pace *pace, const struct fit *fit)
{
	struct cost_model m = run_link(run, run->workers);

	m.forward = pace->forward;
	m.backward = pace->backward;
	m.ready = pace->ready;
	m.n = run->net.n;
	m.kernels = variant_own_kernels(run);
	m.kernels_lent = share_lent(run);
	if (fit->points == 0)
		return m;
	m.latency = fit->latency;
	m.per_byte = fit->per_byte;
	if (run->world.nodes > 1)
		return m;
	m.intra_latency = m.latency;    /* one host: one kind of link, and a CPU's messages are copies that it makes itself */
	m.intra_per_byte = m.per_byte;
	if (run->device == run->host && !config_bool(run->config, "cluster.emulate"))   /* an emulated message mostly waits */
		m.messages_lent = m.kernels_lent;
	return m;
}

/* ---- the table ---- */

/* Dense, the run's own, and alternatives; kernels measured, but for the run's own ones, which the model knows. */
static int open_rivals(struct run *run, const struct cost_model *m, struct variant *v, struct rival *r)
{
	const char *own = run->sync.compress.ops->name, *method[ALTERNATIVES + 2] = { "none", NULL };
	bool dense = !strcmp(own, "none");
	int methods = dense ? 1 : 2, count = 0;

	for (int i = 0; i < ALTERNATIVES; i++)
		if (strcmp(alternatives[i], own) || run->sync.compress.half)
			method[methods++] = alternatives[i];
	for (int i = 0; i < methods; i++) {
		bool chosen = i == (dense ? 0 : 1);

		if (!variant_open(run, &v[count], NULL, NULL, method[i]))
			continue;
		r[count] = (struct rival){ .sync = &v[count].sync, .chosen = chosen };
		r[count].kernels = chosen ? m->kernels : variant_kernels(run, &v[count]);
		variant_name(&v[count], r[count].name, sizeof(r[count].name));
		count++;
	}
	CHECK(count >= methods - ALTERNATIVES);         /* dense and the run's own there always are */
	return count;
}

void predict_print(struct run *run, const struct cost_model *m)
{
	struct variant variant[ALTERNATIVES + 2];
	struct rival rival[ALTERNATIVES + 2];
	int count = open_rivals(run, m, variant, rival), shown;
	char *text;

	pays_predict(rival, count, m);
	shown = pays_keep(rival, count, SHOWN);
	if (run->world.rank == 0)
		pays_print(stdout, rival, shown, m);
	text = pays_warning(rival, shown, m, MARGIN);
	if (text)
		warn("%s", text);
	free(text);
	for (int i = 0; i < shown; i++)
		if (rival[i].chosen)
			run->predicted = (struct prediction){
				.made = true, .step = rival[i].step, .exposed = rival[i].exposed, .bytes = rival[i].bytes,
				.kernels = m->kernels, .latency = m->latency, .per_byte = m->per_byte,
			};
	for (int i = 0; i < count; i++)
		variant_close(&variant[i]);
}

void predict_print_compute(const struct run *run, const struct pace *pace)
{
	char from[300];

	pace_source(run, from, sizeof(from));
	note("compute    %.2f ms a step of %d images (forward %.2f, backward and update %.2f), %s", 1e3 * (pace->forward + pace->backward),
	     run->batch[pace->slowest], 1e3 * pace->forward, 1e3 * pace->backward, from);
	if (run->workers > 1)
		note("           by rank %d, the slowest; %.6g images a worker on average", pace->slowest, (double)run->batch_total / run->workers);
}

void predict_print_network(const struct run *run, const struct cost_model *m, const struct fit *fit)
{
	char bandwidth[40] = "no limit of bandwidth seen", inside[120] = "";

	if (m->per_node > 1)
		snprintf(inside, sizeof(inside), "; inside a node of %d workers %g us, %g Gbit/s (cluster.intra)", m->per_node,
		         m->intra_latency * 1e6, 8e-9 / m->intra_per_byte);
	if (m->per_byte > FASTEST)
		snprintf(bandwidth, sizeof(bandwidth), "%.3g Gbit/s", 8e-9 / m->per_byte);
	if (fit->points)
		note("network    %.3g us latency, %s: fitted to messages over %s here, within %.0f %%", m->latency * 1e6, bandwidth,
		     run->comm->ops->name, 100 * fit->error);
	else
		note("network    %g us latency, %g Gbit/s (cluster.inter)%s", m->latency * 1e6, 8e-9 / m->per_byte, inside);
}

void report_predict(struct run *run)
{
	double began = clock_now();
	struct pace pace;
	struct fit fit;
	struct cost_model m;

	if (!predict_applies(run) || !config_bool(run->config, "output.predict"))
		return;
	pace = pace_find(run);
	fit = run->fit.points ? run->fit : predict_network(run, false);
	m = predict_machine(run, &pace, &fit);
	predict_print_compute(run, &pace);
	predict_print_network(run, &m, &fit);
	predict_print(run, &m);
	run->device->ops->mem->zero(run->compute, run->net.g, (size_t)run->net.n * sizeof(float));
	run->device->ops->stream->sync(run->compute);
	run->predicted.fit_error = fit.error;
	run->predicted.took = clock_now() - began;
	pace_release(&pace);
}
