/*
 * Quantised averages, from the papers, for all workers and in double precision: what each rounding makes of a bucket, and the two phases
 * of comm/compress/quantize.h. Random numbers are those of the program (its generator is shared code), one for each element.
 *
 * Rounding is discontinuous: as for top-k, o->gap keeps how close a decision was, in units of what is rounded. For the finest formats no
 * trajectory is without close ones. There the trajectories get a bound of a few steps of the format (`fine`), and decisions are compared
 * where the inputs are the same floats (set->exact). The nearest of 16 bits is a tie again and again where 16-bit numbers are averaged:
 * there a unit in the last place has to be allowed.
 */
#ifndef ORACLE_COMPRESS_QUANTIZE_H
#define ORACLE_COMPRESS_QUANTIZE_H

#include "../../core/die.h"
#include "../../core/rng.h"
#include "base.h"

enum oracle_rounding { ROUND_BF16, ROUND_FP16, ROUND_LEVELS, ROUND_POWERS, ROUND_SIGN, ROUND_MEAN, ROUND_SIDES };
enum oracle_norm { NORM_MAX, NORM_L2, NORM_CLIP };

struct oracle_quantizer {
	struct oracle_compressor base;
	const char *sets[4];            /* "KEY=VALUE" of the group compress */
	enum oracle_rounding rounding;
	enum oracle_norm norm;
	int levels, bits, floats;       /* bits an element, floats a bucket */
	int64_t bucket;
	double clip, scale, beta;       /* scale: 0 is 1; beta: of signsgd's momentum */
};

/* Where a rounding is, and what it draws from. */
struct oracle_place {
	uint64_t average;
	uint32_t stream;
	int64_t first;                  /* of the bucket in the range */
	bool second;
};

static inline uint32_t oracle_word(const struct oracle_place *at, int64_t j)
{
	int64_t i = at->first + j;
	struct rng rng;

	rng_init(&rng, 1, RNG_COMPRESS, at->average, at->stream);
	rng.counter[0] = (uint32_t)(i / 128 * 32 + i % 32);
	for (int64_t w = 0; w < i / 32 % 4; w++)
		rng_u32(&rng);
	return rng_u32(&rng);
}

static inline void oracle_close_call(struct oracle *o, double distance)
{
	if ((!o->set->compressor->fine || o->set->exact) && fabs(distance) < o->gap)
		o->gap = fabs(distance);
}

static inline double oracle_to_half(double x, int mantissa, int least)
{
	int exponent;
	double unit;

	if (x == 0)
		return 0;
	frexp(x, &exponent);
	unit = ldexp(1, (exponent - 1 > least ? exponent - 1 : least) - mantissa);
	return nearbyint(x / unit) * unit;      /* ties to even */
}

/* floor(y + u) units: up with probability y - floor(y). */
static inline double oracle_draw_up(struct oracle *o, double x, double unit, double u, double most)
{
	double y = fabs(x) / unit < most ? fabs(x) / unit : most;

	if (x == 0 || unit == 0)
		return 0;
	if (fabs(x) < most * unit * (1 - 1e-6))
		oracle_close_call(o, (y + u - nearbyint(y + u)) * unit);
	return copysign(floor(y + u) * unit, x);
}

static inline double oracle_power(struct oracle *o, double x, double u)
{
	int exponent;
	double low;

	if (x == 0)
		return 0;
	frexp(x, &exponent);
	low = ldexp(1, exponent - 1);
	/* Small numbers are always close, and as exact as others; what cancelled out but for rounding makes no difference. */
	if (fabs(x) > 1e-7)
		oracle_close_call(o, 10 * (fabs(x) + u * low - 2 * low));
	return copysign(fabs(x) / low - 1 + u >= 1 ? 2 * low : low, x);
}

static inline double oracle_norm(const struct oracle_quantizer *q, const double *x, int64_t n)
{
	double largest = 0, squares = 0;

	for (int64_t j = 0; j < n; j++) {
		largest = fabs(x[j]) > largest ? fabs(x[j]) : largest;
		squares += x[j] * x[j];
	}
	if (q->norm == NORM_L2)
		return sqrt(squares);
	return q->norm == NORM_CLIP && q->clip * sqrt(squares / (double)n) < largest ? q->clip * sqrt(squares / (double)n) : largest;
}

