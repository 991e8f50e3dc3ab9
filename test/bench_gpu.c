/*
 * A training step on the CUDA device by classes of kernels, beside its floor:
 *
 *     bench_gpu [resnet18] [batch 512] [bf16|tf32|fp32] [repetitions 50] [image 32]
 *
 * Every node of the net is called by itself, forward and backward, with the shapes and buffers of training; then the step as a whole,
 * as the trainer runs it, but without the loader's thread and without communication. How it is timed, and what a floor is:
 * bench_kit.h. A floor counts every operand once for each call, but batch norm's twice, which needs two passes in either direction.
 */
#include "../core/layer.h"
#include "bench_kit.h"
#include "net_kit.h"

enum { STORED = 4096, ROWS = 64 };

struct row {
	char name[64];
	bool extra;             /* not part of every step */
	int calls;
	double seconds, floor, flops, bytes;
};

static struct row rows[ROWS];
static struct net net;
static struct images images;
static struct image_draw *draw;         /* host memory, as the labels */
static int32_t *label;
static struct hyper *hyper;
static float *momentum, *snapshot, *average, *difference;
static float scale;

static void add_row(const char *layer, const char *phase, bool extra, double seconds, double flops, double bytes)
{
	char name[64];
	int i = 0;

	snprintf(name, sizeof(name), "%s%s%s", layer, *phase ? ", " : "", phase);
	while (*rows[i].name && strcmp(rows[i].name, name))
		CHECK(++i < ROWS);
	memcpy(rows[i].name, name, sizeof(name));
	rows[i].extra = extra;
	rows[i].calls++;
	rows[i].seconds += seconds;
	rows[i].flops += flops;
	rows[i].bytes += bytes;
	rows[i].floor += floor_of(flops, bytes);
}

static void run_load(void *unused) { (void)unused; net_load_resident(&net, &images, draw, label); }
static void run_loss(void *unused) { (void)unused; net_loss(&net, scale); }
static void run_forward(void *node) { ((struct node *)node)->ops->forward(&net, node, true); }
static void run_backward(void *node) { ((struct node *)node)->ops->backward(&net, node); }
static void run_backward_params(void *node) { ((struct node *)node)->ops->backward_params(&net, node); }
static void run_merge(void *unused) { (void)unused; ops->vec->merge(stream, net.n, average, net.x, snapshot, difference); }
static void run_diff(void *unused) { (void)unused; ops->vec->diff(stream, net.n, net.x, snapshot, difference); }

static void run_sgd(void *unused)
{
	(void)unused;
	ops->vec->sgd(stream, net.n, hyper, net.g, momentum, net.x, momentum, net.x);
}

static void run_step(void *unused)
{
	run_load(unused);
	net_pass(&net, scale);
	run_sgd(unused);
}

static void build(const char *model, int batch, int image)
{
	struct config *config = kit_model_config(model, NULL);
	struct model_input input = { batch, image, image, 3, 10 };

	net_init(&net, model, 1);
	if (!config || model_find(model)->build(&net, &input, config) || net_finish(&net)) {
		fputs(errors_text(), stderr);
		exit(STATUS_CONFIG);
	}
	config_free(config);
	net_bind(&net, dev, stream, true);
	net_init_params(&net);
	scale = 1.0f / (float)batch;
}

/* Random images in device memory, and a batch of them. */
static void make_images(int batch, int image)
{
	size_t each = 3 * (size_t)image * (size_t)image;
	unsigned char *host = malloc(STORED * each), *stored = device_bytes(STORED * each);
	uint32_t seed = 1;

	for (size_t i = 0; i < STORED * each; i++)
		host[i] = (unsigned char)((seed = seed * 1664525 + 1013904223) >> 24);
	ops->mem->copy(stream, stored, host, STORED * each, COPY_TO_DEVICE);
	ops->stream->sync(stream);
	free(host);
	images = (struct images){ stored, random_floats(3 * 256, 2), 4 };
	draw = ops->mem->alloc_host(dev, (size_t)batch * sizeof(*draw));
	label = ops->mem->alloc_host(dev, (size_t)batch * sizeof(*label));
	for (int i = 0; i < batch; i++) {
		draw[i] = (struct image_draw){ (uint32_t)i * 7 % STORED, (int16_t)(i % 9), (int16_t)(i / 9 % 9), i & 1, 0 };
		label[i] = i % 10;
	}
}

static void make_vectors(void)
{
	struct hyper h = { .lr = 1e-3f, .momentum = 0.9f, .weight_decay = 5e-4f };

	hyper = device_bytes(sizeof(h));
	ops->mem->set(stream, hyper, &h, sizeof(h));
	momentum = device_bytes((size_t)net.n * sizeof(float));
	snapshot = random_floats(net.n, 0.01f);
	average = random_floats(net.n, 1e-6f);
	difference = random_floats(net.n, 1e-6f);
}

/* Activation elements: of the output, of all inputs, of the inputs whose gradient this node's backward writes. */
static double outputs(const struct node *node) { return (double)shape_count(node->out.shape); }

