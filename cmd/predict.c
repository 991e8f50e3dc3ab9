/* Predictions for this run on this machine: see predict.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../comm/compress/kernels.h"
#include "../comm/sync/pays.h"
#include "../core/clock.h"
#include "../core/die.h"
#include "predict.h"
#include "schema.h"

/* What a choice is compared with, as far as the algorithm takes it: of each kind one that is cheap. Shown are the fastest two. */
static const char *const alternatives[] = { "topk", "bf16", "int8", "powersgd" };
enum { ALTERNATIVES = sizeof(alternatives) / sizeof(*alternatives), SHOWN = 2 };

static const int64_t SAMPLE = 2 << 20;          /* floats that kernels are timed on; they take time in proportion */
static const double MARGIN = 0.03;              /* of a step: less than that is no difference */
static const double FASTEST = 8e-9 / 1e5;       /* seconds a byte; a link that shows no bandwidth at all has this one */

bool predict_applies(const struct run *run) { return run->workers > 1 && run_all_reduces(run); }

/* ---- the network ---- */

static bool link_given(const struct run *run)
{
	return config_given(run->config, "cluster.inter.latency_us") || config_given(run->config, "cluster.inter.gbit_per_s");
}

/* Where a library reduces, what a step of its ring would have to take; else a step of ours. */
struct fit predict_network(struct run *run, bool given_wins)
{
	bool library = run->comm->ops->allreduce != NULL;
	double size = 4.0 * (double)run->net.n / (library ? 1 : run->workers), least = 1 << 18, most = 4 << 20;
	struct fit fit;

	if (!predict_applies(run) || (given_wins && link_given(run)))
		return (struct fit){ 0 };
	fit = comm_fit(run->comm, library ? fit_allreduce : fit_exchange, (int64_t)fmin(fmax(size, least), most));
	if (library) {
		fit.latency /= 2 * (run->workers - 1);
		fit.per_byte *= run->workers / (2.0 * (run->workers - 1));
	}
	fit.per_byte = fmax(fit.per_byte, FASTEST);
	return fit;
}

/* Of the communication stream's time: what it takes from computing. GPUs share their processors, and CPUs a core unless there is a spare one. */
static double share_lent(const struct run *run)
{
	const struct device_config *c = &run->device->config;

	if (run->device != run->host || (c->progress == PROGRESS_HOOK && run->world.size > 1))
		return 1;
	return fmax(0, 1 - (double)c->spare_cores / run->world.sharing);
}

/* ---- compressors ---- */

struct variant {
	struct config *config;
	struct sync sync;               /* as its formulas need it; never bound */
};

static void variant_close(struct variant *v)
{
	v->sync.comm = v->sync.compress.comm = NULL;
	sync_release(&v->sync);
	config_free(v->config);
}

/* The run with another compressor (NULL: its own), as it is behind its warm-up. False: the algorithm does not take it. */
static bool variant_open(struct run *run, struct variant *v, const char *method)
{
	const char *sets[] = { "compress.warmup=[]", "compress.dense_steps=0", method ? xasprintf("compress.method=%s", method) : NULL };

	*v = (struct variant){ .config = config_variant(run->config, schema_all(), sets, method ? 3 : 2) };
	free((char *)sets[2]);
	if (!v->config || sync_init(&v->sync, v->config, run->net.tensor, run->net.tensors, run->net.n)) {
		errors_clear();
		variant_close(v);
		return false;
	}
	v->sync.optimizer = &run->optimizer;
	v->sync.comm = v->sync.compress.comm = run->comm;
	return true;
}

/* The first n floats of the arena in their ranges: about SAMPLE, but one tensor at least; the last range may be cut. Returns how many. */
static int cut_sample(const struct range *range, int count, struct range *sample, int64_t *n)
{
	int used = 0;
	bool cut = false;

	for (*n = 0; used < count && *n < SAMPLE && !cut; used++) {
		struct range *r = &sample[used];

		*r = range[used];
		while (r->tensors > 1 && *n + r->n > SAMPLE) {
			r->n = r->tensor[--r->tensors].offset - r->offset;
			cut = true;
		}
		*n += r->n;
		CHECK(*n == r->offset + r->n);
	}
	return used;
}

/* A compressor of its own, so that the run's residuals and counters stay as they are. The gradients of the first batch are compressed; where
 * nobody has computed any, the weights. */
