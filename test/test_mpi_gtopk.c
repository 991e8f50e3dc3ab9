/*
 * gTop-k's variants, round after round, for any number of workers up to 16: the oracle's bits, the same on every rank; nothing lost, or
 * as much as the lossy tree loses; bytes. All numbers are multiples of 2^-15 and small, so that float rounds nothing: choices are
 * the oracle's, ties included.
 *
 *     mpirun -np 16 build/…/test/test_mpi_gtopk           prints what the lossy tree loses
 */
#include "sync_kit.h"

enum { STEPS = 60, VARIANTS = 3 };

static int P, R;

struct outcome {
	float out[STEPS][KIT_N], residual[KIT_N];
	double put_in[KIT_N], applied[KIT_N];   /* in all, by all; so much of it by the end */
	double bytes, most_bytes, said; /* sent by all ranks; by the one that sends most; by the formula, all */
};

static const char *const variant_name[VARIANTS] = { "recursive", "tree", "tree-lossy" };

/* Noise; or noise around something that stays the same for all rounds and workers. */
static double input(int drift, int64_t round, int worker, int64_t j)
{
	double v = noise(7, (uint64_t)round, (uint64_t)worker + 100, (uint64_t)j) + noise(8, (uint64_t)round, (uint64_t)worker, (uint64_t)j);

	return floor(1024 * (drift ? 0.5 * v + 0.25 * noise(9, 1, 2, (uint64_t)j) : v)) / 1024;
}

/* So that weights have few binary digits: as many ones as there may be, then twos. */
static struct oracle_setup variant_setup(int variant)
{
	static const struct oracle_compressor *const tree[VARIANTS] = { NULL, &oracle_gtopk_whole, &oracle_gtopk_lossy };
	int batch[ORACLE_WORKERS], total = 1;
	struct oracle_setup p;

	while (total < P)
		total *= 2;
	for (int i = 0; i < P; i++)
		batch[i] = i < 2 * P - total ? 1 : 2;
	p = setup(&oracle_ssgd, GTOPK, 0.02, 1, 0, batch, "model", "model");
	return tree[variant] ? setup_through(tree[variant], p) : p;
}

static void play(struct kit *k, int variant, int drift, struct outcome *o)
{
	struct oracle_setup p = variant_setup(variant);
	struct config *config = kit_config(&p, "model", "model");
	struct range whole = { 0, KIT_N, kit_tensor, KIT_TENSORS };
	const struct mem_ops *mem = k->dev->ops->mem;
	float *v = mem->alloc(k->dev, KIT_N * sizeof(float)), host[KIT_N];
	struct course trace;
	struct reader reader = { .visitor = { .vector = read_vector, .number = read_number }, .kit = k, .trace = &trace };
	struct compress c;
	int64_t before = k->comm->bytes_sent;

	memset(o, 0, sizeof(*o));
	CHECK(compress_init(&c, config) == 0);
	compress_bind(&c, k->comm, p.weight, &whole, 1, KIT_N);
	o->said = STEPS * compress_bytes(&c, &whole, P) * P;
	for (int64_t t = 0; t < STEPS; t++) {
		for (int64_t j = 0; j < KIT_N; j++) {
			host[j] = (float)input(drift, t, R, j);
			for (int i = 0; i < P; i++)
				o->put_in[j] += p.weight[i] * input(drift, t, i, j);
		}
		mem->copy(k->compute, v, host, sizeof(host), COPY_TO_DEVICE);
		comm_fork(k->comm, k->compute);
		compress_average(&c, &whole, v, v);
		k->dev->ops->stream->sync(k->comm->stream);
		kit_read(k, o->out[t], v);
		for (int64_t j = 0; j < KIT_N; j++)
			o->applied[j] += o->out[t][j];
	}
	o->bytes = sum_everywhere((double)(k->comm->bytes_sent - before));
	o->most_bytes = most_everywhere((double)(k->comm->bytes_sent - before));
	course_open(&trace, 1, KIT_N);
	compress_state(&c, &reader.visitor);
	for (int64_t j = 0; j < KIT_N; j++)
		o->residual[j] = (float)course_state(&trace, "residual")[j];
	course_close(&trace);
	compress_release(&c);
	config_free(config);
	mem->free(k->dev, v);
}

