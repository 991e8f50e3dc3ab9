/* Crop, flip and normalise, by the definition: where each element of the batch comes from. */
#include "cpu_ops.h"

/* The stored byte at a place of the padded image: 0 in the border. */
static int stored(const struct augment_desc *d, const uint8_t *image, int y, int x, int c)
{
	y -= d->pad;
	x -= d->pad;
	return y < 0 || y >= d->h || x < 0 || x >= d->w ? 0 : image[((int64_t)y * d->w + x) * d->c + c];
}

void reference_augment(struct stream *s, const struct augment_desc *d, const uint8_t *image, const float *table,
                       const struct image_draw *draw, void *out)
{
	float *y = out;
	int64_t bytes = (int64_t)d->h * d->w * d->c;

	(void)s;
	for (int n = 0; n < d->n; n++)
		for (int row = 0; row < d->h; row++)
			for (int column = 0; column < d->w; column++)
				for (int c = 0; c < d->pitch; c++) {
					int from = draw[n].flip ? d->w - 1 - column : column;

					*y = 0;
					if (c < d->c && !draw[n].empty)
						*y = table[256 * c + stored(d, image + draw[n].sample * bytes, row + draw[n].dy, from + draw[n].dx, c)];
					y++;
				}
}
