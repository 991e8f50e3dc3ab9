/*
 * Networks on the CUDA device: a pass that is recorded and replayed gives the bits of one that is queued kernel by kernel, whatever
 * the hooks do and whatever happens between passes; a batch that the GPU augments is the batch that the loader makes.
 */
#include "../data/augment.h"
#include "../data/loader.h"
#include "net_kit.h"
#include "tap.h"

enum { BATCH = 8, PASSES = 5 };

static struct device *open_cuda(enum precision precision)
{
	struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto", .precision = precision, .index = -1,
	                                .deterministic = true };
	const struct device_ops *ops = device_find("cuda");

	return ops ? ops->open(&config) : NULL;
}

static void read_back(struct kit *kit, const float *device, int64_t n, float *host)
{
	kit->device->ops->mem->copy(kit->stream, host, device, (size_t)n * sizeof(float), COPY_TO_HOST);
	kit->device->ops->stream->sync(kit->stream);
}

/* ---- graphs ---- */

/* Hooks that act behind every third set of gradients, as a bucketed all-reduce would: another stream copies what is final. */
struct spy {
	struct net *net;
	struct stream *stream;
	struct event *event;
	float *seen;
	int calls, needed;
	bool active;
};

static bool on_ready(void *context, const struct range *r)
{
	struct spy *spy = context;
	const struct device_ops *ops = spy->net->device->ops;

	if (spy->calls++ % 3 != 2 || !spy->active)
		return false;
	ops->stream->record(spy->event, spy->net->stream);
	ops->stream->wait(spy->stream, spy->event);
	ops->mem->copy(spy->stream, spy->seen + r->offset, spy->net->g + r->offset, (size_t)r->n * sizeof(float), COPY_DEVICE);
	ops->stream->record(spy->event, spy->stream);
	return true;
}

static bool on_needed(void *context, const struct range *r)
{
	struct spy *spy = context;

	(void)r;
	spy->needed++;
	return false;
}

static bool build(struct net *net, const char *model)
{
	struct config *config = kit_model_config(model, (const char *const[]){ "model.width=0.25", NULL });
	struct model_input input = { BATCH, 32, 32, 3, 10 };
	bool good;

	net_init(net, model, 7);
	good = config && !model_find(model)->build(net, &input, config) && !net_finish(net);
	config_free(config);
	return good;
}

/* Parameters and loss after some passes of SGD; hooks: 0 none, 1 quiet, 2 acting. evaluate: a forward pass without hooks between. */
static void train(enum precision precision, bool graphs, int hooks, bool evaluate, float **x, double *loss, struct spy *spy)
{
	struct kit kit = { .device = open_cuda(precision) };
	const struct device_ops *ops = kit.device->ops;
	struct config *config = kit_optimizer_config("sgd", (const char *const[]){ "optimizer.momentum=0.9", NULL });
	struct optimizer o;
	struct net net;

	kit.stream = ops->stream->open(kit.device, STREAM_COMPUTE);
	CHECK(build(&net, "resnet20"));
	net_bind(&net, kit.device, kit.stream, true);
	net_init_params(&net);
	optimizer_init(&o, optimizer_find("sgd"), config);
	optimizer_bind(&o, kit.device, net.n);
	*spy = (struct spy){ &net, ops->stream->open(kit.device, STREAM_COMM), ops->stream->event_open(kit.device),
	                     ops->mem->alloc(kit.device, (size_t)net.n * sizeof(float)), 0, 0, hooks == 2 };
	net.graphs = graphs;
	for (int i = 0; i < PASSES; i++) {
		net.hooks = hooks ? (struct net_hooks){ spy, on_needed, on_ready, NULL } : (struct net_hooks){ 0 };
		spy->calls = 0;
		kit_load(&net, BATCH - i);
		net_set_step(&net, i);
		net_pass(&net, 1.0f / BATCH);
		if (hooks == 2)
			ops->stream->wait(kit.stream, spy->event);
		optimizer_begin(&o, kit.stream, 0.05 / (i + 1));
		optimizer_step(&o, kit.stream, 0, net.n, net.g, net.x);
		net.hooks = (struct net_hooks){ 0 };
		if (evaluate)
			net_forward(&net, false);
	}
	ops->stream->sync(spy->stream);
	*loss = net_take_stats(&net).loss;
	*x = xcalloc((size_t)net.n, sizeof(float));
	read_back(&kit, net.x, net.n, *x);
	if (hooks == 2) {
		float *seen = xcalloc((size_t)net.n, sizeof(float)), *g = xcalloc((size_t)net.n, sizeof(float));
		int64_t compared = 0, same = 0;

		read_back(&kit, spy->seen, net.n, seen);
		read_back(&kit, net.g, net.n, g);
		for (int64_t i = 0; i < net.n; i++) {
			compared += seen[i] != 0;
			same += seen[i] != 0 && seen[i] == g[i];
		}
		ok(compared > net.n / 10 && same == compared, "%s: what a hook saw as final was final (%lld values)",
		   graphs ? "replayed" : "queued", (long long)compared);
		free(seen);
		free(g);
	}
	ops->stream->close(spy->stream);
	ops->stream->event_close(spy->event);
	ops->mem->free(kit.device, spy->seen);
	optimizer_release(&o);
	net_free(&net);
	config_free(config);
	kit_close(&kit);
}

