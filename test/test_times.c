/*
 * What each layer takes: guessed from FLOPs, measured, written and read back, refused if it is another model's. On $COCOD_TEST_DEVICE, if
 * it is given.
 */
#include <unistd.h>

#include "net_kit.h"
#include "tap.h"

#include "../core/clock.h"
#include "../core/net_times.h"

enum { BATCH = 4, TRIES = 10 };

/* Two convolutions and a linear layer; `width` channels; the second has most of the FLOPs. */
static void build(struct net *net, int batch, int width)
{
	int at;

	net_init(net, "three", 1);
	at = net_input(net, batch, 16, 16, 3);
	at = net_relu(net, net_bn(net, "bn", net_conv(net, "first", at, width, 3, 1, 1, false)));
	at = net_max_pool(net, net_conv(net, "second", at, 2 * width, 5, 1, 2, false), 2, 2, 0);
	net_linear(net, "fc", net_global_pool(net, at), 10);
	CHECK(net_finish(net) == 0);
}

static int id_of(const struct net *net, const char *name)
{
	for (int i = 0; i < net->nodes; i++)
		if (!strcmp(net->node[i]->name, name))
			return i;
	die(STATUS_FAILURE, "there is no layer %s", name);
}

static bool equal(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }

static void test_spread(void)
{
	struct net net;
	struct net_times *t;
	int first, second, bn;

	build(&net, BATCH, 8);
	first = id_of(&net, "first");
	second = id_of(&net, "second");
	bn = id_of(&net, "bn");
	t = net_times_new(&net);
	net_times_spread(t, &net, 6);
	ok(equal(net_times_forward(t), 2) && equal(net_times_backward(t), 4), "6 s by FLOPs: %g of forward, %g of backward", net_times_forward(t),
	   net_times_backward(t));
	ok(equal(t->forward[second] / t->forward[first], 16.0 * 25 * 8 / (8.0 * 9 * 3)), "  in their ratio, second : first = %g",
	   t->forward[second] / t->forward[first]);
	ok(t->backward[first] > 0 && t->ready[first] == t->backward[first], "  the first layer has no gradient of its input to compute");
	ok(equal(t->ready[second], t->backward[second] / 2) && equal(t->backward[second] / t->backward[first], 2 * 16.0 * 25 * 8 / (8.0 * 9 * 3)),
	   "  the others do, behind that of their parameters");
	ok(t->forward[bn] == 0 && t->backward[bn] == 0 && t->backward[0] == 0, "  batch norm and the input take nothing");
	net_times_scale(t, 0.5);
	ok(equal(net_times_forward(t), 1) && equal(net_times_backward(t), 2), "  of half the batch half of it");
	net_times_free(t);
	net_free(&net);
}

static void test_profile(void)
{
	struct net net;
	struct net_times *t;
	double ready[8], backward;
	int w, fc;

	build(&net, BATCH, 8);
	t = net_times_new(&net);
	for (int i = 0; i < net.nodes; i++) {
		t->backward[i] = net.node[i]->learns && !net.node[i]->fused ? 1 + i : 0;
		t->ready[i] = t->backward[i] / 4;
	}
	backward = net_times_profile(t, &net, ready);
	fc = id_of(&net, "fc");
	w = net.node[id_of(&net, "second")]->param[0];
	ok(equal(backward, net_times_backward(t)), "gradients become final: backward is the sum");
	ok(equal(ready[net.node[fc]->param[0]], t->ready[fc]) && equal(ready[net.node[fc]->param[1]], t->ready[fc]), "  those of the last layer first");
	backward = 0;
	for (int i = net.nodes - 1; i > id_of(&net, "second"); i--)
		backward += t->backward[i];
	ok(equal(ready[w], backward + t->ready[id_of(&net, "second")]), "  others behind all that comes before them in backward");
	net_times_free(t);
	net_free(&net);
}

static double best_pass(struct net *net)
{
	double best = INFINITY;

	for (int i = 0; i < 5; i++) {
		double begin = clock_now();

		net_pass(net, 1.0f / BATCH);
		net->device->ops->stream->sync(net->stream);
		best = fmin(best, clock_now() - begin);
	}
	net_pass_release(net);
	return best;
}

/* All sums of a pass in a loose ratio to passes by themselves, in the same second; which layer is heavy; and no trace. A busy machine has
 * a few tries. */
static void test_measure(void)
{
	struct kit kit = kit_open("cpu", "auto");
	struct net net[2];
	struct net_times *t;
	struct rehearsal *r;
	double whole, together;
	int first, second;
	bool whole_parts = true;

	for (int i = 0; i < 2; i++) {
		build(&net[i], BATCH, 32);
		net_bind(&net[i], kit.device, kit.stream, true);
		net_init_params(&net[i]);
		kit_load(&net[i], BATCH);
		net_pass(&net[i], 1.0f / BATCH);
	}
	first = id_of(&net[0], "first");
	second = id_of(&net[0], "second");
	t = net_times_new(&net[0]);
	r = net_rehearse(&net[0]);
	for (int i = 0; i < TRIES; i++) {
		net_times_measure(t, &net[0], 0.1);
		together = net_times_forward(t) + net_times_backward(t);
		whole = best_pass(&net[0]);
		if (together > whole / 2 && together < 2 * whole && t->forward[second] > 2 * t->forward[first])
			break;
	}
	net_resume(&net[0], r);
	for (int i = 0; i < t->nodes; i++)
		whole_parts = whole_parts && t->forward[i] >= 0 && t->ready[i] >= 0 && t->ready[i] <= t->backward[i];
	ok(t->passes >= 3 && whole_parts, "measured in %d passes: no layer takes less than nothing, its gradients no longer than its backward", t->passes);
	ok(t->forward[second] > 2 * t->forward[first], "  a convolution of 60 times the FLOPs takes longer");
	ok(t->ready[second] > 0 && t->ready[second] < t->backward[second] && t->ready[first] > 0, "  its gradients are final before it has ended");
	ok(together > whole / 2 && together < 2 * whole, "  together %.2f ms, the best pass %.2f", 1e3 * together, 1e3 * whole);
	for (int i = 0; i < 2; i++) {
		kit_load(&net[i], BATCH);
		net_pass(&net[i], 1.0f / BATCH);
	}
	kit.device->ops->stream->sync(kit.stream);
	ok(!memcmp(net[0].g, net[1].g, (size_t)net[0].n * 4) && !memcmp(net[0].buffer, net[1].buffer, (size_t)net[0].buffer_n * 4) &&
	   net[0].node[second]->calls[0][0] == net[1].node[second]->calls[0][0], "  the next step is what it would have been, to the bit");
	net_times_free(t);
	for (int i = 0; i < 2; i++)
		net_free(&net[i]);
	kit_close(&kit);
}

