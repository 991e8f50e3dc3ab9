/*
 * What must hold whatever the oracle says: local SGD with period 1 is S-SGD, density 1 is dense, one worker is SGD; and the
 * compressors by themselves: outputs, residuals, conservation, bytes. With an argument only the groups whose name contains it.
 */
#include "sync_kit.h"

static struct kit kits[2];
static int P, R;

static const struct oracle_algorithm *const basic[] = { &oracle_ssgd, &oracle_local, &oracle_cocod };
enum { BASIC = 3 };

static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return d;
}

static void one_run(struct oracle_setup p, const struct manner *how, int d, struct course *trace)
{
	p.seed = 42;
	course_open(trace, how->steps, KIT_N);
	kit_train(&kits[d], &p, "model", "size", how, trace);
}

static void test_identities(void)
{
	if (!wanted("identities"))
		return;
	for (int o = 0; o < 3; o++) {
		struct manner how = { .steps = 13, .batch = uneven };
		struct course ssgd, other;
		double d = 0;

		one_run(setup(&oracle_ssgd, DENSE, 1, 1, o, uneven, "model", "size"), &how, 0, &ssgd);
		one_run(setup(&oracle_local, DENSE, 1, 1, o, uneven, "model", "size"), &how, 1, &other);
		d = distance(&ssgd, &other);
		all_ok(d <= BOUND, "local with period 1 ≡ ssgd, %s: %.1e", optimizers[o].name, d);
		course_close(&other);
		one_run(setup(&oracle_cocod, DENSE, 1, 1, o, uneven, "model", "size"), &how, 1, &other);
		d = distance(&ssgd, &other);
		all_ok(P == 1 ? d <= BOUND : d > 100 * BOUND, "cocod with period 1 is %s: %.1e", P == 1 ? "SGD on one worker" : "not ssgd", d);
		course_close(&other);
		course_close(&ssgd);
	}
	for (int a = 0; a < BASIC; a++)
		for (int m = TOPK; m <= GTOPK; m++) {
			struct manner how = { .steps = 13, .batch = uneven };
			struct course dense, sparse;
			double d, most = 0;

			one_run(setup(basic[a], DENSE, 1, 3, 1, uneven, "model", "size"), &how, 0, &dense);
			one_run(setup(basic[a], (enum oracle_method)m, 1, 3, 1, uneven, "model", "size"), &how, 1, &sparse);
			d = distance(&dense, &sparse);
			for (int64_t j = 0; j < KIT_N; j++)
				most = worst(most, fabs(course_state(&sparse, "residual")[j]));
			all_ok(d <= BOUND && most == 0, "%s: %s of density 1 ≡ dense: %.1e, nothing in the residuals", basic[a]->name, method_name[m], d);
			course_close(&dense);
			course_close(&sparse);
		}
}

/* A compressor that sends everything is none. */
static void test_all_of_it(void)
{
	for (int c = 0; oracle_compressors[c] && wanted("identities"); c++)
		for (int a = 0; a < (oracle_compressors[c]->gradients ? 1 : BASIC) && oracle_compressors[c]->sparse && !oracle_compressors[c]->never_all; a++) {
			struct oracle_setup p = setup(basic[a], DENSE, 1, 3, 1, uneven, "model", "size"), q = setup_through(oracle_compressors[c], p);
			struct manner how = { .steps = 13, .batch = uneven };
			struct course dense, sparse;
			double d;

			if (oracle_compressors[c]->gradients) {
				p.momentum = oracle_compressors[c]->momentum;
				p.nesterov = oracle_compressors[c]->nesterov;
			}
			one_run(p, &how, 0, &dense);
			one_run(q, &how, 1, &sparse);
			d = distance(&dense, &sparse);
			all_ok(d <= BOUND, "%s: %s of density 1 ≡ dense, momentum %g%s in the optimizer: %.1e", basic[a]->name,
			       oracle_compressors[c]->name, p.momentum, p.nesterov ? " of Nesterov" : "", d);
			course_close(&dense);
			course_close(&sparse);
		}
}

static int dense_phase_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xasprintf("compress.dense_steps=5");
	return 1;
}

/* Ok-Topk's first rounds are dense, and then it is sparse. */
static void test_dense_phase(void)
{
	static const struct oracle_compressor phase = { .name = "oktopk", .keys = dense_phase_keys };

	if (!wanted("dense phase"))
		return;
	for (int steps = 5; steps <= 7; steps += 2) {
		struct oracle_setup p = setup(&oracle_ssgd, DENSE, 0.05, 1, 1, uneven, "bucket", "size");
		struct manner how = { .steps = steps, .batch = uneven };
		struct course dense, sparse;
		double d;

		one_run(p, &how, 0, &dense);
		one_run(setup_through(&phase, p), &how, 1, &sparse);
		d = distance(&dense, &sparse);
		all_ok(steps == 5 ? d <= BOUND : d > 1e-3, "oktopk with a dense phase of 5 steps, after %d: %.1e from dense", steps, d);
		course_close(&dense);
		course_close(&sparse);
	}
}

