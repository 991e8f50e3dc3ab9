/*
 * CHOCO-SGD with compressed news: every compressor that works from one worker to another against the oracle, on each graph, either order
 * of mixing; that copies are the same bits wherever they are; without compression it is local SGD of period 1 where all are neighbours; once
 * learning stops all come to the weighted mean, whatever is sent; a run goes on where it was saved. test_mpi_oracle has the dense ones.
 * With an argument only the groups whose name contains it.
 */
#include "sync_kit.h"

static struct kit kits[2];
static int P, R;

static const struct oracle_compressor dense = { .name = "none" }, topk = { .name = "topk" };

/* What is sent; the others of the oracle's quantisers vote, or are variants. */
static const struct oracle_compressor *const lists[] = {
	&dense, &topk, &oracle_randomk, &oracle_topk_fp16, &oracle_topk_bf16, &oracle_topk_sampled, &oracle_threshold, &oracle_gaussian_k,
	&oracle_gaussian_k_bf16,
};
enum { LISTS = sizeof(lists) / sizeof(*lists), NEWS = LISTS + ORACLE_QUANTIZERS };

static const struct oracle_compressor *news_of(int q) { return q < LISTS ? lists[q] : &oracle_quantizers[q - LISTS].base; }

static bool is_operator(const struct oracle_compressor *c) { return strncmp(c->name, "signsgd", 7) != 0; }

static struct oracle_setup choco_setup(const struct oracle_compressor *c, enum oracle_graph graph, double gamma, bool overlap, int optimizer,
                                       const int *batch)
{
	double density = c->digits ? 0.02 : c == &topk || c->sparse ? 0.1 : 1;       /* of few roundings none is close */
	struct oracle_setup p = setup(&oracle_choco, c == &topk ? TOPK : DENSE, density, 1, optimizer, batch, "bucket", "size");

	if (c != &dense && c != &topk)
		p.compressor = c;
	if (c == &dense)
		kit_ranges(&p, "model", "model");
	p.lr_decay = 0;
	p.key[CHOCO_GRAPH] = graph;
	p.key[CHOCO_GAMMA] = gamma;
	p.key[CHOCO_OVERLAP] = overlap;
	return p;
}

static struct course train(struct oracle_setup *p, const struct manner *how, int kit)
{
	struct course trace;

	course_open(&trace, how->steps, KIT_N);
	kit_train(&kits[kit], p, "bucket", "size", how, &trace);
	return trace;
}

static double distance(const struct course *a, const struct course *b)
{
	double d = 0;

	for (int64_t i = 0; i < a->steps * KIT_N; i++)
		d = worst(d, fabs((double)a->x[i] - b->x[i]));
	return most_everywhere(d);
}

/* The copies of the neighbours' models are what these have, to the bit; and there is one of each. */
static bool copies_agree(const struct oracle_setup *p, const struct course *trace)
{
	bool near_by[ORACLE_WORKERS][ORACLE_WORKERS], same = true;
	float *all = xcalloc((size_t)P * KIT_N, sizeof(float));

	oracle_choco_graph(p, near_by);
	comm_host_gather(verdicts, course_state(trace, "public"), all, KIT_N * sizeof(float));
	for (int l = 0; l < P; l++) {
		char name[40];

		snprintf(name, sizeof(name), "copy.%d", (R + P - l) % P);
		same = same && (course_state(trace, name) != trace->zero) == near_by[R][l];
		same = same && (!near_by[R][l] || !memcmp(course_state(trace, name), all + l * KIT_N, KIT_N * sizeof(float)));
	}
	free(all);
	return same;
}

