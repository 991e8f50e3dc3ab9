/*
 * The average that all quantised compressors share. Numbers in few bits cannot be added up on the way as a ring does it, so each rank
 * owns a chunk of the vector, adds that up in fp32, and sends the sum in few bits again:
 *
 *     on every rank i    send chunk c of Q(in_i [+ e_i]) to rank c,  e_i = in_i + e_i - Q(in_i + e_i)
 *     on its owner c     sum = sum_i w_i Q_i, in rank order
 *                        send Q'(sum [+ E_c]) to all,  E_c = sum + E_c - Q'(sum + E_c)
 *     out = scale Q', on every rank decoded from the same bits
 *
 *     3 ranks, chunks a b c     rank 0            rank 1            rank 2
 *     shift by 1                b → 1             c → 2             a → 0
 *     shift by 2                c → 2             a → 0             b → 1
 *     then                      sums a            sums b            sums c         each goes round in 2 more steps
 *
 * What is sent: 2 (P-1)/P × quant_bytes() a rank, on average, in 2 (P-1) messages (more if the transport segments).
 * Chunks begin between buckets, so packing never straddles two of them; a vector of fewer buckets than ranks leaves some owners idle.
 *
 * The bracketed parts are error feedback, with which nothing is lost: applied + sum_i w_i e_i + E = inputs, for scale 1. Its E lies in
 * an arena like e's, of which a rank uses its chunks alone. Who draws at random draws anew for each rank, average and phase.
 *
 * Signs have no zero, but the padding between tensors has to stay zero: it is cleared in the sum, in what comes out and in both residuals.
 */
#ifndef COCOD_QUANTIZE_H
#define COCOD_QUANTIZE_H

#include "compress.h"

struct quantize {
	struct quant first, second;     /* Q and Q': of the same length */
	bool feedback;
	float scale;
	uint64_t seed;
	int64_t averages;               /* so far: counts the random numbers */
	float *residual, *sum_residual; /* e and E, arenas of n; NULL without feedback */
	char *packed, *received;        /* the longest range; what the others send of my chunk */
};

/* Rows of the compressors' tables. */
#define QUANTIZE_BUCKET(elements, what) { "bucket", OPTION_INT, elements, QUANT_TILE, 65536, NULL, what }
#define QUANTIZE_SEED { "seed", OPTION_INT, "1", 0, 1e15, NULL, "of stochastic rounding: other numbers for another seed" }

/* first = second = q, no feedback, scale 1; bits of QUANT_LEVELS follow from its levels. */
void quantize_init(struct quantize *, struct compress *, const struct quant *q);
/* Reads compress.bucket, a multiple of QUANT_TILE. -1: error recorded. */
int quantize_bucket(const struct config *, int *bucket);
uint64_t quantize_seed(const struct config *);

/* For the table of a compressor whose state is a struct quantize, or begins with one. */
void quantize_bind(struct compress *, const struct range *ranges, int count);
void quantize_average(struct compress *, const struct range *, const float *in, float *out);
int64_t quantize_wire(const struct compress *, int64_t n, bool most);
void quantize_pack(struct compress *, const struct range *, float *v, void *wire);
void quantize_unpack(struct compress *, const struct range *, const void *wire, float a, float *out);
void quantize_state(struct compress *, struct state_visitor *);
double quantize_bytes(const struct compress *, int64_t n, int workers);
double quantize_cost(const struct compress *, const struct cost_model *);
void quantize_release(struct compress *);

#define QUANTIZE_OPS \
	.bind = quantize_bind, .average = quantize_average, .state = quantize_state, .bytes = quantize_bytes, .cost = quantize_cost, \
	.wire = quantize_wire, .pack = quantize_pack, .unpack = quantize_unpack, .release = quantize_release

#endif
