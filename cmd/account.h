/* Where the time of a run's steps went: of one rank, and of all on average. */
#ifndef COCOD_ACCOUNT_H
#define COCOD_ACCOUNT_H

#include "run.h"

/* The same on the virtual clock; seconds, a step. Data are there when they are wanted, and nothing slows anything else down. */
struct virtual {
	double all, step, computing, comm, exposed;     /* all: of all steps, else of one */
};

struct account {
	double steps;                   /* own */
	double wall, computing, comm, exposed, data, bytes;     /* a step */
	double dilation, memory_mb;     /* of the whole run */
	struct virtual virtual;
	struct ps_record served;        /* a server's; its figures above are sums over all steps */
};

/* Of this rank, of the steps since the mark (zeroed: of all). Without any its figures are those of no step: steps is 0. */
struct account account_since(const struct run *, const struct mark *);
/* account[]: of all ranks. The mean of the workers' steps, whoever took them; neither memory nor what was served. */
struct account account_mean(const struct run *, const struct account *account);
double account_steps(const struct run *, const struct account *account);        /* a worker's, on average */

#endif
