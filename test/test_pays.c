/*
 * Does compressing pay: on which bandwidths, what is shown and what is warned of, with costs that are made up so that the answers are known.
 */
#include <string.h>

#include "../comm/sync/pays.h"
#include "../core/die.h"
#include "tap.h"

/* A step of C seconds of computing and M bytes behind a latency a, K seconds of kernels. hides: the longer one counts. */
struct made_up {
	double latency, bytes;
	bool hides;
	double odd_from, odd_to;        /* seconds a byte between which it is slower than its formula says */
};

static double cost(const struct sync *s, const struct cost_model *m)
{
	const struct made_up *u = s->state;
	double compute = m->forward + m->backward, comm = m->kernels + u->latency + u->bytes * m->per_byte;

	if (m->per_byte > u->odd_from && m->per_byte < u->odd_to)
		comm += 1e6;
	return u->hides ? fmax(compute, comm) : compute + comm;
}

static double bytes(const struct sync *s, int workers)
{
	(void)workers;
	return ((const struct made_up *)s->state)->bytes;
}

static const struct sync_ops ops = { .name = "made-up", .cost = cost, .bytes = bytes };
static const struct cost_model machine = { .workers = 4, .latency = 1e-5, .per_byte = 1e-9, .forward = 4e-3, .backward = 6e-3 };

static struct sync made(struct made_up *u, const char *compress)
{
	struct sync s = { .ops = &ops, .state = u };

	snprintf(s.compress.name, sizeof(s.compress.name), "%s", compress);
	return s;
}

static double gbit(double per_byte) { return 8e-9 / per_byte; }

static void expect(struct made_up a, double kernels, struct made_up b, double from, double to, const char *what)
{
	struct sync dense = made(&b, "none"), other = made(&a, "other");
	struct rival r[2] = { { .sync = &dense }, { .sync = &other, .kernels = kernels } };
	struct band band = pays_where(&r[1], &r[0], &machine);
	bool low = isinf(from) ? isinf(band.from) : fabs(band.from - from) <= 1e-6 * from;
	bool high = isinf(to) ? isinf(band.to) : fabs(band.to - to) <= 1e-6 * to;

	ok(low && high, "%s: from %g to %g Gbit/s, expected %g to %g", what, band.from, band.to, from, to);
}

static void test_where(void)
{
	const struct made_up dense = { .bytes = 4e6 }, small = { .bytes = 1e6 }, large = { .bytes = 5e6 };
	struct made_up late = { .latency = 1e-3, .bytes = 4e6 }, hidden = { .bytes = 4e6, .hides = true }, hidden_small = { .bytes = 1e6, .hides = true };
	struct made_up odd = { .bytes = 1e6, .odd_from = 2e-9, .odd_to = 4e-9 };

	expect(small, 3e-3, dense, 0, gbit(1e-9), "3 ms of kernels for 3 MB less");
	expect(small, 3e-2, dense, 0, gbit(1e-8), "30 ms for 3 MB less");
	expect(small, 0, dense, 0, INFINITY, "fewer bytes for nothing: always");
	expect(large, 0, dense, INFINITY, INFINITY, "more bytes: never");
	expect(dense, 0, dense, INFINITY, INFINITY, "the same is not shorter");
	expect(large, 0, late, gbit(1e-9), INFINITY, "more bytes, but a latency less: above");
	expect(hidden_small, 0, hidden, 0, gbit(1e-2 / 4e6), "both hide: below the bandwidth on which dense no longer does");
	expect(hidden_small, 2e-2, hidden, 0, gbit(2e-2 / 3e6), "both hide, and kernels take longer than computing");
	expect(odd, 0, dense, 0, gbit(4e-9), "two bands: the slower one");
}

/* A link that is the only one on its host gets slower as a whole. */
static double cost_inside(const struct sync *s, const struct cost_model *m)
{
	return m->forward + m->backward + m->kernels + ((const struct made_up *)s->state)->bytes * m->intra_per_byte;
}

static void test_one_host(void)
{
	static const struct sync_ops inside = { .name = "made-up", .cost = cost_inside, .bytes = bytes };
	struct made_up a = { .bytes = 4e6 }, b = { .bytes = 1e6 };
	struct sync dense = made(&a, "none"), other = made(&b, "other");
	struct rival r[2] = { { .sync = &dense }, { .sync = &other, .kernels = 3e-3 } };
	struct cost_model m = machine;

	dense.ops = other.ops = &inside;
	m.intra_per_byte = m.per_byte;
	near(pays_where(&r[1], &r[0], &m).to, 8, 1e-5, "one host: its one link is asked about");
	m.intra_per_byte = 2e-9;
	ok(isinf(pays_where(&r[1], &r[0], &m).to), "several hosts: the links inside stay as they are");
}

