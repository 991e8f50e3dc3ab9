/*
 * Vectors in few bits: every format on every instruction set as the reference has it, bit for bit; and the reference by what the
 * formats promise: lengths, values by hand, the nearest half, expected values, nothing lost between what is sent and what stays.
 */
#include "../core/clock.h"
#include "ops_kit.h"
#include "quant_kit.h"

enum { MOST = 5000, TAIL = 64 };

static const int64_t sizes[] = { 1, 16, 31, 32, 33, 127, 128, 129, 512, 1000, 1024, 1025, 4999 };

struct vectors {
	struct buffer in, residual, want_residual, out, want_out;
	unsigned char packed[4 * MOST + TAIL], want[4 * MOST + TAIL];
};

static struct vectors *vectors_open(int64_t n)
{
	struct vectors *v = malloc(sizeof(*v));

	v->in = buffer_open(n, 1);
	v->residual = buffer_open(n, 2);
	v->want_residual = buffer_open(n, 0);
	v->out = buffer_open(n, 3);
	v->want_out = buffer_open(n, 0);
	memset(v->packed, 0x5a, sizeof(v->packed));
	memset(v->want, 0x5a, sizeof(v->want));
	return v;
}

static bool vectors_close(struct vectors *v)
{
	bool intact = buffer_intact(&v->in) && buffer_intact(&v->residual) && buffer_intact(&v->out);

	buffer_close(&v->in);
	buffer_close(&v->residual);
	buffer_close(&v->want_residual);
	buffer_close(&v->out);
	buffer_close(&v->want_out);
	free(v);
	return intact;
}

/* Returns what is wrong, or NULL. */
static const char *one_case(struct rig *r, struct rig *ref, const struct quant *q, int data, int64_t n, bool keep)
{
	const struct quant_draw draw = { 3, (uint64_t)n, 5, 256 };
	struct vectors *v = vectors_open(n);
	size_t bytes = (size_t)quant_bytes(q, n);
	const char *wrong = NULL;

	quant_fill(v->in.x, n, data, 1);
	quant_fill(v->residual.x, n, data, 2);
	memcpy(v->want_residual.x, v->residual.x, (size_t)n * sizeof(float));
	quant_fill(v->out.x, n, 0, 3);
	memcpy(v->want_out.x, v->out.x, (size_t)n * sizeof(float));
	r->ops->quant->encode(r->stream, q, n, v->in.x, keep ? v->residual.x : NULL, &draw, v->packed);
	ref->ops->quant->encode(ref->stream, q, n, v->in.x, keep ? v->want_residual.x : NULL, &draw, v->want);
	if (memcmp(v->packed, v->want, sizeof(v->want)))
		wrong = "other codes";
	for (size_t i = bytes; i < sizeof(v->want); i++)
		if (v->want[i] != 0x5a)
			wrong = "longer than quant_bytes()";
	if (quant_differ(v->residual.x, v->want_residual.x, n))
		wrong = "other residuals";
	r->ops->quant->decode(r->stream, q, n, v->packed, 0.3f, true, v->out.x);
	ref->ops->quant->decode(ref->stream, q, n, v->want, 0.3f, true, v->want_out.x);
	if (quant_apart(v->out.x, v->want_out.x, n))
		wrong = "other sums";
	r->ops->quant->decode(r->stream, q, n, v->packed, 0.7f, false, v->out.x);
	ref->ops->quant->decode(ref->stream, q, n, v->want, 0.7f, false, v->want_out.x);
	if (quant_differ(v->out.x, v->want_out.x, n))
		wrong = "other values";
	return vectors_close(v) ? wrong : "wrote outside";
}

static void test_formats(struct rig *r, struct rig *ref)
{
	for (int f = 0; f < QUANT_FORMATS; f++) {
		const char *wrong = NULL, *where = "";
		int64_t n = 0;

		for (int data = 0; data < QUANT_DATA && !wrong; data++)
			for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]) && !wrong; i++) {
				n = sizes[i / 2];
				where = quant_data[data].name;
				wrong = one_case(r, ref, &quant_formats[f].q, data, n, i % 2);
			}
		ok(!wrong, "%s: %s as the reference%s%s", r->name, quant_formats[f].name, wrong ? ": " : "", wrong ? wrong : "");
		if (wrong)
			printf("# %s, n = %lld\n", where, (long long)n);
	}
}

/* ---- the reference ---- */

static struct rig ref;

