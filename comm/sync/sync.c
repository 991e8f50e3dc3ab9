/* What all synchronisation algorithms share. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../../core/lr.h"
#include "../../core/trace.h"
#include "sync.h"

const struct sync_ops *sync_find(const char *name)
{
	for (int i = 0; sync_list[i]; i++)
		if (!strcmp(sync_list[i]->name, name))
			return sync_list[i];
	return NULL;
}

/* Is `kind` one of "a|b|c"? */
static bool is_among(const char *kind, const char *list)
{
	size_t n = strlen(kind);

	for (const char *at = list; (at = strstr(at, kind)); at += n)
		if ((at == list || at[-1] == '|') && (at[n] == 0 || at[n] == '|'))
			return true;
	return false;
}

static int check_topology(const struct sync *s, const struct config *config)
{
	const char *kind = config_string(config, "topology.kind"), *needs = s->ops->topology ? s->ops->topology : "all-reduce";
	const struct compress_ops *compress = s->compress.ops;

	if (!is_among(kind, needs)) {
		error("sync.algorithm = \"%s\" (%s) does not work on topology.kind = \"%s\" (%s)", s->ops->name,
		      config_origin(config, "sync.algorithm"), kind, config_origin(config, "topology.kind"));
		return hint("it needs topology.kind = \"%s\"; --list shows what goes with what", needs);
	}
	/* Gossip algorithms take none either, or not every one (choco), and say so themselves. */
	if (strcmp(kind, "ps") || compress->only_sums)
		return 0;
	error("compress.method = \"%s\" (%s) does not work on topology.kind = \"%s\" (%s): what its workers send has to be unpacked first, and "
	      "a server only adds vectors", compress->name, config_origin(config, "compress.method"), kind, config_origin(config, "topology.kind"));
	return hint("set compress.method = \"none\" or topology.kind = \"all-reduce\"");
}

/* When gradients become final says nothing to an algorithm that sends models, and a line through the times of all-reduces nothing of
 * servers. */
static int check_schedule(const struct sync *s, const struct config *config)
{
	const char *fusion = config_string(config, "schedule.fusion"), *kind = config_string(config, "topology.kind");

	if (!schedule_find(fusion)->refine)
		return 0;
	if (!s->ops->averages_gradients) {
		error("schedule.fusion = \"%s\" (%s) goes by the times at which gradients become final, but sync.algorithm = \"%s\" (%s) does not "
		      "send them", fusion, config_origin(config, "schedule.fusion"), s->ops->name, config_origin(config, "sync.algorithm"));
		return hint("set schedule.fusion = \"size\", or sync.algorithm = \"ssgd\" or \"pipe\"");
	}
	if (!strcmp(kind, "all-reduce"))
		return 0;
	error("schedule.fusion = \"%s\" (%s) measures all-reduces, and topology.kind = \"%s\" (%s) has none", fusion,
	      config_origin(config, "schedule.fusion"), kind, config_origin(config, "topology.kind"));
	return hint("set schedule.fusion = \"size\", or topology.kind = \"all-reduce\"");
}

int sync_dense_only(const struct sync *s, const struct config *config, const char *why)
{
	if (!strcmp(s->compress.ops->name, "none"))
		return 0;
	error("sync.algorithm = \"%s\" (%s) takes no compressor, but compress.method = \"%s\" (%s): %s", s->ops->name,
	      config_origin(config, "sync.algorithm"), s->compress.ops->name, config_origin(config, "compress.method"), why);
	return hint("set compress.method = \"none\", or an algorithm that averages over all workers, \"local\" or \"cocod\"");
}

static int refuse_schedule(const struct config *config, const char *key, const char *other, const char *value, const char *why, const char *remedy)
{
	error("%s = true (%s) does not go with %s = \"%s\" (%s): %s", key, config_origin(config, key), other, value, config_origin(config, other), why);
	return hint("set %s = false or %s = \"%s\"", key, other, remedy);
}

/* Whoever carries out the schedule: the algorithm itself, or a variant of it whose exchanges reach into the next forward. */
static int choose_variant(struct sync *s, const struct config *config)
{
	bool split = config_bool(config, "schedule.split"), priority = config_bool(config, "schedule.priority");
	const struct sync_ops *variant = split ? s->ops->split : s->ops->priority;
	const char *key = split ? "schedule.split" : "schedule.priority", *kind = config_string(config, "topology.kind"), *way;

	if (!split && !priority)
		return 0;
	if (split && priority) {
		error("schedule.split = true (%s) and schedule.priority = true (%s) exclude each other: the second halves are in forward's order already",
		      config_origin(config, "schedule.split"), config_origin(config, "schedule.priority"));
		return hint("leave one of them out");
	}
	if (!variant)
		return refuse_schedule(config, key, "sync.algorithm", s->ops->name, "it is about gradients that are averaged in every step", "ssgd");
	if (!s->compress.ops->plain)
		return refuse_schedule(config, key, "compress.method", s->compress.ops->name, "only dense sums can be taken apart", "none");
	if (strcmp(kind, "all-reduce"))
		return refuse_schedule(config, key, "topology.kind", kind, "it takes apart all-reduces", "all-reduce");
	way = config_string(config, "topology.allreduce");
	if (split && strcmp(way, "ring"))
		return refuse_schedule(config, key, "topology.allreduce", way, "only the ring is a reduce-scatter and an all-gather", "ring");
	s->ops = variant;
	return 0;
}

