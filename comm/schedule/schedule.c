/*
 * The three simple schedules: many small messages at one end, no overlap at the other, and between them "size", what PyTorch's DDP
 * and Horovod do: fuse neighbours until a bucket is full.
 *
 * Limits: a bucket ends at a tensor's end, so one huge tensor is one huge bucket (VGG16's first fully connected layer).
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "schedule.h"

/* Cuts behind every tensor with which a bucket reaches `floats`. A bucket runs up to the next tensor's offset, so that together the
 * buckets cover the arena with its padding. */
static int plan_buckets(const struct tensor_info *tensor, int tensors, int64_t n, double floats, struct range *bucket)
{
	int count = 0, first = 0;

	for (int i = 0; i < tensors; i++) {
		int64_t end = i + 1 < tensors ? tensor[i + 1].offset : n, begin = tensor[first].offset;

		if ((double)(end - begin) < floats && i + 1 < tensors)
			continue;
		bucket[count++] = (struct range){ begin, end - begin, &tensor[first], i + 1 - first };
		first = i + 1;
	}
	return count;
}

static int plan_none(const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n, struct range *bucket)
{
	(void)config;
	return plan_buckets(tensor, tensors, n, 0, bucket);
}

static int plan_model(const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n, struct range *bucket)
{
	(void)config;
	return plan_buckets(tensor, tensors, n, (double)n + 1, bucket);
}

static int plan_size(const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n, struct range *bucket)
{
	return plan_buckets(tensor, tensors, n, config_float(config, "schedule.bucket_mb") * 1e6 / 4, bucket);
}

static const struct option size_options[] = {
	{ "bucket_mb", OPTION_FLOAT, "4.0", 0.001, 10000, NULL, "fuse neighbouring tensors until a bucket has so many megabytes" },
	{ 0 },
};

static const struct schedule_ops schedule_size = {
	.name = "size",
	.paper = "tensor fusion by size: Horovod, Sergeev & Del Balso, arXiv 1802.05799",
	.options = size_options,
	.plan = plan_size,
};

static const struct schedule_ops schedule_none = {
	.name = "none",
	.paper = "a message a tensor, wait-free backpropagation: Poseidon, Zhang et al., USENIX ATC 2017",
	.plan = plan_none,
};

static const struct schedule_ops schedule_model = {
	.name = "model",
	.paper = "one message after backward: no overlap, the baseline of many papers",
	.plan = plan_model,
};

const struct schedule_ops *const schedule_list[] = {
	&schedule_size,
	&schedule_none,
	&schedule_model,
	NULL,
};

const struct option schedule_policies[] = {
	{ "split", OPTION_BOOL, "false", 0, 0, NULL, "ssgd: half of each all-reduce during backward, the other half during the next forward (DeAR)" },
	{ "priority", OPTION_BOOL, "false", 0, 0, NULL, "ssgd: gradients that the next forward needs first overtake the others (P3)" },
	{ "slice_mb", OPTION_FLOAT, "1.0", 0.0001, 10000, NULL, "priority: longest message, in megabytes; nothing overtakes inside of it" },
	{ "backward_share", OPTION_FLOAT, "0.5", 0, 1000, NULL, "priority: share of the model that the network sends while backward runs" },
	{ 0 },
};

const struct schedule_ops *schedule_find(const char *name)
{
	for (int i = 0; schedule_list[i]; i++)
		if (!strcmp(schedule_list[i]->name, name))
			return schedule_list[i];
	return NULL;
}

void schedule_init(struct schedule *s, const struct config *config, const struct tensor_info *tensor, int tensors, int64_t n)
{
	const struct schedule_ops *ops = schedule_find(config_string(config, "schedule.fusion"));

	CHECK(ops && tensors > 0);
	s->bucket = xcalloc((size_t)tensors, sizeof(*s->bucket));
	s->buckets = ops->plan(config, tensor, tensors, n, s->bucket);
	s->whole = (struct range){ 0, n, tensor, tensors };
}

void schedule_release(struct schedule *s)
{
	free(s->bucket);
	*s = (struct schedule){ 0 };
}
