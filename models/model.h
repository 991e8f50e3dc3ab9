/* A model is one file: a description, its keys and a function that builds it. New model: one file plus one line in model_list.h. */
#ifndef COCOD_MODEL_H
#define COCOD_MODEL_H

#include "../core/net.h"
#include "../core/option.h"

struct config;

struct model_input {
	int batch, h, w, c, classes;
};

struct model_def {
	const char *name, *paper;
	const struct option *options;           /* keys of its own in group "model"; may be NULL */
	/* Appends all nodes; returns -1 if a mistake was recorded. The config has group "model" with model.width. */
	int (*build)(struct net *, const struct model_input *, const struct config *);
};

extern const struct model_def *const model_list[];              /* NULL-terminated */
const struct model_def *model_find(const char *name);           /* NULL: unknown */

/* Channels under model.width: at least 8, rounded to a multiple of 8 (so that vector kernels apply); width 1 changes nothing. */
int model_channels(int channels, double width);

#endif
