/* What all compressors share: choice by name, and the injected delay in front of every exchange. */
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "compress.h"

const struct compress_ops *compress_find(const char *name)
{
	for (int i = 0; compress_list[i]; i++)
		if (!strcmp(compress_list[i]->name, name))
			return compress_list[i];
	return NULL;
}

int compress_init(struct compress *c, const struct config *config)
{
	*c = (struct compress){ .ops = compress_find(config_string(config, "compress.method")) };
	CHECK(c->ops);
	if (c->ops->state_size)
		c->state = xcalloc(1, c->ops->state_size);
	return c->ops->init(c, config);
}

void compress_bind(struct compress *c, struct comm *comm, const double *weight, const struct range *ranges, int count, int64_t n)
{
	c->comm = comm;
	c->weight = weight;
	c->n = n;
	c->range = ranges;
	c->ranges = count;
	c->ops->bind(c, ranges, count);
}

void compress_average(struct compress *c, const struct range *range, const float *in, float *out)
{
	comm_delay(c->comm);
	c->ops->average(c, range, in, out);
}

double compress_bytes(const struct compress *c, const struct range *range, int workers)
{
	return c->ops->range_bytes ? c->ops->range_bytes(c, range, workers) : c->ops->bytes(c, range->n, workers);
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
