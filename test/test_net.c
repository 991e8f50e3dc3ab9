/* The net's promises: memory is what net_memory says, a step allocates nothing, hooks come in order, evaluation disturbs nothing. */
#include <malloc.h>

#include "net_kit.h"
#include "tap.h"

enum { BATCH = 6 };

/* ---- a device that counts what it hands out ---- */

static int64_t bytes_taken, blocks_taken, blocks_back;
static const struct mem_ops *real_mem;

static void *counting_alloc(struct device *dev, size_t bytes)
{
	bytes_taken += (int64_t)bytes;
	blocks_taken++;
	return real_mem->alloc(dev, bytes);
}

static void counting_free(struct device *dev, void *p)
{
	blocks_back += p != NULL;
	real_mem->free(dev, p);
}

static void count_memory(struct device *dev)
{
	static struct device_ops ops;
	static struct mem_ops mem;

	ops = *dev->ops;
	real_mem = ops.mem;
	mem = *ops.mem;
	mem.alloc = counting_alloc;
	mem.free = counting_free;
	ops.mem = &mem;
	dev->ops = &ops;
	bytes_taken = blocks_taken = blocks_back = 0;
}

static bool build_model(struct net *net, const char *model, const char *width)
{
	struct config *config = kit_model_config(model, (const char *const[]){ width, NULL });
	struct model_input input = { 4, 32, 32, 3, 10 };
	bool good;

	net_init(net, model, 7);
	good = config && !model_find(model)->build(net, &input, config) && !net_finish(net);
	config_free(config);
	return good;
}

static int64_t unshared(const struct net *net, bool train)
{
	int64_t n = 0;

	for (int i = 0; i < net->nodes; i++)
		n += net->node[i]->fused ? 0 : shape_count(net->node[i]->out.shape) * (train ? 2 : 1);
	return n;
}

static void test_memory(const char *model, bool train)
{
	struct kit kit = kit_open("cpu", "reference");
	const struct device_ops *ops = kit.device->ops;
	struct net net;
	int64_t promised;

	CHECK(build_model(&net, model, "model.width=0.25"));
	promised = net_memory(&net, kit.device, train);
	count_memory(kit.device);
	net_bind(&net, kit.device, kit.stream, train);
	ok(bytes_taken == promised, "%s, %s: takes the %lld bytes that net_memory says", model, train ? "training" : "evaluation",
	   (long long)promised);
	ok(blocks_taken <= 9, "in %lld blocks", (long long)blocks_taken);
	ok((double)net.activation_bytes / 4 < (train ? 0.75 : 0.3) * (double)unshared(&net, train), "activations share: %.0f %% of all buffers",
	   100.0 * (double)net.activation_bytes / 4 / (double)unshared(&net, train));
	net_free(&net);
	ok(blocks_back == blocks_taken, "all of it comes back");
	kit.device->ops = ops;
	kit_close(&kit);
}

static bool zero_between(const struct net *net, const float *arena)
{
	bool zero = true;

	for (int i = 0; i < net->tensors; i++) {
		const struct tensor_info *t = &net->tensor[i];
		int64_t end = i + 1 < net->tensors ? t[1].offset : net->n;

		zero &= t->offset % ARENA_ALIGN == 0;
		for (int64_t k = t->offset + t->n; k < end; k++)
			zero &= arena[k] == 0;
	}
	return zero;
}

static void test_step_allocates_nothing(void)
{
	struct kit kit = kit_open("cpu", "auto");
	const struct device_ops *ops = kit.device->ops;
	struct net net;
	int64_t blocks;
	size_t heap;

	CHECK(build_model(&net, "vgg16", "model.width=0.125"));
	net_bind(&net, kit.device, kit.stream, true);
	net_init_params(&net);
	kit_load(&net, 4);
	for (int i = 0; i < 3; i++) {   /* oneDNN frees what it takes, but the C library's caches of free blocks count as taken: let them fill */
		kit_step(&net);
		net_forward(&net, false);
	}
	count_memory(kit.device);
	blocks = blocks_taken;
	heap = mallinfo2().uordblks;
	kit_step(&net);
	net_forward(&net, false);
	/* What a GPU's libraries do on the host is theirs, and the emulator allocates with every launch. */
	ok(blocks_taken == blocks && (mallinfo2().uordblks == heap || !ops->stream->progress), "a step allocates nothing");
	ok(zero_between(&net, net.x) && zero_between(&net, net.g), "tensors are aligned, the padding of x and g is zero");
	kit.device->ops = ops;
	net_free(&net);
	kit_close(&kit);
}

