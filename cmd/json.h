/* Writes one flat JSON object, a key a line. What is not a finite number is null: JSON has no NaN. */
#ifndef COCOD_JSON_H
#define COCOD_JSON_H

#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *file;
	int keys;
};

void json_begin(struct json *, FILE *);
void json_string(struct json *, const char *key, const char *value);
void json_integer(struct json *, const char *key, int64_t value);
void json_number(struct json *, const char *key, double value);
void json_end(struct json *);

#endif
