/*
 * Philox4x32-10 and the keys of its streams, written once and compiled for every device; rng.h says what it is for. The includer
 * first defines HOST_DEVICE, as for formulas.h.
 *
 * Source: J. Salmon, M. Moraes, R. Dror, D. Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Ten rounds, each of two
 * 32 x 32 -> 64 bit products whose high halves are mixed with the key and the other words; the key is advanced by two constants
 * between the rounds.
 */
#ifndef COCOD_PHILOX_H
#define COCOD_PHILOX_H

#include <stdint.h>

HOST_DEVICE void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
	uint32_t k0 = key[0], k1 = key[1];

	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xD2511F53u * c0;
		uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;

		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += 0x9E3779B9u;      /* the golden ratio */
		k1 += 0xBB67AE85u;      /* sqrt(3) - 1 */
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

/*
 * The counter of a stream holds the position (32 bits, in blocks of four words), a (64) and b (32) and is full with that, so seed
 * and purpose share the key: the purpose's key is drawn with the seed as key. That costs one block a stream and keeps equal (a, b)
 * of different purposes apart.
 */
HOST_DEVICE void philox_key(uint64_t seed, uint32_t purpose, uint32_t key[2])
{
	const uint32_t seed_key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t which[4] = { purpose, 0, 0, 0 };
	uint32_t drawn[4];

	philox_block(which, seed_key, drawn);
	key[0] = drawn[0];
	key[1] = drawn[1];
}

HOST_DEVICE void philox_counter(uint64_t a, uint32_t b, uint32_t position, uint32_t counter[4])
{
	counter[0] = position;
	counter[1] = (uint32_t)a;
	counter[2] = (uint32_t)(a >> 32);
	counter[3] = b;
}

#endif
