/* Ok-Topk's regions in plain C. Loops that cpu_region.c has as well, on purpose: tests hold one against the other, so neither may call it. */
#include <math.h>

#include "cpu.h"

struct region_args {
	int64_t k, room;
	int parts;
	const struct sparse *list;
	const uint32_t *cut;
	struct sparse *block;
	const float *result;
	float *residual, *least;
	uint32_t *bound;
};

static void run_quantiles(void *args, int team)
{
	const struct region_args *a = args;
	float least = fabsf(a->list[0].value);

	(void)team;
	for (int64_t j = 1; j < a->k; j++)
		if (fabsf(a->list[j].value) < least)
			least = fabsf(a->list[j].value);
	*a->least = least;
	a->bound[0] = 0;
	for (int p = 1; p < a->parts; p++)
		a->bound[p] = a->list[p * a->k / a->parts].index;
	a->bound[a->parts] = SPARSE_HOLE;
}

void reference_quantiles(struct stream *s, int64_t k, const struct sparse *list, int parts, float *least, uint32_t *bound)
{
	struct region_args a = { .k = k, .parts = parts, .list = list, .least = least, .bound = bound };

	cpu_run(s, run_quantiles, &a, sizeof(a));
}

static void run_split(void *args, int team)
{
	const struct region_args *a = args;

	(void)team;
	for (int p = 0; p < a->parts; p++) {
		int64_t count = 0;

		for (int64_t i = 0; i < a->room; i++)
			a->block[p * a->room + i] = (struct sparse){ SPARSE_HOLE, 0 };
		for (int64_t j = 0; j < a->k; j++) {
			const struct sparse *item = &a->list[j];

			if (item->index == SPARSE_HOLE || item->index < a->cut[p] || item->index >= a->cut[p + 1])
				continue;
			if (count < a->room)
				a->block[p * a->room + count++] = *item;
			else
				a->residual[item->index] += item->value;
		}
	}
}

void reference_split(struct stream *s, int64_t k, const struct sparse *list, int parts, const uint32_t *bound, int64_t room,
                     struct sparse *block, float *residual)
{
	struct region_args a = { .k = k, .room = room, .parts = parts, .list = list, .cut = bound, .block = block, .residual = residual };

	cpu_run(s, run_split, &a, sizeof(a));
}

static void run_put_back_zero(void *args, int team)
{
	const struct region_args *a = args;

	(void)team;
	for (int64_t j = 0; j < a->k; j++)
		if (a->list[j].index != SPARSE_HOLE && a->result[a->list[j].index] == 0)
			a->residual[a->list[j].index] += a->list[j].value;
}

void reference_put_back_zero(struct stream *s, int64_t k, const struct sparse *own, const float *result, float *residual)
{
	struct region_args a = { .k = k, .list = own, .result = result, .residual = residual };

	cpu_run(s, run_put_back_zero, &a, sizeof(a));
}