static void through(const struct quant *q, int64_t n, const float *in, float *residual, uint64_t average, uint32_t stream, float *out)
{
	static unsigned char packed[4 * MOST + TAIL];
	const struct quant_draw draw = { 1, average, stream, 0 };

	ref.ops->quant->encode(ref.stream, q, n, in, residual, &draw, packed);
	ref.ops->quant->decode(ref.stream, q, n, packed, 1, false, out);
}

static void test_lengths(void)
{
	const struct quant levels = { QUANT_LEVELS, QUANT_MAX, 4, 7, 512, 0, -1 }, sides = { QUANT_SIGN, QUANT_SIDES, 1, 0, 512, 0, -1 };
	const struct quant half = { QUANT_BF16, QUANT_UNSCALED, 16, 0, 512, 0, -1 };

	ok(quant_bytes(&levels, 1024) == 2 * (4 + 256) && quant_bytes(&levels, 1056) == 2 * (4 + 256) + 4 + 16,
	   "4 bits an element, 4 bytes a bucket, whole groups of 32");
	ok(quant_bytes(&sides, 512) == 8 + 64 && quant_bytes(&half, 4096) == 8192 && quant_bytes(&half, 0) == 0, "1 bit, 16 bits");
}

/* The value of a half, from its definition. */
static double half_value(uint32_t code, int mantissa_bits)
{
	int exponents = 15 - mantissa_bits, bias = (1 << (exponents - 1)) - 1;
	int exponent = (int)(code >> mantissa_bits & ((1u << exponents) - 1)), mantissa = (int)(code & ((1u << mantissa_bits) - 1));
	double size = exponent ? ldexp(1 + ldexp(mantissa, -mantissa_bits), exponent - bias) : ldexp(mantissa, 1 - bias - mantissa_bits);

	if (exponent == (1 << exponents) - 1)
		return mantissa ? NAN : code >> 15 ? -INFINITY : INFINITY;
	return code >> 15 ? -size : size;
}

/* Is the code the nearest to x, of equals the even one? For finite x that do not become infinite. */
static bool nearest(double x, uint32_t code, int mantissa_bits)
{
	double here = fabs(x - half_value(code, mantissa_bits)), up = fabs(x - half_value(code + 1, mantissa_bits));
	double down = code & 0x7fff ? fabs(x - half_value(code - 1, mantissa_bits)) : INFINITY;

	return code % 2 ? here < up && here < down : here <= up && here <= down;
}

static void test_halves(void)
{
	static const struct { enum quant_code code; int mantissa_bits; double most; const char *name; } kinds[] = {
		{ QUANT_BF16, 7, 3.38e38, "bf16" }, { QUANT_FP16, 10, 65503, "fp16" },
	};
	static float x[MOST], y[MOST];

	for (int k = 0; k < 2; k++) {
		const struct quant q = { kinds[k].code, QUANT_UNSCALED, 16, 0, 512, 0, -1 };
		static uint16_t packed[MOST + TAIL];
		int bad = 0, checked = 0;

		for (int data = 0; data < QUANT_DATA; data++) {
			quant_fill(x, MOST, data, 9);
			ref.ops->quant->encode(ref.stream, &q, MOST, x, NULL, &(struct quant_draw){ 0 }, packed);
			ref.ops->quant->decode(ref.stream, &q, MOST, packed, 1, false, y);
			for (int i = 0; i < MOST; i++) {
				double value = half_value(packed[i], kinds[k].mantissa_bits);

				bad += isnan(x[i]) ? !isnan(y[i]) || !isnan(value) : y[i] != value;
				if (fabsf(x[i]) <= kinds[k].most) {
					bad += !nearest(x[i], packed[i], kinds[k].mantissa_bits);
					checked++;
				}
			}
		}
		x[0] = 65519.9f, x[1] = 65520, x[2] = -1e6f, x[3] = 3.4e38f, x[4] = 0x1p-24f, x[5] = 0x1p-25f;
		through(&q, 6, x, NULL, 0, 0, y);
		if (q.code == QUANT_FP16)
			bad += y[0] != 65504 || y[1] != INFINITY || y[2] != -INFINITY || y[4] != 0x1p-24f || y[5] != 0;
		else
			bad += y[3] != INFINITY || y[4] != 0x1p-24f;
		ok(!bad && checked > MOST, "%s: the nearest, ties to even, by the definition, %d values", kinds[k].name, checked);
	}
}

