/*
 * Links that several workers share: the formulas against a small simulation, message by message. What it plays are the exchanges of
 * the algorithms themselves, written down by a transport that carries nothing.
 *
 * In the simulation a rank does one exchange after the other. A message begins when its sender and its receiver have both come to
 * it, waits for its latency, and then flows: inside a node at full speed, between nodes as fast as its share of the sender's link out and of
 * the receiver's link in allows, whichever is smaller.
 */
#include <string.h>

#include "../comm/compress/compress.h"
#include "../comm/topology/allreduce.h"
#include "../comm/topology/gossip.h"
#include "../comm/topology/ps.h"
#include "kit_config.h"
#include "tap.h"

static const double ALPHA = 1e-3, BETA = 1e-7, ALPHA_IN = 1e-4, BETA_IN = 1e-8;
enum { MOST = 64, MOST_OPS = 2000, LENGTH = 1024 };      /* floats that compressors average: equal shards for 2 and 4 */

/* ---- the simulation ---- */

struct op {
	int to, from;
	double bytes;                   /* that it sends */
};

struct player {
	struct op op[MOST_OPS];
	int ops, at;
	bool sent, got;                 /* of the exchange at which it is */
	bool flying;                    /* its message of that */
	double wait, left;              /* latency, bytes */
};

static struct player player[MOST];

static void forget(void)
{
	for (int r = 0; r < MOST; r++)
		player[r].ops = 0;
}

static void add_op(int rank, int to, double bytes, int from)
{
	struct player *p = &player[rank];

	CHECK(p->ops < MOST_OPS);
	p->op[p->ops++] = (struct op){ to, from, bytes };
}

static const struct op *now(int rank) { return player[rank].at < player[rank].ops ? &player[rank].op[player[rank].at] : NULL; }

static void take_off(int workers, int group)
{
	for (int r = 0; r < workers; r++) {
		struct player *p = &player[r];
		const struct op *o = now(r), *other = o && o->to >= 0 ? now(o->to) : NULL;

		if (!other || p->sent || p->flying || other->from != r || player[o->to].got)
			continue;
		p->flying = true;
		p->wait = o->to / group == r / group ? ALPHA_IN : ALPHA;
		p->left = o->bytes;
	}
}

static double speed(int rank, int group, const int *out, const int *in)
{
	int a = rank / group, b = now(rank)->to / group;

	return a == b ? 1 / BETA_IN : 1 / (BETA * (out[a] > in[b] ? out[a] : in[b]));
}

static void share_links(int workers, int group, int *out, int *in)
{
	memset(out, 0, MOST * sizeof(*out));
	memset(in, 0, MOST * sizeof(*in));
	for (int r = 0; r < workers; r++)
		if (player[r].flying && player[r].wait <= 0 && now(r)->to / group != r / group) {
			out[r / group]++;
			in[now(r)->to / group]++;
		}
}

static void land(int workers)
{
	for (int r = 0; r < workers; r++)
		if (player[r].flying && player[r].wait <= 0 && player[r].left <= 1e-6) {
			player[r].flying = false;
			player[r].sent = player[now(r)->to].got = true;
		}
	for (int r = 0; r < workers; r++) {
		const struct op *o = now(r);

		if (o && (o->to < 0 || player[r].sent) && (o->from < 0 || player[r].got)) {
			player[r].sent = player[r].got = false;
			player[r].at++;
		}
	}
}

/* Seconds until all have done all their exchanges; NAN if they wait for each other. */
static double play(int workers, int group)
{
	double time = 0;

	for (int r = 0; r < workers; r++)
		player[r].at = player[r].sent = player[r].got = player[r].flying = 0;
	for (;;) {
		int out[MOST], in[MOST];
		double step = INFINITY;

		take_off(workers, group);
		share_links(workers, group, out, in);
		for (int r = 0; r < workers; r++)
			if (player[r].flying)
				step = fmin(step, player[r].wait > 0 ? player[r].wait : player[r].left / speed(r, group, out, in));
		if (isinf(step))
			break;
		for (int r = 0; r < workers; r++)
			if (player[r].flying && player[r].wait > 0)
				player[r].wait = player[r].wait - step < 1e-12 ? 0 : player[r].wait - step;
			else if (player[r].flying)
				player[r].left -= step * speed(r, group, out, in);
		time += step;
		land(workers);
	}
	for (int r = 0; r < workers; r++)
		if (now(r))
			return NAN;
	return time;
}