static bool has_key(const struct option *o, const char *key)
{
	while (o && o->key && strcmp(o->key, key))
		o++;
	return o && o->key;
}

/* One period, for whoever has one. */
static int64_t first_period(const struct sync *s, const struct config *config)
{
	return has_key(s->ops->options, "period") ? config_int(config, "sync.period") : 1;
}

int sync_init(struct sync *s, const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n)
{
	*s = (struct sync){ .ops = sync_find(config_string(config, "sync.algorithm")), .n = n };
	CHECK(s->ops);
	if (compress_init(&s->compress, config) || choose_variant(s, config) || check_topology(s, config) || check_schedule(s, config) ||
	    sync_read_policies(s, config))
		return -1;
	s->alone = s->period = first_period(s, config);
	if (s->ops->state_size)
		s->state = xcalloc(1, s->ops->state_size);
	schedule_init(&s->schedule, config, tensor, tensors, n);
	if (s->ops->init(s, config))
		return -1;
	if (!s->part) {
		struct range *whole = xcalloc(1, sizeof(*whole));

		*whole = s->schedule.whole;
		sync_cut(s, whole, 1);
	}
	return 0;
}

int64_t sync_warm_steps(const struct sync *s, int64_t steps_per_epoch)
{
	const struct compress_ops *ops = s->compress.ops;

	return ops->warm_steps ? ops->warm_steps(&s->compress, steps_per_epoch, s->period) : 0;
}

void sync_foresee(const struct sync *s, const struct lr_schedule *lr, int64_t steps_per_epoch, int64_t steps)
{
	if (s->alone > steps)
		warn("sync.algorithm = \"%s\" lets workers hear of each other after %lld steps, and the run has %lld: each trains alone to the end. "
		     "Set a shorter period", s->ops->name, (long long)s->alone, (long long)steps);
	if (sync_warm_steps(s, steps_per_epoch) >= steps)
		warn("compress.method = \"%s\" warms up for %lld steps, and the run has %lld: it will send more than asked for to the end. Set "
		     "compress.warmup%s shorter", s->compress.name, (long long)sync_warm_steps(s, steps_per_epoch), (long long)steps,
		     has_key(s->compress.ops->options, "dense_steps") ? " and compress.dense_steps" : "");
	if (s->compress.ops->foresee)
		s->compress.ops->foresee(&s->compress, s->ops->averages_gradients ? lr->base : 1);
	if (s->ops->foresee)
		s->ops->foresee(s, lr, steps_per_epoch, steps);
}

static struct range tensors_between(const struct range *whole, int64_t from, int64_t to)
{
	const struct tensor_info *first = whole->tensor, *end = whole->tensor + whole->tensors;
	struct range r = { from, to - from, NULL, 0 };

	while (first < end && first->offset < from)
		first++;
	for (r.tensor = first; first < end && first->offset < to; first++)
		r.tensors++;
	return r;
}

/* A piece ends where a part ends, and where a bucket does if the compressor wants to see them one by one. */
static void cut_pieces(struct sync *s)
{
	const struct range *bucket = s->compress.per_bucket ? s->schedule.bucket : &s->schedule.whole, *part = s->part;

	free(s->piece);
	s->pieces = 0;
	s->piece = xcalloc((size_t)(s->parts + s->schedule.buckets), sizeof(*s->piece));
	for (int64_t from = 0, to; from < s->n; from = to) {
		int64_t part_end = part->offset + part->n, bucket_end = bucket->offset + bucket->n;

		to = part_end < bucket_end ? part_end : bucket_end;
		s->piece[s->pieces++] = tensors_between(&s->schedule.whole, from, to);
		part += part_end == to;
		bucket += bucket_end == to;
	}
}

void sync_cut(struct sync *s, struct range *part, int parts)
{
	CHECK(part[0].offset == 0 && part[parts - 1].offset + part[parts - 1].n == s->n);
	s->part = part;
	s->parts = parts;
	cut_pieces(s);
}

bool sync_wants_facts(const struct sync *s, int workers)
{
	const struct range *bucket;

	sync_buckets(s, workers, &bucket);
	return s->schedule.ops->refine && workers > 1 && bucket == s->schedule.bucket;
}

void sync_refine(struct sync *s, const struct schedule_facts *facts, int workers)
{
	double dense = comm_allreduce_bytes(NULL, (double)s->n, workers);
	struct schedule_facts here = *facts;

	here.share = dense > 0 ? compress_bytes(&s->compress, &s->schedule.whole, workers) / dense : 1;
	here.more = s->compress.ops->exchanges > 1 ? s->compress.ops->exchanges - 1 : 0;
	schedule_refine(&s->schedule, &here);
	cut_pieces(s);
}

