/* What is drawn from Philox (philox.h has the generator). */
#define HOST_DEVICE static inline

#include <math.h>

#include "philox.h"
#include "rng.h"

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) { philox_block(counter, key, out); }

void rng_init(struct rng *r, uint64_t seed, enum rng_purpose purpose, uint64_t a, uint32_t b)
{
	philox_key(seed, (uint32_t)purpose, r->key);
	philox_counter(a, b, 0, r->counter);
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
