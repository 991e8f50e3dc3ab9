/*
 * Compressors: what is sent. average() turns each worker's vector into the weighted average of the compressed vectors,
 * the same bits on every rank; what was not sent stays inside (error feedback) and is added to the next input of that range.
 *
 *     out = sum_i w_i C(in_i + e_i),   e_i = in_i + e_i - C(in_i + e_i),   w_i = M_i / sum M
 *
 * so that with x applied: applied + sum_i w_i e_i = sum_i w_i (all inputs so far): nothing is lost.
 *
 * One file a compressor plus one line in compress_list.c.
 */
#ifndef COCOD_COMPRESS_H
#define COCOD_COMPRESS_H

#include "../../core/range.h"
#include "../../core/trace.h"
#include "../topology/topology.h"

struct config;
struct compress;
struct state_visitor;

struct compress_ops {
	const char *name, *paper;
	const struct option *options;
	bool only_sums;                 /* it needs nothing but comm_allreduce(): parameter servers do */
	bool halves;                    /* its values can be sent as c->half says */
	bool any_cut;                   /* where between tensors the arena is cut makes no difference: pieces may go as they become final */
	bool plain;                     /* it is the sum, element by element: also tensors, and all-reduces, can be taken apart */
	size_t state_size;
	int (*init)(struct compress *, const struct config *);          /* reads the keys; -1: error recorded. No device needed */
	/* (optional) -1: error recorded, the keys do not go with a run of so many workers. */
	int (*check)(const struct compress *, const struct config *, int workers);
	/* allocates on compress->comm's device: residuals, lists. ranges: all the ranges that average() will see */
	void (*bind)(struct compress *, const struct range *ranges, int count);
	/* Queued on the communicator's stream. in and out are whole arenas, the range says where; out may be in. */
	void (*average)(struct compress *, const struct range *, const float *in, float *out);
	/* (optional) For the user, once bound: what the keys come to with this model and these workers, a clause. Warns if that is not what
	 * they promise. whole: the arena. */
	void (*describe)(const struct compress *, const struct range *whole, char *text, size_t size);
	int exchanges;                  /* how often one average() takes an all-reduce's latency, at most; 0: once */
	/*
	 * (optional, all three) From one worker to another, for algorithms that know what the other has got so far (sync/choco.c): C of one
	 * vector, without error feedback. Queued on the communicator's stream.
	 *
	 * wire: bytes for a range of n; most: at the highest density. pack: C of v in the range, where v is used up. unpack: out += a C there.
	 * v and out are whole arenas. Each rank packs the ranges in the same order, and unpacks what it gets of one before it packs the next:
	 * who draws at random has counted as far as the sender then.
	 */
	int64_t (*wire)(const struct compress *, int64_t n, bool most);
	void (*pack)(struct compress *, const struct range *, float *v, void *wire);
	void (*unpack)(struct compress *, const struct range *, const void *wire, float a, float *out);
	void (*epoch)(struct compress *, int64_t epoch);                /* (optional) a new epoch begins: density warm-up */
	/* (optional) Steps until bytes() and cost() hold, of an average every `period` steps. */
	int64_t (*warm_steps)(const struct compress *, int64_t steps_per_epoch, int64_t period);
	/* (optional) Warns, before a run, of keys that make no sense with it. An average moves the model by `rate` times what comes out. */
	void (*foresee)(const struct compress *, double rate);
	void (*state)(struct compress *, struct state_visitor *);       /* (optional) names what must survive */
	double (*bytes)(const struct compress *, int64_t n, int workers);       /* that a rank sends for a range of n, on average over the ranks */
	double (*range_bytes)(const struct compress *, const struct range *, int workers);      /* instead, where the tensors matter */
	double (*cost)(const struct compress *, const struct cost_model *);     /* seconds of communication for model->n floats */
	double (*range_cost)(const struct compress *, const struct range *, const struct cost_model *);         /* instead, likewise */
	void (*release)(struct compress *);                             /* (optional) */
};

struct compress {
	const struct compress_ops *ops;
	struct comm *comm;              /* NULL before compress_bind */
	char name[40];                  /* for the user: "topk", "topk + fp16" */
	enum half_type half;            /* what values are sent as: compress.method = ("topk", "fp16") */
	const double *weight;           /* w_i of every rank; owned by the sync */
	bool per_bucket;                /* each bucket of the schedule by itself (else the whole model as one vector) */
	int64_t n;                      /* of the whole arena */
	struct seats seats;             /* for formulas of any number of workers: set behind compress_init(), by whoever knows; else zero */
	void *state;
};

/* The second name of a chain, ("topk", "fp16"): what the values of a sparse compressor are sent as. NULL-terminated. */
struct compress_half {
	const char *name, *help;
	enum half_type half;
};
extern const struct compress_half compress_halves[];

extern const struct compress_ops *const compress_list[];        /* NULL-terminated */
const struct compress_ops *compress_find(const char *name);
int compress_hint(const char *what, bool (*can)(const struct compress_ops *));  /* hint(): what, and the names of all that can */

int compress_init(struct compress *, const struct config *);    /* by compress.method; -1: error recorded */
int compress_check(const struct compress *, const struct config *, int workers);        /* for a run of so many; -1: error recorded */
void compress_bind(struct compress *, struct comm *, const double *weight, const struct range *ranges, int count, int64_t n);
void compress_average(struct compress *, const struct range *, const float *in, float *out);    /* with the injected delay */
/* What describe() says; "" if it has nothing to say. */
void compress_describe(const struct compress *, const struct range *whole, char *text, size_t size);
double compress_bytes(const struct compress *, const struct range *, int workers);      /* of one average of it, a rank */
double compress_cost(const struct compress *, const struct range *, const struct cost_model *);         /* its seconds of communication */
void compress_epoch(struct compress *, int64_t epoch);
void compress_state(struct compress *, struct state_visitor *);
void compress_release(struct compress *);

#endif
