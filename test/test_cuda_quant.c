/*
 * Vectors in few bits on the CUDA device: every format as the reference has it, bit for bit, at lengths around those of a group, a tile
 * and a bucket, with and without a residual, and in pieces.
 */
#include "cuda_kit.h"
#include "quant_kit.h"

enum { MOST = 20000 };

/* Returns what is wrong, or NULL. The packed vector is handled as floats: only its bits count. */
static const char *compare(const struct rig *r, const struct quant *q, bool keep, const struct quant_draw *draw, struct array *in,
                           struct array *residual, struct array *out, struct array *packed)
{
	int64_t n = in->n;

	r->ops->quant->encode(r->stream, q, n, on_device(in), keep ? on_device(residual) : NULL, draw, on_device(packed));
	ref.ops->quant->encode(ref.stream, q, n, in->want, keep ? residual->want : NULL, draw, packed->want);
	if (!pull(packed) || memcmp(packed->got, packed->want, (size_t)quant_bytes(q, n)))
		return "other codes";
	if (!pull(residual) || quant_differ(residual->got, residual->want, n))
		return "other residuals";
	if (!pull(in) || memcmp(in->got, in->want, (size_t)n * sizeof(float)))
		return "the input has changed";
	r->ops->quant->decode(r->stream, q, n, on_device(packed), 0.3f, true, on_device(out));
	ref.ops->quant->decode(ref.stream, q, n, packed->want, 0.3f, true, out->want);
	if (!pull(out) || quant_apart(out->got, out->want, n))
		return "other sums";
	r->ops->quant->decode(r->stream, q, n, on_device(packed), 0.7f, false, on_device(out));
	ref.ops->quant->decode(ref.stream, q, n, packed->want, 0.7f, false, out->want);
	return !pull(out) || quant_differ(out->got, out->want, n) ? "other values" : NULL;
}

static const char *one_case(struct rig *r, const struct quant *q, int data, int64_t n, bool keep)
{
	const struct quant_draw draw = { 3, (uint64_t)n, 5, 1024 };
	struct array in = array_open(r, FLOATS, n, 1), residual = array_open(r, FLOATS, n, 2), out = array_open(r, FLOATS, n, 3);
	struct array packed = array_open(r, FLOATS, quant_bytes(q, n) / 4, 0);
	const char *wrong;

	quant_fill(in.want, n, data, 1);
	quant_fill(residual.want, n, data, 2);
	quant_fill(out.want, n, 0, 3);
	push(&in);
	push(&residual);
	push(&out);
	push(&packed);
	wrong = compare(r, q, keep, &draw, &in, &residual, &out, &packed);
	array_close(&in);
	array_close(&residual);
	array_close(&out);
	array_close(&packed);
	return wrong;
}

static void test_formats(struct rig *r)
{
	static const int64_t sizes[] = { 1, 31, 32, 33, 127, 128, 129, 512, 1025, 4999, MOST };
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

	for (int f = 0; f < QUANT_FORMATS; f++) {
		const char *wrong = NULL, *where = "";
		int64_t n = 0;

		for (int i = 0; i < SIZES * QUANT_DATA && !wrong; i++) {
			n = sizes[i / QUANT_DATA];
			if (n > 2000 && (i + f) % 3)
				continue;
			where = quant_data[i % QUANT_DATA].name;
			wrong = one_case(r, &quant_formats[f].q, i % QUANT_DATA, n, (i + f) % 2);
		}
		ok(!wrong, "%s as the reference%s%s", quant_formats[f].name, wrong ? ": " : "", wrong ? wrong : "");
		if (wrong)
			printf("# %s, n = %lld\n", where, (long long)n);
	}
}

/* Between two buckets a vector may be cut, for encoding as for decoding. */
static void test_pieces(struct rig *r)
{
	const struct quant *q = &quant_formats[3].q;
	const int64_t n = 5000, cut = 3 * q->bucket;
	const struct quant_draw draw = { 1, 2, 3, 0 }, later = { 1, 2, 3, cut };
	struct array in = array_open(r, FLOATS, n, 0), out = array_open(r, FLOATS, n, 0);
	struct array packed = array_open(r, FLOATS, quant_bytes(q, n) / 4, 0);
	float *x = on_device(&in), *y = on_device(&out);
	char *first = on_device(&packed), *second = first + quant_bytes(q, cut);

	quant_fill(in.want, n, 0, 1);
	push(&in);
	push(&packed);
	push(&out);
	r->ops->quant->encode(r->stream, q, n - cut, x + cut, NULL, &later, second);
	r->ops->quant->encode(r->stream, q, cut, x, NULL, &draw, first);
	ref.ops->quant->encode(ref.stream, q, n, in.want, NULL, &draw, packed.want);
	ok(pull(&packed) && !memcmp(packed.got, packed.want, (size_t)quant_bytes(q, n)), "encoded in two pieces, the last first: the same bits");
	r->ops->quant->decode(r->stream, q, n - cut, second, 1, false, y + cut);
	r->ops->quant->decode(r->stream, q, cut, first, 1, false, y);
	ref.ops->quant->decode(ref.stream, q, n, packed.want, 1, false, out.want);
	ok(pull(&out) && !quant_differ(out.got, out.want, n), "decoded in two pieces");
	array_close(&in);
	array_close(&out);
	array_close(&packed);
}

/* Activations do not come into it. */
static void tests(struct rig *r)
{
	if (r->half)
		return;
	test_formats(r);
	test_pieces(r);
}

int main(void)
{
	for_both_types(tests);
	return done_testing();
}
