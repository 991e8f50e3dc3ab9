/*
 * The gradients of a whole net that has every kind of layer: central differences on the reference device, the same gradients
 * from every device and from the net without fusion, and wrong gradients that must be noticed.
 */
#include "net_kit.h"
#include "tap.h"

enum { BATCH = 6, DIRECTIONS = 6 };

static double along(const float *a, const float *b, int64_t n)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += (double)a[i] * b[i];
	return sum;
}

/* ±1 / sqrt(n): a step of length 1 in which every element takes part. */
static void direction(float *v, int64_t n, int which)
{
	for (int64_t i = 0; i < n; i++)
		v[i] = (float)((kit_value("direction", (uint32_t)(i * DIRECTIONS + which)) < 0 ? -1 : 1) / sqrt((double)n));
}

/* The slope that the loss itself has: steps small enough that few ReLUs change sides, large enough for float. */
static double slope(struct net *net, float *x, const float *v, int64_t n, double step)
{
	float *keep = xcalloc((size_t)n, sizeof(float));
	double loss[2];

	memcpy(keep, x, (size_t)n * sizeof(float));
	for (int side = 0; side < 2; side++) {
		for (int64_t i = 0; i < n; i++)
			x[i] = (float)(keep[i] + (side ? step : -step) * v[i]);
		loss[side] = kit_loss(net, true);
	}
	memcpy(x, keep, (size_t)n * sizeof(float));
	free(keep);
	return (loss[1] - loss[0]) / (2 * step);
}

/* The largest difference between claimed and true slope, as a share of what a random direction sees of the gradient. */
static double tensor_error(struct net *net, const struct tensor_info *t, double step)
{
	float *v = xcalloc((size_t)t->n, sizeof(float)), *g = net->g + t->offset;
	double worst = 0, size = sqrt(along(g, g, t->n) / (double)t->n) + 1e-3;

	for (int which = 0; which < DIRECTIONS; which++) {
		double e;

		direction(v, t->n, which);
		e = fabs(slope(net, net->x + t->offset, v, t->n, step) - along(g, v, t->n)) / size;
		worst = e <= worst ? worst : isnan(e) ? INFINITY : e;
	}
	free(v);
	return worst;
}

/* NOISE: where there is no gradient, the roundings of the loss, divided by a step, are all that is seen. */
static const double TOL = 0.05, NOISE = 2, STEP = 1e-3;

static void test_differences(struct net *net)
{
	kit_step(net);
	for (int i = 0; i < net->tensors; i++) {
		const struct tensor_info *t = &net->tensor[i];
		double error = tensor_error(net, t, STEP), size = sqrt(along(net->g + t->offset, net->g + t->offset, t->n));
		bool nothing = !strcmp(t->name, "conv1.bias");  /* the batch norm behind it takes every constant away */

		ok(error <= (nothing ? NOISE : TOL), "%s: the loss has the slope that its gradient says, off by %.2g", t->name, error);
		ok(nothing ? size < 1e-5 : size > 1e-4, "%s: its gradient is %szero (%.2g)", t->name, nothing ? "" : "not ", size);
	}
}

/* A test that cannot fail proves nothing: one tenth too much, a wrong sign, two elements exchanged. */
static void test_wrong(struct net *net)
{
	const char *const names[] = { "conv1.weight", "a.bn2.weight", "c.down.1.bias", "hidden.weight", "out.bias" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct tensor_info *t = net_find(net, names[i], NULL);
		float *g = net->g + t->offset, last;

		for (int64_t k = 0; k < t->n; k++)
			g[k] *= 1.1f;
		ok(!(tensor_error(net, t, STEP) <= TOL), "%s: a gradient one tenth too large is noticed", t->name);
		for (int64_t k = 0; k < t->n; k++)
			g[k] /= -1.1f;
		ok(!(tensor_error(net, t, STEP) <= TOL), "%s: a wrong sign is noticed", t->name);
		for (int64_t k = 0; k < t->n; k++)
			g[k] = -g[k];
		last = g[t->n - 1];
		memmove(g + 1, g, (size_t)(t->n - 1) * sizeof(float));
		g[0] = last;
		ok(!(tensor_error(net, t, STEP) <= TOL), "%s: elements in wrong places are noticed", t->name);
		memmove(g, g + 1, (size_t)(t->n - 1) * sizeof(float));
		g[t->n - 1] = last;
	}
}

/* Gradients of one step, copied; NULL if the net cannot be built. */
static float *gradients(const char *device, const char *conv, bool no_fuse, int *steps_run, double *loss)
{
	struct kit kit = kit_open(device, conv);
	struct net net;
	float *g = NULL;

	if (kit_tiny_net(&net, BATCH, no_fuse)) {
		net_bind(&net, kit.device, kit.stream, true);
		kit_fill_params(&net);
		kit_load(&net, BATCH);
		net_set_step(&net, 3);
		kit_step(&net);
		kit_step(&net);         /* again: nothing of the first may be left in the buffers */
		*steps_run = 0;
		for (int i = 0; i < net.nodes; i++)
			*steps_run += net.node[i]->calls[0][0] > 0;
		*loss = kit_loss(&net, false);
		g = xcalloc((size_t)net.n, sizeof(float));
		memcpy(g, net.g, (size_t)net.n * sizeof(float));
	}
	net_free(&net);
	kit_close(&kit);
	return g;
}

static void test_fusion(const struct net *net)
{
	static const struct { const char *device, *conv; bool no_fuse; double tol; } other[] = {
		{ "reference", "reference", true, 1e-5 },
		{ "cpu", "reference", false, 1e-4 },
		{ "cpu", "reference", true, 1e-4 },
		{ "cpu", "direct", false, 1e-4 },
		{ "cpu", "direct", true, 1e-4 },
		{ "cpu", "auto", false, 1e-3 },
	};
	int fused, layers;
	double loss, loss_other;
	float *want = gradients("reference", "reference", false, &fused, &loss);

	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		float *got = gradients(other[i].device, other[i].conv, other[i].no_fuse, &layers, &loss_other);
		double size = sqrt(along(want, want, net->n));

		for (int64_t k = 0; k < net->n; k++)
			got[k] -= want[k];
		ok(sqrt(along(got, got, net->n)) <= other[i].tol * size && fabs(loss - loss_other) <= other[i].tol,
		   "%s, convolutions %s%s: the same gradients and evaluation, off by %.2g and %.2g", other[i].device, other[i].conv,
		   other[i].no_fuse ? ", not fused" : "", sqrt(along(got, got, net->n)) / size, fabs(loss - loss_other));
		ok(other[i].no_fuse ? layers == net->nodes : layers == fused && fused < net->nodes, "%d layers ran", layers);
		free(got);
	}
	free(want);
}

int main(void)
{
	struct kit kit = kit_open("reference", "reference");
	struct net net;

	if (ok(kit_tiny_net(&net, BATCH, false), "a net with every kind of layer: %s", errors_text())) {
		net_bind(&net, kit.device, kit.stream, true);
		kit_fill_params(&net);
		kit_load(&net, BATCH);
		net_set_step(&net, 3);
		test_differences(&net);
		test_wrong(&net);
		test_fusion(&net);
	}
	net_free(&net);
	kit_close(&kit);
	return done_testing();
}
