/*
 * Synthetic images: no files, learnable, not trivial, and the same bytes for the same seed on every machine, since only integers are
 * used. Of a class there is a prototype, a smooth random field on a torus. An image is its class's prototype, moved, mirrored, of
 * random contrast, under a weaker field that is its own and noise:
 *
 *     pixel = 128 + contrast * prototype[class](y - dy, +-x - dx) + field_of_this_image(y, x) + noise
 *
 * Since the prototypes move, a linear classifier stays near 35 %; a network with convolutions finds what does not change.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/config.h"
#include "../core/die.h"
#include "../core/rng.h"
#include "dataset.h"
#include "options.h"

enum { IMAGES = 4096, TEST_IMAGES = 1024, LABELS = 256 };
enum { COARSE = 4, FINE = 8, OWN = 3 };                         /* random values along a side of a field */
enum purpose { PROTOTYPE, TRAIN, TEST };                        /* keeps the random streams apart */

/* A random value in [-most, most]. */
static int draw(struct rng *rng, int most)
{
	return (int)rng_below(rng, 2 * (uint32_t)most + 1) - most;
}

/* Adds a field: random values on a coarse grid that wraps around, bilinear in between, weights in 1/256. */
static void add_field(struct rng *rng, const struct dataset *d, int cells, int most, int16_t *to)
{
	int grid[FINE * FINE * 4];

	for (int i = 0; i < cells * cells * d->c; i++)
		grid[i] = draw(rng, most);
	for (int y = 0; y < d->h; y++) {
		int gy = y * cells * 256 / d->h, y0 = gy >> 8, y1 = (y0 + 1) % cells, fy = gy & 255;

		for (int x = 0; x < d->w; x++) {
			int gx = x * cells * 256 / d->w, x0 = gx >> 8, x1 = (x0 + 1) % cells, fx = gx & 255;

			for (int k = 0; k < d->c; k++, to++) {
				int top = grid[(y0 * cells + x0) * d->c + k] * (256 - fx) + grid[(y0 * cells + x1) * d->c + k] * fx;
				int bottom = grid[(y1 * cells + x0) * d->c + k] * (256 - fx) + grid[(y1 * cells + x1) * d->c + k] * fx;

				*to = (int16_t)(*to + (top * (256 - fy) + bottom * fy) / 65536);
			}
		}
	}
}

static uint8_t clamp(int v)
{
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* The sum of two bytes, centred and scaled: noise within +-32, a triangle. Four bytes of a random word make two of them. */
static int noise(struct rng *rng, uint32_t *word, int i)
{
	*word = i & 1 ? *word >> 16 : rng_u32(rng);
	return ((int)(*word & 255) + (int)(*word >> 8 & 255) - 255) / 8;
}

static void make_image(struct rng *rng, const struct dataset *d, const int16_t *prototype, int16_t *own, uint8_t *out)
{
	int n = d->h * d->w * d->c;
	int dy = d->h + draw(rng, d->h / 2), dx = d->w + draw(rng, d->w / 2);
	int contrast = 192 + draw(rng, 64);                     /* of 256 */
	bool mirror = rng_u32(rng) & 1;
	uint32_t word = 0;

	memset(own, 0, (size_t)n * sizeof *own);
	add_field(rng, d, OWN, 48, own);
	for (int y = 0, i = 0; y < d->h; y++)
		for (int x = 0; x < d->w; x++) {
			int from_x = ((mirror ? d->w - 1 - x : x) + dx) % d->w;
			const int16_t *from = prototype + ((y + dy) % d->h * d->w + from_x) * d->c;

			for (int k = 0; k < d->c; k++, i++)
				out[i] = clamp(128 + from[k] * contrast / 256 + own[i] + noise(rng, &word, i));
		}
}

/* Mean and deviation of the training images by channel. The sums are integers, and sqrt() is exact to the last bit everywhere. */
static void measure(struct dataset *d)
{
	uint64_t sum[4] = { 0 }, squares[4] = { 0 };
	int64_t pixels = d->train.count * d->h * d->w;

	for (int64_t i = 0; i < pixels; i++)
		for (int k = 0; k < d->c; k++) {
			uint32_t v = d->train.image[i * d->c + k];

			sum[k] += v;
			squares[k] += v * v;
		}
	for (int k = 0; k < d->c; k++) {
		double mean = (double)sum[k] / (double)pixels;
		double variance = (double)squares[k] / (double)pixels - mean * mean;

		d->mean[k] = (float)(mean / 255);
		d->std[k] = (float)(sqrt(variance) / 255);
	}
}

/* Classes take turns, so that they are equally frequent in every part of the set. */
static void make_all(struct dataset *d, uint64_t seed)
{
	size_t n = (size_t)d->h * (size_t)d->w * (size_t)d->c;
	int16_t *prototypes = xcalloc((size_t)d->classes * n, sizeof *prototypes);
	int16_t *own = xcalloc(n, sizeof *own);
	uint8_t *image = d->memory, *label = image + (size_t)(d->train.count + d->test.count) * n;
	struct rng rng;

	for (int i = 0; i < d->classes; i++) {
		rng_init(&rng, seed, RNG_SYNTHETIC, (uint64_t)i, PROTOTYPE);
		add_field(&rng, d, COARSE, 80, prototypes + (size_t)i * n);
		add_field(&rng, d, FINE, 80, prototypes + (size_t)i * n);
	}
	for (int64_t i = 0; i < d->train.count + d->test.count; i++) {
		bool train = i < d->train.count;
		int64_t nth = train ? i : i - d->train.count;

		label[i] = (uint8_t)(nth % d->classes);
		rng_init(&rng, seed, RNG_SYNTHETIC, (uint64_t)nth, train ? TRAIN : TEST);
		make_image(&rng, d, prototypes + label[i] * n, own, image + (size_t)i * n);
	}
	free(own);
	free(prototypes);
}

static void size_synthetic(struct dataset *d, const struct config *config)
{
	int64_t train = config_int(config, "data.images"), test = config_int(config, "data.test_images");

	d->h = d->w = (int)config_int(config, "data.size");
	d->c = (int)config_int(config, "data.channels");
	d->classes = (int)config_int(config, "data.classes");
	d->train.count = train ? train : IMAGES;
	d->test.count = test ? test : TEST_IMAGES;
}

static int open_synthetic(struct dataset *d, const struct config *config)
{
	size_synthetic(d, config);
	if (d->classes > LABELS) {
		error("data.classes = %d (%s): labels are bytes, there can be %d", d->classes, config_origin(config, "data.classes"), LABELS);
		return hint("more are for --predict, where cluster.compute says how fast workers are, and no images are needed");
	}
	d->pad = d->h / 8;
	d->flip = true;
	if (dataset_allocate(d, d->train.count, d->test.count))
		return -1;
	make_all(d, (uint64_t)config_int(config, "data.seed"));
	measure(d);
	return 0;
}

static const struct option options[] = {
	OPTION_IMAGES("4096", 1e9),
	OPTION_TEST_IMAGES("1024", 1e9),
	OPTIONS_SYNTHETIC,
	{ 0 },
};

const struct dataset_def dataset_synthetic = {
	.name = "synthetic", .help = "made up, learnable, no files: 4,096 + 1,024 images of 32x32x3 in 10 classes, all by keys",
	.options = options, .open = open_synthetic, .size = size_synthetic,
};
