/* The models: parameter counts and names as torchvision has them, other image sizes and channels, widths, clear refusals. */
#include "net_kit.h"
#include "tap.h"

static bool build(struct net *net, const char *model, struct model_input input, const char *const *sets)
{
	struct config *config = kit_model_config(model, sets);
	bool good;

	net_init(net, model, 1);
	good = config && !model_find(model)->build(net, &input, config) && !net_finish(net);
	config_free(config);
	return good;
}

#define SETS(...) (const char *const[]){ __VA_ARGS__, NULL }

static void count(const char *model, struct model_input input, const char *const *sets, int64_t want)
{
	struct net net;
	bool good = build(&net, model, input, sets);

	ok(good && net.param_count == want, "%s, %dx%dx%d, %d classes%s%s: %lld parameters", model, input.h, input.w, input.c,
	   input.classes, sets ? ", " : "", sets ? sets[0] : "", (long long)net.param_count);
	if (!good)
		printf("# %s", errors_text());
	errors_clear();
	net_free(&net);
}

static void test_counts(void)
{
	const struct model_input cifar = { 2, 32, 32, 3, 10 }, imagenet = { 1, 224, 224, 3, 1000 }, fashion = { 2, 28, 28, 1, 10 };

	count("resnet18", cifar, NULL, 11173962);
	count("resnet18", imagenet, NULL, 11689512);
	count("vgg16", cifar, NULL, 14728266);
	count("vgg16", imagenet, NULL, 138357544);
	count("vgg16", imagenet, SETS("model.batch_norm=true"), 138365992);
	count("resnet20", cifar, NULL, 269722);
	count("resnet50", imagenet, NULL, 25557032);
	count("resnet50", cifar, NULL, 25557032 - 990 * 2049 - 3 * 40 * 64);
	count("alexnet", imagenet, NULL, 61100840);
	count("alexnet", (struct model_input){ 1, 224, 224, 3, 10 }, NULL, 61100840 - 990 * 4097);
	count("resnet18", fashion, NULL, 11173962 - 2 * 9 * 64);
	count("vgg16", fashion, NULL, 14728266 - 2 * 9 * 64);
	count("resnet20", fashion, NULL, 269722 - 2 * 9 * 16);
	count("resnet18", (struct model_input){ 2, 32, 32, 3, 100 }, NULL, 11173962 + 90 * 513);
	count("resnet18", cifar, SETS("model.stem=imagenet"), 11173962 + 3 * 40 * 64);
	count("vgg16", (struct model_input){ 1, 448, 448, 3, 1000 }, NULL, 138357544);
}

static void test_widths(void)
{
	struct net net;
	bool multiples = true;

	ok(model_channels(64, 0.25) == 16 && model_channels(64, 0.01) == 8 && model_channels(16, 0.7) == 8 &&
	   model_channels(100, 1) == 100 && model_channels(64, 2) == 128, "channels under a width");
	for (int i = 0; model_list[i]; i++) {
		int size = strcmp(model_list[i]->name, "alexnet") ? 32 : 224;

		ok(build(&net, model_list[i]->name, (struct model_input){ 2, size, size, 3, 10 }, SETS("model.width=0.3")),
		   "%s at width 0.3", model_list[i]->name);
		for (int k = 1; k < net.nodes - 1; k++)
			multiples &= net.node[k]->out.shape.c % 8 == 0;
		net_free(&net);
	}
	ok(multiples, "all channels are multiples of 8");
}

static int by_order(const void *a, const void *b)
{
	return (*(const struct tensor_info *const *)a)->order - (*(const struct tensor_info *const *)b)->order;
}

/* PyTorch's state_dict(), without num_batches_tracked. */
static void test_order(void)
{
	static const char *const start[] = {
		"conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "layer1.0.conv1.weight",
		"layer1.0.bn1.weight",
	}, *const downsample[] = {
		"layer2.0.conv1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.bias", "layer2.0.bn1.running_mean",
		"layer2.0.bn1.running_var", "layer2.0.conv2.weight", "layer2.0.bn2.weight", "layer2.0.bn2.bias",
		"layer2.0.bn2.running_mean", "layer2.0.bn2.running_var", "layer2.0.downsample.0.weight",
		"layer2.0.downsample.1.weight",
	};
	const struct tensor_info *all[256];
	struct net net;
	int n = 0;
	bool good = build(&net, "resnet18", (struct model_input){ 2, 32, 32, 3, 10 }, NULL);

	for (int i = 0; i < net.tensors; i++)
		all[n++] = &net.tensor[i];
	for (int i = 0; i < net.buffer_tensors; i++)
		all[n++] = &net.buffer_tensor[i];
	qsort(all, (size_t)n, sizeof(all[0]), by_order);
	ok(good && n == 62 + 40, "resnet18 has 62 parameter tensors and 40 buffers");
	for (int i = 0; i < n; i++)
		good &= all[i]->order == i;
	for (int i = 0; i < 7; i++)
		good &= !strcmp(all[i]->name, start[i]);
	for (int i = 0; i < 12; i++)
		good &= !strcmp(all[25 + i]->name, downsample[i]);
	good &= !strcmp(all[n - 2]->name, "fc.weight") && !strcmp(all[n - 1]->name, "fc.bias");
	ok(good, "names come in the order of PyTorch's state_dict");
	ok(!strcmp(net.tensor[0].name, "fc.weight") && !strcmp(net.tensor[net.tensors - 1].name, "conv1.weight"),
	   "the arena begins with the last layer and ends with the first");
	net_free(&net);
}

