/* SHA-256 (FIPS 180-4), for fingerprints of parameters and configs. */
#ifndef COCOD_SHA256_H
#define COCOD_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t state[8];
	uint64_t length;                /* bytes so far */
	unsigned char block[64];
};

void sha256_init(struct sha256 *);
void sha256_add(struct sha256 *, const void *data, size_t bytes);
void sha256_end(struct sha256 *, char hex[65]);

#endif