static void test_graphs(enum precision precision, const char *name)
{
	for (int hooks = 0; hooks < 3; hooks++) {
		float *plain, *replayed, *between;
		double loss, loss_replayed, loss_between;
		int calls, needed;
		struct spy spy;
		size_t bytes;

		train(precision, false, hooks, false, &plain, &loss, &spy);
		calls = spy.calls;
		needed = spy.needed;
		bytes = sizeof(float) * 1000;
		train(precision, true, hooks, false, &replayed, &loss_replayed, &spy);
		ok(loss > 0 && loss == loss_replayed && !memcmp(plain, replayed, bytes), "%s, hooks %d: replayed passes give the same bits", name, hooks);
		ok(calls == spy.calls && needed == spy.needed && (hooks == 0) == (calls == 0), "and call the same %d hooks", calls + needed);
		train(precision, true, hooks, true, &between, &loss_between, &spy);
		ok(!memcmp(plain, between, bytes), "evaluation between passes changes nothing");
		free(plain);
		free(replayed);
		free(between);
	}
}

/* ---- a resident data set ---- */

/* The same batches made by the loader and by the GPU, compared as floats. */
static void test_resident(bool train_split)
{
	struct kit kit = { .device = open_cuda(PRECISION_FP32) };
	const struct device_ops *ops = kit.device->ops;
	enum { IMAGES = 24, H = 9, W = 7, C = 3 };
	static uint8_t pixels[IMAGES * H * W * C], labels[IMAGES];
	struct dataset d = { .h = H, .w = W, .c = C, .classes = 10, .mean = { 0.4f, 0.5f, 0.6f }, .std = { 0.2f, 0.25f, 0.3f }, .pad = 2, .flip = true };
	int batch = BATCH, wrong = 0, checked = 0, pitch = ops->nn->input_pitch(kit.device, C);
	struct loader_config c = { .seed = 5, .train = train_split, .augment = true, .workers = 1, .batch = &batch, .cyclic = train_split };
	struct loader *images, *draws;
	float *table = xcalloc(C * 256, sizeof(float)), *got = xcalloc((size_t)(BATCH * H * W * pitch), sizeof(float));
	struct augment_desc desc = { BATCH, H, W, C, pitch, d.pad };
	void *image, *device_table, *draw, *y;
	struct batch a, b;

	kit.stream = ops->stream->open(kit.device, STREAM_COMPUTE);
	for (size_t i = 0; i < sizeof(pixels); i++)
		pixels[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int i = 0; i < IMAGES; i++)
		labels[i] = (uint8_t)(i % 10);
	d.train = (struct split){ 14, pixels, labels };
	d.test = (struct split){ 10, pixels + 14 * H * W * C, labels + 14 };
	images = loader_open(&d, train_split ? &d.train : &d.test, &c);
	c.draws = true;
	draws = loader_open(&d, train_split ? &d.train : &d.test, &c);
	augment_table(&d, table);
	image = ops->mem->alloc(kit.device, sizeof(pixels));
	device_table = ops->mem->alloc(kit.device, C * 256 * sizeof(float));
	draw = ops->mem->alloc(kit.device, BATCH * sizeof(struct image_draw));
	y = ops->mem->alloc(kit.device, sizeof(float) * (size_t)(BATCH * H * W * pitch));
	ops->mem->copy(kit.stream, image, pixels, sizeof(pixels), COPY_TO_DEVICE);
	ops->mem->copy(kit.stream, device_table, table, C * 256 * sizeof(float), COPY_TO_DEVICE);
	loader_start(images, 0, 0);
	loader_start(draws, 0, 0);
	for (int step = 0; step < (train_split ? 7 : 2); step++) {
		CHECK(loader_next(images, &a) && loader_next(draws, &b) && a.image && !a.draw && b.draw && !b.image);
		ops->mem->copy(kit.stream, draw, b.draw, BATCH * sizeof(struct image_draw), COPY_TO_DEVICE);
		ops->nn->augment(kit.stream, &desc, image, device_table, draw, y);
		read_back(&kit, y, BATCH * H * W * pitch, got);
		for (int64_t p = 0; p < BATCH * H * W; p++)
			for (int k = 0; k < pitch; k++, checked++)
				wrong += got[p * pitch + k] != (k < C ? a.image[p * C + k] : 0);
		wrong += memcmp(a.label, b.label, BATCH * sizeof(*a.label)) != 0;
	}
	ok(!wrong && checked > 0, "%s: the GPU makes the loader's batches, bit for bit (%d values)", train_split ? "training" : "evaluation", checked);
	loader_close(images);
	loader_close(draws);
	ops->mem->free(kit.device, image);
	ops->mem->free(kit.device, device_table);
	ops->mem->free(kit.device, draw);
	ops->mem->free(kit.device, y);
	free(table);
	free(got);
	kit_close(&kit);
}

int main(void)
{
	struct device *probe = open_cuda(PRECISION_FP32);

	if (!probe) {
		skip("networks on a GPU", "no CUDA device");
		return done_testing();
	}
	probe->ops->close(probe);
	test_graphs(PRECISION_FP32, "fp32");
	test_graphs(PRECISION_BF16, "bf16");
	test_resident(true);
	test_resident(false);
	return done_testing();
}
