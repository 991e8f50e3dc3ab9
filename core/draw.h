/*
 * Which k of n places a draw takes, written once and compiled for every device. The includer first defines HOST_DEVICE, as for
 * formulas.h.
 *
 * The n places are a ring. It is cut into k stretches as equal as can be, the cut is turned by a random amount, and one place is taken
 * from each stretch. So k distinct places come out in O(k) without a sort or a memory of what was taken; by the turn each place is
 * taken with probability k / n exactly, whatever k and n (to 2^-32); and they come nearly in order, which memory likes.
 */
#ifndef COCOD_DRAW_H
#define COCOD_DRAW_H

#include "device.h"
#include "philox.h"
#include "rng.h"

enum { DRAW_BLOCK = 4 };        /* places that one Philox block serves */

struct draw_plan {
	uint32_t key[2];
	uint64_t n, k, round, turn;
};

HOST_DEVICE struct draw_plan draw_plan_of(const struct draw *draw, int64_t n, int64_t k)
{
	struct draw_plan p;
	uint32_t counter[4], word[4];

	philox_key(draw->seed, RNG_COMPRESS, p.key);
	philox_counter(draw->round, 0, 0, counter);
	philox_block(counter, p.key, word);
	p.n = (uint64_t)n;
	p.k = (uint64_t)k;
	p.round = draw->round;
	p.turn = word[0] * p.n >> 32;
	return p;
}

/* The random words of places 4 block … 4 block + 3. */
HOST_DEVICE void draw_words(const struct draw_plan *p, int64_t block, uint32_t word[DRAW_BLOCK])
{
	uint32_t counter[4];

	philox_counter(p->round, 1, (uint32_t)block, counter);
	philox_block(counter, p->key, word);
}

/* The j-th place, by its word. */
HOST_DEVICE int64_t draw_place(const struct draw_plan *p, int64_t j, uint32_t word)
{
	uint64_t from = (uint64_t)j * p->n / p->k, to = (uint64_t)(j + 1) * p->n / p->k;
	uint64_t place = p->turn + from + (word * (to - from) >> 32);

	return (int64_t)(place < p->n ? place : place - p->n);
}

#endif
