/* The list of data sets, opening one by its name, and "auto", which is a data set that opens another one. */
#include <stdlib.h>
#include <string.h>

#include "../core/config.h"
#include "../core/die.h"
#include "dataset.h"
#include "options.h"

#define DATASET(name) extern const struct dataset_def dataset_##name;
#include "dataset_list.h"
#undef DATASET

#define DATASET(name) &dataset_##name,
const struct dataset_def *const dataset_list[] = {
#include "dataset_list.h"
	NULL,
};
#undef DATASET

static int find(struct dataset *d, const struct config *config)
{
	const char *name = config_string(config, "data.name");

	for (int i = 0; dataset_list[i]; i++)
		if (!strcmp(name, dataset_list[i]->name)) {
			*d = (struct dataset){ .def = dataset_list[i] };
			return 0;
		}
	return error("%s: data.name = \"%s\": no such data set", config_origin(config, "data.name"), name);
}

int dataset_open(struct dataset *d, const struct config *config)
{
	if (find(d, config))
		return -1;
	if (!d->def->open(d, config))
		return 0;
	dataset_close(d);
	return -1;
}

int dataset_size(struct dataset *d, const struct config *config)
{
	if (find(d, config))
		return -1;
	d->def->size(d, config);
	return 0;
}

void dataset_close(struct dataset *d)
{
	free(d->memory);
	*d = (struct dataset){ 0 };
}

int dataset_allocate(struct dataset *d, int64_t train, int64_t test)
{
	size_t pixels = (size_t)d->h * (size_t)d->w * (size_t)d->c;
	uint8_t *image = malloc((size_t)(train + test) * (pixels + 1));
	uint8_t *label = image + (size_t)(train + test) * pixels;

	if (!image)
		return error("no memory for %lld images of %d x %d x %d bytes", (long long)(train + test), d->h, d->w, d->c);
	d->memory = image;
	d->train = (struct split){ train, image, label };
	d->test = (struct split){ test, image + (size_t)train * pixels, label + train };
	return 0;
}

/* ---- auto ---- */

static bool choose(struct dataset *d, const struct config *config)
{
	bool found = dataset_fashion_mnist.present(config);

	d->def = found ? &dataset_fashion_mnist : &dataset_synthetic;
	return found;
}

static int open_auto(struct dataset *d, const struct config *config)
{
	if (choose(d, config))
		note("data: \"auto\" takes fashion-mnist, its files are there");
	else
		note("data: \"auto\" takes synthetic images, for want of fashion-mnist (Debian: apt-get install dataset-fashion-mnist)");
	return d->def->open(d, config);
}

static void size_auto(struct dataset *d, const struct config *config)
{
	choose(d, config);
	d->def->size(d, config);
}

static const struct option auto_options[] = {
	OPTION_IMAGES("0", 1e9),
	OPTION_TEST_IMAGES("0", 1e9),
	OPTIONS_SYNTHETIC,
	{ 0 },
};

const struct dataset_def dataset_auto = {
	.name = "auto", .help = "fashion-mnist if its files are found, else synthetic",
	.options = auto_options, .open = open_auto, .size = size_auto,
};