/* One worker ≡ SGD: against a loop that knows no workers at all. */
static void test_one_worker(void)
{
	if (P != 1 || !wanted("one worker"))
		return;
	for (int a = 0; a < BASIC; a++)
		for (int o = 0; o < 3; o++) {
			struct manner how = { .steps = 13, .batch = even };
			struct oracle_setup p = setup(basic[a], DENSE, 1, 4, o, even, "model", "none");
			double x[KIT_N], v[KIT_N] = { 0 }, g[KIT_N], error = 0;
			struct course trace;

			one_run(p, &how, o % 2, &trace);
			p.seed = 42;
			for (int64_t j = 0; j < KIT_N; j++)
				x[j] = problem_start(&p, j);
			for (int64_t t = 0; t < how.steps; t++) {
				for (int64_t j = 0; j < KIT_N; j++)
					g[j] = problem_gradient(&p, 0, t, j, x) + p.weight_decay * x[j];
				for (int64_t j = 0; j < KIT_N; j++) {
					v[j] = p.momentum * v[j] + g[j];
					x[j] -= problem_lr(&p, t) * (p.nesterov ? g[j] + p.momentum * v[j] : v[j]);
					error = worst(error, fabs(trace.x[t * KIT_N + j] - x[j]));
				}
			}
			all_ok(error <= BOUND, "one worker: %s ≡ SGD, %s: %.1e", basic[a]->name, optimizers[o].name, error);
			course_close(&trace);
		}
}

/* ---- the compressors by themselves: longer vectors, many rounds, in place and not ---- */

/* c: NULL, or instead of the method. */
static void test_compressor(struct kit *k, const struct oracle_compressor *compressor, enum oracle_method m, double density, bool in_place)
{
	enum { ROUNDS = 6 };
	struct oracle_setup p = setup(&oracle_ssgd, m, density, 1, 0, uneven, "bucket", "none");
	const struct mem_ops *mem = k->dev->ops->mem;
	float *in = mem->alloc(k->dev, KIT_N * sizeof(float)), *out = in_place ? in : mem->alloc(k->dev, KIT_N * sizeof(float));
	double lost[KIT_N] = { 0 }, put_in[KIT_N] = { 0 }, error = 0;
	bool same = true, left_alone = true;
	struct config *config;
	struct course trace;
	struct rng rng;
	struct reader reader = { .visitor = { .vector = read_vector, .number = read_number }, .kit = k, .trace = &trace };
	struct range ranges[2] = { kit_range(1), kit_range(3) };        /* not all of the arena: the rest must be left alone */
	struct oracle o;
	struct compress c;
	float host[KIT_N];
	int64_t before;
	char name[100];

	rng_init(&rng, 5, RNG_TEST, (uint64_t)in_place, 0);
	if (compressor)
		p = setup_through(compressor, p);
	if (compressor && compressor->draw)
		compressor->draw(&p, &rng);
	snprintf(name, sizeof(name), "%s of density %g", compressor ? compressor->name : method_name[m], p.density);
	config = kit_config(&p, "bucket", "none");
	course_open(&trace, 1, KIT_N);
	p.ranges = 2;
	for (int i = 0; i < 2; i++) {
		p.offset[i] = ranges[i].offset;
		p.length[i] = ranges[i].n;
	}
	for (p.seed = 1;; p.seed++) {
		oracle_open(&o, &p);
		for (int round = 0; round < ROUNDS; round++) {
			for (int i = 0; i < P; i++)
				for (int64_t j = 0; j < KIT_N; j++)
					o.g[i][j] = p.real[j] * (float)noise(p.seed, (uint64_t)round, (uint64_t)i + 100, (uint64_t)j);
			oracle_average(&o, o.g, o.average);
		}
		if (o.gap >= GAP)
			break;
		oracle_close(&o);
	}
	oracle_close(&o);
	oracle_open(&o, &p);

	CHECK(compress_init(&c, config) == 0);
	compress_bind(&c, k->comm, p.weight, ranges, 2, KIT_N);
	before = k->comm->bytes_sent;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < P; i++)
			for (int64_t j = 0; j < KIT_N; j++)
				o.g[i][j] = p.real[j] * (float)noise(p.seed, (uint64_t)round, (uint64_t)i + 100, (uint64_t)j);
		oracle_average(&o, o.g, o.average);
		for (int64_t j = 0; j < KIT_N; j++) {
			host[j] = -1234;
			put_in[j] += p.weight[R] * o.g[R][j];
		}
		mem->copy(k->compute, out, host, sizeof(host), COPY_TO_DEVICE);
		for (int i = 0; i < 2; i++)
			for (int64_t j = ranges[i].offset; j < ranges[i].offset + ranges[i].n; j++)
				host[j] = (float)o.g[R][j];
		mem->copy(k->compute, in, host, sizeof(host), COPY_TO_DEVICE);
		comm_fork(k->comm, k->compute);
		for (int i = 0; i < 2; i++)
			compress_average(&c, &ranges[i], in, out);
		k->dev->ops->stream->sync(k->comm->stream);
		kit_read(k, host, out);
		same = same_everywhere(host, sizeof(host)) && same;
		for (int64_t j = 0; j < KIT_N; j++) {
			bool inside = (j >= ranges[0].offset && j < ranges[0].offset + ranges[0].n) ||
			              (j >= ranges[1].offset && j < ranges[1].offset + ranges[1].n);

			if (inside) {
				error = worst(error, fabs(host[j] - o.average[j]));
				lost[j] -= host[j];
			} else {
				left_alone = left_alone && host[j] == -1234;
				put_in[j] = 0;
			}
		}
	}
	for (int64_t j = 0; j < KIT_N && compressor && compressor->gradients; j++)
		put_in[j] = p.weight[R] * o.entered[R][j];
	compress_state(&c, &reader.visitor);
	for (int64_t j = 0; j < KIT_N; j++) {
		error = worst(error, fabs(course_state(&trace, "residual")[j] - o.residual[R][j]));
		put_in[j] -= p.weight[R] * course_state(&trace, "residual")[j];
	}
	comm_host_reduce(verdicts, put_in, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		lost[0] = worst(lost[0], j ? fabs(put_in[j] + lost[j]) : fabs(put_in[0] + lost[0]));
	all_ok(error <= (compressor && compressor->bound > 0 ? compressor->bound : 1e-5), "%s: %s alone, outputs and residuals: %.1e from the oracle", k->driver, name, error);
	all_ok(same && left_alone, "%s: the same bits everywhere, and nothing outside the ranges is touched", name);
	if (!compressor || !compressor->forgets)
		all_ok(fabs(lost[0]) <= 1e-5, "%s: applied + residuals = inputs: %.1e", name, lost[0]);
	all_ok(sum_everywhere((double)(k->comm->bytes_sent - before)) == ROUNDS * (expected_range_bytes(&p, 0) + expected_range_bytes(&p, 1)),
	       "%s: bytes are what the formula says", name);
	oracle_close(&o);
	course_close(&trace);
	compress_release(&c);
	config_free(config);
	mem->free(k->dev, in);
	if (!in_place)
		mem->free(k->dev, out);
}

