/*
 * Residual networks (He et al. 2015). Basic blocks are two 3x3 convolutions and a shortcut around them,
 *
 *     y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))
 *
 * bottlenecks three, 1x1, 3x3 (which has the stride, as in torchvision) and 1x1 with four times the channels.
 *
 *   resnet18  torchvision's, for ImageNet; for images of up to 64 pixels with the CIFAR stem, which halves nothing
 *   resnet50  the same of bottlenecks
 *   resnet20  the CIFAR network of the paper's section 4.2: 3 stages of 16, 32, 64 channels, shortcuts without parameters
 *
 * Names are torchvision's; where it has no such network (resnet20) they are formed in the same way.
 */
#include <stdio.h>
#include <string.h>

#include "../core/config.h"
#include "../core/die.h"
#include "model.h"

enum { CIFAR_MOST = 64 };       /* pixels; larger images get the ImageNet stem */
enum { WIDER = 4 };             /* a bottleneck's last convolution */

struct resnet {
	int stages, blocks[4], channels;        /* blocks of each stage; channels of the first, doubled in each later one */
	bool bottleneck;
	bool option_a;                  /* shortcuts without parameters, where the shape changes; else a 1x1 convolution */
};

static int conv_bn(struct net *net, const char *prefix, const char *conv, const char *bn, int in, int out, int kernel, int stride)
{
	char name[48];
	int x;

	snprintf(name, sizeof(name), "%s%s", prefix, conv);
	x = net_conv(net, name, in, out, kernel, stride, kernel / 2, false);
	snprintf(name, sizeof(name), "%s%s", prefix, bn);
	return net_bn(net, name, x);
}

static int block(struct net *net, const struct resnet *r, const char *prefix, int in, int channels, int stride)
{
	int out = r->bottleneck ? WIDER * channels : channels;
	bool changes = stride != 1 || net_shape(net, in).c != out;
	int x, shortcut = in;

	if (r->bottleneck) {
		x = net_relu(net, conv_bn(net, prefix, "conv1", "bn1", in, channels, 1, 1));
		x = net_relu(net, conv_bn(net, prefix, "conv2", "bn2", x, channels, 3, stride));
		x = conv_bn(net, prefix, "conv3", "bn3", x, out, 1, 1);
	} else {
		x = net_relu(net, conv_bn(net, prefix, "conv1", "bn1", in, channels, 3, stride));
		x = conv_bn(net, prefix, "conv2", "bn2", x, out, 3, 1);
	}
	if (changes && r->option_a)
		shortcut = net_shortcut(net, in, out);
	else if (changes)
		shortcut = conv_bn(net, prefix, "downsample.0", "downsample.1", in, out, 1, stride);
	return net_relu(net, net_add(net, x, shortcut));
}

static int build(struct net *net, const struct resnet *r, const struct model_input *input, double width, bool imagenet_stem)
{
	int first = model_channels(r->channels, width);
	int x = net_input(net, input->batch, input->h, input->w, input->c);

	if (imagenet_stem)
		x = net_max_pool(net, net_relu(net, conv_bn(net, "", "conv1", "bn1", x, first, 7, 2)), 3, 2, 1);
	else
		x = net_relu(net, conv_bn(net, "", "conv1", "bn1", x, first, 3, 1));
	for (int stage = 0; stage < r->stages; stage++) {
		int channels = model_channels(r->channels << stage, width);

		for (int i = 0; i < r->blocks[stage]; i++) {
			char prefix[32];

			snprintf(prefix, sizeof(prefix), "layer%d.%d.", stage + 1, i);
			x = block(net, r, prefix, x, channels, stage && !i ? 2 : 1);
		}
	}
	net_linear(net, "fc", net_global_pool(net, x), input->classes);
	return net->broken ? -1 : 0;
}

static int build_stem(struct net *net, const struct resnet *r, const struct model_input *input, const struct config *config)
{
	const char *stem = config_string(config, "model.stem");
	bool large = input->h > CIFAR_MOST || input->w > CIFAR_MOST;

	return build(net, r, input, config_float(config, "model.width"), strcmp(stem, "auto") ? !strcmp(stem, "imagenet") : large);
}

static int resnet18_build(struct net *net, const struct model_input *input, const struct config *config)
{
	static const struct resnet r = { .stages = 4, .blocks = { 2, 2, 2, 2 }, .channels = 64 };

	return build_stem(net, &r, input, config);
}

static int resnet50_build(struct net *net, const struct model_input *input, const struct config *config)
{
	static const struct resnet r = { .stages = 4, .blocks = { 3, 4, 6, 3 }, .channels = 64, .bottleneck = true };

	return build_stem(net, &r, input, config);
}

static int resnet20_build(struct net *net, const struct model_input *input, const struct config *config)
{
	static const struct resnet r = { .stages = 3, .blocks = { 3, 3, 3 }, .channels = 16, .option_a = true };

	return build(net, &r, input, config_float(config, "model.width"), false);
}

static const struct option stem_options[] = {
	{ "stem", OPTION_STRING, "\"auto\"", 0, 0, "auto|cifar|imagenet",
	  "first layers: cifar (3x3, keeps the size), imagenet (7x7 stride 2, max pool); auto: cifar up to 64 pixels" },
	{ 0 },
};

const struct model_def model_resnet18 = {
	.name = "resnet18",
	.paper = "He et al. 2015, Deep Residual Learning for Image Recognition",
	.options = stem_options,
	.build = resnet18_build,
};

const struct model_def model_resnet50 = {
	.name = "resnet50",
	.paper = "He et al. 2015, Deep Residual Learning for Image Recognition",
	.options = stem_options,
	.build = resnet50_build,
};

const struct model_def model_resnet20 = {
	.name = "resnet20",
	.paper = "He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2",
	.build = resnet20_build,
};
