/*
 * The arenas: which tensor lies where, in which order PyTorch has them, what is in them at the start, and how a tensor looks in
 * PyTorch's layout. The last layer's parameters come first, because backward finishes them first: what is ready early is then
 * one piece at the front.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "layer.h"
#include "rng.h"

static bool is_buffer_kind(enum tensor_kind kind) { return kind == TENSOR_MEAN || kind == TENSOR_VAR; }

void node_param(struct net *net, struct node *node, enum tensor_kind kind, const char *suffix, int dims, const int64_t *dim)
{
	bool buffer = is_buffer_kind(kind);
	struct tensor_info **list = buffer ? &net->buffer_tensor : &net->tensor;
	int *count = buffer ? &net->buffer_tensors : &net->tensors;
	int order = net->tensors + net->buffer_tensors;
	struct tensor_info *t;

	*list = xrealloc(*list, (size_t)(*count + 1) * sizeof(**list));
	t = memset(*list + *count, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s.%s", node->name, suffix);
	t->kind = kind;
	t->order = order;
	t->dims = dims;
	t->n = 1;
	for (int i = 0; i < dims; i++) {
		t->dim[i] = dim[i];
		t->n *= dim[i];
	}
	if (buffer) {
		CHECK(node->buffers < 2);
		node->buffer[node->buffers++] = *count;
	} else {
		CHECK(node->params < NODE_PARAMS);
		node->param[node->params++] = *count;
		node->learns = true;
	}
	(*count)++;
}

static int64_t padded(int64_t n) { return (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN; }

/* Moves the tensors at index[0 … count-1] of `from` behind the `placed` ones in `to`; returns where the arena ends now. */
static int64_t place(struct tensor_info *to, int *placed, const struct tensor_info *from, int *index, int count, int64_t end)
{
	for (int i = 0; i < count; i++) {
		struct tensor_info *t = to + *placed;

		*t = from[index[i]];
		t->offset = end;
		end += padded(t->n);
		index[i] = (*placed)++;
	}
	return end;
}

void net_layout(struct net *net)
{
	struct tensor_info *tensor = xcalloc((size_t)net->tensors + 1, sizeof(*tensor));
	struct tensor_info *buffer = xcalloc((size_t)net->buffer_tensors + 1, sizeof(*buffer));
	int tensors = 0, buffers = 0;

	net->n = net->buffer_n = net->param_count = 0;
	for (int i = net->nodes - 1; i >= 0; i--) {
		struct node *node = net->node[i];

		node->range = (struct range){ .offset = net->n, .tensor = tensor + tensors, .tensors = node->params };
		net->n = place(tensor, &tensors, net->tensor, node->param, node->params, net->n);
		net->buffer_n = place(buffer, &buffers, net->buffer_tensor, node->buffer, node->buffers, net->buffer_n);
		node->range.n = net->n - node->range.offset;
	}
	CHECK(tensors == net->tensors && buffers == net->buffer_tensors);
	for (int i = 0; i < tensors; i++)
		net->param_count += tensor[i].n;
	free(net->tensor);
	free(net->buffer_tensor);
	net->tensor = tensor;
	net->buffer_tensor = buffer;
}

const struct tensor_info *net_find(const struct net *net, const char *name, bool *is_buffer)
{
	for (int i = 0; i < net->tensors + net->buffer_tensors; i++) {
		bool buffer = i >= net->tensors;
		const struct tensor_info *t = buffer ? &net->buffer_tensor[i - net->tensors] : &net->tensor[i];

		if (strcmp(t->name, name) == 0) {
			if (is_buffer)
				*is_buffer = buffer;
			return t;
		}
	}
	return NULL;
}

/* ---- PyTorch's layout: the channel moves from the last place to the second ---- */

static void image_size(const struct tensor_info *t, int64_t *outer, int64_t *pixels, int64_t *channels)
{
	bool image = t->dims == 4;

	*outer = t->dim[0];
	*pixels = image ? t->dim[1] * t->dim[2] : 1;
	*channels = t->n / (*outer * *pixels);
}