/* ---- the text ---- */

static char path[] = "/tmp/cocod-times-XXXXXX";

static void write_lines(const char *text)
{
	FILE *f = fopen(path, "w");

	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* The text of these times, but line `n` (from 1) replaced; NULL: left out. */
static void write_changed(const struct net_times *t, const struct net *net, int n, const char *line)
{
	char *text = NULL, *at, *all, *end;
	size_t size;
	FILE *f = open_memstream(&text, &size), *out = fopen(path, "w");

	CHECK(f && out);
	net_times_write(f, t, net, "a machine, 2 threads");
	fclose(f);
	all = text;
	for (int i = 1; *all; i++, all = end + 1) {
		at = all;
		end = strchr(all, '\n');
		if (i == n && line)
			fprintf(out, "%s\n", line);
		else if (i != n)
			fprintf(out, "%.*s\n", (int)(end - at), at);
	}
	fclose(out);
	free(text);
}

static void test_refused(const struct net *net, const char *what, const char *words)
{
	struct net_times *t = net_times_new(net);

	errors_clear();
	ok(net_times_read(t, net, path, "run.cfg:7") == -1 && strstr(errors_text(), words) && strstr(errors_text(), "run.cfg:7"), "%s is refused: %s",
	   what, words);
	errors_clear();
	net_times_free(t);
}

static void test_text(void)
{
	struct net net, twice, wide;
	struct net_times *t, *back;
	bool same = true, doubled = true;

	build(&net, BATCH, 8);
	build(&twice, 2 * BATCH, 8);
	build(&wide, BATCH, 16);
	t = net_times_new(&net);
	net_times_spread(t, &net, 0.0123456);
	t->update = 3e-4;
	write_changed(t, &net, 0, NULL);
	back = net_times_new(&net);
	ok(net_times_read(back, &net, path, "run.cfg:7") == 0 && strstr(back->from, "a machine, 2 threads, batch 4"), "written and read: %s", back->from);
	for (int i = 0; i < 3 * t->nodes; i++)
		same = same && fabs(back->forward[i] - t->forward[i]) <= 1e-5 * t->forward[i];
	ok(same && fabs(back->update - t->update) < 1e-9, "  to six digits");
	ok(net_times_read(back, &twice, path, "run.cfg:7") == 0, "  by a run with twice the batch");
	for (int i = 0; i < 3 * t->nodes; i++)
		doubled = doubled && fabs(back->forward[i] - 2 * t->forward[i]) <= 2e-5 * t->forward[i];
	ok(doubled && fabs(back->update - t->update) < 1e-9, "  layers take twice as long there, the update does not");
	test_refused(&wide, "a wider net's", "layer first 16x16x16");
	write_changed(t, &net, 3, "model four");
	test_refused(&net, "another model's", "but there is: model four");
	write_changed(t, &net, 4, "batch none");
	test_refused(&net, "a batch that is no number", "line 4: wanted is batch");
	write_changed(t, &net, 6, "update -1");
	test_refused(&net, "a negative time", "line 6: wanted is update");
	write_changed(t, &net, 8, "layer first 16x16x8 1 nan 1");
	test_refused(&net, "a time that is no number", "line 8: wanted is a layer with three times");
	write_changed(t, &net, 8, "layer first 16x16x8 1 2 3");
	test_refused(&net, "a part that is longer than its whole", "line 8: wanted is a backward");
	write_changed(t, &net, 9, NULL);
	test_refused(&net, "a missing layer", "line 9: wanted is layer bn");
	write_changed(t, &net, 1, "# a comment\nmodel three\nmodel three");
	test_refused(&net, "a line too many", "wanted is batch");
	write_lines("model three\nbatch 1\nmachine m\nupdate 1\nlayer input0 16x16x3 0 0 0\n");
	test_refused(&net, "a file that ends", "but there is: the file ends");
	write_changed(t, &net, 0, NULL);
	{
		FILE *f = fopen(path, "a");

		CHECK(f && fputs("layer more 1x1x1 0 0 0\n", f) >= 0 && fclose(f) == 0);
	}
	test_refused(&net, "a layer more", "wanted is the end");
	unlink(path);
	test_refused(&net, "no file", "No such file");
	net_times_free(t);
	net_times_free(back);
	net_free(&net);
	net_free(&twice);
	net_free(&wide);
}

int main(void)
{
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	close(fd);
	test_spread();
	test_profile();
	test_measure();
	test_text();
	return done_testing();
}
