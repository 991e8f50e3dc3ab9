/*
 * Algorithms in which the workers compute on while an exchange is under way: what must hold whatever the oracle says. Special settings
 * that are another algorithm, quantities that an exchange must not move, and that nobody stands still for an exchange that may wait.
 * With an argument only the groups whose name contains it.
 */
#include <unistd.h>

#include "../core/clock.h"
#include "sync_kit.h"

static struct kit kits[2];
static int P, R;

static const struct manner usual = { .steps = 13, .batch = uneven };

static struct oracle_setup case_of(const struct oracle_algorithm *a, enum oracle_method m, int period, int optimizer)
{
	struct oracle_setup p = setup(a, m, m == DENSE ? 1 : 0.3, period, optimizer, uneven, "model", "size");

	p.seed = 42;
	return p;
}

static struct course run_of(const struct oracle_setup *p, const struct manner *how, int driver)
{
	struct course trace;

	course_open(&trace, how->steps, KIT_N);
	kit_train(&kits[driver], p, "model", "size", how, &trace);
	return trace;
}

static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return d;
}

/* The largest distance between the trajectories of two settings, one a driver. */
static double apart(const struct oracle_setup *a, const struct oracle_setup *b)
{
	struct course one = run_of(a, &usual, 0), other = run_of(b, &usual, 1);
	double d = distance(&one, &other);

	course_close(&one);
	course_close(&other);
	return d;
}

/* sum_i w_i (what each rank has at j), everywhere */
static void mean_of(const struct oracle_setup *p, double *values)
{
	for (int64_t j = 0; j < KIT_N; j++)
		values[j] *= p->weight[R];
	comm_host_reduce(verdicts, values, KIT_N, REDUCE_SUM);
}

/* From step `end` on the learning rate is 0: only synchronisations move anything. How far apart is what `quantity` says of runs of
 * `end` and more steps, and how far is the average model? */
static void stays(struct oracle_setup p, double (*quantity)(const struct oracle_setup *, const struct course *, int64_t), double *drift,
                  double *motion)
{
	enum { END = 5 };
	double first[2][KIT_N], now[2][KIT_N];

	p.end = END;
	*drift = *motion = 0;
	for (int steps = END; steps <= END + 4 * (int)p.period; steps++) {
		struct manner how = { .steps = steps, .batch = uneven };
		struct course trace = run_of(&p, &how, steps % 2);

		for (int64_t j = 0; j < KIT_N; j++) {
			now[0][j] = quantity(&p, &trace, j);
			now[1][j] = course_x(&trace, j);
		}
		course_close(&trace);
		mean_of(&p, now[0]);
		mean_of(&p, now[1]);
		if (steps == END)
			memcpy(first, now, sizeof(now));
		for (int64_t j = 0; j < KIT_N; j++) {
			*drift = worst(*drift, fabs(now[0][j] - first[0][j]));
			*motion = worst(*motion, fabs(now[1][j] - first[1][j]));
		}
	}
}

/* ---- nobody waits for what may come later ---- */

/* The first launch comes with step `steps`. */
static const struct launch_case { const struct oracle_algorithm *a; int steps; double key[2]; bool waits; } launches[] = {
	{ &oracle_local, 2, { 0 }, true },
	{ &oracle_overlap_local, 2, { [OVERLAP_ALPHA] = 0.5 }, false },
	{ &oracle_pipe, 1, { [PIPE_WIDTH] = 2 }, false },
	{ &oracle_easgd, 2, { [EASGD_BETA] = 0.5 }, false },
	{ &oracle_losp, 2, { [LOSP_LAMBDA] = 0.5 }, false },
};

