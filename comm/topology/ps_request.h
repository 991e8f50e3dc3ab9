/* What a worker sends a server in front of its shard: between ps.c and ps_server.c only. */
#ifndef COCOD_PS_REQUEST_H
#define COCOD_PS_REQUEST_H

#include "ps.h"

enum ps_kind {
	PS_REDUCE,              /* a round: payload n elements; answer: their sum */
	PS_ORDERED,             /* a round: payload n floats, added to what the server holds; answer: that */
	PS_TOTAL,               /* a round: answer: what the server holds */
	PS_PUSH,                /* payload n floats, added at once; answer, if uses > 0: what the server holds */
	PS_LOAD,                /* a round: payload n floats, the same of all: what the server holds from now on; answer: that */
	PS_TICKET,              /* answer: a ticket */
	PS_REST,                /* no answer */
	PS_END,
};

/* Between machines of one kind, as all messages here. */
struct ps_request {
	int16_t kind, traced;   /* traced: the worker's trace is on: what it asks for is kept in the server's, too */
	int32_t type, op, uses;
	int64_t n;              /* of the shard */
	int64_t clock, least;   /* PS_LOAD: of that worker from now on; samples of all tickets */
	int64_t until;          /* the last server answers with a ticket for `uses` steps of `batch` samples, too; 0: it does not */
	int64_t batch;
};

#endif