/* What one bit an element says: of 0, and of a vote that is a tie, a coin where there is no scale. */
static inline void oracle_signs(struct oracle *o, const struct oracle_quantizer *q, const struct oracle_place *at, int64_t n,
                                const double *x, double *out)
{
	double tie = at->second ? ldexp(1, -16) : 0, plus = 0, minus = 0, pluses = 0;

	for (int64_t j = 0; j < n; j++) {
		*(x[j] < 0 ? &minus : &plus) += x[j];
		pluses += x[j] >= 0;
		if (x[j] != 0)
			oracle_close_call(o, q->rounding == ROUND_SIGN ? fabs(x[j]) - tie : x[j]);
	}
	if (q->rounding == ROUND_MEAN) {
		plus = (plus - minus) / (double)n;
		minus = -plus;
	} else if (q->rounding == ROUND_SIDES) {
		plus = pluses > 0 ? plus / pluses : 0;
		minus = pluses < (double)n ? minus / ((double)n - pluses) : 0;
	} else {
		plus = 1;
		minus = -1;
	}
	for (int64_t j = 0; j < n; j++) {
		out[j] = x[j] < 0 ? minus : plus;
		if (q->rounding == ROUND_SIGN && fabs(x[j]) <= tie)
			out[j] = oracle_word(at, j) >> 31 ? -1 : 1;
	}
}

/* A bucket x of n; out differs from x. */
static inline void oracle_quantize_bucket(struct oracle *o, const struct oracle_quantizer *q, const struct oracle_place *at, int64_t n,
                                          const double *x, double *out)
{
	double unit = q->rounding == ROUND_LEVELS ? oracle_norm(q, x, n) / q->levels : 0;

	if (q->rounding >= ROUND_SIGN)
		oracle_signs(o, q, at, n, x, out);
	for (int64_t j = 0; j < n && q->rounding < ROUND_SIGN; j++) {
		if (q->rounding == ROUND_BF16)
			out[j] = oracle_to_half(x[j], 7, -126);
		else if (q->rounding == ROUND_FP16)
			out[j] = oracle_to_half(x[j], 10, -14);
		else if (q->rounding == ROUND_LEVELS)
			out[j] = oracle_draw_up(o, x[j], unit, ldexp(oracle_word(at, j) >> 8, -24), q->levels);
		else
			out[j] = oracle_power(o, x[j], ldexp(oracle_word(at, j) >> 9, -23));
	}
}

/* Bucket by bucket; error (NULL: none kept) is added before, and is what was rounded off after. What is padding stays 0. */
static inline void oracle_quantize_range(struct oracle *o, const struct oracle_quantizer *q, struct oracle_place at, int64_t from, int64_t to,
                                      const double *in, double *error, double *out)
{
	double *x = malloc((size_t)q->bucket * sizeof(double)), *value = malloc((size_t)q->bucket * sizeof(double));
	int64_t start = at.first;

	for (int64_t b = from; b < to; b += q->bucket) {
		int64_t n = to - b < q->bucket ? to - b : q->bucket;

		for (int64_t j = 0; j < n; j++)
			x[j] = in[b + j] + (error ? error[b + j] : 0);
		at.first = start + b - from;
		oracle_quantize_bucket(o, q, &at, n, x, value);
		for (int64_t j = 0; j < n; j++) {
			out[b + j] = o->set->real[b + j] ? value[j] : 0;
			if (error)
				error[b + j] = o->set->real[b + j] ? x[j] - value[j] : 0;
		}
	}
	free(x);
	free(value);
}

static inline void oracle_quantize(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	const struct oracle_quantizer *q = (const struct oracle_quantizer *)set->compressor;
	int64_t from = set->offset[r], n = set->length[r], buckets = (n + q->bucket - 1) / q->bucket;
	double *sum = calloc((size_t)set->n, sizeof(double)), *value = calloc((size_t)set->n, sizeof(double));
	struct oracle_place at = { .average = (uint64_t)oracle_compressions(o) };

	for (int i = 0; i < set->workers; i++) {
		const double *x = in[i];
		double *votes = oracle_need(o, &o->velocity[i]);

		for (int64_t j = from; j < from + n; j++)
			votes[j] = q->beta * votes[j] + (1 - q->beta) * x[j];
		at.stream = 2 * (uint32_t)i;
		oracle_quantize_range(o, q, at, from, from + n, q->beta > 0 ? votes : x, q->base.forgets ? NULL : o->residual[i],
		                      value);
		for (int64_t j = from; j < from + n; j++)
			sum[j] += set->weight[i] * value[j];
	}
	at.second = true;
	for (int i = 0; i < set->workers; i++) {        /* the owners: as many whole buckets each as there are */
		int64_t begin = buckets * i / set->workers * q->bucket, end = buckets * (i + 1) / set->workers * q->bucket;

		at.stream = 2 * (uint32_t)i + 1;
		at.first = begin;
		oracle_quantize_range(o, q, at, from + begin, from + (end < n ? end : n), sum, q->base.forgets ? NULL : oracle_need(o, &o->kept[0]), value);
	}
	for (int64_t j = from; j < from + n; j++)
		out[j] = (q->scale > 0 ? q->scale : 1) * value[j];
	free(sum);
	free(value);
}

