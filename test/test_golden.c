/*
 * Parity with PyTorch: test/golden/MODEL.bin (scripts/golden.py wrote it) against every device and kind of convolution. Loss and
 * every gradient by name, ten losses of SGD with momentum and weight decay, batch norm's running statistics after them.
 *
 * Gradients: |d| <= tol max(|g|, 1e-3 |weight gradient of the same layer|), norms of whole tensors. A bias in front of a batch
 * norm has no gradient at all, so it is asserted to be near 0 absolutely.
 */
#include "net_kit.h"
#include "tap.h"

/* Along ten steps Winograd may get more: once it has a ReLU on the other side of zero, the next steps differ. */
static const double TOL_DIRECT = 1e-4, TOL_WINOGRAD = 5e-4, TOL_WINOGRAD_STEPS = 2e-3, TOL_NOTHING = 1e-5;

struct record {
	char name[64];
	int n;
	float *value;
};

enum { RECORDS = 512 };

struct golden {
	struct record record[RECORDS];
	int records;
};

static bool golden_read(struct golden *g, const char *model)
{
	char path[256], magic[16] = "";
	FILE *in;
	int length;

	memset(g, 0, sizeof(*g));
	snprintf(path, sizeof(path), "test/golden/%s.bin", model);
	in = fopen(path, "rb");
	if (!in || !fgets(magic, sizeof(magic), in) || strcmp(magic, "cocod golden 1\n")) {
		ok(false, "%s can be read (run from the top folder)", path);
		return false;
	}
	while (g->records < RECORDS && fread(&length, sizeof(length), 1, in) == 1) {
		struct record *r = &g->record[g->records++];

		CHECK(length > 0 && length < (int)sizeof(r->name));
		CHECK(fread(r->name, 1, (size_t)length, in) == (size_t)length && fread(&r->n, sizeof(r->n), 1, in) == 1);
		r->value = xcalloc((size_t)r->n, sizeof(float));
		CHECK(fread(r->value, sizeof(float), (size_t)r->n, in) == (size_t)r->n);
	}
	fclose(in);
	return true;
}

static void golden_free(struct golden *g)
{
	for (int i = 0; i < g->records; i++)
		free(g->record[i].value);
}

static const struct record *find(const struct golden *g, const char *name)
{
	for (int i = 0; i < g->records; i++)
		if (!strcmp(g->record[i].name, name))
			return &g->record[i];
	return NULL;
}

static double norm(const float *v, int64_t n)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += (double)v[i] * v[i];
	return sqrt(sum);
}

/* The weight's gradient of the layer that this tensor belongs to. */
static double layer_norm(const struct golden *g, const char *name)
{
	char weight[80];
	const struct record *r;

	snprintf(weight, sizeof(weight), "%.*s.weight", (int)(strrchr(name, '.') - name), name);
	r = find(g, weight);
	return r ? norm(r->value, r->n) : 0;
}

struct worst {
	double error;           /* of the tensor farthest off, as a share of what it is measured against */
	const char *name;
	double nothing;         /* largest gradient among those that should be 0 */
	int nothings, missing;
};

/* Compares one arena's tensors; NaN counts as infinitely wrong. */
static void compare(const struct golden *g, const struct tensor_info *t, const float *arena, bool gradient, struct worst *w)
{
	const struct record *want = find(g, t->name);
	float *got = xcalloc((size_t)t->n, sizeof(float));
	double size, distance;

	tensor_to_torch(t, arena, got);
	if (!want || want->n != t->n) {
		w->missing++;
	} else if (gradient && norm(want->value, want->n) < 1e-9) {
		double n = norm(got, t->n);

		w->nothings++;
		w->nothing = n <= w->nothing ? w->nothing : n;
	} else {
		size = gradient ? fmax(norm(want->value, want->n), 1e-3 * layer_norm(g, t->name)) : norm(want->value, want->n);
		for (int64_t i = 0; i < t->n; i++)
			got[i] -= want->value[i];
		distance = norm(got, t->n) / size;
		if (!(distance <= w->error)) {
			w->error = isnan(distance) ? INFINITY : distance;
			w->name = t->name;
		}
	}
	free(got);
}

/* Images in PyTorch's order (n, c, h, w), as the net wants them (n, h, w, c). */
static void load_batch(struct net *net, int seed)
{
	struct shape s = net->node[0]->out.shape;
	float *image = xcalloc((size_t)shape_count(s), sizeof(float));
	int32_t label[16];
	char name[32];
	uint32_t at = 0;

	snprintf(name, sizeof(name), "image %d", seed);
	for (int n = 0; n < s.n; n++)
		for (int c = 0; c < s.c; c++)
			for (int p = 0; p < s.h * s.w; p++)
				image[(n * s.h * s.w + p) * s.c + c] = (float)(4 * kit_value(name, at++));
	for (int n = 0; n < s.n; n++)
		label[n] = n * 7 % net->classes;
	net_load(net, image, label);
	free(image);
}

struct subject {
	const char *device, *conv;
	bool no_fuse;
	double tol, tol_steps;
};

static const struct subject subjects[] = {
	{ "reference", "reference", false, TOL_DIRECT, TOL_DIRECT },
	{ "reference", "reference", true, TOL_DIRECT, TOL_DIRECT },
	{ "cpu", "direct", false, TOL_DIRECT, TOL_DIRECT },
	{ "cpu", "direct", true, TOL_DIRECT, TOL_DIRECT },
	{ "cpu", "auto", false, TOL_WINOGRAD, TOL_WINOGRAD_STEPS },
};