static void test_by_hand(void)
{
	const struct quant l2 = { QUANT_LEVELS, QUANT_L2, 4, 5, 128, 0, -1 }, clip = { QUANT_LEVELS, QUANT_CLIP, 2, 1, 128, 1, -1 };
	const struct quant loose = { QUANT_LEVELS, QUANT_CLIP, 2, 1, 128, 2, -1 };
	const struct quant sides = { QUANT_SIGN, QUANT_SIDES, 1, 0, 128, 0, -1 }, mean = { QUANT_SIGN, QUANT_MEAN, 1, 0, 128, 0, -1 };
	const struct quant plain = { QUANT_SIGN, QUANT_UNSCALED, 1, 0, 128, 0, -1 }, powers = { QUANT_POWERS, QUANT_UNSCALED, 9, 0, 128, 0, -1 };
	const float x[4] = { 3, -4, 0, 0 }, z[4] = { 1, -6, 2, -1 }, p[4] = { 4, -0.125f, 0, 0x1p-126f };
	float y[4], e[4] = { 0 };

	through(&l2, 4, x, NULL, 0, 0, y);
	ok(y[0] == 3 && y[1] == -4 && y[2] == 0, "levels of the norm 5: 3 of 5 and 4 of 5 are exact");
	through(&clip, 4, x, NULL, 0, 0, y);
	ok(y[0] == 2.5f && y[1] == -2.5f && y[2] == 0 && y[3] == 0, "clipped at 2.5, the root of the mean square");
	through(&loose, 4, x, NULL, 0, 0, y);
	ok(y[1] == -4 && (y[0] == 4 || y[0] == 0), "a clip at 5 leaves 4 the largest");
	through(&sides, 4, z, e, 0, 0, y);
	ok(y[0] == 1.5f && y[1] == -3.5f && y[2] == 1.5f && y[3] == -3.5f && e[0] == -0.5f && e[1] == -2.5f,
	   "one bit: the means of both sides, the rest stays");
	through(&mean, 4, z, NULL, 0, 0, y);
	ok(y[0] == 2.5f && y[1] == -2.5f && y[2] == 2.5f && y[3] == -2.5f, "signs times the mean of |x|");
	through(&plain, 4, x, NULL, 0, 0, y);
	ok(y[0] == 1 && y[1] == -1 && y[2] == 1, "signs alone, of 0 a plus");
	through(&powers, 4, p, NULL, 0, 0, y);
	ok(!memcmp(y, p, sizeof(p)), "powers of two stay what they are");
}

/* ---- means of many draws ---- */

enum { DRAWN = 512, DRAWS = 4000 };

static void draw_many(const struct quant *q, const float *x, double mean[DRAWN], double variance[DRAWN])
{
	static float y[DRAWN];

	memset(mean, 0, DRAWN * sizeof(double));
	memset(variance, 0, DRAWN * sizeof(double));
	for (int d = 0; d < DRAWS; d++) {
		through(q, DRAWN, x, NULL, (uint64_t)d, 2, y);
		for (int i = 0; i < DRAWN; i++) {
			mean[i] += (double)y[i] / DRAWS;
			variance[i] += (double)y[i] * y[i] / DRAWS;
		}
	}
	for (int i = 0; i < DRAWN; i++)
		variance[i] -= mean[i] * mean[i];
}

/* How large an element can come through. DRAWN elements are one bucket of the format that clips. */
static double clip_of(const struct quant *q, const float *x)
{
	double squares = 0;

	for (int i = 0; i < DRAWN; i++)
		squares += (double)x[i] * x[i];
	return q->scale == QUANT_CLIP ? q->clip * sqrt(squares / DRAWN) : INFINITY;
}

/* The mean is x: each within 5 standard deviations of it, and all together no further away than chance has it. Where the scale clips,
 * it is the clipped x; and what is clipped is the scale, in every draw. */
static void test_unbiased(void)
{
	static float x[DRAWN];
	static double mean[DRAWN], variance[DRAWN];

	quant_fill(x, DRAWN, 0, 4);
	for (int f = 0; f < QUANT_FORMATS; f++) {
		const struct quant *q = &quant_formats[f].q;
		double furthest = 0, all = 0, clip = clip_of(q, x);
		int stochastic = 0, clipped = 0, wrong = 0;

		if (q->code != QUANT_LEVELS && q->code != QUANT_POWERS)
			continue;
		draw_many(q, x, mean, variance);
		for (int i = 0; i < DRAWN; i++) {
			double z = (mean[i] - x[i]) / sqrt(variance[i] / DRAWS);

			if (fabs(x[i]) >= clip) {
				wrong += !(fabs(mean[i] - copysign(clip, x[i])) <= 1e-6 * clip);
				clipped++;
				continue;
			}
			if (variance[i] <= 0.02 * x[i] * x[i] / (q->levels + 1))        /* hardly ever rounded the other way: not normal */
				continue;
			furthest = fmax(furthest, fabs(z));
			all += z * z;
			stochastic++;
		}
		all /= stochastic;
		ok(furthest < 5 && all > 0.7 && all < 1.3 && stochastic > DRAWN / 4,
		   "%s: unbiased: of %d means the furthest is %.1f standard deviations off, mean square %.2f", quant_formats[f].name, stochastic,
		   furthest, all);
		if (q->scale == QUANT_CLIP)
			ok(clipped > 2 && wrong == 0, "%s: %d that are larger always become the clip", quant_formats[f].name, clipped);
	}
}

