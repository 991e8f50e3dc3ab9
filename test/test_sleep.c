/*
 * A pass in which layers sleep: nothing happens before its time, what a hook waits for comes on top and what is merely late does not,
 * gradients are there when hooks are told so. No pass is too long by itself: a busy machine wakes late, so lengths are compared.
 */
#include "net_kit.h"
#include "tap.h"

#include "../core/clock.h"
#include "../core/net_sleep.h"
#include "../core/net_times.h"
#include "../core/slowdown.h"

enum { BATCH = 4, CALLS = 64, TRIES = 10 };

static struct device *dev;
static struct stream *compute, *comm;
static struct net net;
static struct net_times *times;

/* What the hooks saw. */
static struct {
	int node[CALLS], calls;                 /* >= 0: parameters needed, else -1 - id: gradients final */
	double at[CALLS];
	bool empty;                             /* gradients were said to be final that had not been written */
	double burns;                           /* seconds that each hook takes, without waiting */
	struct event *event;                    /* that the first hook waits for */
} seen;

static int node_of(const struct range *r)
{
	for (int i = 0; i < net.nodes; i++)
		if (net.node[i]->range.n && net.node[i]->range.offset == r->offset)
			return i;
	return 1000;
}

static void note_call(int what)
{
	double until = clock_now() + seen.burns;

	CHECK(seen.calls < CALLS);
	seen.node[seen.calls] = what;
	seen.at[seen.calls++] = clock_now();
	while (clock_now() < until)
		;
}

static bool needed(void *context, const struct range *r)
{
	(void)context;
	if (seen.event && seen.calls == 0)
		dev->ops->stream->wait(compute, seen.event);
	note_call(node_of(r));
	return false;
}

static bool final(void *context, const struct range *r)
{
	float *g = net.g + r->offset;

	(void)context;
	for (int i = 0; i < r->tensors; i++)
		seen.empty |= net.g[r->tensor[i].offset] == 0 || net.g[r->tensor[i].offset + r->tensor[i].n - 1] == 0;
	note_call(-1 - node_of(r));
	for (int64_t i = 0; i < r->n; i++)      /* as an algorithm does that averages in place */
		g[i] = 0;
	return false;
}

static void watch(double burns, struct event *event)
{
	memset(&seen, 0, sizeof(seen));
	seen.burns = burns;
	seen.event = event;
	net.hooks = (struct net_hooks){ .param_needed = needed, .grad_ready = final, .watch = comm };
}

static void begin(enum progress progress)
{
	struct device_config config = { .threads = 1, .progress = progress, .conv = "auto", .precision = PRECISION_FP32, .index = -1 };

	dev = device_find("cpu")->open(&config);
	compute = dev->ops->stream->open(dev, STREAM_COMPUTE);
	comm = dev->ops->stream->open(dev, STREAM_COMM);
	CHECK(kit_tiny_net(&net, BATCH, false));
	net_bind(&net, dev, compute, true);
	net_init_params(&net);
	kit_load(&net, BATCH);
	times = net_times_new(&net);
	for (int i = 0; i < net.nodes; i++) {
		const struct node *node = net.node[i];

		times->forward[i] = node->fused ? 0 : 1e-3;
		times->backward[i] = node->fused || !node->learns ? 0 : 2e-3;
		times->ready[i] = times->backward[i] / 2;
	}
	net.times = times;
}

static void end(void)
{
	net_free(&net);
	net_times_free(times);
	dev->ops->stream->close(comm);
	dev->ops->stream->close(compute);
	dev->ops->close(dev);
}

static double total(void) { return net_times_forward(times) + net_times_backward(times); }

/* Hooks as in a real pass, none before its layer's time. */
static void test_hooks(struct net_sleep *s)
{
	int real[CALLS], calls;
	double start, due = 0;
	bool same, early = false;

	watch(0, NULL);
	net_pass(&net, 1.0f / BATCH);
	calls = seen.calls;
	memcpy(real, seen.node, sizeof(real));
	watch(0, NULL);
	start = clock_now();
	net_sleep_pass(s, 0, 2);
	same = calls == seen.calls && !memcmp(real, seen.node, sizeof(real));
	ok(same && calls > 10, "a pass asleep calls the %d hooks of a real one, in order", calls);
	calls = 0;
	for (int i = 0; i < net.nodes; i++) {
		if (net.node[i]->range.n && !net.node[i]->fused)
			early |= seen.at[calls++] - start < due;
		due += 2 * times->forward[i];
	}
	for (int i = net.nodes - 1; i >= 0; i--) {
		if (net.node[i]->range.n && !net.node[i]->fused)
			early |= seen.at[calls++] - start < due + 2 * times->ready[i];
		due += 2 * times->backward[i];
	}
	ok(!early && calls == seen.calls && clock_now() - start >= due, "  none before its time, of layers twice as slow");
	ok(!seen.empty, "  gradients are there when they are said to be");
}

