/*
 * How a vector of floats is written in few bits. It is cut into buckets; a bucket's record is
 *
 *     0 to 2 floats         the scale that its codes are units of
 *     `bits` words          a group of 32 elements (the last one filled up with zeros): word k holds bit k of each code, so any
 *                           number of bits packs without gaps and without shifts across words; 16-bit codes lie one after the other
 *
 * Records follow one another without gaps, all of whole buckets equally long: element i, a multiple of the bucket, begins at
 * quant_bytes(q, i), and any stretch between two buckets can be sent by itself.
 *
 *     code            bits            value
 *     QUANT_BF16      16              to the nearest, ties to even
 *     QUANT_FP16      16              likewise; infinite from 65520 on, a multiple of 2^-24 below 2^-14
 *     QUANT_LEVELS    1 + log2(s+1)   sign and l of l / s × scale, l = 0 … s = levels; between two levels a random number decides, so
 *                                     that the expected value is x. |x| beyond the scale counts as the scale (QUANT_CLIP, rounding)
 *     QUANT_POWERS    9               sign and exponent: a power of two or 0, drawn so that the expected value is x
 *     QUANT_SIGN      1               one of two values. x = 0 counts as positive, or a coin decides, up to |x| <= tie
 *
 *     scale           floats
 *     QUANT_UNSCALED  0               (QUANT_SIGN: 1 and -1)
 *     QUANT_MAX       1               the largest |x|
 *     QUANT_L2        1               the norm
 *     QUANT_CLIP      1               the largest |x|, but at most clip × the root of the mean square
 *     QUANT_MEAN      1               the mean |x|
 *     QUANT_SIDES     2               (QUANT_SIGN) the mean of the x >= 0, the mean of the x < 0
 *
 * NaN and infinity show: they make the scale, and with it the whole bucket, not a number or infinite. Only signs without a scale
 * hide them. A bucket in which a level is below 2^-100 is sent as zeros.
 */
#ifndef COCOD_QUANT_H
#define COCOD_QUANT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum quant_code { QUANT_BF16, QUANT_FP16, QUANT_LEVELS, QUANT_POWERS, QUANT_SIGN };
enum quant_scale { QUANT_UNSCALED, QUANT_MAX, QUANT_L2, QUANT_CLIP, QUANT_MEAN, QUANT_SIDES };

enum { QUANT_GROUP = 32, QUANT_TILE = 128 };    /* elements that are packed together; for which random numbers are drawn together */

struct quant {
	enum quant_code code;
	enum quant_scale scale;
	int bits;
	int levels;                     /* QUANT_LEVELS: s, 1 … 127 */
	int bucket;                     /* elements, a multiple of QUANT_TILE */
	float clip;                     /* QUANT_CLIP */
	float tie;                      /* QUANT_SIGN; below 0: no coin */
};

/* Which random numbers: a stream for each (seed, average, stream), in which element i of the vector has its word. */
struct quant_draw {
	uint64_t seed, average;
	uint32_t stream;
	int64_t first;                  /* the place of what is encoded in the vector: a multiple of QUANT_TILE */
};

/* Of n elements packed: the one formula of what is sent. */
int64_t quant_bytes(const struct quant *, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
