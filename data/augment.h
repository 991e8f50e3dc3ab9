/*
 * From a stored image to a network's input: random crop, random flip, normalisation. What is drawn for a sample is a function of
 * (seed, epoch, sample) alone.
 */
#ifndef COCOD_AUGMENT_H
#define COCOD_AUGMENT_H

#include "dataset.h"

struct augment {
	int h, w, c;
	int pad;                /* 0: no crop */
	bool flip;
	float *table;           /* c × 256: a stored byte's normalised value */
	uint8_t *row;           /* one row, cropped and flipped, not yet normalised */
};

struct crop {
	int dy, dx;             /* the window's place in the padded image, 0 … 2 pad */
	bool flip;              /* after cropping */
};

void augment_init(struct augment *, const struct dataset *, bool random);      /* not random: normalises only */
void augment_release(struct augment *);
struct crop augment_draw(const struct augment *, uint64_t seed, int64_t epoch, int64_t sample);
/* image: h × w × c bytes; out: as many floats. The border has the stored value 0 (black), as if the padded image had been stored. */
void augment_image(struct augment *, uint64_t seed, int64_t epoch, int64_t sample, const uint8_t *image, float *out);

#endif