/* A layer's gradients may leave before its backward has ended: that is where overlap comes from. */
static void test_ready(struct net_sleep *s)
{
	double rest = 0, want = 8 * (times->backward[1] - times->ready[1]);

	CHECK(net.node[1]->range.n);            /* the first convolution, whose backward is the last */
	for (int i = 0; i < TRIES && rest < 0.5 * want; i++) {
		watch(0, NULL);
		net_sleep_pass(s, 0, 8);
		rest = clock_now() - seen.at[seen.calls - 1];
	}
	ok(rest >= 0.5 * want, "the last gradients are final %.1f ms before backward has ended, of %.1f", 1e3 * rest, 1e3 * want);
}

static double length(struct net_sleep *s, double burns, double factor)
{
	double best = INFINITY;

	for (int i = 0; i < 3; i++) {
		double start = clock_now();

		watch(burns, NULL);
		net_sleep_pass(s, i, factor);
		best = fmin(best, clock_now() - start);
	}
	return best;
}

static void test_length(struct net_sleep *s)
{
	double once = INFINITY, twice = INFINITY, busy = INFINITY, hooks = 0;

	for (int i = 0; i < TRIES && !(twice < 2.4 * once && once < 1.3 * total() && busy < once + 0.5 * hooks); i++) {
		once = fmin(once, length(s, 0, 1));
		twice = fmin(twice, length(s, 0, 2));
		busy = fmin(busy, length(s, 0.5e-3, 1));
		hooks = 0.5e-3 * seen.calls;
	}
	ok(twice > 1.6 * once && twice < 2.4 * once, "layers twice as slow: %.1f ms, then %.1f", 1e3 * once, 1e3 * twice);
	ok(once < 1.3 * total(), "  wakes that are late do not add up: %.1f ms of %.1f", 1e3 * once, 1e3 * total());
	ok(busy < once + 0.5 * hooks, "  nor what hooks take themselves (%.1f ms): %.1f", 1e3 * hooks, 1e3 * busy);
}

static bool is_over(void *args)
{
	double *a = args;

	if (a[1] == 0)
		a[1] = clock_now() + a[0];
	return clock_now() >= a[1];
}

/* The first layer needs what an exchange of 40 ms brings: all later ones begin behind it. And is counted as waiting, nothing else is. */
static void test_waiting(struct net_sleep *s, const char *driver)
{
	const struct stream_ops *ops = dev->ops->stream;
	struct event *event = ops->event_open(dev);
	double took = 0, exposed = 0;

	for (int i = 0; i < TRIES && !(took > total() + 0.03 && exposed > 0.03 && exposed < took - 0.9 * total()); i++) {
		double delay[2] = { 0.04, 0 }, before = ops->waited(compute), start = clock_now(), aside;

		ops->call(comm, is_over, delay, sizeof(delay));
		ops->record(event, comm);
		watch(0, event);
		aside = net_sleep_pass(s, 0, 1);
		took = clock_now() - start;
		exposed = ops->waited(compute) - before - aside;
	}
	ok(took > total() + 0.03, "%s: a wait of 40 ms comes on top: %.1f ms, %.1f of them layers", driver, 1e3 * took, 1e3 * total());
	ok(exposed > 0.03 && exposed < took - 0.9 * total(), "  and is exposed: %.1f ms", 1e3 * exposed);
	ops->event_close(event);
}

/* Messages that need the computing thread, a millisecond each time it asks: there is time for them while layers sleep. */
struct asking {
	int times;
	_Atomic bool *done;
};

static bool ask(void *args)
{
	struct asking *a = args;
	double until = clock_now() + 1e-3;

	while (clock_now() < until)
		;
	*a->done = --a->times == 0;
	return *a->done;
}