/* ---- hooks ---- */

struct log {
	struct net *net;
	float *seen;            /* gradients as they were when they were called final */
	int64_t end, last_needed;
	int needed, ready;
	bool in_order;
};

static bool on_needed(void *context, const struct range *r)
{
	struct log *log = context;

	log->in_order &= log->needed++ == 0 ? r->offset + r->n == log->net->n : r->offset + r->n == log->last_needed;
	log->last_needed = r->offset;
	return true;
}

static bool on_ready(void *context, const struct range *r)
{
	struct log *log = context;
	int64_t tensors_end = r->tensor[r->tensors - 1].offset + r->tensor[r->tensors - 1].n;

	log->in_order &= r->offset == log->end && r->tensor->offset == r->offset && tensors_end <= r->offset + r->n;
	log->end = r->offset + r->n;
	log->ready++;
	memcpy(log->seen + r->offset, log->net->g + r->offset, (size_t)r->n * sizeof(float));
	return true;
}

static void test_hooks(void)
{
	struct kit kit = kit_open("cpu", "auto");
	struct log log = { .in_order = true };
	struct net net;
	int layers = 0;

	CHECK(build_model(&net, "resnet18", "model.width=0.125"));
	net_bind(&net, kit.device, kit.stream, true);
	net_init_params(&net);
	kit_load(&net, 4);
	log.net = &net;
	log.seen = xcalloc((size_t)net.n, sizeof(float));
	net.hooks = (struct net_hooks){ .context = &log, .param_needed = on_needed, .grad_ready = on_ready };
	kit_step(&net);
	for (int i = 0; i < net.nodes; i++)
		layers += net.node[i]->params > 0;
	ok(log.needed == layers && log.ready == layers, "each of the %d layers with parameters is announced once", layers);
	ok(log.in_order && log.end == net.n && log.last_needed == 0,
	   "forward needs the arena from its end, backward finishes it from its start, without gaps");
	ok(!memcmp(log.seen, net.g, (size_t)net.n * sizeof(float)), "gradients do not change after they were called final");
	ok(net.node[net.output]->calls[1][0] == 1 && net.node[net.output]->seconds[1][0] > 0, "each layer's time is kept");
	free(log.seen);
	net_free(&net);
	kit_close(&kit);
}

/* ---- training and evaluation ---- */

static void test_evaluation(void)
{
	struct kit kit = kit_open("cpu", "reference");
	struct net net, bare;
	float *before;
	double loss, half;

	CHECK(kit_tiny_net(&net, BATCH, false) && kit_tiny_net(&bare, BATCH, false));
	net_bind(&net, kit.device, kit.stream, true);
	net_bind(&bare, kit.device, kit.stream, false);
	ok(!bare.g && net.g, "a net for evaluation has no gradients");
	kit_fill_params(&net);
	kit_fill_params(&bare);
	kit_load(&net, BATCH);
	kit_load(&bare, BATCH);
	before = xcalloc((size_t)net.buffer_n, sizeof(float));
	memcpy(before, net.buffer, (size_t)net.buffer_n * sizeof(float));
	loss = kit_loss(&net, false);
	ok(!memcmp(before, net.buffer, (size_t)net.buffer_n * sizeof(float)), "evaluation leaves the running statistics alone");
	ok(kit_loss(&bare, false) == loss && kit_loss(&bare, false) == loss, "a net without gradients gives the same loss, repeatedly");
	kit_loss(&net, true);
	ok(memcmp(before, net.buffer, (size_t)net.buffer_n * sizeof(float)) && kit_loss(&net, false) != loss, "training moves them");
	kit_load(&bare, 3);
	half = kit_loss(&bare, false);
	net_forward(&bare, false);
	net_loss(&bare, 0);
	ok(net_take_stats(&bare).count == 3 && half != loss, "samples with label -1 are not counted");
	free(before);
	net_free(&net);
	net_free(&bare);
	kit_close(&kit);
}

