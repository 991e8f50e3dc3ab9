/*
 * The quantised compressors by themselves: longer vectors of several buckets and owners, with padding, round after round, against the
 * oracle; what is saved and goes on; that what is random has the right mean; votes and ties; NaN. With an argument only the groups whose
 * name contains it.
 */
#include "sync_kit.h"

enum { TENSORS = 4, N = 2688, ROUNDS = 4 };

static struct kit kits[2];
static int P, R;
static bool real[N];
static struct tensor_info tensor[TENSORS];
static struct range ranges[2];          /* the first two tensors, and the last: what is between must be left alone */

/* Arithmetic in front of a rounding that is scaled: a few units in the last place of a float below 1. */
static const double EXACT_GAP = 2e-7;

static void layout(void)
{
	static const int64_t length[TENSORS] = { 1000, 70, 1504, 90 };
	int64_t offset = 0;

	for (int i = 0; i < TENSORS; i++) {
		tensor[i] = (struct tensor_info){ .kind = TENSOR_BIAS, .dims = 1, .dim = { length[i] }, .offset = offset, .n = length[i] };
		for (int64_t j = 0; j < length[i]; j++)
			real[offset + j] = true;
		offset += (length[i] + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	}
	CHECK(offset == N);
	ranges[0] = (struct range){ 0, tensor[2].offset, tensor, 2 };
	ranges[1] = (struct range){ tensor[3].offset, N - tensor[3].offset, tensor + 3, 1 };
}

static bool inside(int64_t j) { return j < ranges[0].n || j >= ranges[1].offset; }

static struct oracle_setup setup_for(const struct oracle_quantizer *q, const int *batch)
{
	struct oracle_setup p = setup(&oracle_ssgd, DENSE, 1, 1, 0, batch, "bucket", "none");

	p.n = N;
	p.real = real;
	p.compressor = &q->base;
	p.exact = true;
	p.ranges = 2;
	for (int i = 0; i < 2; i++) {
		p.offset[i] = ranges[i].offset;
		p.length[i] = ranges[i].n;
	}
	return p;
}

/* ---- a compressor at work ---- */

struct bench {
	struct kit *kit;
	struct config *config;
	struct compress c;
	float *in, *out;
	float host[N];
};

static struct bench *bench_open(struct kit *k, const struct oracle_setup *p, bool in_place)
{
	struct bench *b = xcalloc(1, sizeof(*b));

	b->kit = k;
	b->config = kit_config(p, "bucket", "none");
	b->in = k->dev->ops->mem->alloc(k->dev, N * sizeof(float));
	b->out = in_place ? b->in : k->dev->ops->mem->alloc(k->dev, N * sizeof(float));
	CHECK(compress_init(&b->c, b->config) == 0);
	compress_bind(&b->c, k->comm, p->weight, ranges, 2, N);
	return b;
}

static void bench_close(struct bench *b)
{
	compress_release(&b->c);
	config_free(b->config);
	if (b->out != b->in)
		b->kit->dev->ops->mem->free(b->kit->dev, b->out);
	b->kit->dev->ops->mem->free(b->kit->dev, b->in);
	free(b);
}

static void fetch(struct kit *k, float *host, const float *from)
{
	k->dev->ops->mem->copy(k->compute, host, from, N * sizeof(float), COPY_TO_HOST);
	k->dev->ops->stream->sync(k->compute);
}

/* b->host becomes the averages of x; outside the ranges -1234. */
static void bench_average(struct bench *b, const float *x, int count)
{
	struct kit *k = b->kit;
	float start[N];

	for (int64_t j = 0; j < N; j++)
		start[j] = -1234;
	k->dev->ops->mem->copy(k->compute, b->out, start, sizeof(start), COPY_TO_DEVICE);
	for (int64_t j = 0; j < N; j++)
		start[j] = inside(j) ? x[j] : -1234;
	k->dev->ops->mem->copy(k->compute, b->in, start, sizeof(start), COPY_TO_DEVICE);
	comm_fork(k->comm, k->compute);
	for (int i = 0; i < count; i++)
		compress_average(&b->c, &ranges[i], b->in, b->out);
	k->dev->ops->stream->sync(k->comm->stream);
	fetch(k, b->host, b->out);
}

static float input(uint64_t seed, int round, int rank, int64_t j)
{
	return real[j] ? (float)noise(seed, (uint64_t)round, (uint64_t)rank + 100, (uint64_t)j) : 0;
}

/* ---- what must survive, saved and put back ---- */

enum { VECTORS = 3 };

struct saved {
	struct state_visitor visitor;
	struct kit *kit;
	int vectors;
	char name[VECTORS][32];
	float vector[VECTORS][N];
	int64_t number;
};

static void save_vector(struct state_visitor *v, const char *name, struct device *dev, float *data, int64_t n)
{
	struct saved *s = (struct saved *)v;

	CHECK(n == N && s->vectors < VECTORS);
	snprintf(s->name[s->vectors], sizeof(s->name[0]), "%s", name);
	if (s->visitor.loads) {
		dev->ops->mem->copy(s->kit->compute, data, s->vector[s->vectors++], N * sizeof(float), COPY_TO_DEVICE);
		dev->ops->stream->sync(s->kit->compute);
	} else {
		fetch(s->kit, s->vector[s->vectors++], data);
	}
}

static void save_number(struct state_visitor *v, const char *name, int64_t *value)
{
	struct saved *s = (struct saved *)v;

	(void)name;
	*(s->visitor.loads ? value : &s->number) = s->visitor.loads ? s->number : *value;
}

static void visit(struct bench *b, struct saved *s, bool load)
{
	s->visitor = (struct state_visitor){ .vector = save_vector, .number = save_number, .loads = load };
	s->kit = b->kit;
	s->vectors = 0;
	compress_state(&b->c, &s->visitor);
}

static const float *saved_vector(const struct saved *s, const char *name)
{
	static const float zero[N];

	for (int i = 0; i < s->vectors; i++)
		if (!strcmp(s->name[i], name))
			return s->vector[i];
	return zero;
}

/* ---- against the oracle ---- */

/* One round of the oracle, all workers' inputs in o->g. */
static void oracle_round_of(struct oracle *o, uint64_t seed, int round)
{
	for (int i = 0; i < P; i++)
		for (int64_t j = 0; j < N; j++)
			o->g[i][j] = input(seed, round, i, j);
	oracle_average(o, o->g, o->average);
}

static void find_seed(struct oracle_setup *p)
{
	struct oracle o;
	double gap = 0;

	for (p->seed = 0; gap < EXACT_GAP; oracle_close(&o)) {
		CHECK(++p->seed < 300);
		oracle_open(&o, p);
		for (int round = 0; round < ROUNDS && o.gap >= EXACT_GAP; round++)
			oracle_round_of(&o, p->seed, round);
		gap = o.gap;
	}
}

struct verdict {
	double error, lost;
	bool same, left_alone;
};

/* What came out of a round, and the residuals behind it. */
static void judge(const struct bench *b, const struct oracle *o, const struct saved *s, double put_in[N], struct verdict *v)
{
	const struct oracle_setup *p = o->set;
	const float *e = saved_vector(s, "residual"), *sum = saved_vector(s, "sum_residual");
	double left[N];

	v->same = same_everywhere(b->host, sizeof(b->host)) && v->same;
	for (int64_t j = 0; j < N; j++) {
		left[j] = p->weight[R] * e[j] + sum[j];
		if (!inside(j)) {
			v->left_alone = v->left_alone && b->host[j] == -1234 && e[j] == 0 && sum[j] == 0;
			continue;
		}
		for (int i = 0; i < P; i++)
			put_in[j] += p->weight[i] * o->g[i][j];
		put_in[j] -= b->host[j];
		v->error = worst(v->error, fabs(b->host[j] - o->average[j]));
		v->error = worst(v->error, fabs(e[j] - o->residual[R][j]));
		v->left_alone = v->left_alone && (real[j] || (b->host[j] == 0 && e[j] == 0 && sum[j] == 0));
	}
	comm_host_reduce(verdicts, left, N, REDUCE_SUM);
	for (int64_t j = 0; j < N && !p->compressor->forgets; j++)
		if (inside(j))
			v->lost = worst(v->lost, fabs(put_in[j] - left[j]));
}

static void test_alone(struct kit *k, const struct oracle_quantizer *q, const int *batch, bool in_place)
{
	struct oracle_setup p = setup_for(q, batch);
	struct verdict v = { 0, 0, true, true };
	struct saved *s = xcalloc(1, sizeof(*s));
	double bound = q->rounding == ROUND_BF16 ? 0x1p-8 : q->rounding == ROUND_FP16 ? 0x1p-11 : 1e-5;
	double put_in[N] = { 0 }, said = 0;
	struct bench *b;
	struct oracle o;
	int64_t before = k->comm->bytes_sent;

	find_seed(&p);
	oracle_open(&o, &p);
	b = bench_open(k, &p, in_place);
	for (int round = 0; round < ROUNDS; round++) {
		float mine[N];

		oracle_round_of(&o, p.seed, round);
		for (int64_t j = 0; j < N; j++)
			mine[j] = (float)o.g[R][j];
		bench_average(b, mine, 2);
		visit(b, s, false);
		judge(b, &o, s, put_in, &v);
	}
	for (int i = 0; i < 2; i++)
		said += ROUNDS * b->c.ops->bytes(&b->c, ranges[i].n, P) * P;
	all_ok(v.error <= bound, "%s: %s%s: outputs and residuals of %d rounds: %.1e from the oracle", k->driver, q->base.name,
	       in_place ? " in place" : "", ROUNDS, v.error);
	all_ok(v.same && v.left_alone, "%s: the same bits everywhere, padding stays 0, nothing else is touched", q->base.name);
	if (!q->base.forgets)
		all_ok(v.lost <= 1e-5, "%s: applied + residuals = inputs: %.1e", q->base.name, v.lost);
	before = (int64_t)sum_everywhere((double)(k->comm->bytes_sent - before));
	all_ok((double)before == ROUNDS * (oracle_quantize_bytes(&p, 0) + oracle_quantize_bytes(&p, 1)) &&
	       fabs(said - (double)before) <= 1e-9 * said, "%s: bytes are what both formulas say", q->base.name);
	oracle_close(&o);
	bench_close(b);
	free(s);
}

/* Some rounds, saved, and the rest by another one that starts from there. */
static void test_resume(const struct oracle_quantizer *q)
{
	struct oracle_setup p = setup_for(q, uneven);
	struct bench *straight = bench_open(&kits[0], &p, false), *first = bench_open(&kits[0], &p, true), *then;
	struct saved *s = xcalloc(1, sizeof(*s));
	float x[N];
	bool same = true, differ = false;

	for (int round = 0; round < ROUNDS; round++) {
		for (int64_t j = 0; j < N; j++)
			x[j] = input(7, round, R, j);
		bench_average(straight, x, 2);
		if (round < 2)
			bench_average(first, x, 2);
	}
	visit(first, s, false);
	then = bench_open(&kits[0], &p, false);
	visit(then, s, true);
	for (int round = 2; round < ROUNDS; round++) {
		for (int64_t j = 0; j < N; j++)
			x[j] = input(7, round, R, j);
		bench_average(then, x, 2);
	}
	same = !memcmp(then->host, straight->host, sizeof(then->host));
	differ = memcmp(then->host, first->host, sizeof(then->host)) != 0;
	all_ok(same && differ, "%s: saved and resumed, the same bits as straight on", q->base.name);
	bench_close(straight);
	bench_close(first);
	bench_close(then);
	free(s);
}

/* ---- what holds without an oracle ---- */

/* The same small whole numbers on all workers: the levels of these formats, so that the average is what went in. */
static void test_representable(void)
{
	static const struct oracle_quantizer exact[] = {
		{ .base = { .name = "bf16" } }, { .base = { .name = "fp16" } }, { .base = { .name = "natural" } },
		{ .base = { .name = "qsgd", .keys = oracle_quantize_keys }, .sets = { "norm=max", "levels=8", "bucket=256" } },
	};

	for (int i = 0; i < 4; i++) {
		struct oracle_setup p = setup_for(&exact[i], uneven);
		struct bench *b = bench_open(&kits[i % 2], &p, false);
		double error = 0;
		float x[N];

		for (int64_t j = 0; j < N; j++)
			x[j] = real[j] ? (float)(j % 2 ? 1 : -1) * (float)(1 << j * 5 % 7 % 4) : 0;     /* ±1, 2, 4, 8 */
		bench_average(b, x, 2);
		for (int64_t j = 0; j < N; j++)
			if (inside(j))
				error = worst(error, fabs(b->host[j] - x[j]));
		all_ok(error <= 4e-6, "%s: what is representable comes through: %.1e", exact[i].base.name, error);
		bench_close(b);
	}
}

/* The mean of many averages is the average: as far off as chance has it, all elements together. */
static void test_unbiased(const struct oracle_quantizer *q)
{
	enum { TIMES = 600 };
	struct oracle_setup p = setup_for(q, uneven);
	struct bench *b = bench_open(&kits[1], &p, false);
	double sum[N] = { 0 }, squares[N] = { 0 }, z = 0;
	int64_t from = ranges[1].offset, count = 0;
	float x[N];

	for (int64_t j = 0; j < N; j++)
		x[j] = input(11, 0, R, j);
	ranges[0] = ranges[1];          /* the short one alone */
	for (int time = 0; time < TIMES; time++) {
		bench_average(b, x, 1);
		for (int64_t j = from; j < N; j++) {
			sum[j] += b->host[j];
			squares[j] += (double)b->host[j] * b->host[j];
		}
	}
	ranges[0] = (struct range){ 0, tensor[2].offset, tensor, 2 };
	for (int64_t j = from; j < N; j++) {
		double mean = sum[j] / TIMES, variance = squares[j] / TIMES - mean * mean, want = 0;

		for (int i = 0; i < P; i++)
			want += p.weight[i] * input(11, 0, i, j);
		if (!real[j] || variance < 1e-9)
			continue;
		z += (mean - want) * (mean - want) / (variance / TIMES);
		count++;
	}
	z /= (double)count;
	all_ok(count > 60 && z > 0.5 && z < 1.6, "%s: unbiased through both roundings: mean square %.2f of %d means", q->base.name, z,
	       (int)count);
	bench_close(b);
}

/* Half of the votes against the other half: coins. All votes alike: what they say. */
static void test_votes(void)
{
	const struct oracle_quantizer *q = &oracle_quantizers[ORACLE_QUANTIZERS - 2];
	struct oracle_setup p = setup_for(q, even);
	struct bench *b = bench_open(&kits[0], &p, false);
	double sum = 0, wrong = 0, split = 0;   /* split: elements on which the ranks differ */
	float x[N];

	for (int64_t j = 0; j < N; j++)
		x[j] = j % 3 ? (R % 2 ? 1 : -1) : j % 2 ? 3 : -3;
	bench_average(b, x, 2);
	for (int64_t j = 0; j < ranges[0].n; j++) {
		if (!real[j])
			continue;
		wrong += fabsf(b->host[j]) != 0.25f || (j % 3 == 0 && b->host[j] * x[j] < 0);
		sum += j % 3 ? 4 * b->host[j] : 0;
		split += j % 3 != 0;
	}
	all_ok(wrong == 0, "signsgd: plus or minus the scale, and what all agree on");
	if (P % 2 == 0)
		all_ok(fabs(sum) < 5 * sqrt(split), "signsgd: ties fall to both sides: %g of %g", sum, split);
	else
		all_ok(sum == -split, "signsgd: the majority wins");
	for (int64_t j = 0; j < N; j++)
		x[j] = 0;
	bench_average(b, x, 2);
	sum = 0;
	for (int64_t j = 0; j < ranges[0].n; j++)
		sum += 4 * b->host[j];
	all_ok(fabs(sum) < 5 * sqrt(1070), "signsgd: so do votes on nothing: %g of 1070", sum);
	bench_close(b);
}

/* One worker's NaN must reach the loss of all. */
static void test_nan(void)
{
	for (int i = 0; i < ORACLE_QUANTIZERS; i++) {
		const struct oracle_quantizer *q = &oracle_quantizers[i];
		struct oracle_setup p = setup_for(q, uneven);
		struct bench *b = bench_open(&kits[i % 2], &p, i % 2);
		int64_t bad = 0;
		float x[N];

		for (int64_t j = 0; j < N; j++)
			x[j] = input(5, 0, R, j);
		if (R == P - 1)
			x[600] = NAN;
		bench_average(b, x, 2);
		for (int64_t j = 0; j < N; j++)
			bad += !isfinite(b->host[j]);
		if (q->rounding != ROUND_SIGN)
			all_ok(!isfinite(b->host[600]) && bad <= 128, "%s: a NaN of one worker shows on all", q->base.name);
		else
			all_ok(bad == 0, "signsgd: a NaN votes");
		bench_close(b);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		filter = argv[1];
	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= ORACLE_WORKERS);
	layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	for (int i = 0; i < ORACLE_QUANTIZERS; i++) {
		const struct oracle_quantizer *q = &oracle_quantizers[i];

		if (!wanted(q->base.name))
			continue;
		for (int how = 0; how < 2; how++)
			test_alone(&kits[(how + i) % 2], q, how ? even : uneven, how);
		test_resume(q);
		if (q->rounding == ROUND_POWERS || (q->rounding == ROUND_LEVELS && q->norm != NORM_CLIP))      /* test_quant clips */
			test_unbiased(q);
	}
	if (wanted("representable"))
		test_representable();
	if (wanted("votes"))
		test_votes();
	if (wanted("nan"))
		test_nan();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
