/* What all schedules share. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/config.h"
#include "../../core/die.h"
#include "schedule.h"

const struct option schedule_policies[] = {
	{ "split", OPTION_BOOL, "false", 0, 0, NULL, "ssgd: half of each all-reduce during backward, the other half during the next forward (DeAR)" },
	{ "priority", OPTION_BOOL, "false", 0, 0, NULL, "ssgd: gradients that the next forward needs first overtake the others (P3)" },
	{ "slice_mb", OPTION_FLOAT, "1.0", 0.0001, 10000, NULL, "priority: longest message, in megabytes; nothing overtakes inside of it" },
	{ "backward_share", OPTION_FLOAT, "0.7", 0, 1000, NULL, "priority: share of the model that the network sends while backward runs" },
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
	s->ops = schedule_find(config_string(config, "schedule.fusion"));
	CHECK(s->ops && tensors > 0);
	s->bucket = xcalloc((size_t)tensors, sizeof(*s->bucket));
	s->buckets = s->ops->plan(config, tensor, tensors, n, s->bucket);
	s->whole = (struct range){ 0, n, tensor, tensors };
}

void schedule_refine(struct schedule *s, const struct schedule_facts *facts)
{
	size_t bytes = (size_t)facts->tensors * sizeof(*facts->ready);

	CHECK(s->ops->refine && facts->tensors == s->whole.tensors && !s->facts.ready);
	s->facts = *facts;
	s->facts.ready = xcalloc(1, bytes);
	memcpy(s->facts.ready, facts->ready, bytes);
	s->buckets = s->ops->refine(&s->facts, s->whole.tensor, s->whole.tensors, s->whole.n, s->bucket);
}

void schedule_release(struct schedule *s)
{
	free(s->bucket);
	free(s->facts.ready);
	*s = (struct schedule){ 0 };
}

struct range schedule_span(const struct tensor_info *tensor, int tensors, int64_t n, int first, int end)
{
	int64_t from = tensor[first].offset, to = end < tensors ? tensor[end].offset : n;

	return (struct range){ from, to - from, &tensor[first], end - first };
}

double schedule_message(const struct schedule_facts *f, int64_t floats)
{
	return (1 + f->more) * f->latency + f->per_byte * f->share * 4 * (double)floats;
}

double schedule_landed(const struct schedule_facts *f, const struct tensor_info *tensor, const struct range *bucket, int buckets)
{
	double landed = 0;

	for (int i = 0; i < buckets; i++) {
		int last = (int)(bucket[i].tensor - tensor) + bucket[i].tensors - 1;

		landed = fmax(landed, f->ready[last]) + schedule_message(f, bucket[i].n);
	}
	return landed;
}