static void test_progress(struct net_sleep *s, const char *driver)
{
	double exposed = 1;
	bool sometime = false;
	_Atomic bool done = false;

	for (int i = 0; i < TRIES && !(done && exposed >= 0 && exposed <= 1e-3); i++) {
		double before = dev->ops->stream->waited(compute), aside;
		struct asking a = { 4, &done };

		done = false;
		watch(0, NULL);
		dev->ops->stream->call(comm, ask, &a, sizeof(a));
		aside = net_sleep_pass(s, 0, 4);
		exposed = dev->ops->stream->waited(compute) - before - aside;
		sometime |= done;
		dev->ops->stream->sync(comm);
	}
	ok(sometime, "%s: communication goes on while layers sleep", driver);
	ok(exposed >= 0 && exposed <= 1e-3, "  and is hidden: %.2f of 4 ms exposed", 1e3 * exposed);
}

static void copy_gradients(struct net_sleep *s, int64_t step, float *out)
{
	net.hooks = (struct net_hooks){ 0 };
	net_sleep_pass(s, step, 0);
	memcpy(out, net.g, (size_t)net.n * sizeof(float));
}

static bool differ(const float *a, const float *b) { return memcmp(a, b, (size_t)net.n * sizeof(float)); }

static void test_noise(void)
{
	struct net_sleep *s = net_sleep_open(&net, 1, 0), *other = net_sleep_open(&net, 1, 1), *again = net_sleep_open(&net, 1, 0);
	float *a = xcalloc((size_t)net.n, sizeof(float)), *b = xcalloc((size_t)net.n, sizeof(float));
	double sum = 0, squares = 0;
	struct loss_stats stats;
	int64_t n = net.param_count, zeros = 0;

	copy_gradients(s, 5, a);
	copy_gradients(again, 5, b);
	ok(!differ(a, b), "gradients are noise: the same for the same seed, rank and step");
	copy_gradients(other, 5, b);
	ok(differ(a, b), "  other noise on another rank");
	copy_gradients(s, 6, b);
	ok(differ(a, b), "  and in the next step");
	for (int64_t i = 0; i < net.n; i++) {
		sum += a[i];
		squares += a[i] * a[i];
		zeros += a[i] == 0;
	}
	ok(zeros == net.n - n && fabs(sum / (double)n) < 1e-3 && fabs(sqrt(squares / (double)n) - 0.01) < 1e-3,
	   "  none is 0 but the padding: %lld of %lld, deviation %.4f", (long long)zeros, (long long)net.n, sqrt(squares / (double)n));
	net_take_stats(&net);
	copy_gradients(s, 7, b);
	stats = net_take_stats(&net);
	ok(stats.count == BATCH && stats.correct == 0 && fabs(stats.loss - BATCH * log(5)) < 1e-9, "  and the loss is that of guessing");
	net_sleep_close(s);
	net_sleep_close(other);
	net_sleep_close(again);
	free(a);
	free(b);
}

/* The update really happens, and takes as long as was said. */
static void test_update(void)
{
	const char *sets[] = { "optimizer.momentum=0.0", "optimizer.weight_decay=0.0", NULL };
	struct config *config = kit_optimizer_config("sgd", sets);
	struct optimizer o;
	double took[2] = { INFINITY, INFINITY }, before = net.x[0];

	optimizer_init(&o, optimizer_find("sgd"), config);
	optimizer_bind(&o, dev, net.n);
	net.g[0] = 1;
	optimizer_begin(&o, compute, 0.5);
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < 5; i++) {
			double start = clock_now();

			o.seconds = 0.01;
			o.sleeps = true;
			optimizer_step(&o, compute, 0, k ? net.n : net.n / 2, net.g, net.x);
			took[k] = fmin(took[k], clock_now() - start);
		}
	ok(took[1] >= 0.01 && took[1] > 1.6 * took[0] && took[1] < 2.4 * took[0], "an update of 10 ms took %.1f, of half the model %.1f", 1e3 * took[1],
	   1e3 * took[0]);
	ok(fabs(net.x[0] - (before - 10 * 0.5)) < 1e-4, "  and has been made");
	optimizer_release(&o);
	config_free(config);
}

int main(void)
{
	for (int d = 0; d < 2; d++) {
		const char *driver = d ? "hook" : "thread";
		struct net_sleep *s;

		begin(d ? PROGRESS_HOOK : PROGRESS_THREAD);
		s = net_sleep_open(&net, 1, 0);
		test_hooks(s);
		test_ready(s);
		test_length(s);
		test_waiting(s, driver);
		test_progress(s, driver);
		net_sleep_close(s);
		if (d == 0) {
			test_noise();
			test_update();
		}
		end();
	}
	return done_testing();
}