static double time_kernels(struct run *run, const struct variant *v)
{
	const struct mem_ops *mem = run->device->ops->mem;
	const struct range *range = v->sync.piece;
	int count = v->sync.pieces;
	struct compress c;
	struct range *sample;
	double seconds;
	float *out;
	int64_t n;

	if (v->sync.ops->averages_gradients)
		count = sync_buckets(&v->sync, run->workers, &range);
	CHECK(compress_init(&c, v->config) == 0);
	sample = xcalloc((size_t)count, sizeof(*sample));
	count = cut_sample(range, count, sample, &n);
	out = mem->alloc(run->device, (size_t)n * sizeof(float));
	compress_bind(&c, run->comm, run->sync.weight, sample, count, n);
	run->device->ops->stream->sync(run->comm->stream);
	seconds = compress_kernels(&c, sample, count, pace_measured(run) ? run->net.g : run->net.x, out) * (double)run->net.n / (double)n;
	compress_release(&c);
	mem->free(run->device, out);
	free(sample);
	return seconds;
}

/* One worker that sends everything has nothing to do for it. */
static double own_kernels(struct run *run)
{
	bool nothing = run->workers == 1 && !strcmp(run->sync.compress.ops->name, "none");
	struct variant v;
	double seconds = 0;

	if (run_all_reduces(run) && !nothing && variant_open(run, &v, NULL)) {
		seconds = time_kernels(run, &v);
		variant_close(&v);
	}
	return seconds;
}

struct cost_model predict_machine(struct run *run, const struct pace *pace, const struct fit *fit)
{
	struct cost_model m = run_link(run, run->workers);

	m.forward = pace->forward;
	m.backward = pace->backward;
	m.ready = pace->ready;
	m.n = run->net.n;
	m.kernels = own_kernels(run);
	m.kernels_lent = share_lent(run);
	if (fit->points == 0)
		return m;
	m.latency = fit->latency;
	m.per_byte = fit->per_byte;
	if (run->world.nodes > 1)
		return m;
	m.intra_latency = m.latency;    /* one host: one kind of link, and a CPU's messages are copies that it makes itself */
	m.intra_per_byte = m.per_byte;
	if (run->device == run->host)
		m.messages_lent = m.kernels_lent;
	return m;
}

/* ---- the table ---- */

static bool has_key(const struct compress *c, const char *key)
{
	for (const struct option *o = c->ops->options; o && o->key; o++)
		if (!strcmp(o->key, key))
			return true;
	return false;
}

static void name_rival(struct rival *r, const struct variant *v, bool dense)
{
	const struct compress *c = &v->sync.compress;
	char what[32] = "";

	if (has_key(c, "density"))
		snprintf(what, sizeof(what), ", density %g", config_float(v->config, "compress.density"));
	else if (has_key(c, "rank"))
		snprintf(what, sizeof(what), ", rank %d", (int)config_int(v->config, "compress.rank"));
	snprintf(r->name, sizeof(r->name), "%s%s", c->name, dense ? " (dense)" : what);
}

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

		if (!variant_open(run, &v[count], method[i]))
			continue;
		r[count] = (struct rival){ .sync = &v[count].sync, .chosen = chosen };
		r[count].kernels = chosen ? m->kernels : time_kernels(run, &v[count]);
		name_rival(&r[count], &v[count], i == 0);
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
	note("compute    %.2f ms a step of %d images (forward %.2f, backward and update %.2f), %s", 1e3 * (pace->forward + pace->backward),
	     run->batch[pace->slowest], 1e3 * pace->forward, 1e3 * pace->backward,
	     pace_source(run));
	if (run->workers > 1)
		note("           by rank %d, the slowest; %.6g images a worker on average", pace->slowest, (double)run->batch_total / run->workers);
}

void predict_print_network(const struct run *run, const struct cost_model *m, const struct fit *fit)
{
	char bandwidth[40] = "no limit of bandwidth seen";

	if (m->per_byte > FASTEST)
		snprintf(bandwidth, sizeof(bandwidth), "%.3g Gbit/s", 8e-9 / m->per_byte);
	if (fit->points)
		note("network    %.3g us latency, %s: fitted to messages over %s here, within %.0f %%", m->latency * 1e6, bandwidth,
		     run->comm->ops->name, 100 * fit->error);
	else
		note("network    %g us latency, %g Gbit/s (cluster.inter)", m->latency * 1e6, 8e-9 / m->per_byte);
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
	fit = predict_network(run, false);
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
