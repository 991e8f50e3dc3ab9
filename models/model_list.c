/* All models, and what they share. */
#include <string.h>

#include "model_list.h"

const struct model_def *const model_list[] = {
	&model_resnet18,
	&model_resnet20,
	&model_vgg16,
	NULL,
};

const struct model_def *model_find(const char *name)
{
	for (int i = 0; model_list[i]; i++)
		if (strcmp(model_list[i]->name, name) == 0)
			return model_list[i];
	return NULL;
}

int model_channels(int channels, double width)
{
	int rounded = (int)(channels * width / 8 + 0.5) * 8;

	if (width == 1)
		return channels;
	return rounded < 8 ? 8 : rounded;
}