/* That all ranks send: each chunk goes from all to its owner, and back to all, but for the owner's own. */
static inline double oracle_quantize_bytes(const struct oracle_setup *p, int range)
{
	const struct oracle_quantizer *q = (const struct oracle_quantizer *)p->compressor;
	int64_t n = p->length[range];
	double bits = 0;

	for (int64_t b = 0; b < n; b += q->bucket)
		bits += 32.0 * q->floats + ceil((double)(n - b < q->bucket ? n - b : q->bucket) / 32) * 32 * q->bits;
	return 2.0 * (p->workers - 1) * bits / 8;
}

static inline int oracle_quantize_keys(const struct oracle_setup *p, const char **sets)
{
	const struct oracle_quantizer *q = (const struct oracle_quantizer *)p->compressor;
	int count = 0;

	while (count < 4 && q->sets[count]) {
		sets[count] = xasprintf("compress.%s", q->sets[count]);
		count++;
	}
	return count;
}

#define QUANTIZER(title, compressor, ...) \
	.base = { .name = title, .method = compressor, .keys = oracle_quantize_keys, .average = oracle_quantize, \
	          .bytes = oracle_quantize_bytes, __VA_ARGS__ }, .bucket = 128
#define ROUNDS(method, ...) QUANTIZER(method, method, .forgets = true, __VA_ARGS__)

static const struct oracle_quantizer oracle_quantizers[] = {
	{ ROUNDS("bf16", .fine = true, .bound = 1e-2), .rounding = ROUND_BF16, .bits = 16 },
	{ ROUNDS("fp16", .fine = true, .bound = 1e-3), .rounding = ROUND_FP16, .bits = 16 },
	{ ROUNDS("int8", .fine = true, .bound = 1e-2), .sets = { "bucket=128" }, .rounding = ROUND_LEVELS, .norm = NORM_MAX, .levels = 127,
	  .bits = 8, .floats = 1 },
	{ ROUNDS("qsgd"), .sets = { "bucket=128" }, .rounding = ROUND_LEVELS, .norm = NORM_L2, .levels = 7, .bits = 4, .floats = 1 },
	{ QUANTIZER("qsgd of two levels", "qsgd", .forgets = true), .sets = { "bucket=128", "levels=2", "norm=max" }, .rounding = ROUND_LEVELS,
	  .norm = NORM_MAX, .levels = 2, .bits = 3, .floats = 1 },
	{ ROUNDS("natural"), .rounding = ROUND_POWERS, .bits = 9 },
	{ ROUNDS("terngrad"), .sets = { "bucket=128", "clip=1.5" }, .rounding = ROUND_LEVELS, .norm = NORM_CLIP, .levels = 1, .bits = 2,
	  .floats = 1, .clip = 1.5 },
	{ QUANTIZER("terngrad, clip 0", "terngrad", .forgets = true), .sets = { "bucket=128", "clip=0" }, .rounding = ROUND_LEVELS,
	  .norm = NORM_MAX, .levels = 1, .bits = 2, .floats = 1 },
	{ QUANTIZER("onebit", "onebit"), .sets = { "bucket=128" }, .rounding = ROUND_SIDES, .bits = 1, .floats = 2 },
	{ QUANTIZER("efsign", "efsign"), .sets = { "bucket=128" }, .rounding = ROUND_MEAN, .bits = 1, .floats = 1 },
	{ ROUNDS("signsgd"), .sets = { "momentum=0", "scale=0.25" }, .rounding = ROUND_SIGN, .bits = 1, .scale = 0.25 },
	{ QUANTIZER("signsgd of momenta", "signsgd", .forgets = true), .sets = { "momentum=0.9", "scale=0.0625" }, .rounding = ROUND_SIGN,
	  .bits = 1, .scale = 0.0625, .beta = 0.9 },
};
enum { ORACLE_QUANTIZERS = sizeof(oracle_quantizers) / sizeof(oracle_quantizers[0]) };

#endif