static double train_step(struct net *net, struct optimizer *o, double lr)
{
	struct loss_stats stats;

	net_forward(net, true);
	net_loss(net, 1.0f / (float)net->node[0]->out.shape.n);
	net_backward(net);
	if (o) {
		optimizer_begin(o, net->stream, lr);
		optimizer_step(o, net->stream, 0, net->n, net->g, net->x);
	}
	stats = net_take_stats(net);
	return stats.loss / (double)stats.count;
}

static void check_gradients(const struct golden *g, const struct net *net, const char *label, double tol)
{
	struct worst w = { .name = "" };

	for (int i = 0; i < net->tensors; i++)
		compare(g, &net->tensor[i], net->g, true, &w);
	ok(!w.missing && w.error <= tol, "%s: %d gradients, worst %.2g (%s), bound %.0e", label, net->tensors, w.error, w.name, tol);
	ok(norm(net->g, net->n) > 0.1, "%s: they are not all zero", label);
	if (w.nothings)
		ok(w.nothing <= TOL_NOTHING, "%s: %d biases before batch norm have none: %.2g, bound %.0e", label, w.nothings,
		   w.nothing, TOL_NOTHING);
	ok(w.nothings == (strcmp(net->name, "vgg16") ? 0 : 13), "%s: %d such biases", label, w.nothings);
}

static void check_steps(const struct golden *g, struct net *net, struct optimizer *o, double loss, const char *label, double tol)
{
	const struct record *want = find(g, "losses");
	double lr = find(g, "config")->value[7], error = fabs(loss / want->value[0] - 1);
	struct worst w = { .name = "" };

	optimizer_begin(o, net->stream, lr);
	optimizer_step(o, net->stream, 0, net->n, net->g, net->x);
	for (int i = 1; i < want->n; i++) {
		double e = fabs(train_step(net, o, lr) / want->value[i] - 1);

		error = e <= error ? error : e;
	}
	ok(want->n == 10 && error <= tol, "%s: ten losses, worst %.2g, bound %.0e", label, error, tol);
	for (int i = 0; i < net->buffer_tensors; i++)
		compare(g, &net->buffer_tensor[i], net->buffer, false, &w);
	ok(!w.missing && w.error <= tol, "%s: %d running statistics, worst %.2g (%s), bound %.0e", label, net->buffer_tensors,
	   w.error, w.name, tol);
}

static int uses(const struct net *net, const char *kernel)
{
	int n = 0;

	for (int i = 0; i < net->nodes; i++)
		n += !net->node[i]->fused && net->node[i]->ops->detail && strcasestr(net->node[i]->ops->detail(net->node[i]), kernel);
	return n;
}

static bool build(struct net *net, const char *model, const struct golden *g, bool no_fuse)
{
	const float *c = find(g, "config")->value;
	struct model_input input = { (int)c[0], (int)c[1], (int)c[2], (int)c[3], (int)c[4] };
	char width[64];
	struct config *config;
	bool good;

	snprintf(width, sizeof(width), "model.width=%.8f", c[5]);
	config = kit_model_config(model, (const char *const[]){ width, NULL });
	net_init(net, model, 1);
	net->no_fuse = no_fuse;
	good = config && !model_find(model)->build(net, &input, config) && !net_finish(net);
	ok(good, "%s builds: %s", model, errors_text());
	config_free(config);
	return good;
}

static void check_model(const char *model, const struct golden *g, const struct subject *s)
{
	struct kit kit = kit_open(s->device, s->conv);
	const char *const sets[] = { "optimizer.momentum=0.9", "optimizer.weight_decay=5e-4", NULL };
	struct config *config = kit_optimizer_config("sgd", sets);
	struct optimizer o;
	struct net net;
	char label[96];
	double loss;

	snprintf(label, sizeof(label), "%s, %s %s%s", model, s->device, s->conv, s->no_fuse ? ", not fused" : "");
	optimizer_init(&o, optimizer_find("sgd"), config);
	if (build(&net, model, g, s->no_fuse)) {
		net_bind(&net, kit.device, kit.stream, true);
		optimizer_bind(&o, kit.device, net.n);
		kit_fill_params(&net);
		load_batch(&net, (int)find(g, "config")->value[6]);
		loss = train_step(&net, NULL, 0);
		check_gradients(g, &net, label, s->tol);
		check_steps(g, &net, &o, loss, label, s->tol_steps);
		if (!strcmp(kit.device->ops->name, "cpu"))
			ok((uses(&net, "winograd") > 0) == !strcmp(s->conv, "auto"), "%s: %d layers on Winograd kernels", label,
			   uses(&net, "winograd"));
	}
	net_free(&net);
	optimizer_release(&o);
	config_free(config);
	kit_close(&kit);
}

int main(void)
{
	static const char *const models[] = { "resnet18", "resnet20", "resnet50", "vgg16" };

	for (size_t m = 0; m < sizeof(models) / sizeof(models[0]); m++) {
		struct golden g;

		if (!golden_read(&g, models[m]))
			continue;
		for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++)
			check_model(models[m], &g, &subjects[i]);
		golden_free(&g);
	}
	return done_testing();
}
