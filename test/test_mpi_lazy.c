/*
 * S-SGD whose exchanges reach into the next forward leaves the bits of S-SGD: after every step, in the optimizer's state, on every
 * rank, with both drivers, with exchanges that are late, looked at or not, resumed or not; and sends as many bytes. And it saves time:
 * steps and exchanges that take as long as they are told to. With an argument only the groups whose name contains it.
 */
#include "player.h"

static struct kit kits[2];
static int P, R;

static const struct variant {
	const char *name;
	const struct oracle_algorithm *algorithm;
	double forward, backward, plain, best;  /* test_overlap(): in exchanges; what S-SGD and this make of a step then */
} variants[] = {
	/* Five exchanges, four of them ready before backward computes. S-SGD hides 2.2 of the five. Here backward hides half of four, forward
	 * the other half, and the two halves of the last come between. */
	{ "split", &oracle_ssgd_split, 2.2, 2.2, 7.2, 5.4 },
	/* The plan lets the first go during backward, and then the last, which forward waits for; forward hides the other three. */
	{ "priority", &oracle_ssgd_priority, 3.3, 0.9, 8.3, 5.3 },
};
enum { VARIANTS = sizeof(variants) / sizeof(*variants) };

static const char *const fusions[] = { "none", "size", "model" };

static void run(const struct oracle_setup *p, const char *fusion, const struct manner *how, int driver, struct course *trace)
{
	course_open(trace, how->steps, KIT_N);
	kit_train(&kits[driver], p, "model", fusion, how, trace);
}

/* x after each step from `from` on, and all that the state visitor was told of. */
static bool same_runs(const struct course *a, const struct course *b, int64_t from)
{
	size_t row = KIT_N * sizeof(float);
	bool same = !memcmp(a->x + from * KIT_N, b->x + from * KIT_N, (size_t)(a->steps - from) * row);

	for (int i = 0; i < a->states; i++)
		same = same && (!strcmp(a->state[i].name, "consensus") || !memcmp(a->state[i].value, course_state(b, a->state[i].name), row));
	return same;
}

/* ---- the bits of S-SGD ---- */

static void test_bits(const struct variant *v)
{
	enum { STEPS = 13 };

	for (int o = 0; o < 4; o++) {
		bool bits = true, ranks = true, looks = true, bytes = true, late = false;
		int runs = 0;

		for (int f = 0; f < 3; f++)
			for (int d = 0; d < 2; d++) {
				struct manner how = { .steps = STEPS, .batch = (o + f + d) % 2 ? uneven : even }, mine = how;
				struct oracle_setup p = setup(&oracle_ssgd, DENSE, 1, 1, o, how.batch, "model", fusions[f]), q = p;
				struct course want, look, got;

				p.seed = q.seed = 7;
				q.algorithm = v->algorithm;
				how.look = true;
				run(&p, fusions[f], &how, d, &look);
				how.look = false;
				run(&p, fusions[f], &how, d, &want);
				mine.lazy = true;
				mine.delay = f == 0 ? 1e-3 : 0;
				run(&q, fusions[f], &mine, d, &got);
				bits = bits && same_runs(&want, &got, 0);
				bytes = bytes && got.bytes == want.bytes;
				bytes = fabs(sum_everywhere(got.bytes) - STEPS * P * got.said) <= 1e-9 * STEPS * P * got.said && bytes;
				course_close(&got);
				mine.look = true;
				run(&q, fusions[f], &mine, d, &got);
				bits = bits && same_runs(&want, &got, 0);
				late = late || got.late;
				for (int64_t t = 1; t < how.steps; t += 3)
					looks = looks && !memcmp(got.consensus + t * KIT_N, want.x + t * KIT_N, KIT_N * sizeof(float)) &&
					        !memcmp(look.consensus + t * KIT_N, want.x + t * KIT_N, KIT_N * sizeof(float));
				ranks = same_everywhere(got.x, (size_t)how.steps * KIT_N * sizeof(float)) && ranks;
				course_close(&got);
				course_close(&want);
				course_close(&look);
				runs += 2;
			}
		all_ok(bits && !late, "%s, %s: %d runs, both drivers, three bucket plans, late or not: the bits of S-SGD after each step, and its state",
		       v->name, optimizers[o].name, runs);
		all_ok(looks && ranks, "%s, %s: whoever looks between steps sees all updates; the same bits on every rank", v->name, optimizers[o].name);
		all_ok(bytes, "%s, %s: sends what S-SGD sends, and what the formula says", v->name, optimizers[o].name);
	}
}

