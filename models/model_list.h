/* All models. A new one is a file, a declaration here and a line in model_list.c. */
#ifndef COCOD_MODEL_LIST_H
#define COCOD_MODEL_LIST_H

#include "model.h"

extern const struct model_def model_resnet18, model_resnet20, model_vgg16;

#endif