/* ---- writing the algorithms' exchanges down ---- */

static void record_open(struct comm *comm) { (void)comm; }

/* What would arrive is nothing but zeros. */
static void record(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	(void)send;
	if (from >= 0)
		memset(recv, 0, (size_t)recv_bytes);
	add_op(comm->rank, to, (double)send_bytes, from);
}

static const struct comm_ops recorder = {
	.name = "recorder", .open = record_open, .close = record_open, .exchange = record, .segment = INT64_MAX,
};

static struct device *dev;

static struct comm *open_rank(int rank, int workers)
{
	return comm_open_over(&recorder, &(struct world){ .rank = rank, .size = workers }, dev, NULL, NULL);
}

static struct cost_model machine(int workers, int group)
{
	return (struct cost_model){
		.workers = workers, .latency = ALPHA, .per_byte = BETA, .per_node = group, .intra_latency = ALPHA_IN, .intra_per_byte = BETA_IN,
		.n = LENGTH,
	};
}

static double played_allreduce(const char *way, int workers, int group, int64_t n)
{
	struct cost_model link = machine(workers, group);
	int host[MOST];

	forget();
	for (int r = 0; r < workers; r++)
		host[r] = r / group;
	for (int r = 0; r < workers; r++) {
		struct comm *comm = open_rank(r, workers);
		float *v = dev->ops->mem->alloc(dev, (size_t)n * sizeof(float));

		comm_plan_allreduce(comm, way, host, &link);
		comm_expect_allreduce(comm, n, DTYPE_F32);
		comm_allreduce(comm, v, n, DTYPE_F32, REDUCE_SUM);
		dev->ops->stream->sync(comm->stream);
		dev->ops->mem->free(dev, v);
		comm_close(comm);
	}
	return play(workers, group);
}

static double played_average(struct config *config, int workers, int group, double *formula)
{
	struct range whole = { 0, LENGTH, kit_tensor, KIT_TENSORS };
	struct cost_model m = machine(workers, group);
	double weight[MOST];

	forget();
	for (int r = 0; r < workers; r++)
		weight[r] = 1.0 / workers;
	for (int r = 0; r < workers; r++) {
		struct comm *comm = open_rank(r, workers);
		float *v = dev->ops->mem->alloc(dev, LENGTH * sizeof(float));
		struct compress c;

		for (int i = 0; i < LENGTH; i++)
			v[i] = (float)(i + 1);
		CHECK(compress_init(&c, config) == 0);
		compress_bind(&c, comm, weight, &whole, 1, LENGTH);
		compress_average(&c, &whole, v, v);
		dev->ops->stream->sync(comm->stream);
		*formula = c.ops->cost(&c, &m);
		compress_release(&c);
		dev->ops->mem->free(dev, v);
		comm_close(comm);
	}
	return play(workers, group);
}

/* ---- formulas against it ---- */

static const int sizes[] = { 2, 3, 4, 5, 6, 8, 12, 16, 18, 32 }, groups[] = { 1, 2, 3, 4, 6, 8 };
enum { SIZES = sizeof(sizes) / sizeof(*sizes), GROUPS = sizeof(groups) / sizeof(*groups) };

static bool even(int n) { return !(n & (n - 1)); }

/* How formulas and simulation agree over all sizes and groups. */
struct verdict {
	int cases, equal, right;        /* right: of the cases in which they must be equal */
	double over, under;             /* the largest and the smallest formula / simulation */
};

