/* All models, and what they share. */
#include <string.h>

#include "model.h"

#define MODEL(name) extern const struct model_def model_##name;
#include "model_list.h"
#undef MODEL

#define MODEL(name) &model_##name,
const struct model_def *const model_list[] = {
#include "model_list.h"
	NULL,
};
#undef MODEL

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