/* What all have applied is what all have put in: for plain SGD. */
static double lost(const struct oracle_setup *p, const struct course *trace)
{
	double sum[KIT_N], d = 0;

	for (int64_t j = 0; j < KIT_N; j++)
		sum[j] = p->weight[R] * p->algorithm->worth(p, trace, j);
	comm_host_reduce(verdicts, sum, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		d = worst(d, fabs(sum[j] - problem_start(p, j)));
	return d;
}

/* Padding has no gradient: nothing may come to be there. */
static bool padding_stays_zero(const struct course *trace)
{
	bool zero = true;

	for (int64_t j = 0; j < KIT_N; j++)
		zero = zero && (kit_real[j] || (course_x(trace, j) == 0 && course_state(trace, "public")[j] == 0));
	return zero;
}

static void test_news(const struct oracle_compressor *c)
{
	double error = 0, sent = 0, want_sent = 0, said = 0, gone = 0, bound = bound_through(c);
	bool same = true, clean = true, agree = true;
	char name[60];

	snprintf(name, sizeof(name), "news by %s", c->name);
	if (!wanted(name) || !is_operator(c))
		return;
	for (int run = 0; run < 4; run++) {
		struct manner how = { .steps = P > 4 ? 3 : 5, .batch = run % 2 ? uneven : even, .delay = run == 2 ? 1e-3 : 0 };
		struct oracle_setup p = choco_setup(c, run < 2 ? ORACLE_RING : ORACLE_EXPONENTIAL, run == 3 ? 1 : 0.3, run == 1 || run == 2,
		                                    run == 3 ? 1 : 0, how.batch);
		struct oracle_run want = oracle_run(&p, &how);
		struct course trace[2];

		for (int d = 0; d < 2; d++) {
			trace[d] = train(&p, &how, d);
			for (int64_t i = 0; i < how.steps * KIT_N; i++)
				error = worst(error, fabs(trace[d].x[i] - want.x[i]));
			sent += sum_everywhere(trace[d].bytes);
			want_sent += want.bytes;
			said = worst(said, fabs(trace[d].said * P - want.per_step));
			agree = copies_agree(&p, &trace[d]) && agree;
			if (run < 3)
				gone = worst(gone, lost(&p, &trace[d]));
			clean = clean && padding_stays_zero(&trace[d]);
		}
		same = same && !memcmp(trace[0].x, trace[1].x, (size_t)how.steps * KIT_N * sizeof(float));
		for (int d = 0; d < 2; d++)
			course_close(&trace[d]);
		oracle_run_free(&want);
	}
	error = most_everywhere(error);
	all_ok(error <= bound && same, "%s: at most %.1e from the oracle (bound %.0e), thread and hook the same bits", name, error, bound);
	all_ok(sent == want_sent && said == 0, "%s: bytes are what the formula says, %.0f", name, sent);
	all_ok(agree, "%s: the public copy is the same bits on all who have it", name);
	all_ok(gone <= BOUND && clean, "%s: the mean moves by gradients only (%.1e); padding stays zero", name, gone);
}

/* Up to 3 equal workers on a ring know everything: without compression, and all the way, one model after each step. */
static void test_local(void)
{
	for (int o = 0; o < 4 && wanted("identity"); o++) {
		struct manner how = { .steps = 13, .batch = even };
		struct oracle_setup p = choco_setup(&dense, ORACLE_RING, 1, false, o, even);
		struct course choco, late, local;
		double d, later;

		p.seed = 42;
		choco = train(&p, &how, 0);
		p.key[CHOCO_OVERLAP] = 1;
		late = train(&p, &how, 1);
		p.algorithm = &oracle_local;
		local = train(&p, &how, 1);
		d = distance(&choco, &local);
		later = distance(&late, &local);
		all_ok(P <= 3 ? d <= BOUND : d > 100 * BOUND, "identity: choco of everything on a ring is %slocal with period 1, %s: %.1e",
		       P <= 3 ? "" : "not ", optimizers[o].name, d);
		all_ok(P == 1 ? later <= BOUND : later > 100 * BOUND, "identity: overlapped it is %s: %.1e", P == 1 ? "the same" : "not", later);
		course_close(&choco);
		course_close(&late);
		course_close(&local);
	}
}

/* Without learning, the news gets smaller and smaller, and with it what Q leaves out: all end at the weighted mean, and at no other. Nearly:
 * where gamma W_ij times a difference is less than half a unit in x's last place, x stays; along a ring that adds up. */
static void test_agreement(const struct oracle_compressor *c, double gamma, bool overlap)
{
	enum { END = 5, MORE = 1500 };
	struct manner how = { .steps = END + MORE, .batch = uneven };
	struct oracle_setup p = choco_setup(c, ORACLE_RING, gamma, overlap, 0, uneven);
	struct course trace;
	double mean[KIT_N], d = 0;

	if (!wanted("agreement"))
		return;
	p.seed = 42;
	p.end = END;
	p.density = c->digits ? 0.1 : p.density;
	trace = train(&p, &how, overlap);
	for (int64_t j = 0; j < KIT_N; j++)
		mean[j] = p.weight[R] * (problem_start(&p, j) - trace.moved[j]);
	comm_host_reduce(verdicts, mean, KIT_N, REDUCE_SUM);
	for (int64_t j = 0; j < KIT_N; j++)
		d = worst(d, fabs(course_x(&trace, j) - mean[j]));
	d = most_everywhere(d);
	all_ok(d <= 1e-4, "agreement: %s, gamma %g%s: %d rounds without learning lead all to the weighted mean: %.1e away", c->name, gamma,
	       overlap ? ", overlapped" : "", MORE, d);
	course_close(&trace);
}

static void test_resume(const struct oracle_compressor *c, bool overlap)
{
	struct oracle_setup p = choco_setup(c, ORACLE_RING, 0.3, overlap, 1, uneven);
	struct snapshot saved = { 0 };
	struct manner all = { .steps = 13, .batch = uneven }, first = { .steps = 6, .batch = uneven, .save = &saved },
	              rest = { .steps = 13, .from = 6, .batch = uneven, .load = &saved };
	struct course whole, begun, resumed;

	if (!wanted("resume"))
		return;
	p.seed = 42;
	whole = train(&p, &all, 0);
	begun = train(&p, &first, 1);
	resumed = train(&p, &rest, 0);
	all_ok(saved.same && !memcmp(whole.x + 6 * KIT_N, resumed.x + 6 * KIT_N, 7 * KIT_N * sizeof(float)),
	       "resume: %s%s goes on to the bit where it was saved", c->name, overlap ? ", overlapped," : "");
	snapshot_free(&saved);
	course_close(&whole);
	course_close(&begun);
	course_close(&resumed);
}

static void test_refused(const char *set, const char *why)
{
	const char *sets[] = { "sync.algorithm=choco", "topology.kind=gossip", set };
	struct config *config = config_load(kit_schema(), NULL, sets, 3, NULL);
	struct sync sync;
	bool refused = sync_init(&sync, config, kit_tensor, KIT_TENSORS, KIT_N) < 0;

	all_ok(refused && strstr(errors_text(), why) && strstr(errors_text(), "hint:"), "refused: %s, and it says why", set);
	errors_clear();
	sync_release(&sync);
	config_free(config);
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
	for (int q = 0; q < NEWS; q++)
		test_news(news_of(q));
	test_local();
	test_agreement(&dense, 1, false);
	test_agreement(&topk, 0.1, false);
	test_agreement(&topk, 0.1, true);
	test_agreement(&oracle_randomk, 0.1, false);
	test_agreement(&oracle_topk_fp16, 0.1, false);
	test_agreement(&oracle_topk_bf16, 0.1, true);
	test_agreement(&oracle_gaussian_k, 0.1, false);
	for (int q = LISTS; q < NEWS; q++)
		if (is_operator(news_of(q)))
			test_agreement(news_of(q), 0.1, q % 2);
	for (int overlap = 0; overlap < 2; overlap++) {
		test_resume(&topk, overlap);
		test_resume(&oracle_randomk, overlap);
		test_resume(&oracle_topk_fp16, overlap);
		test_resume(&oracle_quantizers[3].base, overlap);
	}
	if (wanted("refused")) {
		test_refused("compress.method=gtopk", "makes sense among all only");
		test_refused("compress.method=powersgd", "makes sense among all only");
		test_refused("compress.method=hierarchical", "\"topk\", \"randomk\", \"threshold\", \"gaussian-k\", \"bf16\"");
		test_refused("compress.method=signsgd", "makes sense among all only");
		test_refused("topology.graph=random", "same neighbours in every step");
	}
	kit_close(&kits[0]);
	kit_close(&kits[1]);
	return ranks_close();
}
