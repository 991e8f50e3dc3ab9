/* Vectors in few bits, in plain C: one element after the other, its random number drawn by itself. */
#define HOST_DEVICE static inline

#include "../philox.h"
#include "../quant_formulas.h"
#include "../rng.h"
#include "cpu.h"

struct quant_args {
	struct quant q;
	struct quant_draw draw;
	int64_t n;
	const float *in;
	float *residual, *out;
	void *packed;
	float a;
	bool add;
};

/* The one order of adding: quant_formulas.h. */
static double in_pairs(double lane[QUANT_GROUP])
{
	for (int apart = QUANT_GROUP / 2; apart; apart /= 2)
		for (int i = 0; i < apart; i++)
			lane[i] += lane[i + apart];
	return lane[0];
}

static struct quant_sums sums_of(int64_t n, const float *x)
{
	double squares[QUANT_GROUP] = { 0 }, plus[QUANT_GROUP] = { 0 }, minus[QUANT_GROUP] = { 0 };
	struct quant_sums s = { 0 };

	for (int64_t i = 0; i < n; i++) {
		uint32_t size = quant_word(x[i]) & 0x7fffffffu;

		s.largest = size > s.largest ? size : s.largest;
		s.minuses += x[i] < 0;
		squares[i % QUANT_GROUP] += (double)x[i] * x[i];
		*(x[i] < 0 ? &minus[i % QUANT_GROUP] : &plus[i % QUANT_GROUP]) += x[i];
	}
	s.squares = in_pairs(squares);
	s.plus = in_pairs(plus);
	s.minus = in_pairs(minus);
	return s;
}

static uint32_t draw_word(const struct quant_draw *draw, int64_t i)
{
	uint32_t key[2], counter[4], word[4];

	philox_key(draw->seed, RNG_COMPRESS, key);
	philox_counter(draw->average, draw->stream, quant_block(i), counter);
	philox_block(counter, key, word);
	return word[i / QUANT_GROUP % 4];
}

/* Bit k of code i of a group is bit i of word k; 16-bit codes lie in the halves of words. */
static void put_code(const struct quant *q, uint32_t *group, int i, uint32_t code)
{
	if (q->bits == 16)
		group[i / 2] |= code << 16 * (i % 2);
	for (int k = 0; k < q->bits && q->bits < 16; k++)
		group[k] |= (code >> k & 1) << i;
}

static uint32_t get_code(const struct quant *q, const uint32_t *group, int i)
{
	uint32_t code = 0;

	if (q->bits == 16)
		return group[i / 2] >> 16 * (i % 2) & 0xffff;
	for (int k = 0; k < q->bits; k++)
		code |= (group[k] >> i & 1) << k;
	return code;
}

static uint32_t *group_of(const struct quant *q, uint32_t *record, int64_t i)
{
	return record + quant_scale_words(q) + i / QUANT_GROUP * q->bits;
}

/* x: the bucket, in place of which the residual comes if it is wanted; first: its place in the vector. */
static void encode_bucket(const struct quant_args *a, int64_t first, int64_t n, const float *x, float *residual, uint32_t *record)
{
	struct quant_sums sums = sums_of(n, x);
	float unit[2], inverse;

	memset(record, 0, (size_t)quant_record(&a->q, n) * 4);
	quant_units(&a->q, n, &sums, unit);
	for (int i = 0; i < quant_scale_words(&a->q); i++)
		record[i] = quant_word(unit[i]);
	inverse = quant_inverse(unit[0]);
	for (int64_t i = 0; i < n; i++) {
		uint32_t word = quant_draws(&a->q) ? draw_word(&a->draw, first + i) : 0;
		uint32_t code = quant_encode(&a->q, x[i], inverse, quant_most(&a->q), word);

		put_code(&a->q, group_of(&a->q, record, i), (int)(i % QUANT_GROUP), code);
		if (residual)
			residual[i] = x[i] - quant_decode(&a->q, code, unit);
	}
}

static void run_encode(void *args, int team)
{
	const struct quant_args *a = args;
	uint32_t *record = a->packed;

	(void)team;
	for (int64_t i = 0; a->residual && i < a->n; i++)
		a->residual[i] += a->in[i];
	for (int64_t i = 0; i < a->n; i += a->q.bucket) {
		int64_t n = a->n - i < a->q.bucket ? a->n - i : a->q.bucket;
		float *residual = a->residual ? a->residual + i : NULL;

		encode_bucket(a, a->draw.first + i, n, residual ? residual : a->in + i, residual, record);
		record += quant_record(&a->q, n);
	}
}

static void encode(struct stream *s, const struct quant *q, int64_t n, const float *in, float *residual, const struct quant_draw *draw,
                   void *packed)
{
	struct quant_args a = { .q = *q, .draw = *draw, .n = n, .in = in, .residual = residual, .packed = packed };

	cpu_run(s, run_encode, &a, sizeof(a));
}

static void run_decode(void *args, int team)
{
	const struct quant_args *a = args;

	(void)team;
	for (int64_t i = 0; i < a->n; i++) {
		uint32_t *record = (uint32_t *)a->packed + i / a->q.bucket * quant_record(&a->q, a->q.bucket);
		float unit[2], value;

		quant_read_units(&a->q, record, unit);
		value = quant_decode(&a->q, get_code(&a->q, group_of(&a->q, record, i % a->q.bucket), (int)(i % QUANT_GROUP)), unit);
		a->out[i] = a->add ? (float)(a->out[i] + (double)a->a * value) : a->a * value;
	}
}

static void decode(struct stream *s, const struct quant *q, int64_t n, const void *packed, float a, bool add, float *out)
{
	struct quant_args args = { .q = *q, .n = n, .packed = (void *)packed, .a = a, .add = add, .out = out };

	cpu_run(s, run_decode, &args, sizeof(args));
}

const struct quant_ops reference_quant_ops = {
	.encode = encode,
	.decode = decode,
};
