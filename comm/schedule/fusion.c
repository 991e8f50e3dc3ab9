/*
 * The three simple schedules: many small messages at one end, no overlap at the other, and between them "size", what PyTorch's DDP
 * and Horovod do: fuse neighbours until a bucket is full.
 *
 * Limits: a bucket ends at a tensor's end, so one huge tensor is one huge bucket (VGG16's first fully connected layer).
 */
#include "../../core/config.h"
#include "schedule.h"

extern const struct schedule_ops schedule_size, schedule_none, schedule_model;

/* Cuts behind every tensor with which a bucket reaches `floats`. */
static int plan_buckets(const struct tensor_info *tensor, int tensors, int64_t n, double floats, struct range *bucket)
{
	int count = 0, first = 0;

	for (int i = 0; i < tensors; i++) {
		struct range so_far = schedule_span(tensor, tensors, n, first, i + 1);

		if ((double)so_far.n < floats && i + 1 < tensors)
			continue;
		bucket[count++] = so_far;
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

const struct schedule_ops schedule_size = {
	.name = "size",
	.paper = "tensor fusion by size: Horovod, Sergeev & Del Balso, arXiv 1802.05799",
	.options = size_options,
	.plan = plan_size,
};

const struct schedule_ops schedule_none = {
	.name = "none",
	.paper = "a message a tensor, wait-free backpropagation: Poseidon, Zhang et al., USENIX ATC 2017",
	.plan = plan_none,
};

const struct schedule_ops schedule_model = {
	.name = "model",
	.paper = "one message after backward: no overlap, the baseline of many papers",
	.plan = plan_model,
};
