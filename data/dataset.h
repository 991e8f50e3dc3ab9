/*
 * A data set is one file: it opens and hands out raw images. Images are uint8, height × width × channels, resident in memory.
 * New data set: one file plus one line in dataset_list.h.
 */
#ifndef COCOD_DATASET_H
#define COCOD_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "../core/option.h"

struct config;

struct split {                          /* one part of a data set: training or test */
	int64_t count;
	const uint8_t *image;           /* count × h × w × c */
	const uint8_t *label;           /* count */
};

struct dataset {
	const struct dataset_def *def;
	int h, w, c, classes;
	struct split train, test;
	float mean[4], std[4];          /* of the training set's channels, values scaled to [0, 1] */
	int pad;                        /* random crop after padding by so many pixels; 0: none */
	bool flip;                      /* random horizontal flip makes sense */
	void *memory;                   /* whatever holds the images; freed by dataset_close */
};

struct dataset_def {
	const char *name, *help;
	const struct option *options;   /* keys of its own in group "data"; may be NULL */
	bool (*present)(const struct config *);         /* are its files there? (for "auto"); NULL: needs none */
	/* Fills in the data set. Mistakes (missing, truncated, wrong magic, wrong size): error() and hint() say what was expected,
	 * what was found and where to get it; returns -1. What was allocated until then is freed. */
	int (*open)(struct dataset *, const struct config *);
	void (*size)(struct dataset *, const struct config *);          /* h, w, c, classes and the counts alone; reads no file */
};

extern const struct dataset_def *const dataset_list[];          /* NULL-terminated */

/* Opens data.name. "auto" is in the list, too: fashion-mnist if its files are present, else synthetic; note() says which, and
 * `def` is then the one taken. */
int dataset_open(struct dataset *, const struct config *);
/* Fills in how large it is, for predictions: no images, and no files are needed. To be closed, too. */
int dataset_size(struct dataset *, const struct config *);
void dataset_close(struct dataset *);

/* For open(): one block for all images and labels of a data set whose h, w and c are set. Its parts follow each other: training
 * images, test images, training labels, test labels. Both splits are set up to point into it. -1: no memory, recorded. */
int dataset_allocate(struct dataset *, int64_t train, int64_t test);

#endif
