/* Keys of group "data" that several data sets have, one line each, so that "auto" offers the same ones with the same defaults. */
#ifndef COCOD_DATA_OPTIONS_H
#define COCOD_DATA_OPTIONS_H

#include "../core/option.h"

#define OPTION_IMAGES(value, most) \
	{ "images", OPTION_INT, value, 0, most, 0, "training images: so many, the first ones of the files; 0: all there are" }
#define OPTION_TEST_IMAGES(value, most) \
	{ "test_images", OPTION_INT, value, 0, most, 0, "test images: so many, the first ones of the files; 0: all there are" }

#define OPTIONS_SYNTHETIC \
	{ "size", OPTION_INT, "32", 8, 512, 0, "height and width of the synthetic images" }, \
	{ "channels", OPTION_INT, "3", 1, 4, 0, "their channels" }, \
	{ "classes", OPTION_INT, "10", 2, 65536, 0, "their classes; at most 256 to train" }, \
	{ "seed", OPTION_INT, "1", 0, 4294967295.0, 0, "the same seed gives the same images on every machine" }

#endif
