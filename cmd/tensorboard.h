/*
 * TensorBoard event files, scalars only: events.out.tfevents.<time>.<host> in the run directory.
 *
 * A file is a sequence of TFRecords (u64 length, masked CRC-32C of it, data, masked CRC-32C of the data, little-endian); a record is
 * a protobuf message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5 } with
 * Summary { repeated Value value = 1 }, Value { string tag = 1; float simple_value = 2 }.
 */
#ifndef COCOD_TENSORBOARD_H
#define COCOD_TENSORBOARD_H

#include <stdint.h>
#include <stdio.h>

#include "rundir.h"

FILE *tensorboard_open(const struct rundir *, const char *host);
void tensorboard_scalar(FILE *, int64_t step, const char *tag, double value);

#endif
