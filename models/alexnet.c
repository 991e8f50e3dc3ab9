/*
 * AlexNet (Krizhevsky 2014, the single column): five convolutions, three linear layers with most of the parameters.
 *
 *     conv 11x11/4 → relu → pool    conv 5x5 → relu → pool    3 × (conv 3x3 → relu)    pool    3 × linear
 *
 * Sizes, names and the two dropouts are torchvision's. It pools whatever is left of an image to 6x6, which is what 224 pixels
 * leave; here that must come out even.
 */
#include <stdio.h>

#include "../core/config.h"
#include "../core/die.h"
#include "model.h"

enum { LAST_IMAGE = 6, HIDDEN = 4096 };

static const struct layer {
	int position, channels, kernel, stride, pad;
	bool pool;                      /* 3x3, every second pixel, behind it */
} layers[] = {
	{ 0, 64, 11, 4, 2, true },
	{ 3, 192, 5, 1, 2, true },
	{ 6, 384, 3, 1, 1, false },
	{ 8, 256, 3, 1, 1, false },
	{ 10, 256, 3, 1, 1, true },
};

static int features(struct net *net, int x, double width)
{
	for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
		const struct layer *l = &layers[i];
		char name[32];

		snprintf(name, sizeof(name), "features.%d", l->position);
		x = net_relu(net, net_conv(net, name, x, model_channels(l->channels, width), l->kernel, l->stride, l->pad, true));
		if (l->pool)
			x = net_max_pool(net, x, 3, 2, 0);
	}
	return x;
}

static int alexnet_build(struct net *net, const struct model_input *input, const struct config *config)
{
	double width = config_float(config, "model.width");
	int hidden = model_channels(HIDDEN, width), x = net_input(net, input->batch, input->h, input->w, input->c);
	struct shape s;

	if (input->h < 63 || input->w < 63) {
		net_fail(net, "it needs images of 224 x 224 pixels, not %d x %d", input->h, input->w);
		hint("data.size = 224 makes synthetic ones; for small images there is model.name = \"vgg16\"");
		return -1;
	}
	x = features(net, x, width);
	if (net->broken)
		return -1;
	s = net_shape(net, x);
	if (s.h != s.w || s.h % LAST_IMAGE) {
		net_fail(net, "it needs images of 224 x 224 pixels: %d x %d are left of this one, not 6 x 6", s.h, s.w);
		hint("data.size = 224 makes synthetic ones");
		return -1;
	}
	if (s.h > LAST_IMAGE)
		x = net_avg_pool(net, x, s.h / LAST_IMAGE, s.h / LAST_IMAGE, 0);
	x = net_relu(net, net_linear(net, "classifier.1", net_dropout(net, x, 0.5), hidden));
	x = net_relu(net, net_linear(net, "classifier.4", net_dropout(net, x, 0.5), hidden));
	net_linear(net, "classifier.6", x, input->classes);
	return net->broken ? -1 : 0;
}

const struct model_def model_alexnet = {
	.name = "alexnet",
	.paper = "Krizhevsky 2014, One Weird Trick for Parallelizing Convolutional Neural Networks, arXiv 1404.5997",
	.build = alexnet_build,
};
