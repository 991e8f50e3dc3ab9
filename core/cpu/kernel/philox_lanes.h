/* The generator of philox.h for several counters side by side, so that they fill vectors. */
#ifndef COCOD_PHILOX_LANES_H
#define COCOD_PHILOX_LANES_H

#include "simd.h"

/* Counters first … first + LANES - 1: word w of lane l becomes word[w][l]. */
enum { LANES = 16 };

INLINE void philox_lanes(uint32_t first, const uint32_t key[2], const uint32_t counter[4], uint32_t word[4][LANES])
{
	uint32_t k0 = key[0], k1 = key[1];

	for (int l = 0; l < LANES; l++) {
		word[0][l] = first + (uint32_t)l;
		word[1][l] = counter[1];
		word[2][l] = counter[2];
		word[3][l] = counter[3];
	}
	for (int round = 0; round < 10; round++) {
#pragma omp simd
		for (int l = 0; l < LANES; l++) {
			uint64_t p0 = (uint64_t)0xD2511F53u * word[0][l];
			uint64_t p1 = (uint64_t)0xCD9E8D57u * word[2][l];

			word[0][l] = (uint32_t)(p1 >> 32) ^ word[1][l] ^ k0;
			word[1][l] = (uint32_t)p1;
			word[2][l] = (uint32_t)(p0 >> 32) ^ word[3][l] ^ k1;
			word[3][l] = (uint32_t)p0;
		}
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
}

#endif
