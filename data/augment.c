/*
 * Crop, flip and normalise, a row at a time: the bytes of a row are first put where they belong, then each becomes a float
 * through its channel's table. The table is exact (computed in double precision, rounded once), so a pixel's value cannot depend on
 * compiler or instruction set.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/die.h"
#include "../core/rng.h"
#include "augment.h"

void augment_table(const struct dataset *d, float *table)
{
	for (int k = 0; k < d->c; k++)
		for (int v = 0; v < 256; v++)
			table[256 * k + v] = (float)((v / 255.0 - (double)d->mean[k]) / (double)d->std[k]);
}

void augment_init(struct augment *a, const struct dataset *d, bool random)
{
	*a = (struct augment){ .h = d->h, .w = d->w, .c = d->c, .stored_pad = d->pad };
	if (random) {
		a->pad = d->pad;
		a->flip = d->flip;
	}
	a->table = xcalloc((size_t)d->c * 256, sizeof *a->table);
	a->row = xcalloc((size_t)d->w * (size_t)d->c, 1);
	augment_table(d, a->table);
}

void augment_release(struct augment *a)
{
	free(a->table);
	free(a->row);
}

/* All three are always drawn, so that one switched off does not change what the others get. */
struct crop augment_draw(const struct augment *a, uint64_t seed, int64_t epoch, int64_t sample)
{
	struct rng rng;
	uint32_t places = 2 * (uint32_t)a->pad + 1;
	struct crop crop;

	rng_init(&rng, seed, RNG_AUGMENT, (uint64_t)epoch, (uint32_t)sample);
	crop.flip = rng_u32(&rng) & 1;
	crop.dy = (int)rng_below(&rng, places);
	crop.dx = (int)rng_below(&rng, places);
	crop.flip &= a->flip;
	return crop;
}

/* Without a crop the window lies in the middle of the padded image: there it sees the image itself. */
struct image_draw augment_record(const struct augment *a, uint64_t seed, int64_t epoch, int64_t sample, int64_t first)
{
	struct crop crop = { a->stored_pad, a->stored_pad, false };

	if (a->pad || a->flip)
		crop = augment_draw(a, seed, epoch, sample);
	if (!a->pad)
		crop.dy = crop.dx = a->stored_pad;
	return (struct image_draw){ (uint32_t)(first + sample), (int16_t)crop.dy, (int16_t)crop.dx, crop.flip, 0 };
}

/* Pixels [dx - pad, dx - pad + w) of a stored row; what lies outside is black. */
static void crop_row(const struct augment *a, int dx, const uint8_t *in, uint8_t *row)
{
	int shift = dx - a->pad;
	int from = shift < 0 ? -shift : 0;                      /* the part of `row` that has a source: [from, to) */
	int to = shift > 0 ? a->w - shift : a->w;

	if (from >= to) {
		memset(row, 0, (size_t)(a->w * a->c));
		return;
	}
	memset(row, 0, (size_t)(from * a->c));
	memcpy(row + from * a->c, in + (from + shift) * a->c, (size_t)((to - from) * a->c));
	memset(row + to * a->c, 0, (size_t)((a->w - to) * a->c));
}

static void flip_row(const struct augment *a, uint8_t *row)
{
	uint8_t *left = row, *right = row + (a->w - 1) * a->c;

	for (; left < right; left += a->c, right -= a->c)
		for (int k = 0; k < a->c; k++) {
			uint8_t swap = left[k];

			left[k] = right[k];
			right[k] = swap;
		}
}

/* One and three channels are what images have; the loops of known length keep the tables' addresses in registers. */
static void normalise_row(const struct augment *a, const uint8_t *row, float *out)
{
	const float *table = a->table;

	if (a->c == 1) {
		for (int x = 0; x < a->w; x++)
			out[x] = table[row[x]];
	} else if (a->c == 3) {
		for (int x = 0; x < 3 * a->w; x += 3) {
			out[x] = table[row[x]];
			out[x + 1] = table[256 + row[x + 1]];
			out[x + 2] = table[512 + row[x + 2]];
		}
	} else {
		for (int x = 0; x < a->w; x++)
			for (int k = 0; k < a->c; k++)
				out[x * a->c + k] = table[256 * k + row[x * a->c + k]];
	}
}

void augment_image(struct augment *a, uint64_t seed, int64_t epoch, int64_t sample, const uint8_t *image, float *out)
{
	struct crop crop = { 0, 0, false };
	int stride = a->w * a->c;

	if (a->pad || a->flip)
		crop = augment_draw(a, seed, epoch, sample);
	for (int y = 0; y < a->h; y++, out += stride) {
		int source = y + crop.dy - a->pad;

		if (source < 0 || source >= a->h)
			memset(a->row, 0, (size_t)stride);
		else
			crop_row(a, crop.dx, image + source * stride, a->row);
		if (crop.flip)
			flip_row(a, a->row);
		normalise_row(a, a->row, out);
	}
}