/* The oracle's outputs and this rank's residual. */
static bool as_the_oracle(int variant, int drift, const struct outcome *o)
{
	struct oracle_setup p = variant_setup(variant);
	struct oracle oracle;
	bool same = true;

	oracle_open(&oracle, &p);
	for (int64_t t = 0; t < STEPS; t++) {
		for (int i = 0; i < P; i++)
			for (int64_t j = 0; j < KIT_N; j++)
				oracle.g[i][j] = input(drift, t, i, j);
		oracle_average(&oracle, oracle.g, oracle.average);
		for (int64_t j = 0; j < KIT_N; j++)
			same = same && o->out[t][j] == oracle.average[j];
	}
	for (int64_t j = 0; j < KIT_N; j++)
		same = same && o->residual[j] == oracle.residual[R][j];
	oracle_close(&oracle);
	return same;
}

/* What is neither applied nor in a residual, as a share of what was put in: sums of magnitudes. */
static double lost_share(int variant, const struct outcome *o)
{
	struct oracle_setup p = variant_setup(variant);
	double kept[KIT_N], lost = 0, all = 0;

	for (int64_t j = 0; j < KIT_N; j++)
		kept[j] = p.weight[R] * o->residual[j];
	comm_host_reduce(verdicts, kept, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++) {
		lost += fabs(o->put_in[j] - o->applied[j] - kept[j]);
		all += fabs(o->put_in[j]);
	}
	return lost / all;
}

static void test_variant(struct kit *k, int variant, int drift, struct outcome *o)
{
	const char *name = variant_name[variant], *what = drift ? "drift and noise" : "noise";
	struct oracle_setup p = variant_setup(variant);
	double want, most, lost, list = 8 * (double)oracle_k(p.density, KIT_N);
	int rounds = 0;

	while (1 << rounds < P)
		rounds++;
	play(k, variant, drift, o);
	want = STEPS * expected_range_bytes(&p, 0);
	most = STEPS * (rounds + 1) * (list + list / 8);
	lost = lost_share(variant, o);
	all_ok(as_the_oracle(variant, drift, o), "%s, %s: %d rounds among %d to the oracle's last bit", name, what, STEPS, P);
	all_ok(same_everywhere(o->out, sizeof(o->out)), "%s, %s: the same bits everywhere", name, what);
	all_ok(o->bytes == want && fabs(o->said - want) <= 1e-9 * want, "%s: bytes are what the formula says, %.0f", name, o->bytes);
	all_ok(o->most_bytes <= most, "%s: no rank sends more than 1 + log2 P lists a round: %.2f", name, o->most_bytes / STEPS / list);
	if (strcmp(name, "tree-lossy") || P <= 2)
		all_ok(lost == 0, "%s, %s: applied + residuals = inputs, exactly", name, what);
	else
		all_ok(lost > 1e-4 && lost < 0.5, "%s, %s: of what %d workers put in, %.1f %% is lost", name, what, P, 100 * lost);
}

int main(void)
{
	static struct outcome outcome[VARIANTS];
	struct kit k;

	ranks_open();
	P = world.size;
	R = world.rank;
	CHECK(P <= ORACLE_WORKERS);
	kit_layout();
	k = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	for (int drift = 0; drift < 2; drift++) {
		bool same = true;

		for (int v = 0; v < VARIANTS; v++)
			test_variant(&k, v, drift, &outcome[v]);
		same = !memcmp(outcome[0].out, outcome[1].out, sizeof(outcome[0].out)) &&
		       !memcmp(outcome[0].residual, outcome[1].residual, sizeof(outcome[0].residual));
		if (!(P & (P - 1)))
			all_ok(same, "for a power of two the tree makes what recursive doubling makes, to the bit");
	}
	kit_close(&k);
	return ranks_close();
}