/* A rank that is too high for all tensors leaves the dense average, to the bit. */
static void test_powersgd(void)
{
	for (int a = 0; a < BASIC && wanted("powersgd"); a++) {
		struct manner how = { .steps = 13, .batch = uneven };
		struct oracle_setup p = setup(basic[a], DENSE, 1, 3, 1, uneven, "model", "size");
		struct course dense, full, low;

		one_run(p, &how, 0, &dense);
		p = setup_through(&oracle_powersgd, p);
		p.compress_key[POWERSGD_RANK] = 64;
		one_run(p, &how, 1, &full);
		p.compress_key[POWERSGD_RANK] = 1;
		one_run(p, &how, 1, &low);
		all_ok(distance(&dense, &full) == 0, "%s: powersgd of a rank that no tensor has ≡ dense, to the bit", basic[a]->name);
		all_ok(distance(&dense, &low) > 100 * BOUND, "%s: powersgd of rank 1 is not dense: %.1e", basic[a]->name, distance(&dense, &low));
		course_close(&dense);
		course_close(&full);
		course_close(&low);
	}
}

int main(int argc, char **argv)
{
	static const double densities[] = { 0.05, 0.3, 1 };

	if (argc > 1)
		filter = argv[1];
	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= ORACLE_WORKERS);
	kit_layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	kit_two_hosts(&kits[0]);
	kit_two_hosts(&kits[1]);
	test_identities();
	test_all_of_it();
	test_dense_phase();
	test_one_worker();
	test_powersgd();
	for (int m = DENSE; m <= GTOPK && wanted("compressor"); m++)
		for (int d = 0; d < (m == DENSE ? 1 : 3); d++)
			for (int in_place = 0; in_place < 2; in_place++)
				test_compressor(&kits[(m + d + in_place) % 2], NULL, (enum oracle_method)m, densities[d], in_place);
	for (int c = 0; oracle_compressors[c] && wanted("compressor"); c++)
		for (int i = 0; i < (oracle_compressors[c]->sparse ? 3 : 4); i++)
			test_compressor(&kits[(c + i) % 2], oracle_compressors[c], DENSE, oracle_compressors[c]->sparse ? densities[i] : 1, i / 2);
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
