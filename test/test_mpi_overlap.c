/*
 * Overlap is real, on two ranks and with both drivers. Each exchange is made late by d (comm->delay, no processor time); a step
 * computes in pieces, between which the device may progress, as layers do. Then
 *
 *     a CoCoD round takes max(k steps, d), a Local SGD round k steps + d;
 *     in S-SGD a bucket whose gradient is ready early is hidden, one that is ready at the end is not.
 *
 * Ratios to computing measured in the same run, turn about, medians of 5, within 25 %. A busy machine may spoil a try, so a
 * claim has three; a program that does not overlap fails them all. An argument chooses: "rounds" or "buckets".
 */
#include <string.h>

#include "../comm/sync/sync.h"
#include "../core/clock.h"
#include "sync_kit.h"

enum { ROUNDS = 5, PERIOD = 3, LAYERS = 10, TRIES = 3 };

static struct kit kit;
static int64_t work_per_piece;
static volatile double sink;
static bool failed;
static float *vector[2];        /* what a GPU works on */
static int64_t vector_n;

static bool is_behind_host(void) { return !kit.dev->ops->stream->progress; }

/* On a GPU computing is queued: `pieces` times so many passes over a vector. */
static void queue_compute(int pieces)
{
	for (int64_t i = 0; i < pieces * work_per_piece; i++)
		kit.dev->ops->vec->axpby(kit.compute, vector_n, 0.5f, vector[0], 0.5f, vector[1]);
}

/* Busy with a core: `pieces` of equal length, between them the hook. */
static void compute(int pieces)
{
	if (is_behind_host()) {
		queue_compute(pieces);
		return;
	}
	for (int p = 0; p < pieces; p++) {
		double a = 1 + sink * 1e-30;

		for (int64_t i = 0; i < work_per_piece; i++)
			a = a * 0.999999 + 1e-6;
		sink = a;
		kit.dev->ops->stream->progress(kit.dev);
	}
}

static double time_of(int pieces)
{
	double start = clock_now();

	compute(pieces);
	kit.dev->ops->stream->sync(kit.compute);
	return clock_now() - start;
}

/* The longest vector of which a pass takes well below `seconds`: one pass is the unit of work. */
static void choose_vector(double seconds)
{
	for (vector_n = 1 << 22; vector_n > 1 << 8; vector_n /= 4) {
		double once;

		time_of(1);
		once = most_everywhere(time_of(1));
		if (once < seconds)
			return;
	}
}

/* So many pieces take about so long on an idle machine. Returns what they take now: d is made longer with it, since a delay that
 * is small beside computing would show nothing. */
static double calibrate(double seconds, int pieces)
{
	double best = INFINITY, took;

	work_per_piece = is_behind_host() ? 1 : 1000000;
	if (is_behind_host())
		choose_vector(seconds / pieces / 8);
	for (int i = 0; i < 5; i++) {
		took = time_of(2);
		best = took < best ? took : best;
	}
	best = most_everywhere(best) / 2;
	work_per_piece = (int64_t)((double)work_per_piece * seconds / pieces / best);
	return most_everywhere(time_of(pieces));
}

static double delay_for(double ratio, double now) { return ratio * now > 0.3 ? ratio * now : 0.3; }

struct trainer {
	struct sync sync;
	struct optimizer optimizer;
	struct config *config;
	float *x, *g;
	int64_t t;
};