static void test_vgg_names(void)
{
	struct net net;

	build(&net, "vgg16", (struct model_input){ 2, 32, 32, 3, 10 }, SETS("model.width=0.1"));
	ok(net_find(&net, "features.0.weight", NULL) && net_find(&net, "features.41.running_var", NULL) &&
	   net_find(&net, "features.40.bias", NULL) && net_find(&net, "classifier.weight", NULL), "vgg16_bn's names");
	net_free(&net);
	build(&net, "vgg16", (struct model_input){ 2, 224, 224, 3, 10 }, SETS("model.width=0.1"));
	ok(net_find(&net, "features.28.weight", NULL) && net_find(&net, "classifier.6.bias", NULL) &&
	   !net_find(&net, "features.1.weight", NULL), "vgg16's names");
	net_free(&net);
}

/* What torchvision's alexnet has between its layers, and how its resnet50 is built. */
static void test_large(void)
{
	static const struct { const char *layer; int h, c; } seen[] = {
		{ "features.0", 55, 64 }, { "features.3", 27, 192 }, { "features.6", 13, 384 }, { "features.8", 13, 256 }, { "features.10", 13, 256 },
		{ "classifier.1", 1, 4096 }, { "classifier.4", 1, 4096 }, { "classifier.6", 1, 1000 },
	};
	struct net net;
	bool good = build(&net, "alexnet", (struct model_input){ 1, 224, 224, 3, 1000 }, NULL);
	int found = 0, params = 0, halves = 0;

	for (int i = 0; i < net.nodes && good; i++)
		for (size_t k = 0; k < sizeof(seen) / sizeof(seen[0]); k++) {
			struct shape s = net.node[i]->out.shape;

			if (!strcmp(net.node[i]->name, seen[k].layer))
				found += s.h == seen[k].h && s.w == seen[k].h && s.c == seen[k].c;
		}
	ok(found == 8, "alexnet: %d of 8 layers give what torchvision's give", found);
	net_free(&net);
	good = build(&net, "resnet50", (struct model_input){ 1, 224, 224, 3, 1000 }, NULL);
	for (int i = 0; i < net.tensors && good; i++)
		params += net.tensor[i].n > 0;
	for (int i = 0; i < net.nodes && good; i++) {
		halves += !strcmp(net.node[i]->name, "layer2.0.conv1") && net.node[i]->out.shape.h == 56;
		halves += !strcmp(net.node[i]->name, "layer2.0.conv2") && net.node[i]->out.shape.h == 28;
	}
	ok(halves == 2, "resnet50: a block's second convolution is the one that halves");
	ok(params == 161 && net_find(&net, "layer1.0.downsample.0.weight", NULL) && net_find(&net, "layer3.5.conv3.weight", NULL) &&
	   net_find(&net, "layer4.2.bn3.running_mean", NULL) && !net_find(&net, "layer3.6.conv1.weight", NULL),
	   "resnet50: %d parameter tensors, torchvision's names", params);
	net_free(&net);
}

static void refused(const char *model, struct model_input input, const char *const *sets, const char *word)
{
	struct net net;
	bool good = build(&net, model, input, sets);

	ok(!good && strstr(errors_text(), word), "refused, because of %s: %.*s", word, (int)strcspn(errors_text(), "\n"), errors_text());
	errors_clear();
	net_free(&net);
}

int main(void)
{
	test_counts();
	test_widths();
	test_order();
	test_vgg_names();
	test_large();
	refused("alexnet", (struct model_input){ 2, 32, 32, 3, 10 }, NULL, "224");
	refused("alexnet", (struct model_input){ 2, 256, 256, 3, 10 }, NULL, "6 x 6");
	refused("vgg16", (struct model_input){ 2, 32, 32, 3, 10 }, SETS("model.form=imagenet"), "224");
	refused("vgg16", (struct model_input){ 2, 100, 100, 3, 10 }, NULL, "7 x 7");
	refused("resnet18", (struct model_input){ 2, 32, 24, 3, 10 }, NULL, "square");
	return done_testing();
}
