/*
 * Philox4x32-10 and what is drawn from it (rng.h). Source: J. Salmon, M. Moraes, R. Dror, D. Shaw: "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011. Ten rounds, each of two 32 x 32 -> 64 bit products whose high halves are mixed with the key and the
 * other words; the key is advanced by two constants between the rounds.
 */
#include <math.h>

#include "rng.h"

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
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
 * The counter holds position (32 bits, in blocks of four words), a (64) and b (32) and is full with that, so seed and purpose
 * share the key: the purpose's key is drawn with the seed as key. That costs one block a stream and keeps equal (a, b) of
 * different purposes apart.
 */
void rng_init(struct rng *r, uint64_t seed, enum rng_purpose purpose, uint64_t a, uint32_t b)
{
	const uint32_t seed_key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t which[4] = { (uint32_t)purpose, 0, 0, 0 };
	uint32_t drawn[4];

	philox4x32(which, seed_key, drawn);
	r->key[0] = drawn[0];
	r->key[1] = drawn[1];
	r->counter[0] = 0;
	r->counter[1] = (uint32_t)a;
	r->counter[2] = (uint32_t)(a >> 32);
	r->counter[3] = b;
	r->used = 4;            /* the buffer is empty */
}

uint32_t rng_u32(struct rng *r)
{
	if (r->used == 4) {
		philox4x32(r->counter, r->key, r->buffer);
		r->counter[0]++;
		r->used = 0;
	}
	return r->buffer[r->used++];
}

/* Lemire's multiply and reject: the high word of u x n is uniform once the few u that would tilt it are thrown away. */
uint32_t rng_below(struct rng *r, uint32_t n)
{
	uint64_t m = (uint64_t)rng_u32(r) * n;

	if ((uint32_t)m < n) {
		uint32_t tilt = -n % n;         /* 2^32 mod n */

		while ((uint32_t)m < tilt)
			m = (uint64_t)rng_u32(r) * n;
	}
	return (uint32_t)(m >> 32);
}

double rng_uniform(struct rng *r)
{
	uint64_t high = rng_u32(r) >> 5, low = rng_u32(r) >> 6;         /* 27 and 26 bits */

	return (double)(high << 26 | low) * 0x1p-53;
}

/* Only one of the pair that Box-Muller gives is used: keeping the other would make a number depend on what was drawn before. */
double rng_normal(struct rng *r)
{
	double u = 1.0 - rng_uniform(r);        /* (0, 1]: its logarithm is finite */
	double angle = 6.283185307179586476925 * rng_uniform(r);

	return sqrt(-2.0 * log(u)) * cos(angle);
}