/* How long the compute stream takes until it has passed the first launch of an exchange that takes `delay`. */
static double time_to_launch(struct kit *k, const struct launch_case *c, double delay)
{
	const struct device_ops *dev = k->dev->ops;
	struct oracle_setup p = case_of(c->a, DENSE, c->steps, 0);
	float *x = dev->mem->alloc(k->dev, KIT_N * sizeof(float)), *g = dev->mem->alloc(k->dev, KIT_N * sizeof(float));
	struct optimizer optimizer;
	struct config *config;
	struct sync sync;
	double start;

	memcpy(p.key, c->key, sizeof(c->key));
	config = kit_config(&p, "model", "model");
	optimizer_init(&optimizer, optimizer_find("sgd"), config);
	optimizer_bind(&optimizer, k->dev, KIT_N);
	CHECK(sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	sync_bind(&sync, k->comm, k->compute, &optimizer, x, g, even);
	sync.lr = 0.1;
	comm_barrier(verdicts);
	k->comm->delay = delay;
	start = clock_now();
	for (int64_t t = 0; t < c->steps; t++) {
		sync_begin(&sync, t);
		for (int i = 0; i < KIT_TENSORS; i++) {
			struct range r = kit_range(i);

			sync_grad_ready(&sync, &r);
		}
		sync_step(&sync, t);
	}
	dev->stream->sync(k->compute);
	start = clock_now() - start;
	dev->stream->sync(k->comm->stream);
	k->comm->delay = 0;
	sync_release(&sync);
	optimizer_release(&optimizer);
	config_free(config);
	dev->mem->free(k->dev, x);
	dev->mem->free(k->dev, g);
	return most_everywhere(start);
}

static void test_overlap(void)
{
	const double delay = 0.25;

	for (size_t i = 0; i < sizeof(launches) / sizeof(*launches) && wanted("overlap"); i++)
		for (int d = 0; d < 2; d++) {
			double took = delay;

			/* Whoever waits does so each time; a busy machine may be slow once. */
			for (int tries = 0; tries < 3 && took >= delay / 2; tries++)
				took = time_to_launch(&kits[d], &launches[i], delay);
			all_ok(launches[i].waits ? took >= delay : took < delay / 2, "overlap, %s: %s %s for an exchange of %.0f ms: past it after %.0f ms",
			       kits[d].driver, launches[i].a->name, launches[i].waits ? "waits" : "does not wait", delay * 1e3, took * 1e3);
		}
}

/* ---- Overlap-Local-SGD ---- */

static struct oracle_setup overlap_of(enum oracle_method m, int period, int optimizer, double alpha, double beta)
{
	struct oracle_setup p = case_of(&oracle_overlap_local, m, period, optimizer);

	p.key[OVERLAP_ALPHA] = alpha;
	p.key[OVERLAP_BETA] = beta;
	return p;
}

static void test_overlap_alone(void)
{
	for (int o = 0; o < 3; o++) {
		struct oracle_setup a = overlap_of(DENSE, 2, o, 0, 0.5), alone = case_of(&oracle_local, DENSE, 1000, o);
		double d = apart(&a, &alone);

		all_ok(d == 0, "overlap-local: alpha 0 ≡ workers that never communicate, %s: %.1e", optimizers[o].name, d);
	}
}

/* (1 - alpha) x + alpha (anchor that is known or on its way) */
static double overlap_quantity(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double alpha = p->key[OVERLAP_ALPHA], anchor = course_state(t, "reference")[j] + course_state(t, "average")[j] + course_state(t, "residual")[j];

	return (1 - alpha) * course_x(t, j) + alpha * anchor;
}

static void test_overlap_quantity(void)
{
	for (int m = DENSE; m <= GTOPK; m++) {
		double drift, motion;

		stays(overlap_of((enum oracle_method)m, 3, 0, 0.3, 0), overlap_quantity, &drift, &motion);
		all_ok(drift <= 1e-6 && motion >= 1e-3, "overlap-local, beta 0, %s: (1 - alpha) x + alpha z stays (%.1e) where x moves (%.1e)",
		       method_name[m], drift, motion);
	}
}

/* Stands still from period to period; rank 0 says so at the start. */
static void test_overlap_still(void)
{
	struct oracle_setup p = overlap_of(DENSE, 3, 1, 1, 0);
	struct course trace;
	double still = 0, moves = 0;
	char said[400] = "";
	FILE *file = tmpfile();
	int keep = dup(STDERR_FILENO);

	CHECK(file && keep >= 0 && fflush(stderr) == 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
	trace = run_of(&p, &usual, 0);
	CHECK(fflush(stderr) == 0 && dup2(keep, STDERR_FILENO) >= 0 && fseek(file, 0, SEEK_SET) == 0);
	said[fread(said, 1, sizeof(said) - 1, file)] = 0;
	fclose(file);
	close(keep);
	for (int64_t t = 0; t < usual.steps; t++)
		for (int64_t j = 0; j < KIT_N; j++) {
			double d = fabs(trace.x[t * KIT_N + j] - (float)problem_start(&p, j));

			if ((t + 1) % p.period == 0)
				still = worst(still, d);
			else
				moves = worst(moves, d);
		}
	all_ok(still == 0 && moves > 1e-2, "overlap-local: alpha 1 stands still: %.1e after each pull, %.1e before", still, moves);
	all_ok(R || (strstr(said, "warning: sync.alpha = 1") && strstr(said, "stand still")), "overlap-local: alpha 1 is warned of");
	course_close(&trace);
}

/* ---- Pipe-SGD ---- */

static struct oracle_setup pipe_of(enum oracle_method m, int optimizer, int width, int warmup)
{
	struct oracle_setup p = case_of(&oracle_pipe, m, 1, optimizer);

	p.key[PIPE_WIDTH] = width;
	p.key[PIPE_WARMUP] = warmup;
	return p;
}

static void test_pipe(void)
{
	for (int o = 0; o < 4; o++)
		for (int m = DENSE; m <= GTOPK; m++) {
			struct oracle_setup ssgd = case_of(&oracle_ssgd, (enum oracle_method)m, 1, o), one = pipe_of((enum oracle_method)m, o, 1, 0),
			                    warm = pipe_of((enum oracle_method)m, o, 3, (int)usual.steps),
			                    two = pipe_of((enum oracle_method)m, o, 2, 0);
			double a = apart(&ssgd, &one), b = apart(&ssgd, &warm), c = apart(&ssgd, &two);

			all_ok(a == 0 && b == 0, "pipe: K 1, or a warm-up that never ends, ≡ ssgd to the bit, %s, %s", optimizers[o].name, method_name[m]);
			all_ok(c > 100 * BOUND, "pipe: K 2 is not ssgd (%.1e)", c);
		}
}

/* ---- EASGD ---- */

/* Both pull to what they knew before the exchange, by alpha; the centre goes to (1 - beta) z + beta x, the anchor to the average after
 * the pull, alpha z + (1 - alpha) x. */
static void test_easgd_overlap_local(void)
{
	double beta = P / (P + 1.0);

	for (int o = 0; o < 3; o++)
		for (int m = DENSE; m <= GTOPK; m++) {
			struct oracle_setup a = case_of(&oracle_easgd, (enum oracle_method)m, 3, o);
			struct oracle_setup b = overlap_of((enum oracle_method)m, 3, o, 1 / (P + 1.0), 0);
			double d;

			a.key[EASGD_BETA] = beta;
			d = apart(&a, &b);
			all_ok(d <= BOUND, "easgd with beta P/(P+1) ≡ overlap-local with alpha 1/(P+1), beta 0, %s, %s: %.1e", optimizers[o].name,
			       method_name[m], d);
		}
}

/* All workers count as much as the centre. */
static double easgd_quantity(const struct oracle_setup *p, const struct course *t, int64_t j)
{
	double waits = course_state(t, "average")[j] + course_state(t, "residual")[j];

	return (P * course_x(t, j) + course_state(t, "reference")[j] + p->key[EASGD_BETA] * waits) / (P + 1);
}

static void test_easgd_quantity(void)
{
	for (int m = DENSE; m <= GTOPK; m++) {
		struct oracle_setup p = case_of(&oracle_easgd, (enum oracle_method)m, 3, 0);
		double drift, motion;

		p.key[EASGD_BETA] = 0.9;
		stays(p, easgd_quantity, &drift, &motion);
		all_ok(drift <= 1e-6 && motion >= 1e-3, "easgd, %s: (P x + z) / (P + 1) stays (%.1e) where x moves (%.1e)", method_name[m], drift,
		       motion);
	}
}

/* ---- LOSP ---- */

static struct oracle_setup losp_of(enum oracle_method m, int period, int optimizer, double lambda)
{
	struct oracle_setup p = case_of(&oracle_losp, m, period, optimizer);

	p.key[LOSP_LAMBDA] = lambda;
	return p;
}

static void test_losp(void)
{
	for (int m = DENSE; m <= GTOPK; m++) {
		enum oracle_method method = (enum oracle_method)m;

		for (int o = 0; o < 4; o++) {
			struct oracle_setup one = losp_of(method, 3, o, 1), half = losp_of(method, 3, o, 0.5), cocod = case_of(&oracle_cocod, method, 3, o);
			double a = apart(&one, &cocod), b = apart(&half, &cocod);

			all_ok(a <= BOUND, "losp with lambda 1 ≡ cocod, %s, %s: %.1e", optimizers[o].name, method_name[m], a);
			all_ok(b > 100 * BOUND, "losp with lambda 1/2 is not cocod: %.1e", b);
		}
		/* One exchange carries movement, the other a gradient. */
		if (m == DENSE) {
			struct oracle_setup none = losp_of(method, 1, 0, 0), pipe = pipe_of(method, 0, 2, 0);
			double d;

			none.lr_decay = pipe.lr_decay = 0;
			d = apart(&none, &pipe);
			all_ok(d <= BOUND, "losp with lambda 0, period 1 ≡ pipe with K 2, plain SGD of a constant rate: %.1e", d);
		}
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
	kit_layout();
	kits[0] = kit_open(world.any_thread ? PROGRESS_THREAD : PROGRESS_HOOK);
	kits[1] = kit_open(PROGRESS_HOOK);
	test_overlap();
	if (wanted("overlap-local")) {
		test_overlap_alone();
		test_overlap_quantity();
		test_overlap_still();
	}
	if (wanted("pipe"))
		test_pipe();
	if (wanted("easgd")) {
		test_easgd_overlap_local();
		test_easgd_quantity();
	}
	if (wanted("losp"))
		test_losp();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
