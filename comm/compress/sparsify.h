/* What sparsifiers share: density with warm-up, residuals, lists, error feedback. */
#ifndef COCOD_SPARSIFY_H
#define COCOD_SPARSIFY_H

#include "compress.h"

extern const struct option sparsify_options[];

enum { SPARSIFY_WARMUPS = 32 };

struct sparsify {
	double density, warmup[SPARSIFY_WARMUPS];       /* warmup[e]: density of epoch e, then `density` */
	int warmups;
	double now;                     /* density in force */
	float *residual;                /* arena of n */
	struct sparse *own;             /* what this rank picked, unweighted; longest range at the highest density */
	struct sparse *list;            /* `lists` lists of most_k entries */
	/* A list of this worker's own, as the device's topk() makes one; for sparsify_list_…(). */
	void (*choose)(struct compress *, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out);
	bool sampled;                   /* compress.selection */
	float *least;                   /* sampled: the threshold, in device memory */
	int64_t most_k;
	void *work;
};

int sparsify_init(struct sparsify *, struct compress *, const struct config *);        /* -1: error recorded */
void sparsify_bind(struct sparsify *, struct compress *, const struct range *, int count, int lists);
void sparsify_epoch(struct sparsify *, int64_t epoch);
int64_t sparsify_k(const struct sparsify *, int64_t n);         /* max(1, floor(density n)) */
void sparsify_release(struct sparsify *, struct compress *);

/*
 * compress.selection, for who puts SPARSIFY_SELECTION in its table and calls sparsify_selection() in its init(). sparsify_choose() is
 * the device's topk(), or with a threshold from a sample select(): at most k, then holes.
 */
#define SPARSIFY_SELECTION \
	{ "selection", OPTION_STRING, "\"exact\"", 0, 0, "exact|sampled", "the k largest; or those above a threshold that a sample says k reach" }
void sparsify_selection(struct sparsify *, const struct config *);
void sparsify_choose(struct sparsify *, struct compress *, int64_t n, int64_t k, const float *in, float *residual, struct sparse *out);

/*
 * Compressors that all-gather a list of k from every rank. `list` has been bound with a list a rank; this rank puts its own at
 * sparsify_mine(). sparsify_sum() gathers them and makes out their weighted sum: in rank order, the same bits everywhere. In a chain
 * (c->half) it sends values in two bytes each, and what rounding takes away goes back to the residual.
 */
int64_t sparsify_bytes(const struct compress *, int64_t k);     /* of a list of k */
struct sparse *sparsify_mine(const struct sparsify *, const struct compress *, int64_t k);
/* In a chain a list is chosen to `own`: its values are rounded to where it is sent from, before anybody sees them, so that what all add up
 * is the same. Else it is there already. And y += a times a list as it was sent; `own` is scratch then. */
void sparsify_round(struct sparsify *, struct compress *, int64_t k, float *residual, void *wire);
void sparsify_add(struct sparsify *, struct compress *, int64_t k, float a, const void *wire, float *y);
void sparsify_sum(struct sparsify *, struct compress *, const struct range *, int64_t k, float *out);

/* These go into struct compress_ops as they are, if the state begins with a struct sparsify; sparsify_list_…: of such lists, made by
 * its `choose`, which average and pack need. */
void sparsify_on_epoch(struct compress *, int64_t epoch);
int64_t sparsify_warm_steps(const struct compress *, int64_t steps_per_epoch, int64_t period);
void sparsify_on_state(struct compress *, struct state_visitor *);
void sparsify_list_average(struct compress *, const struct range *, const float *in, float *out);
int64_t sparsify_list_wire(const struct compress *, int64_t n, bool most);
void sparsify_list_pack(struct compress *, const struct range *, float *v, void *wire);
void sparsify_list_unpack(struct compress *, const struct range *, const void *wire, float a, float *out);
double sparsify_list_bytes(const struct compress *, int64_t n, int workers);
double sparsify_list_cost(const struct compress *, const struct cost_model *);
void sparsify_on_release(struct compress *);

#endif
