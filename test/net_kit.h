/* What the tests of networks share: a config for a model, an open device, values that depend on a name alone. */
#ifndef NET_KIT_H
#define NET_KIT_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/config.h"
#include "../core/device.h"
#include "../core/die.h"
#include "../core/lr.h"
#include "../core/net.h"
#include "../core/optimizer_list.h"
#include "../models/model.h"

/* The part of the program's schema that concerns a model. `sets` ends with NULL. */
__attribute__((unused)) static struct config *kit_model_config(const char *model, const char *const *sets)
{
	static const struct option common[] = {
		{ "name", OPTION_STRING, "\"resnet18\"", 0, 0, 0, "network" },
		{ "width", OPTION_FLOAT, "1.0", 0.001, 16, 0, "multiplier of the channels" },
		{ 0 },
	};
	struct schema schema[16] = { { "model", NULL, NULL, common, "" } };
	const char *all[16];
	char name[64];
	int n = 0;

	for (int i = 0; model_list[i]; i++)
		schema[i + 1] = (struct schema){ "model", "name", model_list[i]->name, model_list[i]->options, model_list[i]->paper };
	snprintf(name, sizeof(name), "model.name=%s", model);
	all[n++] = name;
	for (; sets && *sets; sets++)
		all[n++] = *sets;
	return config_load(schema, NULL, all, n, NULL);
}

/* The same for the optimizers; with optimizer_init(). */
__attribute__((unused)) static struct config *kit_optimizer_config(const char *optimizer, const char *const *sets)
{
	static const struct option name_option[] = { { "name", OPTION_STRING, "\"sgd\"", 0, 0, 0, "optimizer" }, { 0 } };
	struct schema schema[16] = { { "optimizer", NULL, NULL, name_option, "" }, { "optimizer", NULL, NULL, lr_options, "" } };
	const char *all[16];
	char name[64];
	int n = 0;

	for (int i = 0; optimizer_list[i]; i++)
		schema[i + 2] = (struct schema){ "optimizer", "name", optimizer_list[i]->name, optimizer_list[i]->options, "" };
	snprintf(name, sizeof(name), "optimizer.name=%s", optimizer);
	all[n++] = name;
	for (; sets && *sets; sets++)
		all[n++] = *sets;
	return config_load(schema, NULL, all, n, NULL);
}

struct kit {
	struct device *device;
	struct stream *stream;
};

__attribute__((unused)) static struct kit kit_open(const char *device, const char *conv)
{
	struct device_config config = { .threads = 2, .progress = PROGRESS_HOOK, .conv = conv };
	struct kit kit;

	kit.device = device_find(device)->open(&config);
	kit.stream = kit.device->ops->stream->open(kit.device, STREAM_COMPUTE);
	return kit;
}

__attribute__((unused)) static void kit_close(struct kit *kit)
{
	kit->device->ops->stream->close(kit->stream);
	kit->device->ops->close(kit->device);
}

/* In [-0.5, 0.5), a function of the name and the index alone; scripts/golden.py has the same. */
__attribute__((unused)) static double kit_value(const char *name, uint32_t index)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	h += index * 0x9e3779b9u;
	h ^= h >> 16;
	h *= 0x7feb352du;
	h ^= h >> 15;
	h *= 0x846ca68bu;
	h ^= h >> 16;
	return (double)(h >> 8) / (1 << 24) - 0.5;
}

/* Parameters that exercise everything (no batch norm at 1 and 0): weights of a sensible size, all from kit_value. */
__attribute__((unused)) static void kit_fill_params(struct net *net)
{
	for (int i = 0; i < net->tensors; i++) {
		const struct tensor_info *t = &net->tensor[i];
		float *value = xcalloc((size_t)t->n, sizeof(float));
		double scale = t->kind == TENSOR_WEIGHT ? sqrt(24.0 * (double)t->dim[0] / (double)t->n) : t->kind == TENSOR_SCALE ? 0.5 : 0.2;

		for (int64_t k = 0; k < t->n; k++)
			value[k] = (float)(scale * kit_value(t->name, (uint32_t)k) + (t->kind == TENSOR_SCALE));
		tensor_from_torch(t, value, net->x);
		free(value);
	}
	for (int i = 0; i < net->buffer_tensors; i++)
		for (int64_t k = 0; k < net->buffer_tensor[i].n; k++)
			net->buffer[net->buffer_tensor[i].offset + k] = net->buffer_tensor[i].kind == TENSOR_VAR;
}

#endif
