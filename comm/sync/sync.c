/* What all synchronisation algorithms share. */
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
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

	if (is_among(kind, needs))
		return 0;
	error("sync.algorithm = \"%s\" (%s) does not work on topology.kind = \"%s\" (%s)", s->ops->name, config_origin(config, "sync.algorithm"),
	      kind, config_origin(config, "topology.kind"));
	return hint("it needs topology.kind = \"%s\"; --list shows what goes with what", needs);
}

const struct option sync_policies[] = {
	{ "momentum", OPTION_STRING, "\"local\"", 0, 0, "local|average|reset",
	  "where models are averaged, each optimizer's momentum stays as it is, is averaged too (dense, waited for), or starts anew" },
	{ "batchnorm", OPTION_STRING, "\"average\"", 0, 0, "average|local",
	  "evaluation with the workers' average of batch norm's statistics, or each worker with its own" },
	{ 0 },
};

static int read_policies(struct sync *s, const struct config *config)
{
	const char *momentum = config_string(config, "sync.momentum");

	s->own_batchnorm = !strcmp(config_string(config, "sync.batchnorm"), "local");
	s->momentum = !strcmp(momentum, "average") ? MOMENTUM_AVERAGE : !strcmp(momentum, "reset") ? MOMENTUM_RESET : MOMENTUM_LOCAL;
	if (s->momentum == MOMENTUM_LOCAL || s->ops->averages_models)
		return 0;
	error("sync.momentum = \"%s\" (%s) has no meaning for sync.algorithm = \"%s\": it does not average models from time to time", momentum,
	      config_origin(config, "sync.momentum"), s->ops->name);
	return hint("leave it out, or choose an algorithm that averages models: local, cocod");
}

int sync_init(struct sync *s, const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n)
{
	*s = (struct sync){ .ops = sync_find(config_string(config, "sync.algorithm")), .n = n };
	CHECK(s->ops);
	if (check_topology(s, config) || read_policies(s, config))
		return -1;
	if (s->ops->state_size)
		s->state = xcalloc(1, s->ops->state_size);
	schedule_init(&s->schedule, config, tensor, tensors, n);
	if (compress_init(&s->compress, config))
		return -1;
	return s->ops->init(s, config);
}

/* The pieces in which the compressor sees the vector when nothing is gained by starting early. */
static const struct range *average_ranges(const struct sync *s, int *count)
{
	*count = s->compress.per_bucket ? s->schedule.buckets : 1;
	return s->compress.per_bucket ? s->schedule.bucket : &s->schedule.whole;
}

void sync_bind(struct sync *s, struct comm *comm, struct stream *compute, struct optimizer *optimizer, float *x, float *g, const int *batch)
{
	const struct range *ranges;
	double total = 0;
	int count;

	s->device = comm->device;
	s->compute = compute;
	s->comm = comm;
	s->optimizer = optimizer;
	s->x = x;
	s->g = g;
	s->weight = xcalloc((size_t)comm->size, sizeof(double));
	for (int r = 0; r < comm->size; r++)
		total += batch[r];
	for (int r = 0; r < comm->size; r++)
		s->weight[r] = batch[r] / total;
	comm_expect_allreduce(comm, s->n, DTYPE_F32);   /* for sync_mean_model() */
	ranges = average_ranges(s, &count);
	compress_bind(&s->compress, comm, s->weight, ranges, count, s->n);
	s->ops->bind(s);
}

void sync_release(struct sync *s)
{
	if (s->comm && s->ops->release)
		s->ops->release(s);
	compress_release(&s->compress);
	schedule_release(&s->schedule);
	free(s->weight);
	free(s->state);
	*s = (struct sync){ 0 };
}

void sync_begin(struct sync *s, int64_t t)
{
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

void sync_step(struct sync *s, int64_t t) { s->ops->step(s, t); }

void sync_epoch(struct sync *s, int64_t epoch)
{
	s->epoch = epoch;
	compress_epoch(&s->compress, epoch);
}

void sync_state(struct sync *s, struct state_visitor *v)
{
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

void sync_average(struct sync *s, const float *in, float *out, struct event *done)
{
	const struct range *ranges;
	int count;

	ranges = average_ranges(s, &count);
	comm_fork(s->comm, s->compute);
	for (int i = 0; i < count; i++)
		compress_average(&s->compress, &ranges[i], in, out);
	comm_mark(s->comm, done);
}

double sync_average_bytes(const struct sync *s, int workers)
{
	const struct range *ranges;
	double bytes = 0;
	int count;

	ranges = average_ranges(s, &count);
	for (int i = 0; i < count; i++)
		bytes += s->compress.ops->bytes(&s->compress, ranges[i].n, workers);
	return bytes;
}

/* ---- the optimizers' state where models are averaged ---- */

static double momentum_bytes(const struct sync *s)
{
	return s->momentum == MOMENTUM_AVERAGE ? 4.0 * (double)s->n * s->optimizer->ops->slots(s->optimizer) : 0;
}

static void average_momentum(struct sync *s)
{
	struct optimizer *o = s->optimizer;
	int slots = o->ops->slots(o);

	if (!slots)
		return;
	for (int i = 0; i < slots; i++)
		s->device->ops->vec->scale(s->compute, s->n, (float)s->weight[s->comm->rank], o->state[i], o->state[i]);
	comm_fork(s->comm, s->compute);
	comm_delay(s->comm);
	for (int i = 0; i < slots; i++)
		comm_allreduce(s->comm, o->state[i], s->n, DTYPE_F32, REDUCE_SUM);
	comm_mark(s->comm, s->comm->forked);
	s->device->ops->stream->wait(s->compute, s->comm->forked);
}

/* As new: AdamW's corrections of the bias start again, too. */
static void reset_momentum(struct sync *s)
{
	struct optimizer *o = s->optimizer;

	for (int i = 0; i < o->ops->slots(o); i++)
		s->device->ops->mem->zero(s->compute, o->state[i], (size_t)s->n * sizeof(float));
	o->t = 0;
}

void sync_merged(struct sync *s)
{
	CHECK(s->ops->averages_models);
	if (s->momentum == MOMENTUM_AVERAGE)
		average_momentum(s);
	else if (s->momentum == MOMENTUM_RESET)
		reset_momentum(s);
}

double sync_merge_bytes(const struct sync *s, int workers)
{
	return sync_average_bytes(s, workers) + 2.0 * (workers - 1) / workers * momentum_bytes(s);
}

double sync_merged_cost(const struct sync *s, const struct cost_model *m)
{
	return momentum_bytes(s) > 0 ? ring_allreduce_cost(m, momentum_bytes(s)) : 0;
}

void sync_mean_model(struct sync *s, float *out)
{
	const struct stream_ops *stream = s->device->ops->stream;

	s->device->ops->vec->scale(s->compute, s->n, (float)s->weight[s->comm->rank], s->x, out);
	comm_fork(s->comm, s->compute);
	comm_allreduce(s->comm, out, s->n, DTYPE_F32, REDUCE_SUM);
	comm_mark(s->comm, s->comm->forked);
	stream->wait(s->compute, s->comm->forked);
}

float *sync_vector(struct sync *s) { return s->device->ops->mem->alloc(s->device, (size_t)s->n * sizeof(float)); }
