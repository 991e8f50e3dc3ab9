/*
 * Rules that divide by "the" learning rate mean the one of a whole period: here it is the sum of those of its steps. For a constant
 * rate this only changes the unit of what is divided, and with a schedule the units of two periods agree through the two sums.
 */
#ifndef COCOD_LR_SUM_H
#define COCOD_LR_SUM_H

#include "sync.h"

struct lr_sum {
	union state_real now, last;     /* of the period under way; of the last one in which it was not 0 */
};

static inline void lr_sum_add(struct lr_sum *l, double lr) { l->now.value += lr; }

/* Ends the period. Returns what a vector kept as (rate × direction) is multiplied by to be in the units of this period; 0 in the first
 * one (the vector is 0). -1: the rate was 0 throughout, nothing may be divided by it; the vector waits in its old units. */
static inline double lr_sum_end(struct lr_sum *l)
{
	double now = l->now.value, carry = l->last.value > 0 ? now / l->last.value : 0;

	l->now.value = 0;
	if (!(now > 0))
		return -1;
	l->last.value = now;
	return carry;
}

static inline void lr_sum_state(struct lr_sum *l, struct state_visitor *v)
{
	v->number(v, "lr_sum", &l->now.bits);
	v->number(v, "last_lr_sum", &l->last.bits);
}

#endif
