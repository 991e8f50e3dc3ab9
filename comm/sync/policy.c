/*
 * What becomes of the optimizers' state where models are averaged. Papers differ, and seldom say: Local SGD's analysis has no momentum, its
 * implementations keep it, SlowMo's authors compare all three ways. So it is a key, of every algorithm that averages models from time to
 * time; these call sync_merged() where they have.
 */
#include <stdio.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "sync.h"

const struct option sync_policies[] = {
	{ "momentum", OPTION_STRING, "\"local\"", 0, 0, "local|average|reset",
	  "where models are averaged, each optimizer's momentum stays as it is, is averaged too (dense, waited for), or starts anew" },
	{ "batchnorm", OPTION_STRING, "\"average\"", 0, 0, "average|local",
	  "evaluation with the workers' average of batch norm's statistics, or each worker with its own" },
	{ 0 },
};

static int hint_merging(void)
{
	char names[400] = "";

	for (int i = 0; sync_list[i]; i++)
		if (sync_list[i]->averages_models)
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", *names ? ", " : "", sync_list[i]->name);
	return hint("leave it out, or choose one of %s", names);
}

int sync_read_policies(struct sync *s, const struct config *config)
{
	const char *momentum = config_string(config, "sync.momentum");

	s->own_batchnorm = !strcmp(config_string(config, "sync.batchnorm"), "local");
	s->momentum = !strcmp(momentum, "average") ? MOMENTUM_AVERAGE : !strcmp(momentum, "reset") ? MOMENTUM_RESET : MOMENTUM_LOCAL;
	if (s->momentum == MOMENTUM_LOCAL || s->ops->averages_models)
		return 0;
	error("sync.momentum = \"%s\" (%s) has no meaning for sync.algorithm = \"%s\": it never merges whole models, or has a rule of its own for "
	      "the optimizers' state", momentum, config_origin(config, "sync.momentum"), s->ops->name);
	return hint_merging();
}

static int vectors_sent(const struct sync *s)
{
	return s->momentum == MOMENTUM_AVERAGE ? s->optimizer->ops->slots(s->optimizer) : 0;
}

static void average_momentum(struct sync *s)
{
	struct optimizer *o = s->optimizer;
	int slots = o->ops->slots(o);

	if (!slots)
		return;
	for (int i = 0; i < slots; i++)
		s->device->ops->vec->scale(s->compute, s->n, (float)s->weight[s->comm->rank], o->state[i], o->state[i]);
	sync_phase(s, "average the momentum");
	comm_fork(s->comm, s->compute);
	trace_begin(s->comm->stream, "average of the momentum", NULL, -1);
	comm_delay(s->comm);
	for (int i = 0; i < slots; i++)
		comm_allreduce(s->comm, o->state[i], s->n, DTYPE_F32, REDUCE_SUM);
	comm_mark(s->comm, s->comm->forked);
	trace_end(s->comm->stream);
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
	return sync_average_bytes(s, workers) + vectors_sent(s) * comm_allreduce_bytes(s->comm, (double)s->n, workers);
}

double sync_merged_cost(const struct sync *s, const struct cost_model *m)
{
	int vectors = vectors_sent(s);

	return vectors ? m->delay + vectors * comm_allreduce_cost(s->comm, m, 4.0 * (double)s->n) : 0;
}
