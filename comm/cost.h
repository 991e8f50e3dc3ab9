/* What the formulas know of a machine: enough to predict a step (DESIGN 5). Seconds and bytes. */
#ifndef COCOD_COST_H
#define COCOD_COST_H

#include <stdint.h>

struct cost_model {
	int workers;                    /* P */
	double latency;                 /* alpha: seconds a message */
	double per_byte;                /* beta: seconds a byte, point to point */
	double forward, backward;       /* seconds of computing a step, optimizer included in backward */
	/* Of each tensor: the share of backward behind which its gradient is final; never falls along the arena. NULL: not known; then what is
	 * not the last to be sent is taken to be final when the network has time for it. */
	const double *ready;
	int64_t n;                      /* floats in the model */
	int per_node;                   /* neighbouring workers on one node; 0: not known, each by itself */
	double intra_latency, intra_per_byte;   /* between them */
	double kernels;                 /* seconds of one average of the model beside its messages: choosing, packing, adding up */
	double delay;                   /* seconds in front of every exchange (comm.delay_ms) */
	/* Shares of the kernels' and of the messages' time that the communication stream takes from computing, 0 to 1: 1 where both have
	 * one core or one GPU. What is taken cannot hide. Only sync_cost() asks. */
	double kernels_lent, messages_lent;
};

#endif
