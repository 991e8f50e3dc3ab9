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

/* $COCOD_TEST_DEVICE takes the place of "cpu". These tests look into the device's memory, so a GPU's must be managed then
 * (COCOD_CUDA_MANAGED=1) and its operations awaited (COCOD_CUDA_SYNC=1). */
__attribute__((unused)) static struct kit kit_open(const char *device, const char *conv)
{
	struct device_config config = { .threads = 2, .progress = PROGRESS_HOOK, .conv = conv, .precision = PRECISION_FP32, .index = -1 };
	const char *wish = getenv("COCOD_TEST_DEVICE");
	struct kit kit;

	if (wish && !strcmp(device, "cpu"))
		device = wish;
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

/* Every kind of layer in a few thousand numbers; all ways in which gradients meet. */
__attribute__((unused)) static bool kit_tiny_net(struct net *net, int batch, bool no_fuse)
{
	int x, y, z, skip;

	net_init(net, "tiny", 5);
	net->no_fuse = no_fuse;
	x = net_input(net, batch, 9, 9, 3);
	x = net_relu(net, net_bn(net, "bn1", net_conv(net, "conv1", x, 6, 3, 1, 1, true)));
	skip = x;                                       /* identity: batch norm takes over the addition */
	y = net_relu(net, net_bn(net, "a.bn1", net_conv(net, "a.conv1", x, 6, 3, 1, 1, false)));
	y = net_bn(net, "a.bn2", net_conv(net, "a.conv2", y, 6, 3, 1, 1, false));
	x = net_relu(net, net_add(net, y, skip));
	x = net_max_pool(net, x, 3, 2, 1);
	y = net_bn(net, "b.bn1", net_conv(net, "b.conv1", x, 8, 3, 2, 1, false));
	skip = net_shortcut(net, x, 8);                 /* the addition stays: its later input is no batch norm */
	x = net_relu(net, net_add(net, y, skip));
	y = net_bn(net, "c.bn1", net_conv(net, "c.conv1", x, 8, 3, 1, 1, false));
	skip = net_bn(net, "c.down.1", net_conv(net, "c.down.0", x, 8, 1, 1, 0, false));
	x = net_relu(net, net_add(net, y, skip));
	y = net_dropout(net, x, 0.25);                  /* x has three readers here */
	z = net_bn(net, "d.bn", net_conv(net, "d.conv", x, 8, 3, 1, 1, false));
	z = net_add(net, net_relu(net, z), z);          /* z has two: its ReLU must stay apart */
	x = net_add(net, z, net_add(net, x, y));
	x = net_avg_pool(net, x, 2, 1, 0);
	y = net_global_pool(net, x);
	x = net_dropout(net, net_relu(net, net_linear(net, "hidden", x, 8)), 0.5);
	net_linear(net, "out", net_add(net, x, y), 5);
	return net_finish(net) == 0;
}

/* A batch of kit_values in [-2, 2); label -1 from sample `valid` on. */
__attribute__((unused)) static void kit_load(struct net *net, int valid)
{
	struct shape s = net->node[0]->out.shape;
	float *image = xcalloc((size_t)shape_count(s), sizeof(float));
	int32_t *label = xcalloc((size_t)s.n, sizeof(int32_t));

	for (int64_t i = 0; i < shape_count(s); i++)
		image[i] = (float)(4 * kit_value("image", (uint32_t)i));
	for (int i = 0; i < s.n; i++)
		label[i] = i < valid ? i * 7 % net->classes : -1;
	net_load(net, image, label);
	free(image);
	free(label);
}

/* The mean loss of a forward pass. */
__attribute__((unused)) static double kit_loss(struct net *net, bool train)
{
	struct loss_stats stats;

	net_forward(net, train);
	net_loss(net, 0);
	stats = net_take_stats(net);
	return stats.loss / (double)stats.count;
}

__attribute__((unused)) static void kit_step(struct net *net)
{
	net_forward(net, true);
	net_loss(net, 1.0f / (float)net->node[0]->out.shape.n);
	net_backward(net);
	net_take_stats(net);
}

#endif