void tensor_to_torch(const struct tensor_info *t, const float *arena, float *out)
{
	int64_t outer, pixels, channels;

	image_size(t, &outer, &pixels, &channels);
	for (int64_t o = 0; o < outer; o++)
		for (int64_t c = 0; c < channels; c++)
			for (int64_t p = 0; p < pixels; p++)
				*out++ = arena[t->offset + (o * pixels + p) * channels + c];
}

void tensor_from_torch(const struct tensor_info *t, const float *in, float *arena)
{
	int64_t outer, pixels, channels;

	image_size(t, &outer, &pixels, &channels);
	for (int64_t o = 0; o < outer; o++)
		for (int64_t c = 0; c < channels; c++)
			for (int64_t p = 0; p < pixels; p++)
				arena[t->offset + (o * pixels + p) * channels + c] = *in++;
}

/* ---- initial values, as torchvision's models have them ---- */

enum fill { FILL_NORMAL, FILL_UNIFORM, FILL_CONSTANT };

/* Every row (output channel) has random numbers of its own, so any number of threads gives the same values. */
static void fill(float *x, const struct tensor_info *t, uint64_t seed, int threads, enum fill how, double scale)
{
	int64_t rows = t->dim[0], length = t->n / rows;

	#pragma omp parallel for schedule(static) num_threads(threads)
	for (int64_t row = 0; row < rows; row++) {
		struct rng rng;

		rng_init(&rng, seed, RNG_INIT, (uint64_t)t->order, (uint32_t)row);
		for (int64_t i = row * length; i < (row + 1) * length; i++)
			x[t->offset + i] = (float)(how == FILL_NORMAL ? scale * rng_normal(&rng) :
			                           how == FILL_UNIFORM ? scale * (2 * rng_uniform(&rng) - 1) : scale);
	}
}

static void fill_weighted(struct net *net, struct node *node, float *x)
{
	const struct tensor_info *w = &net->tensor[node->param[0]];
	double fan_in = (double)(w->n / w->dim[0]);
	double fan_out = w->dims == 4 ? (double)(w->dim[0] * w->dim[1] * w->dim[2]) : (double)w->dim[0];
	int threads = net->device->config.threads;
	bool linear = node->ops == &layer_linear, uniform = linear && net->linear_std == 0;
	double scale = uniform ? 1 / sqrt(fan_in) : linear ? net->linear_std : sqrt(2 / fan_out);

	fill(x, w, net->seed, threads, uniform ? FILL_UNIFORM : FILL_NORMAL, scale);
	if (node->params > 1)
		fill(x, &net->tensor[node->param[1]], net->seed, threads, uniform ? FILL_UNIFORM : FILL_CONSTANT, uniform ? scale : 0);
}

void net_init_params(struct net *net)
{
	const struct mem_ops *mem = net->device->ops->mem;
	float *x = xaligned((size_t)net->n * sizeof(float));
	float *buffer = xaligned((size_t)net->buffer_n * sizeof(float) + 64);

	for (int i = 0; i < net->nodes; i++)
		if (net->node[i]->params && net->node[i]->ops != &layer_bn)
			fill_weighted(net, net->node[i], x);
	for (int i = 0; i < net->tensors; i++)
		if (net->tensor[i].kind == TENSOR_SCALE)
			fill(x, &net->tensor[i], net->seed, 1, FILL_CONSTANT, 1);
	for (int i = 0; i < net->buffer_tensors; i++)
		if (net->buffer_tensor[i].kind == TENSOR_VAR)
			fill(buffer, &net->buffer_tensor[i], net->seed, 1, FILL_CONSTANT, 1);
	mem->copy(net->stream, net->x, x, (size_t)net->n * sizeof(float), COPY_TO_DEVICE);
	if (net->buffer_n)
		mem->copy(net->stream, net->buffer, buffer, (size_t)net->buffer_n * sizeof(float), COPY_TO_DEVICE);
	net->device->ops->stream->sync(net->stream);
	free(x);
	free(buffer);
}