static void trainer_open(struct trainer *tr, const struct oracle_algorithm *algorithm, const char *fusion)
{
	static const int batch[ORACLE_WORKERS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	struct oracle_setup p = { .algorithm = algorithm, .period = PERIOD, .method = DENSE, .density = 1 };
	const struct mem_ops *mem = kit.dev->ops->mem;

	memset(tr, 0, sizeof(*tr));
	tr->config = kit_config(&p, "model", fusion);
	tr->x = mem->alloc(kit.dev, KIT_N * sizeof(float));
	tr->g = mem->alloc(kit.dev, KIT_N * sizeof(float));
	optimizer_init(&tr->optimizer, optimizer_find("sgd"), tr->config);
	optimizer_bind(&tr->optimizer, kit.dev, KIT_N);
	CHECK(sync_init(&tr->sync, tr->config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	sync_bind(&tr->sync, kit.comm, kit.compute, &tr->optimizer, tr->x, tr->g, batch);
}

static void trainer_close(struct trainer *tr)
{
	const struct mem_ops *mem = kit.dev->ops->mem;

	kit.dev->ops->stream->sync(kit.comm->stream);
	sync_release(&tr->sync);
	optimizer_release(&tr->optimizer);
	config_free(tr->config);
	mem->free(kit.dev, tr->x);
	mem->free(kit.dev, tr->g);
}

/* A step of the trainer. early: all gradients but the last tensor's become final before the work; else all of them behind it. */
static void step(struct trainer *tr, int layers, bool early)
{
	sync_begin(&tr->sync, tr->t);
	tr->sync.lr = 0.1;
	for (int i = 0; i < KIT_TENSORS; i++) {
		struct range r = kit_range(i);

		if (i == (early ? KIT_TENSORS - 1 : 0))
			compute(layers);
		sync_grad_ready(&tr->sync, &r);
	}
	sync_step(&tr->sync, tr->t++);
}

/* All ranks start together; the slowest counts. */
static double start_together(void)
{
	comm_barrier(verdicts);
	return clock_now();
}

static double round_of(struct trainer *tr, int steps, int layers, bool early)
{
	double start = start_together();

	for (int i = 0; i < steps; i++) {
		if (tr)
			step(tr, layers, early);
		else
			compute(layers);
	}
	kit.dev->ops->stream->sync(kit.compute);
	return most_everywhere(clock_now() - start);
}

static int by_value(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), by_value);
	return v[ROUNDS / 2];
}

static bool within(double got, double want) { return fabs(got - want) <= 0.25 * want; }

/* ---- averaging models ---- */

static bool try_rounds(double seconds, double ratio, char *text, size_t size)
{
	double alone[ROUNDS], cocod[ROUNDS], local[ROUNDS], c, l, m, most;
	double delay = delay_for(ratio, calibrate(seconds, PERIOD * LAYERS));
	struct trainer a, b;

	trainer_open(&a, &oracle_cocod, "model");
	trainer_open(&b, &oracle_local, "model");
	kit.comm->delay = delay;
	for (int i = 0; i < ROUNDS; i++) {
		/* Each CoCoD round is measured from launch to launch: what the other rounds have given time for free is collected by a
		 * round without computing, which launches the exchange that the measured one must hide. */
		round_of(&a, PERIOD, 0, false);
		cocod[i] = round_of(&a, PERIOD, LAYERS, false);
		kit.dev->ops->stream->sync(kit.comm->stream);
		alone[i] = round_of(NULL, PERIOD, LAYERS, false);
		local[i] = round_of(&b, PERIOD, LAYERS, false);
	}
	trainer_close(&a);
	trainer_close(&b);
	kit.comm->delay = 0;
	m = median(alone);
	c = median(cocod);
	l = median(local);
	most = m > delay ? m : delay;
	snprintf(text, size, "k steps %.0f ms, d %.0f ms: a CoCoD round %.0f (%.2f of the larger), a Local SGD round %.0f (%.2f of the sum)", m * 1e3,
	         delay * 1e3, c * 1e3, c / most, l * 1e3, l / (m + delay));
	return within(c, most) && within(l, m + delay);
}

/* ---- S-SGD ---- */

static bool try_buckets(double seconds, double ratio, char *text, size_t size)
{
	double alone[ROUNDS], early[ROUNDS], late[ROUNDS], waited[ROUNDS], m, e, l, w, hidden;
	double delay = delay_for(ratio, calibrate(seconds, LAYERS));
	struct trainer a, b;

	trainer_open(&a, &oracle_ssgd, "size");         /* two buckets */
	trainer_open(&b, &oracle_ssgd, "model");        /* one, ready at the end */
	CHECK(a.sync.schedule.buckets == 2 && b.sync.schedule.buckets == 1);
	kit.comm->delay = delay;
	for (int i = 0; i < ROUNDS; i++) {
		alone[i] = round_of(NULL, 1, LAYERS, false);
		waited[i] = kit.dev->ops->stream->waited(kit.compute);
		early[i] = round_of(&a, 1, LAYERS, true);
		waited[i] = kit.dev->ops->stream->waited(kit.compute) - waited[i];
		late[i] = round_of(&b, 1, LAYERS, false);
	}
	trainer_close(&a);
	trainer_close(&b);
	kit.comm->delay = 0;
	m = median(alone);
	e = median(early);
	l = median(late);
	w = median(waited);
	/* The second bucket leaves behind the first and behind backward, and is exposed in full. */
	hidden = (m > delay ? m : delay) + delay;
	snprintf(text, size, "S-SGD, backward %.0f ms, two buckets of d %.0f ms: the first ready early %.0f ms (%.2f of max + d), one late %.0f ms "
	         "(%.2f of the sum); the compute stream says it waited %.0f ms", m * 1e3, delay * 1e3, e * 1e3, e / hidden, l * 1e3, l / (m + delay), w * 1e3);
	return within(e, hidden) && within(l, m + delay) && w >= 0.75 * delay;
}

static void claim(const char *name, bool (*attempt)(double, double, char *, size_t), double seconds, double ratio)
{
	char text[400];
	bool good = false;

	if (!wanted(name) || failed)    /* what has failed once took long enough */
		return;
	for (int i = 0; i < TRIES && !good; i++) {
		good = sum_everywhere(!attempt(seconds, ratio, text, sizeof(text))) == 0;
		if (!good && world.rank == 0)
			printf("# try %d: %s\n", i + 1, text);
	}
	failed = !all_ok(good, "%s: %s", kit.driver, text);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		filter = argv[1];
	ranks_open();
	kit_layout();
	if (world.size != 2) {
		all_skip("overlap", "is measured with two ranks");
		return ranks_close();
	}
	for (int d = 0; d < 2; d++) {
		if (d == 0 && !world.any_thread) {
			all_skip("thread", "this MPI may be called by its first thread only");
			continue;
		}
		kit = kit_open(d ? PROGRESS_HOOK : PROGRESS_THREAD);
		if (is_behind_host()) {
			kit.driver = kit.dev->ops->name;
			for (int i = 0; i < 2; i++)
				vector[i] = kit.dev->ops->mem->alloc(kit.dev, sizeof(float) << 22);
		}
		claim("rounds", try_rounds, 0.3, 0.6);
		claim("rounds", try_rounds, 0.12, 1.5);
		claim("buckets", try_buckets, 0.3, 0.6);
		for (int i = 0; i < 2 && is_behind_host(); i++)
			kit.dev->ops->mem->free(kit.dev, vector[i]);
		d += is_behind_host();          /* a GPU's streams have no driver to choose */
		kit_close(&kit);
	}
	return ranks_close();
}
