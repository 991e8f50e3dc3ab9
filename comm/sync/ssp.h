/* What the two asynchronous algorithms on parameter servers share: ssp.c has it, asp.c is ssp.c without a bound. */
#ifndef COCOD_SSP_H
#define COCOD_SSP_H

#include "../topology/ps.h"
#include "sync.h"

struct ssp {
	int64_t staleness;              /* s; negative: no bound */
	int64_t read_every;             /* steps that one read serves */
	int64_t clock;                  /* own steps so far */
	int64_t until;                  /* samples at which all stop (claim); 0: never asked */
	struct ps_ticket *ticket;       /* the last one: pinned host memory */
	bool asked;                     /* it is under way */
	int64_t taken;                  /* samples of all tickets of all, where state is visited */
	int64_t left, samples;          /* steps of it that are left; samples of all in front of the next one */
	float *start;                   /* the model that all workers start from: servers hold what came to it */
	float *update;                  /* what is pushed, then what was read */
	struct event *done;
};

/* The functions of sync_ops. */
void ssp_bind(struct sync *);
void ssp_step(struct sync *, int64_t t);
void ssp_take_ticket(struct sync *);    /* waits for one that is under way */
void ssp_consensus(struct sync *, float *out);
void ssp_state(struct sync *, struct state_visitor *);
double ssp_bytes(const struct sync *, int workers);
double ssp_cost(const struct sync *, const struct cost_model *);
void ssp_release(struct sync *);

#endif