static double inputs(const struct node *node, bool gradients)
{
	double sum = 0;

	for (int i = 0; i < node->inputs; i++) {
		const struct tensor *in = &net.node[node->input[i]]->out;

		if (!gradients || (in->grad && !node->share_grad[i]))
			sum += (double)shape_count(in->shape) * (gradients && node->add_grad[i] ? 2 : 1);
	}
	return sum;
}

static double weights(const struct node *node) { return (double)node->range.n; }

static void measure_node(struct node *node)
{
	const struct layer_ops *layer = node->ops;
	double e = (double)dtype_size(dev->activation), flops = layer->flops ? layer->flops(&net, node) : 0;
	double moved = e * (inputs(node, false) + outputs(node)), again = 0;    /* again: batch norm's second pass */
	double w = layer->flops ? e * weights(node) : 0;

	if (layer == &layer_input)
		return;
	if (layer == &layer_bn)
		again = e * outputs(node);
	add_row(layer->name, "forward", false, time_of(run_forward, node, true), flops, moved + again + w);
	if (!node->learns)
		return;
	if (layer->backward_params)
		add_row(layer->name, "filter gradient", false, time_of(run_backward_params, node, true), flops, moved + 4 * weights(node));
	if (layer->backward_params && !net.node[node->input[0]]->out.grad)
		return;
	moved = e * (inputs(node, true) + outputs(node) + (layer == &layer_bn ? outputs(node) : 0)) + 2 * again;
	add_row(layer->name, layer->backward_params ? "data gradient" : "backward", false, time_of(run_backward, node, true),
	        layer->backward_params ? flops : 0, moved + w);
}

/* A training step leaves sensible numbers in all buffers; measuring one node again and again does not. */
static void refresh(void)
{
	net_forward(&net, true);
	net_loss(&net, scale);
	net_backward(&net);
}

static void print_rows(int batch, double step)
{
	struct row sum = { .name = "sum" };
	double bytes = 0;

	printf("%-30s %6s %10s %10s %7s %9s %9s\n", "class", "calls", "us", "floor us", "floor %", "TFLOP/s", "GB/s");
	for (int i = 0; i < ROWS && *rows[i].name; i++) {
		const struct row *r = &rows[i];

		printf("%-30s %6d %10.1f %10.1f %7.0f", r->name, r->calls, 1e6 * r->seconds, 1e6 * r->floor, 100 * r->floor / r->seconds);
		printf(" %9.1f %9.0f%s\n", r->flops / r->seconds / 1e12, r->bytes / r->seconds / 1e9, r->extra ? "  once a round" : "");
		sum.seconds += r->extra ? 0 : r->seconds;
		sum.floor += r->extra ? 0 : r->floor;
		bytes += r->extra ? 0 : r->bytes;
	}
	printf("%-30s %6s %10.1f %10.1f %7.0f\n", "sum", "", 1e6 * sum.seconds, 1e6 * sum.floor, 100 * sum.floor / sum.seconds);
	printf("%-30s %6s %10.1f %10.1f %7.0f", "whole step, replayed", "", 1e6 * step, 1e6 * sum.floor, 100 * sum.floor / step);
	printf("   %.0f images/s, floor %.0f images/s, %.2f GB a step\n", batch / step, batch / sum.floor, bytes / 1e9);
}

static void classes(const char *model, int batch, int image)
{
	double n, e = (double)dtype_size(dev->activation), copy = e < 4 ? e : 0, pixels = (double)batch * image * image;

	build(model, batch, image);
	make_images(batch, image);
	make_vectors();
	n = (double)net.n;
	printf("%s, batch %d, %d repetitions\n", model, batch, repetitions);
	add_row("augment", "", false, time_of(run_load, NULL, false), 0, pixels * (3 + e * net.input_pitch));
	for (int i = 0; i < net.nodes; i++) {
		if (net.node[i]->fused)
			continue;
		refresh();
		measure_node(net.node[i]);
	}
	refresh();
	add_row("loss", "", false, time_of(run_loss, NULL, true), 0, e * batch * net.classes * 2);
	refresh();
	add_row("optimizer (sgd)", "", false, time_of(run_sgd, NULL, true), 0, n * (20 + copy));
	add_row("snapshot (diff)", "", true, time_of(run_diff, NULL, true), 0, n * 12);
	add_row("merge and snapshot", "", true, time_of(run_merge, NULL, true), 0, n * (28 + copy));
	net_init_params(&net);
	net.graphs = true;
	for (int i = 0; i < 3; i++)     /* plain, recorded, replayed */
		run_step(NULL);
	print_rows(batch, time_of(run_step, NULL, false));
}

int main(int argc, char **argv)
{
	repetitions = atoi(word(argc, argv, 4, "50"));
	open_device(word(argc, argv, 3, "bf16"));
	classes(word(argc, argv, 1, "resnet18"), atoi(word(argc, argv, 2, "512")), atoi(word(argc, argv, 5, "32")));
	net_free(&net);
	ops->stream->close(stream);
	ops->close(dev);
	return STATUS_DONE;
}
