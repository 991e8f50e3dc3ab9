/*
 * From a stored image to a network's input: random crop, random flip, normalisation. What is drawn for a sample is a function of
 * (seed, epoch, sample) alone.
 */
#ifndef COCOD_AUGMENT_H
#define COCOD_AUGMENT_H

#include "../core/device.h"
#include "dataset.h"

struct augment {
	int h, w, c;
	int pad;                /* 0: no crop */
	int stored_pad;         /* what the data set pads by, random or not */
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
/* The same for a device that does the rest: the record of a sample whose split begins at image `first` of the data set. */
struct image_draw augment_record(const struct augment *, uint64_t seed, int64_t epoch, int64_t sample, int64_t first);
/* A stored byte's normalised value: table[256 channel + byte], c × 256 floats. */
void augment_table(const struct dataset *, float *table);
/* image: h × w × c bytes; out: as many floats. The border has the stored value 0 (black), as if the padded image had been stored. */
void augment_image(struct augment *, uint64_t seed, int64_t epoch, int64_t sample, const uint8_t *image, float *out);

#endif