static void compare(struct verdict *v, int workers, int group, bool must, double formula, double played)
{
	double ratio = formula / played;
	bool same = fabs(ratio - 1) <= 1e-9;

	v->cases += must;
	v->right += must && same;
	v->over = fmax(v->over, ratio);
	v->under = v->under > 0 ? fmin(v->under, ratio) : ratio;
	if (must && !same)
		printf("# %d workers, %d a node: %.9g, simulated %.9g\n", workers, group, formula, played);
	CHECK(ratio > 0);               /* not NAN: nobody waits for ever */
}

/* Rounds that do not begin together may make each other's links slower or faster than if they did; numbers that are no powers of 2 only. */
static void tell(const struct verdict *v, const char *what, double least, double most)
{
	ok(v->cases > 0 && v->right == v->cases, "%s: exact in %d of %d regular cases", what, v->right, v->cases);
	ok(v->under >= least && v->over <= most, "  in all others the formula gives %.3f to %.3f of what it takes", v->under, v->over);
}

static void test_allreduce(void)
{
	for (int w = 0; allreduce_list[w]; w++) {
		const char *name = allreduce_list[w]->name;
		bool any = !strcmp(name, "ring");               /* whatever the numbers */
		struct verdict v = { 0 };

		for (int s = 0; s < SIZES; s++)
			for (int g = 0; g < GROUPS; g++) {
				int P = sizes[s], group = groups[g];
				struct cost_model m = machine(P, group);
				int64_t n = 16 * 5 * (int64_t)P;

				compare(&v, P, group, any || (even(P) && even(group)), allreduce_list[w]->cost(&m, 4.0 * (double)n),
				        played_allreduce(name, P, group, n));
			}
		tell(&v, name, 0.95, 1.9);
	}
}

static void test_compressors(void)
{
	static const char *const method[][2] = {
		{ "topk", NULL }, { "gtopk", "compress.variant=recursive" }, { "gtopk", "compress.variant=tree" }, { "oktopk", "compress.dense_steps=0" },
		{ "hierarchical", "compress.group=4" }, { "hierarchical", "compress.group=2" },
	};

	for (size_t i = 0; i < sizeof(method) / sizeof(*method); i++) {
		char *name = xasprintf("compress.method=%s", method[i][0]);
		const char *sets[] = { name, "compress.density=0.1", method[i][1] };
		struct config *config = config_load(kit_schema(), NULL, sets, method[i][1] ? 3 : 2, NULL);
		bool any = !strcmp(method[i][0], "topk"), nested = !strcmp(method[i][0], "hierarchical");
		struct verdict v = { 0 };
		char what[80];

		CHECK(config);
		for (int s = 0; s < SIZES; s++)
			for (int g = 0; g < GROUPS; g++) {
				double formula = NAN, played = played_average(config, sizes[s], groups[g], &formula);
				bool regular = even(sizes[s]) && even(groups[g]);

				if (nested)     /* its own groups are the nodes, or every worker has one */
					regular = even(sizes[s]) && (groups[g] == 1 || groups[g] == method[i][1][strlen(method[i][1]) - 1] - '0');
				compare(&v, sizes[s], groups[g], any || regular, formula, played);
			}
		snprintf(what, sizeof(what), "%s, %s", method[i][0], method[i][1] ? method[i][1] : "a list a worker");
		tell(&v, what, 0.85, 1.9);
		config_free(config);
		free(name);
	}
}

/* One round after the other, as in the formula: who waits for whom from round to round is another matter. */
static double played_gossip(const struct gossip *graph, int workers, int group, bool directed)
{
	int rounds = 1;
	struct gossip g = *graph;
	double seconds = 0;

	while (graph->graph != GOSSIP_RING && 1 << rounds < workers)
		rounds++;
	gossip_open(&g, workers);
	for (int t = 0; t < rounds; t++) {
		forget();
		for (int r = 0; r < workers; r++) {
			struct gossip_peers p = gossip_peers(&g, r, t);

			add_op(r, p.to, 4.0 * LENGTH, p.from);
			if (!directed && p.to != p.from)
				add_op(r, p.from, 4.0 * LENGTH, p.to);
		}
		seconds += play(workers, group) / rounds;
	}
	gossip_close(&g);
	return seconds;
}

