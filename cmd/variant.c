/* The run with other choices, for predictions: see variant.h. */
#include <stdlib.h>
#include <string.h>

#include "../comm/compress/kernels.h"
#include "../core/die.h"
#include "pace.h"
#include "schema.h"
#include "variant.h"

static const int64_t SAMPLE = 2 << 20;          /* floats that kernels are timed on; they take time in proportion */

static bool all_reduces(const struct variant *v) { return !strcmp(config_string(v->config, "topology.kind"), "all-reduce"); }

void variant_close(struct variant *v)
{
	if (v->comm.size == 0)          /* else it is the run's */
		comm_unplan_allreduce(&v->comm);
	v->sync.comm = v->sync.compress.comm = NULL;
	sync_release(&v->sync);
	config_free(v->config);
}

static void add_set(const char **sets, int *count, const char *key, const char *value)
{
	if (value)
		sets[(*count)++] = xasprintf("%s=%s", key, value);
}

/* Where nothing is bound, of nobody (size 0), over a transport whose all-reduces are ours. */
static void open_comm(const struct run *run, struct variant *v)
{
	bool serves = !strcmp(config_string(v->config, "topology.kind"), "ps");

	if (run->comm)
		v->comm = *run->comm;
	else
		v->comm = (struct comm){ .ops = run->world.transport };
	v->comm.servers = serves ? (int)config_int(v->config, "topology.servers") : 0;
	v->sync.comm = v->sync.compress.comm = &v->comm;
}

bool variant_open(struct run *run, struct variant *v, const char *algorithm, const char *topology, const char *method)
{
	const char *sets[5] = { "compress.warmup=[]", "compress.dense_steps=0" };
	int count = 2;

	add_set(sets, &count, "sync.algorithm", algorithm);
	add_set(sets, &count, "topology.kind", topology);
	add_set(sets, &count, "compress.method", method);
	*v = (struct variant){ .config = config_variant(run->config, schema_all(), sets, count) };
	while (count > 2)
		free((char *)sets[--count]);
	if (!v->config || sync_init(&v->sync, v->config, run->net.tensor, run->net.tensors, run->net.n)) {
		errors_clear();
		variant_close(v);
		return false;
	}
	v->sync.optimizer = &run->optimizer;
	v->sync.compress.seats = run_seats(run);
	open_comm(run, v);
	return true;
}

void variant_plan(const struct run *run, struct variant *v, const struct cost_model *m)
{
	if (!run->comm && all_reduces(v))
		comm_plan_allreduce(&v->comm, config_string(v->config, "topology.allreduce"), NULL, m);
}

/* ---- what compressing costs ---- */

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

double variant_kernels(struct run *run, const struct variant *v)
{
	double ns = config_float(run->config, "cluster.compute.compress_ns");
	bool none = !strcmp(v->sync.compress.ops->name, "none");

	if (!all_reduces(v) || (none && (ns > 0 || run->workers == 1)))
		return 0;
	if (ns > 0 || run->virtual)     /* what this machine takes says nothing of another one */
		return none ? 0 : 1e-9 * ns * (double)run->net.n;
	return run->comm ? time_kernels(run, v) : 0;
}

double variant_own_kernels(struct run *run)
{
	struct variant v;
	double seconds = 0;

	if (variant_open(run, &v, NULL, NULL, NULL)) {
		seconds = variant_kernels(run, &v);
		variant_close(&v);
	}
	return seconds;
}

/* ---- its name ---- */

static bool has_key(const struct compress *c, const char *key)
{
	for (const struct option *o = c->ops->options; o && o->key; o++)
		if (!strcmp(o->key, key))
			return true;
	return false;
}

void variant_name(const struct variant *v, char *out, size_t size)
{
	const struct compress *c = &v->sync.compress;
	char what[32] = "";

	if (!strcmp(c->name, "none"))
		snprintf(what, sizeof(what), " (dense)");
	else if (has_key(c, "density"))
		snprintf(what, sizeof(what), ", density %g", config_float(v->config, "compress.density"));
	else if (has_key(c, "rank"))
		snprintf(what, sizeof(what), ", rank %d", (int)config_int(v->config, "compress.rank"));
	snprintf(out, size, "%s%s", c->name, what);
}