void sync_bind(struct sync *s, struct comm *comm, struct stream *compute, struct optimizer *optimizer, float *x, float *g, const int *batch)
{
	s->device = comm->device;
	s->compute = compute;
	s->comm = comm;
	s->optimizer = optimizer;
	s->x = x;
	s->g = g;
	s->weight = xcalloc((size_t)comm->size, sizeof(double));
	for (int r = 0; r < comm->size; r++)
		s->batch_total += batch[r];
	for (int r = 0; r < comm->size; r++)
		s->weight[r] = batch[r] / (double)s->batch_total;
	s->batch = batch[comm->rank];
	comm_expect_allreduce(comm, s->n, DTYPE_F32);   /* for sync_mean_model() */
	compress_bind(&s->compress, comm, s->weight, s->piece, s->pieces, s->n);
	s->ops->bind(s);
}

void sync_release(struct sync *s)
{
	if (s->comm && s->ops->release)
		s->ops->release(s);
	compress_release(&s->compress);
	schedule_release(&s->schedule);
	free(s->part);
	free(s->piece);
	free(s->weight);
	free(s->state);
	*s = (struct sync){ 0 };
}

int64_t sync_claim(struct sync *s, int64_t t, int64_t until)
{
	return s->ops->claim ? s->ops->claim(s, until) : t * s->batch_total;
}

/* Between its phases a worker computes. */
static void phase_of_step(struct sync *s) { sync_phase(s, s->ops->averages_gradients ? "gradient" : "local steps"); }

void sync_begin(struct sync *s, int64_t t)
{
	phase_of_step(s);
	if (s->ops->begin)
		s->ops->begin(s, t);
}

bool sync_param_needed(struct sync *s, const struct range *range)
{
	return s->ops->param_needed && s->ops->param_needed(s, range);
}

bool sync_grad_ready(struct sync *s, const struct range *range)
{
	return s->ops->grad_ready && s->ops->grad_ready(s, range);
}

void sync_step(struct sync *s, int64_t t)
{
	s->ops->step(s, t);
	phase_of_step(s);
}

void sync_settle(struct sync *s)
{
	if (s->ops->settle)
		s->ops->settle(s);
}

void sync_epoch(struct sync *s, int64_t epoch)
{
	s->epoch = epoch;
	compress_epoch(&s->compress, epoch);
}

void sync_state(struct sync *s, struct state_visitor *v)
{
	if (s->ops->settle)
		s->ops->settle(s);
	for (int i = 0; i < s->optimizer->ops->slots(s->optimizer); i++)
		v->vector(v, s->optimizer->ops->slot_name[i], s->device, s->optimizer->state[i], s->n);
	v->number(v, "optimizer.t", &s->optimizer->t);
	s->ops->state(s, v);
	compress_state(&s->compress, v);
}

void sync_optimize(struct sync *s)
{
	optimizer_begin(s->optimizer, s->compute, s->lr);
	optimizer_step(s->optimizer, s->compute, 0, s->n, s->g, s->x);
}

static void average_between(struct sync *s, int64_t from, int64_t to, const float *in, float *out, struct event *done)
{
	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, "average", "parameters", to - from);
	for (int i = 0; i < s->pieces; i++)
		if (s->piece[i].offset >= from && s->piece[i].offset < to)
			compress_average(&s->compress, &s->piece[i], in, out);
	comm_mark(s->comm, done);
	trace_end(s->comm->stream);
}

void sync_average(struct sync *s, const float *in, float *out, struct event *done) { average_between(s, 0, s->n, in, out, done); }

void sync_average_part(struct sync *s, int part, const float *in, float *out, struct event *done)
{
	const struct range *r = &s->part[part];

	average_between(s, r->offset, r->offset + r->n, in, out, done);
}

/* One worker has nothing to send, and one pass over the whole arena is cheapest. */
int sync_buckets(const struct sync *s, int workers, const struct range **bucket)
{
	bool cut = s->compress.per_bucket || (s->compress.ops->any_cut && workers > 1);

	*bucket = cut ? s->schedule.bucket : &s->schedule.whole;
	return cut ? s->schedule.buckets : 1;
}

void sync_sum(struct sync *s, float *v)
{
	comm_fork(s->comm, s->compute);
	comm_allreduce(s->comm, v, s->n, DTYPE_F32, REDUCE_SUM);
	comm_mark(s->comm, s->comm->forked);
	s->device->ops->stream->wait(s->compute, s->comm->forked);
}

void sync_mean_model(struct sync *s, float *out)
{
	s->device->ops->vec->scale(s->compute, s->n, (float)s->weight[s->comm->rank], s->x, out);
	sync_sum(s, out);
}

void sync_log(struct sync *s, int64_t t, const char *what, int64_t value, const char *why, ...)
{
	char text[160];
	va_list ap;

	if (!s->log)
		return;
	va_start(ap, why);
	vsnprintf(text, sizeof(text), why, ap);
	va_end(ap);
	s->log(s->log_context, t, what, value, text);
}

float *sync_vector(struct sync *s) { return s->device->ops->mem->alloc(s->device, (size_t)s->n * sizeof(float)); }