static void test_gossip(void)
{
	static const struct { enum gossip_graph graph; bool directed; const char *name; } kinds[] = {
		{ GOSSIP_RING, false, "gossip in a ring, both neighbours" }, { GOSSIP_RING, true, "gossip in a ring, one" },
		{ GOSSIP_EXPONENTIAL, true, "exponential graph" }, { GOSSIP_EXPONENTIAL, false, "exponential graph, both neighbours" },
		{ GOSSIP_SHUFFLE_EXCHANGE, false, "shuffle-exchange" },
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct gossip g = { .graph = kinds[i].graph, .seed = 1 };
		struct verdict v = { 0 };

		for (int s = 0; s < SIZES; s++)
			for (int k = 0; k < GROUPS; k++) {
				struct cost_model m = machine(sizes[s], groups[k]);

				if (!gossip_is_pairs(&g) || sizes[s] % 2 == 0)
					compare(&v, sizes[s], groups[k], even(sizes[s]) && even(groups[k]), gossip_cost(&g, &m, kinds[i].directed),
					        played_gossip(&g, sizes[s], groups[k], kinds[i].directed));
			}
		tell(&v, kinds[i].name, 1 - 1e-9, 1 + 1e-9);
	}
}

/* ---- the closed form ---- */

struct shift {
	int workers, distance;
};

static int shifted(const void *context, int rank)
{
	const struct shift *s = context;

	return (rank + s->distance) % s->workers;
}

/* Where the last node is not full, distances beyond it are the only ones that may differ: the closed form may be one node's more. */
static void test_shifts(void)
{
	int wrong = 0, cases = 0, less = 0;

	for (int P = 2; P <= 24; P++)
		for (int g = 0; g <= 26; g++)
			for (int d = 1; d < P; d++) {
				struct cost_model m = machine(P, g);
				int counted = cost_across(&m, shifted, &(struct shift){ P, d }), closed = cost_across_ring(&m, d);

				less += closed < counted;
				if (g && P % g == 0) {
					wrong += closed != counted;
					cases++;
				}
			}
	ok(wrong == 0 && less == 0 && cases > 500, "shifts by any distance: %d of %d differ from counting where nodes are full, %d are too few elsewhere",
	   wrong, cases, less);
}

/* All that workers send goes through the servers' links, and what a node's send through its own. */
static void test_servers(void)
{
	struct cost_model m = machine(16, 1);
	const double X = 4e6;

	near(ps_cost(&m, X, X, 1), 2 * ALPHA + 2 * X * BETA * 16, 1e-9, "one server, a node each: 16 share its link");
	near(ps_cost(&m, X, X, 4), 2 * ALPHA + 2 * X * BETA * 4, 1e-9, "4 servers, a node each: 4 share each link");
	m.per_node = 4;
	near(ps_cost(&m, X, X, 4), 2 * ALPHA + 2 * X * BETA * 16, 1e-9, "4 servers on one node: one link");
	near(ps_cost(&m, X, X, 32), 2 * ALPHA + 2 * X * BETA * 4, 1e-9, "32 on 8 nodes: the 4 workers of a node share theirs");
	m.workers = 3;
	near(ps_cost(&m, X, X, 1), 2 * ALPHA_IN + 2 * X * BETA_IN * 3, 1e-9, "all on one node: no link to share, but one server");
}

int main(void)
{
	const struct device_config config = { .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto" };

	dev = device_find("cpu")->open(&config);
	CHECK(dev);
	kit_layout();
	test_shifts();
	test_allreduce();
	test_compressors();
	test_gossip();
	test_servers();
	dev->ops->close(dev);
	return done_testing();
}