static void test_draws(void)
{
	const struct quant q = { QUANT_LEVELS, QUANT_MAX, 8, 127, 128, 0, -1 }, coin = { QUANT_SIGN, QUANT_UNSCALED, 1, 0, 512, 0, 0 };
	const struct quant_draw part = { 1, 7, 1, 384 };
	static float x[1024], y[3][1024], zero[4096], s[4096];
	static unsigned char whole[2048], piece[2048];
	double votes = 0, neighbours = 0;

	quant_fill(x, 1024, 0, 5);
	through(&q, 1024, x, NULL, 7, 1, y[0]);
	through(&q, 1024, x, NULL, 8, 1, y[1]);
	through(&q, 1024, x, NULL, 7, 2, y[2]);
	ok(quant_differ(y[0], y[1], 1024) > 200 && quant_differ(y[0], y[2], 1024) > 200 && quant_differ(y[1], y[2], 1024) > 200,
	   "other numbers in each average and each stream");
	ref.ops->quant->encode(ref.stream, &q, 1024, x, NULL, &(struct quant_draw){ 1, 7, 1, 0 }, whole);
	ref.ops->quant->encode(ref.stream, &q, 300, x + 384, NULL, &part, piece);
	ok(!memcmp(whole + quant_bytes(&q, 384), piece, (size_t)quant_bytes(&q, 256)), "a piece is a piece of the whole");
	through(&coin, 4096, zero, NULL, 3, 0, s);
	for (int i = 0; i < 4096; i++) {
		votes += s[i];
		neighbours += s[i] * s[(i + 1) % 4096];
	}
	ok(fabs(votes) < 5 * 64 && fabs(neighbours) < 5 * 64, "coins are fair and independent: %g, %g of 4096", votes, neighbours);
}

/* Not a test: what it costs beside one y = a x + b y of the same vectors. */
static void show_speed(void)
{
	struct rig r = rig_open("cpu", "", 1);
	int64_t n = 1 << 20;
	struct buffer in = buffer_open(n, 0), out = buffer_open(n, 0);
	void *packed = malloc((size_t)n * 4);

	quant_fill(in.x, n, 0, 6);
	quant_fill(out.x, n, 0, 7);
	for (int f = 0; f < QUANT_FORMATS; f++) {
		double best[3] = { 1e9, 1e9, 1e9 };

		for (int i = 0; i < 3; i++) {
			double t0 = clock_now(), t1, t2;

			r.ops->vec->axpby(r.stream, n, 1, in.x, 0.5f, out.x);
			t1 = clock_now();
			r.ops->quant->encode(r.stream, &quant_formats[f].q, n, in.x, NULL, &(struct quant_draw){ 1, (uint64_t)i, 0, 0 }, packed);
			t2 = clock_now();
			r.ops->quant->decode(r.stream, &quant_formats[f].q, n, packed, 1, true, out.x);
			best[0] = fmin(best[0], t1 - t0);
			best[1] = fmin(best[1], t2 - t1);
			best[2] = fmin(best[2], clock_now() - t2);
		}
		printf("# %s: encode %.2f ns an element, decode %.2f; y = a x + b y %.2f\n", quant_formats[f].name, best[1] / (double)n * 1e9,
		       best[2] / (double)n * 1e9, best[0] / (double)n * 1e9);
	}
	free(packed);
	buffer_close(&in);
	buffer_close(&out);
	rig_close(&r);
}

int main(void)
{
	for_all_rigs(test_formats);
	ref = rig_open("reference", "", 1);
	test_lengths();
	test_halves();
	test_by_hand();
	test_draws();
	rig_close(&ref);
	ref = rig_open("cpu", "", 1);           /* proven to be the same; fast enough for many draws */
	test_unbiased();
	rig_close(&ref);
	show_speed();
	return done_testing();
}