static void test_dropout(void)
{
	struct kit kit = kit_open("cpu", "reference");
	struct net net;
	double first, second;

	CHECK(kit_tiny_net(&net, BATCH, false));
	net_bind(&net, kit.device, kit.stream, true);
	kit_fill_params(&net);
	kit_load(&net, BATCH);
	net_set_step(&net, 1);
	first = kit_loss(&net, true);
	net_set_step(&net, 2);
	second = kit_loss(&net, true);
	ok(first != second, "another step drops other elements");
	net_set_step(&net, 1);
	ok(kit_loss(&net, true) == first, "the same step drops the same ones");
	net_free(&net);
	kit_close(&kit);
}

/* ---- initial values ---- */

static float *initial(const char *model, int threads, uint64_t seed, struct net *net)
{
	struct device_config config = { .threads = threads, .progress = PROGRESS_HOOK, .conv = "reference" };
	struct device *device = device_find("cpu")->open(&config);
	struct stream *stream = device->ops->stream->open(device, STREAM_COMPUTE);
	float *x;

	CHECK(build_model(net, model, "model.width=0.5"));
	net->seed = seed;
	net_bind(net, device, stream, false);
	net_init_params(net);
	x = xcalloc((size_t)net->n, sizeof(float));
	memcpy(x, net->x, (size_t)net->n * sizeof(float));
	for (int i = 0; i < net->buffer_tensors; i++)
		for (int64_t k = 0; k < net->buffer_tensor[i].n; k++)
			CHECK(net->buffer[net->buffer_tensor[i].offset + k] == (net->buffer_tensor[i].kind == TENSOR_VAR));
	return x;
}

static void let_go(struct net *net)
{
	struct device *device = net->device;
	struct stream *stream = net->stream;

	net_free(net);
	device->ops->stream->close(stream);
	device->ops->close(device);
}

static double deviation(const struct net *net, const float *x, const char *name, double *largest)
{
	const struct tensor_info *t = net_find(net, name, NULL);
	double sum = 0;

	*largest = 0;
	for (int64_t i = t->offset; i < t->offset + t->n; i++) {
		sum += (double)x[i] * x[i];
		*largest = fmax(*largest, fabs(x[i]));
	}
	return sqrt(sum / (double)t->n);
}

static void test_initial_values(void)
{
	struct net net, other;
	float *x = initial("resnet18", 1, 7, &net), *again = initial("resnet18", 2, 7, &other), *differ;
	double largest;

	ok(!memcmp(x, again, (size_t)net.n * sizeof(float)), "initial values do not depend on the number of threads");
	let_go(&other);
	differ = initial("resnet18", 2, 8, &other);
	ok(memcmp(x, differ, (size_t)net.n * sizeof(float)), "but on the seed");
	let_go(&other);
	near(deviation(&net, x, "layer4.1.conv2.weight", &largest) / sqrt(2.0 / (9 * 256)), 1, 0.01, "convolutions: Kaiming, fan out");
	near(deviation(&net, x, "bn1.weight", &largest), 1, 0, "batch norm's scale");
	near(deviation(&net, x, "bn1.bias", &largest), 0, 0, "batch norm's shift");
	near(deviation(&net, x, "fc.weight", &largest) * 16 * sqrt(3), 1, 0.05, "linear: uniform, 1 / sqrt(inputs)");
	ok(largest <= 1 / 16.0, "within its bounds");
	ok(deviation(&net, x, "fc.bias", &largest) > 0, "with a bias");
	let_go(&net);
	free(x);
	free(again);
	free(differ);
	x = initial("vgg16", 2, 7, &net);
	near(deviation(&net, x, "classifier.weight", &largest), 0.01, 0.001, "vgg16's linear layer: normal, 0.01");
	ok(deviation(&net, x, "classifier.bias", &largest) == 0 && deviation(&net, x, "features.0.bias", &largest) == 0,
	   "and its biases zero");
	let_go(&net);
	free(x);
}