/* Saved in the middle, loaded into another run, to the end. */
static void test_resume(const struct variant *v)
{
	bool same = true;

	for (int o = 1; o < 4; o += 2)
		for (int d = 0; d < 2; d++) {
			struct snapshot middle = { .same = false };
			struct manner how = { .steps = 13, .batch = uneven, .lazy = true, .delay = 5e-4 }, first = how, second = how;
			struct oracle_setup p = setup(v->algorithm, DENSE, 1, 1, o, uneven, "model", "none");
			struct course whole, half, rest;

			p.seed = 11;
			run(&p, "none", &how, d, &whole);
			first.steps = 6;
			first.save = &middle;
			run(&p, "none", &first, d, &half);
			second.from = 6;
			second.load = &middle;
			run(&p, "none", &second, 1 - d, &rest);
			same = same && middle.same && same_runs(&whole, &rest, 6);
			snapshot_free(&middle);
			course_close(&whole);
			course_close(&half);
			course_close(&rest);
		}
	all_ok(same, "%s: saved after 6 steps and resumed: the bits of the run that went on", v->name);
}

/* ---- overlap ---- */

/* Forward computes behind the first tensor that it reads, backward when all gradients but the last are final. Whoever computes needs what
 * the compute stream has waited for. */
static void play(struct player *p, double forward, double backward)
{
	const struct stream_ops *stream = p->kit->dev->ops->stream;

	player_begin(p);
	for (int i = KIT_TENSORS - 1; i >= 0; i--) {
		struct range r = kit_range(i);

		sync_param_needed(&p->sync, &r);
		stream->sync(p->kit->compute);
		if (i == KIT_TENSORS - 1)
			pass_time(p->kit, forward);
	}
	for (int i = 0; i < KIT_TENSORS; i++) {
		struct range r = kit_range(i);

		if (i == KIT_TENSORS - 1)
			pass_time(p->kit, backward);
		sync_grad_ready(&p->sync, &r);
	}
	sync_step(&p->sync, p->t++);
	stream->sync(p->kit->compute);
}

/* The shortest of some steps; a busy machine only makes them longer. */
static double shortest_step(struct kit *k, const struct variant *v, const struct oracle_algorithm *algorithm, double delay)
{
	enum { STEPS = 5 };
	struct oracle_setup p = setup(algorithm, DENSE, 1, 1, 1, even, "model", "none");
	struct player player;
	double best = INFINITY;

	player_open(&player, k, kit_config(&p, "model", "none"), even);
	CHECK(player.sync.schedule.buckets == KIT_TENSORS);
	k->comm->delay = delay;
	for (int i = 0; i <= STEPS; i++) {
		double took = -clock_now();

		play(&player, v->forward * delay, v->backward * delay);
		took += clock_now();
		if (i > 0)              /* the first has nothing to wait for in forward */
			best = took < best ? took : best;
		comm_barrier(verdicts);
	}
	sync_settle(&player.sync);
	k->comm->delay = 0;
	player_close(&player);
	return most_everywhere(best);
}

static void test_overlap(const struct variant *v, struct kit *k)
{
	const double d = 0.03;
	double plain = 0, took = 0;
	bool good = false;

	for (int i = 0; i < 3 && !good; i++) {
		plain = shortest_step(k, v, &oracle_ssgd, d) / d;
		took = shortest_step(k, v, v->algorithm, d) / d;
		good = sum_everywhere(!(plain >= v->plain && took <= 1.15 * v->best)) == 0;
	}
	all_ok(good, "%s, %s: forward of %.1f and backward of %.1f exchanges, five to do: S-SGD's step is %.2f of them long, this one's %.2f (%.1f "
	       "expected)", v->name, k->driver, v->forward, v->backward, plain, took, v->best);
}

/* ---- slices ---- */

static int all_late_keys(const struct oracle_setup *p, const char **sets)
{
	(void)p;
	sets[0] = xasprintf("schedule.priority=true");
	sets[1] = xasprintf("schedule.backward_share=1000");
	sets[2] = xasprintf("schedule.slice_mb=0.0002");
	return 3;
}

