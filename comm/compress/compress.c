/* What all compressors share: choice by name, and the injected delay in front of every exchange. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "../wire.h"
#include "compress.h"

const struct compress_ops *compress_find(const char *name)
{
	for (int i = 0; compress_list[i]; i++)
		if (!strcmp(compress_list[i]->name, name))
			return compress_list[i];
	return NULL;
}

const struct compress_half compress_halves[] = {
	{ "fp16", "behind a sparse compressor: its values as IEEE binary16, what is rounded away is kept for the next time", HALF_FP16 },
	{ "bf16", "the same with the upper halves of floats: fewer digits, no limits", HALF_BF16 },
	{ 0 },
};

static const struct compress_half *half_find(const char *name)
{
	for (int i = 0; compress_halves[i].name; i++)
		if (!strcmp(compress_halves[i].name, name))
			return &compress_halves[i];
	return NULL;
}

static int hint_chain(void)
{
	return hint("a chain is a sparse compressor and what its values are sent as, fp16 or bf16: compress.method = (\"topk\", \"fp16\")");
}

int compress_hint(const char *what, bool (*can)(const struct compress_ops *))
{
	char names[400] = "";

	for (int i = 0; compress_list[i]; i++)
		if (can(compress_list[i]))
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s\"%s\"", *names ? ", " : "", compress_list[i]->name);
	return hint("%s: %s", what, names);
}

static bool sends_halves(const struct compress_ops *ops) { return ops->halves; }

/* One name, or two: what is sent, and as what. */
static int choose(struct compress *c, const struct config *config)
{
	const char *name[2], *where = config_origin(config, "compress.method");
	int names = config_strings(config, "compress.method", name, 2);
	const struct compress_half *half = names == 2 ? half_find(name[1]) : NULL;

	c->ops = compress_find(name[0]);
	if (names > 2) {
		error("%s: compress.method is a list of %d names", where, names);
		return hint_chain();
	}
	if (!c->ops) {
		error("%s: compress.method = \"%s\" is no compressor by itself", where, name[0]);
		return hint_chain();
	}
	if (names == 2 && !half) {
		error("%s: compress.method: nothing can be sent as \"%s\"", where, name[1]);
		return hint_chain();
	}
	if (half && !c->ops->halves) {
		error("%s: compress.method: the values of \"%s\" cannot be sent as \"%s\"", where, name[0], name[1]);
		return compress_hint("only compressors that send lists of values which nobody adds up on the way can", sends_halves);
	}
	c->half = half ? half->half : HALF_NONE;
	snprintf(c->name, sizeof(c->name), "%s%s%s", name[0], half ? " + " : "", half ? half->name : "");
	return 0;
}

int compress_init(struct compress *c, const struct config *config)
{
	*c = (struct compress){ 0 };
	if (choose(c, config))
		return -1;
	if (c->ops->state_size)
		c->state = xcalloc(1, c->ops->state_size);
	return c->ops->init(c, config);
}

int compress_check(const struct compress *c, const struct config *config, int workers)
{
	return c->ops->check ? c->ops->check(c, config, workers) : 0;
}

void compress_bind(struct compress *c, struct comm *comm, const double *weight, const struct range *ranges, int count, int64_t n)
{
	c->comm = comm;
	c->weight = weight;
	c->n = n;
	c->ops->bind(c, ranges, count);
}

void compress_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	comm_delay(c->comm);
	wire_kernels(c->comm, range->n);
	c->ops->average(c, range, in, out);
}

void compress_describe(const struct compress *c, const struct range *whole, char *text, size_t size)
{
	*text = 0;
	if (c->ops->describe)
		c->ops->describe(c, whole, text, size);
}

double compress_bytes(const struct compress *c, const struct range *range, int workers)
{
	return c->ops->range_bytes ? c->ops->range_bytes(c, range, workers) : c->ops->bytes(c, range->n, workers);
}

double compress_cost(const struct compress *c, const struct range *range, const struct cost_model *m)
{
	struct cost_model one = *m;

	one.n = range->n;
	return c->ops->range_cost ? c->ops->range_cost(c, range, m) : c->ops->cost(c, &one);
}

void compress_epoch(struct compress *c, int64_t epoch)
{
	if (c->ops->epoch)
		c->ops->epoch(c, epoch);
}

void compress_state(struct compress *c, struct state_visitor *v)
{
	if (c->ops->state)
		c->ops->state(c, v);
}

void compress_release(struct compress *c)
{
	if (c->ops && c->comm && c->ops->release)
		c->ops->release(c);
	free(c->state);
	*c = (struct compress){ 0 };
}
