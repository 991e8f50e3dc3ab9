/*
 * An arena of a few made-up tensors, and the config of a run on it, from the registered tables and the oracle's setup.
 */
#ifndef KIT_CONFIG_H
#define KIT_CONFIG_H

#include <string.h>

#include "../comm/sync/sync.h"
#include "../core/config.h"
#include "../core/die.h"
#include "../core/lr.h"
#include "../core/optimizer_list.h"
#include "oracle/oracle.h"

enum { KIT_TENSORS = 5, KIT_N = 400 };

static struct tensor_info kit_tensor[KIT_TENSORS];
static bool kit_real[KIT_N];

static inline void kit_layout(void)
{
	static const int64_t length[KIT_TENSORS] = { 48, 7, 100, 150, 64 };
	static const struct { int dims; int64_t dim[4]; } shape[KIT_TENSORS] = {
		{ 2, { 6, 8 } }, { 1, { 7 } }, { 4, { 5, 2, 2, 5 } }, { 2, { 15, 10 } }, { 1, { 64 } },
	};
	int64_t offset = 0;

	for (int i = 0; i < KIT_TENSORS; i++) {
		struct tensor_info *t = &kit_tensor[i];

		*t = (struct tensor_info){ .kind = shape[i].dims > 1 ? TENSOR_WEIGHT : TENSOR_BIAS, .order = KIT_TENSORS - i,
		                           .dims = shape[i].dims, .offset = offset, .n = length[i] };
		memcpy(t->dim, shape[i].dim, sizeof(t->dim));
		snprintf(t->name, sizeof(t->name), "layer%d.weight", KIT_TENSORS - i);
		for (int64_t j = 0; j < length[i]; j++)
			kit_real[offset + j] = true;
		offset += (length[i] + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	}
	CHECK(offset == KIT_N);
}

static inline struct range kit_range(int i)
{
	int64_t end = i + 1 < KIT_TENSORS ? kit_tensor[i + 1].offset : KIT_N;

	return (struct range){ kit_tensor[i].offset, end - kit_tensor[i].offset, &kit_tensor[i], 1 };
}

/* ---- a config from the registered tables ---- */

static inline const struct schema *kit_schema(void)
{
	static const struct option select[][2] = {
		{ { "name", OPTION_STRING, "\"sgd\"", 0, 0, NULL, "" }, { 0 } },
		{ { "algorithm", OPTION_STRING, "\"ssgd\"", 0, 0, NULL, "" }, { 0 } },
		{ { "kind", OPTION_STRING, "\"all-reduce\"", 0, 0, NULL, "" }, { 0 } },
		{ { "method", OPTION_STRING | OPTION_LIST, "\"none\"", 0, 0, NULL, "" }, { 0 } },
		{ { "fusion", OPTION_STRING, "\"none\"", 0, 0, NULL, "" }, { 0 } },
	};
	static struct schema rows[64];
	int count = 0;

	if (rows[0].group)
		return rows;
	rows[count++] = (struct schema){ "optimizer", NULL, NULL, select[0], "" };
	for (int i = 0; optimizer_list[i]; i++)
		rows[count++] = (struct schema){ "optimizer", "name", optimizer_list[i]->name, optimizer_list[i]->options, "" };
	rows[count++] = (struct schema){ "optimizer", NULL, NULL, lr_options, "" };
	rows[count++] = (struct schema){ "sync", NULL, NULL, select[1], "" };
	rows[count++] = (struct schema){ "sync", NULL, NULL, sync_policies, "" };
	for (int i = 0; sync_list[i]; i++)
		rows[count++] = (struct schema){ "sync", "algorithm", sync_list[i]->name, sync_list[i]->options, "" };
	rows[count++] = (struct schema){ "topology", NULL, NULL, select[2], "" };
	for (int i = 0; topology_list[i]; i++)
		rows[count++] = (struct schema){ "topology", "kind", topology_list[i]->name, topology_list[i]->options, "" };
	rows[count++] = (struct schema){ "compress", NULL, NULL, select[3], "" };
	for (int i = 0; compress_list[i]; i++)
		rows[count++] = (struct schema){ "compress", "method", compress_list[i]->name, compress_list[i]->options, "" };
	for (int i = 0; compress_halves[i].name; i++)
		if (!compress_find(compress_halves[i].name))
			rows[count++] = (struct schema){ "compress", "method", compress_halves[i].name, NULL, "" };
	rows[count++] = (struct schema){ "schedule", NULL, NULL, select[4], "" };
	rows[count++] = (struct schema){ "schedule", NULL, NULL, schedule_policies, "" };
	for (int i = 0; schedule_list[i]; i++)
		rows[count++] = (struct schema){ "schedule", "fusion", schedule_list[i]->name, schedule_list[i]->options, "" };
	CHECK(count < 64);
	return rows;
}

static const char *const method_name[] = { "none", "topk", "gtopk" };


static const char *const momentum_name[] = { "local", "average", "reset" };

static inline const char *kit_method(const struct oracle_setup *p)
{
	if (!p->compressor)
		return method_name[p->method];
	return p->compressor->method ? p->compressor->method : p->compressor->name;
}

static inline struct config *kit_config(const struct oracle_setup *p, const char *scope, const char *fusion)
{
	const char *sets[32];
	struct config *config;
	char list[100] = "";
	int count = 0;

	for (int i = 0; i < p->warmups; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%g", i ? ", " : "", p->warmup[i]);
	sets[count++] = xasprintf("sync.algorithm=%s", p->algorithm->name);
	sets[count++] = xasprintf("sync.period=%d", (int)p->period);
	sets[count++] = xasprintf("sync.momentum=%s", momentum_name[p->merged]);
	sets[count++] = xasprintf("compress.method=%s", kit_method(p));
	sets[count++] = xasprintf("compress.density=%.17g", p->density);
	sets[count++] = xasprintf("compress.warmup=[%s]", list);
	sets[count++] = xasprintf("compress.scope=%s", scope);
	sets[count++] = xasprintf("schedule.fusion=%s", fusion);
	sets[count++] = xasprintf("schedule.bucket_mb=0.001");
	sets[count++] = xasprintf("optimizer.name=%s", p->adamw ? "adamw" : "sgd");
	sets[count++] = xasprintf("optimizer.momentum=%.17g", p->momentum);
	sets[count++] = xasprintf("optimizer.nesterov=%s", p->nesterov ? "true" : "false");
	sets[count++] = xasprintf("optimizer.weight_decay=%.17g", p->weight_decay);
	if (p->algorithm->keys)
		count += p->algorithm->keys(p, sets + count);
	if (p->compressor && p->compressor->keys)
		count += p->compressor->keys(p, sets + count);
	CHECK(count <= (int)(sizeof(sets) / sizeof(*sets)));
	config = config_load(kit_schema(), NULL, sets, count, NULL);
	if (!config)
		die(STATUS_CONFIG, "%s", errors_text());
	for (int i = 0; i < count; i++)
		free((char *)sets[i]);
	return config;
}

/* The pieces in which the compressor chooses, from the documentation of the schedules: "none" a tensor each, "size" whole tensors
 * until 250 floats (0.001 MB) are full, "model" and compress.scope = "model" everything at once; of "mg-wfbp" the plan that test_cost.c
 * makes it have, tensors 1 … 3 and 4 … 5. */
static inline void kit_ranges(struct oracle_setup *p, const char *scope, const char *fusion)
{
	bool whole = !strcmp(scope, "model") || !strcmp(fusion, "model");

	p->ranges = 0;
	p->tensors = KIT_TENSORS;
	for (int64_t i = 0, from = 0; i < KIT_TENSORS; i++) {
		struct range r = kit_range((int)i);
		int64_t end = r.offset + r.n;

		p->tensor_end[i] = end;
		p->tensor_rows[i] = kit_tensor[i].dims > 1 ? kit_tensor[i].dim[0] : 0;
		p->tensor_columns[i] = kit_tensor[i].dims > 1 ? kit_tensor[i].n / kit_tensor[i].dim[0] : 0;
		if ((whole || (!strcmp(fusion, "size") && end - from < 250) || (!strcmp(fusion, "mg-wfbp") && i != 2)) && i + 1 < KIT_TENSORS)
			continue;
		p->offset[p->ranges] = from;
		p->length[p->ranges++] = end - from;
		from = end;
	}
}

#endif
