/*
 * Counter-based randomness: Philox4x32-10 (Salmon et al., SC 2011). A number depends on (seed, purpose, a, b, position) alone,
 * never on the number of threads, on the order of the calls or on what was drawn before; a resumed run needs no saved state.
 */
#ifndef COCOD_RNG_H
#define COCOD_RNG_H

#include <stdint.h>

enum rng_purpose { RNG_INIT = 1, RNG_SHUFFLE, RNG_AUGMENT, RNG_DROPOUT, RNG_SYNTHETIC, RNG_COMPRESS, RNG_TEST, RNG_GOSSIP, RNG_PARTITION,
                   RNG_JITTER, RNG_NOISE };

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

struct rng {
	uint32_t key[2], counter[4], buffer[4];
	int used;               /* words of `buffer` handed out */
};

/* A stream of its own for each (seed, purpose, a, b): a and b are e.g. epoch and sample, or step and layer. */
void rng_init(struct rng *, uint64_t seed, enum rng_purpose, uint64_t a, uint32_t b);
uint32_t rng_u32(struct rng *);
uint32_t rng_below(struct rng *, uint32_t n);   /* uniform in [0, n), unbiased; n > 0 */
double rng_uniform(struct rng *);               /* [0, 1), 53 bits */
double rng_normal(struct rng *);                /* mean 0, variance 1 (Box-Muller) */

#endif