/* Sums of slices are S-SGD's up to rounding, and to the bit the same in whatever order they go. */
static void test_slices(void)
{
	static const struct oracle_algorithm in_order = { .name = "ssgd", .every_step = true, .keys = all_late_keys, .step = oracle_ssgd_step };
	double error = 0;
	bool same = true, ranks = true, bytes = true;

	for (int o = 0; o < 4; o++) {
		struct manner how = { .steps = 13, .batch = uneven }, mine = how;
		struct oracle_setup p = setup(&oracle_ssgd, DENSE, 1, 1, o, uneven, "model", "size"), q = p, r = p;
		struct course want, first, other;

		p.seed = q.seed = r.seed = 7;
		q.algorithm = &oracle_ssgd_sliced;
		r.algorithm = &in_order;
		mine.lazy = true;
		run(&p, "size", &how, o % 2, &want);
		run(&q, "size", &mine, o % 2, &first);
		run(&r, "size", &mine, 1 - o % 2, &other);
		for (int64_t i = 0; i < how.steps * KIT_N; i++)
			error = worst(error, fabs((double)want.x[i] - first.x[i]));
		same = same && same_runs(&first, &other, 0);
		ranks = same_everywhere(first.x, (size_t)how.steps * KIT_N * sizeof(float)) && ranks;
		bytes = sum_everywhere(first.bytes) == sum_everywhere(want.bytes) && bytes;
		course_close(&want);
		course_close(&first);
		course_close(&other);
	}
	all_ok(error <= BOUND && ranks && bytes, "slices of 48 floats: at most %.1e from S-SGD, on every rank the same, and as many bytes", error);
	all_ok(same, "slices in two orders: the same bits");
}

/* ---- refused ---- */

static void refused(const char *words, const char *remedy, const char *const *sets, int count)
{
	struct config *config = config_load(kit_schema(), NULL, (const char **)sets, count, NULL);
	struct sync sync;
	int rc;

	CHECK(config);
	rc = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N);
	all_ok(rc == -1 && strstr(errors_text(), words) && strstr(errors_text(), remedy), "refused, with reason and remedy: %s", words);
	errors_clear();
	sync_release(&sync);
	config_free(config);
}

static void test_refused(void)
{
	refused("does not go with sync.algorithm = \"cocod\"", "sync.algorithm = \"ssgd\"",
	        (const char *[]){ "schedule.split=true", "sync.algorithm=cocod" }, 2);
	refused("does not go with sync.algorithm = \"post-local\"", "sync.algorithm = \"ssgd\"",
	        (const char *[]){ "schedule.priority=true", "sync.algorithm=post-local" }, 2);
	refused("only dense sums can be taken apart", "compress.method = \"none\"", (const char *[]){ "schedule.split=true", "compress.method=topk" }, 2);
	refused("only dense sums can be taken apart", "compress.method = \"none\"",
	        (const char *[]){ "schedule.priority=true", "compress.method=int8" }, 2);
	refused("only dense sums can be taken apart", "compress.method = \"none\"",
	        (const char *[]){ "schedule.priority=true", "compress.method=powersgd" }, 2);
	refused("only dense sums can be taken apart", "compress.method = \"none\"",
	        (const char *[]){ "schedule.split=true", "compress.method=powersgd" }, 2);
	refused("does not go with topology.kind = \"ps\"", "topology.kind = \"all-reduce\"",
	        (const char *[]){ "schedule.split=true", "topology.kind=ps" }, 2);
	refused("only the ring is a reduce-scatter and an all-gather", "topology.allreduce = \"ring\"",
	        (const char *[]){ "schedule.split=true", "topology.allreduce=tree" }, 2);
	refused("exclude each other", "leave one of them out", (const char *[]){ "schedule.split=true", "schedule.priority=true" }, 2);
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
	for (int v = 0; v < VARIANTS; v++) {
		char name[40];

		snprintf(name, sizeof(name), "%s bits", variants[v].name);
		if (wanted(name))
			test_bits(&variants[v]);
		snprintf(name, sizeof(name), "%s resume", variants[v].name);
		if (wanted(name))
			test_resume(&variants[v]);
		snprintf(name, sizeof(name), "%s overlap", variants[v].name);
		for (int d = 0; d < 2 && P == 2 && wanted(name); d++)
			test_overlap(&variants[v], &kits[d]);
	}
	if (wanted("slices"))
		test_slices();
	if (wanted("refused"))
		test_refused();
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