/* What is printed for these, in a buffer that the next call overwrites. */
static const char *printed(struct rival *r, int count)
{
	static char text[2000];
	FILE *f = fmemopen(text, sizeof(text), "w");

	CHECK(f);
	pays_print(f, r, count, &machine);
	fclose(f);
	return text;
}

static void test_table(void)
{
	struct made_up size[6] = { { .bytes = 4e6 }, { .bytes = 2e6 }, { .bytes = 1e6 }, { .bytes = 1e5 }, { .bytes = 8e6 }, { .bytes = 3e6 } };
	const char *name[6] = { "none (dense)", "half", "chosen, rank 2", "tenth", "twice", "most" };
	const double kernels[6] = { 0, 1e-4, 9e-3, 2e-4, 0, 0 };
	struct sync sync[6];
	struct rival r[6] = { 0 };
	const char *want =
		"  compress                   step ms  exposed ms  kernels ms  MB/step/rank   beats dense\n"
		"  none (dense)                 14.00        4.00        0.00        4.0000   -\n"
		"* chosen, rank 2               20.00       10.00        9.00        1.0000   below 2.67 Gbit/s\n"
		"  tenth                        10.30        0.30        0.20        0.1000   below 156 Gbit/s\n"
		"  half                         12.10        2.10        0.10        2.0000   below 160 Gbit/s\n";
	const char *text;
	int count;

	for (int i = 0; i < 6; i++) {
		sync[i] = made(&size[i], i == 0 ? "none" : name[i]);
		r[i] = (struct rival){ .sync = &sync[i], .kernels = kernels[i], .chosen = i == 2 };
		snprintf(r[i].name, sizeof(r[i].name), "%s", name[i]);
	}
	pays_predict(r, 6, &machine);
	count = pays_keep(r, 6, 2);
	text = strstr(printed(r, count), "  compress ");
	ok(count == 4 && text && !strcmp(text, want), "dense, the run's own, the fastest two of the others:");
	if (!text || strcmp(text, want))
		printf("# %s", text ? text : "nothing");
	near(r[1].exposed, 1e-2, 1e-12, "exposed is what computing alone does not take");
}

/* The chosen one's kernels decide. */
static char *warning(double kernels, double bytes_sent, bool with_better)
{
	struct made_up size[3] = { { .bytes = 4e6 }, { .bytes = bytes_sent }, { .bytes = 1e6 } };
	struct sync sync[3] = { made(&size[0], "none"), made(&size[1], "chosen"), made(&size[2], "better") };
	struct rival r[3] = { { .sync = &sync[0] }, { .sync = &sync[1], .kernels = kernels, .chosen = true }, { .sync = &sync[2] } };
	int count = with_better ? 3 : 2;

	pays_predict(r, count, &machine);
	return pays_warning(r, count, &machine, 0.03);
}

static void expect_warning(double kernels, double bytes_sent, bool with_better, const char *want, const char *what)
{
	char *text = warning(kernels, bytes_sent, with_better);

	ok(want ? text && !strcmp(text, want) : !text, "%s: %s", what, text ? text : "no warning");
	free(text);
}

static void test_warning(void)
{
	struct made_up size = { .bytes = 4e6 };
	struct sync sync = made(&size, "none");
	struct rival dense = { .sync = &sync, .chosen = true };

	expect_warning(1e-3, 1e6, false, NULL, "it wins");
	expect_warning(3.3e-3, 1e6, false, NULL, "it loses by less than the margin");
	expect_warning(6e-3, 1e6, false,
	               "compress.method = \"chosen\" is predicted to make a step slower, not faster: 17.00 ms, and 14.00 ms dense. It pays below "
	               "4 Gbit/s (here: 8 Gbit/s). Set compress.method = \"none\"", "it loses");
	expect_warning(6e-3, 1e6, true,
	               "compress.method = \"chosen\" is predicted to make a step slower, not faster: 17.00 ms, and 14.00 ms dense. It pays below "
	               "4 Gbit/s (here: 8 Gbit/s). Set compress.method = \"better\"", "it loses, and another one wins");
	expect_warning(0, 9e6, false,
	               "compress.method = \"chosen\" is predicted to make a step slower, not faster: 19.00 ms, and 14.00 ms dense. It pays on no "
	               "bandwidth (here: 8 Gbit/s). Set compress.method = \"none\"", "it never wins");
	pays_predict(&dense, 1, &machine);
	ok(!pays_warning(&dense, 1, &machine, 0.03), "dense beside itself");
}

int main(void)
{
	test_where();
	test_one_host();
	test_table();
	test_warning();
	return done_testing();
}
