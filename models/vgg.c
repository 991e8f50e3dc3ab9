/*
 * VGG16 (Simonyan and Zisserman 2014, configuration D): thirteen 3x3 convolutions in five groups with a pool behind each.
 *
 *   imagenet  torchvision's vgg16: no batch norm, three linear layers of 4096, 4096 and the classes, dropout between them
 *   cifar     for images of up to 64 pixels: batch norm behind every convolution (which keeps its bias) and one linear layer
 *
 * Names are torchvision's: features.N counts convolution, batch norm (if any), ReLU and pool, classifier.N the rest. The single
 * linear layer of the CIFAR form is plain "classifier".
 *
 * A pool that would leave nothing of the image is left out: 28 pixels are 14, 7, 3, 1 after four pools, so Fashion-MNIST gets
 * no fifth one. Parameters and their names do not change by that.
 */
#include <stdio.h>
#include <string.h>

#include "../core/config.h"
#include "../core/die.h"
#include "model.h"

enum { CIFAR_MOST = 64, POOL = 0, LAST_IMAGE = 7 };

static const int layers[] = { 64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL };

static int features(struct net *net, int x, double width, bool batch_norm)
{
	int position = 0;

	for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
		char name[32];

		if (layers[i] == POOL) {
			struct shape s = net_shape(net, x);

			position++;
			if (s.h >= 2 && s.w >= 2)
				x = net_max_pool(net, x, 2, 2, 0);
			continue;
		}
		snprintf(name, sizeof(name), "features.%d", position++);
		x = net_conv(net, name, x, model_channels(layers[i], width), 3, 1, 1, true);
		snprintf(name, sizeof(name), "features.%d", position);
		if (batch_norm) {
			x = net_bn(net, name, x);
			position++;
		}
		x = net_relu(net, x);
		position++;
	}
	return x;
}

static void cifar_classifier(struct net *net, int x, int classes)
{
	if (net_shape(net, x).h > 1 || net_shape(net, x).w > 1)
		x = net_global_pool(net, x);
	net_linear(net, "classifier", x, classes);
}

/* torchvision pools whatever image is left to 7x7; here that must come out even. */
static void imagenet_classifier(struct net *net, int x, int classes, double width)
{
	struct shape s = net_shape(net, x);
	int hidden = model_channels(4096, width);

	if (net->broken)
		return;
	if (s.h != s.w || s.h % LAST_IMAGE) {
		net_fail(net, "form \"imagenet\" needs square images of 224 pixels or a multiple, but %d x %d are left of this one, not 7 x 7",
		         s.h, s.w);
		hint("model.form = \"cifar\" takes any image");
		return;
	}
	if (s.h > LAST_IMAGE)
		x = net_avg_pool(net, x, s.h / LAST_IMAGE, s.h / LAST_IMAGE, 0);
	x = net_dropout(net, net_relu(net, net_linear(net, "classifier.0", x, hidden)), 0.5);
	x = net_dropout(net, net_relu(net, net_linear(net, "classifier.3", x, hidden)), 0.5);
	net_linear(net, "classifier.6", x, classes);
}

static int vgg16_build(struct net *net, const struct model_input *input, const struct config *config)
{
	const char *form = config_string(config, "model.form");
	bool large = input->h > CIFAR_MOST || input->w > CIFAR_MOST;
	bool imagenet = strcmp(form, "auto") ? strcmp(form, "imagenet") == 0 : large;
	bool batch_norm = config_has(config, "model.batch_norm") ? config_bool(config, "model.batch_norm") : !imagenet;
	double width = config_float(config, "model.width");
	int x = net_input(net, input->batch, input->h, input->w, input->c);

	net->linear_std = 0.01;
	x = features(net, x, width, batch_norm);
	if (imagenet)
		imagenet_classifier(net, x, input->classes, width);
	else
		cifar_classifier(net, x, input->classes);
	return net->broken ? -1 : 0;
}

static const struct option vgg16_options[] = {
	{ "form", OPTION_STRING, "\"auto\"", 0, 0, "auto|cifar|imagenet",
	  "cifar (one linear layer) or imagenet (three, with dropout); auto: cifar up to 64 pixels" },
	{ "batch_norm", OPTION_BOOL, NULL, 0, 0, 0, "batch norm behind each convolution; unset: in the cifar form only" },
	{ 0 },
};

const struct model_def model_vgg16 = {
	.name = "vgg16",
	.paper = "Simonyan and Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition",
	.options = vgg16_options,
	.build = vgg16_build,
};