static void test_layout(void)
{
	const struct tensor_info t = { .kind = TENSOR_WEIGHT, .dims = 4, .dim = { 2, 3, 3, 4 }, .offset = 16, .n = 72 };
	float arena[88] = { 0 }, torch[72], back[88] = { 0 };

	for (int i = 0; i < 72; i++)
		arena[16 + i] = (float)i;
	tensor_to_torch(&t, arena, torch);
	tensor_from_torch(&t, torch, back);
	ok(!memcmp(arena, back, sizeof(arena)), "PyTorch's layout and back");
	ok(torch[((1 * 4 + 2) * 3 + 0) * 3 + 1] == arena[16 + ((1 * 3 + 0) * 3 + 1) * 4 + 2], "element (1, 2, 0, 1) is where it should be");
}

/* ---- mistakes and the table ---- */

static void mistake(const char *word, void (*build)(struct net *))
{
	struct net net;
	int finished;

	net_init(&net, "odd", 1);
	build(&net);
	finished = net_finish(&net);
	ok(finished == -1 && errors_count() == 1 && strstr(errors_text(), word), "one mistake is recorded: %.*s",
	   (int)strcspn(errors_text(), "\n"), errors_text());
	errors_clear();
	net_free(&net);
}

static void odd_add(struct net *net)
{
	int x = net_input(net, 2, 8, 8, 3), y = net_conv(net, "a", x, 8, 3, 2, 1, false);

	net_linear(net, "fc", net_global_pool(net, net_relu(net, net_add(net, y, x))), 10);
}

static void odd_pool(struct net *net) { net_linear(net, "fc", net_max_pool(net, net_input(net, 2, 1, 1, 3), 2, 2, 0), 10); }
static void odd_kernel(struct net *net) { net_linear(net, "fc", net_conv(net, "a", net_input(net, 2, 3, 3, 3), 8, 5, 1, 0, false), 10); }
static void odd_end(struct net *net) { net_relu(net, net_conv(net, "a", net_input(net, 2, 8, 8, 3), 8, 3, 1, 1, false)); }
static void odd_dropout(struct net *net) { net_linear(net, "fc", net_dropout(net, net_input(net, 2, 8, 8, 3), 1), 10); }
static void odd_input(struct net *net) { net_linear(net, "fc", net_relu(net, 5 + net_input(net, 2, 8, 8, 3)), 10); }

static void odd_dead_end(struct net *net)
{
	int x = net_input(net, 2, 8, 8, 3);

	net_relu(net, net_conv(net, "lost", x, 8, 3, 1, 1, false));
	net_linear(net, "fc", x, 10);
}

static void test_table(void)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct net net;

	CHECK(build_model(&net, "resnet18", "model.width=1.0"));
	net_print(&net, out);
	fclose(out);
	ok(strstr(text, "11,173,962") && strstr(text, "layer4.1.bn2") && strstr(text, "1110.845"), "the layer table has names and totals");
	near(net_flops(&net) / 4, 1110845440, 0.5, "FLOPs of an image");
	printf("# %.*s\n", (int)strcspn(text, "\n"), text);
	free(text);
	net_free(&net);
}

int main(void)
{
	test_memory("resnet18", true);
	test_memory("vgg16", true);
	test_memory("resnet20", false);
	test_step_allocates_nothing();
	test_hooks();
	test_evaluation();
	test_dropout();
	test_initial_values();
	test_layout();
	mistake("add", odd_add);
	mistake("nothing would be left", odd_pool);
	mistake("smaller than the kernel", odd_kernel);
	mistake("last layer", odd_end);
	mistake("dropout", odd_dropout);
	mistake("not a layer", odd_input);
	mistake("no other layer reads", odd_dead_end);
	test_table();
	return done_testing();
}
