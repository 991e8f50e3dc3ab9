/*
 * Has cuDNN a fast plan on an H100 for every convolution of every model? Plans are built for the GPU that test/h100.json describes;
 * neither a GPU nor a driver is needed, and nothing is executed. Built where cuDNN (9.8 or later) is.
 *
 *     plan_check [test/h100.json]
 *
 * What it proves: the graphs are what cuDNN expects, the rules of conv_rules.c leave engines over, a workspace of CUDA_SCRATCH
 * suffices; in bf16 with tensor cores. (In TF32 the tensor-core engines for ResNet18's ImageNet stem want more workspace.) What it
 * cannot: a plan whose kernel is compiled at run time wants a driver, even to be built. The weight gradient from bf16 to fp32 is such a
 * one; it is skipped, and said so. Linear layers need cuBLASLt's handle, which needs a GPU.
 */
#include <stdlib.h>
#include <string.h>

#include "../core/cuda/conv_select.h"
#include "../core/layer.h"
#include "net_kit.h"
#include "tap.h"

enum { SHAPES_MOST = 64 };

/* ---- which convolutions there are: a device that only writes down what is planned ---- */

static struct conv_desc shape[SHAPES_MOST];
static int repeated[SHAPES_MOST], shapes, convolutions, linear;

static struct conv_plan *record(struct device *device, const struct conv_desc *d)
{
	int i = 0;

	(void)device;
	if (d->kh == d->h && d->kw == d->w && !d->pad) {
		linear++;
		return NULL;
	}
	while (i < shapes && memcmp(&shape[i], d, sizeof(*d)))
		i++;
	if (i == shapes) {
		CHECK(shapes < SHAPES_MOST);
		shape[shapes++] = *d;
		repeated[i] = 0;
	}
	repeated[i]++;
	convolutions++;
	return NULL;
}

static const char *no_name(const struct conv_plan *plan)
{
	(void)plan;
	return "";
}

/* input_pitch: of the image, cuda_input_pitch(). */
static void walk(const char *model, struct model_input input, int input_pitch)
{
	static const struct nn_ops nn = { .conv_plan = record, .conv_name = no_name };
	static const struct device_ops ops = { .nn = &nn };
	struct device device = { .ops = &ops };
	struct config *config = kit_model_config(model, NULL);
	struct net net;

	shapes = convolutions = linear = 0;
	net_init(&net, model, 1);
	CHECK(!model_find(model)->build(&net, &input, config) && !net_finish(&net));
	net.device = &device;
	net.input_pitch = input_pitch;
	for (int i = 0; i < net.nodes; i++)
		if (net.node[i]->ops == &layer_conv || net.node[i]->ops == &layer_linear)
			net.node[i]->ops->bind(&net, net.node[i]);
	net.device = NULL;
	net_free(&net);
	config_free(config);
}

/* ---- plans ---- */

static struct cudnn_target target;

static void open_target(const char *path)
{
	char text[16384];
	FILE *in = fopen(path, "r");
	size_t n = in ? fread(text, 1, sizeof(text), in) : 0;

	if (!n)
		die(STATUS_CONFIG, "%s cannot be read", path);
	fclose(in);
	CUDNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &target.properties));
	CUDNN(cudnnBackendSetAttribute(target.properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)n, text));
	CUDNN(cudnnBackendFinalize(target.properties));
}

/* How often an engine was the first that builds; by number. */
struct tally {
	int count[256];
	int plans, cores;       /* how many convolutions have a plan; one with tensor cores */
	int64_t workspace;      /* the most */
};

static bool tensor_core(const struct engine *e) { return e->notes >> CUDNN_NUMERICAL_NOTE_TENSOR_CORE & 1; }

/* The first engine that may serve, builds, and wants no more workspace than there is. */
static const struct engine *first_plan(struct conv_graph *graph, const struct conv_rules *rules, struct engine *engine, struct tally *t)
{
	int count = conv_engines(graph, rules, engine);

	for (int i = 0; i < count; i++) {
		int64_t workspace;
		struct execution *e = execution_open(graph, engine[i].text, &workspace);
		bool fits = e && workspace <= CUDA_SCRATCH;

		execution_close(e);
		if (fits) {
			t->workspace = workspace > t->workspace ? workspace : t->workspace;
			return &engine[i];
		}
	}
	return NULL;
}

/* "62 (18) 45 (2)" */
static const char *words(const struct tally *t, char text[256])
{
	int used = 0;

	*text = 0;
	for (int i = 0; i < 256; i++)
		if (t->count[i] && used < 240)
			used += snprintf(text + used, 256 - (size_t)used, "%s%d (%d)", used ? " " : "", i, t->count[i]);
	return text;
}

static void check_direction(const char *what, enum conv_direction direction, const struct conv_rules *rules, enum dtype dw)
{
	struct tally t = { .plans = 0 };
	char text[256];
	int asked = 0;
	bool bf16 = rules->precision == PRECISION_BF16, to_x = direction == CONV_DGRAD || direction == CONV_DGRAD_ADD;

	for (int i = 0; i < shapes; i++) {
		struct conv_problem p = { direction, shape[i], bf16 ? DTYPE_BF16 : DTYPE_F32, dw };
		struct engine *engine = xcalloc(ENGINES_MOST, sizeof(*engine));
		const struct engine *found;
		struct conv_graph *graph;

		if (conv_pitch(&shape[i]) > shape[i].c && to_x) {       /* the gradient of an image */
			free(engine);
			continue;
		}
		p.shape.c = conv_pitch(&shape[i]);
		asked += repeated[i];
		graph = conv_graph_open(&target, &p);
		found = graph ? first_plan(graph, rules, engine, &t) : NULL;
		if (found) {
			t.count[atoi(found->text) & 255] += repeated[i];
			t.plans += repeated[i];
			t.cores += tensor_core(found) ? repeated[i] : 0;
		}
		if (!found || (rules->precision != PRECISION_FP32 && !tensor_core(found)))
			printf("# %s %s: %s for %dx%dx%dx%d, %d filters of %dx%d, stride %d\n", what, conv_direction_name[direction],
			       found ? "no tensor cores" : graph ? "no engine" : "no graph", p.shape.n, p.shape.h, p.shape.w, p.shape.c,
			       p.shape.out, p.shape.kh, p.shape.kw, p.shape.stride);
		conv_graph_close(graph);
		free(engine);
	}
	ok(t.plans == asked && (t.cores == asked || !bf16), "%-22s %s%s: %d of %d, %d with tensor cores, engines %s; workspace up to %lld KB", what,
	   conv_direction_name[direction], bf16 && direction == CONV_WGRAD && dw == DTYPE_F32 ? ">fp32" : "", t.plans, asked, t.cores,
	   words(&t, text), (long long)(t.workspace + 1023) / 1024);
}

/* Can plans be built whose kernels are compiled at run time? */
static bool can_compile(void)
{
	const struct conv_problem p = {
		CONV_WGRAD, { .n = 16, .h = 8, .w = 8, .c = 64, .out = 64, .kh = 3, .kw = 3, .stride = 1, .pad = 1 }, DTYPE_BF16, DTYPE_F32
	};
	const struct conv_rules rules = { PRECISION_BF16, false };
	struct conv_graph *graph = conv_graph_open(&target, &p);
	struct engine *engine = xcalloc(ENGINES_MOST, sizeof(*engine));
	struct tally t = { .plans = 0 };
	bool can = graph && first_plan(graph, &rules, engine, &t);

	free(engine);
	conv_graph_close(graph);
	return can;
}

static void check_model(const char *model, struct model_input input, const struct conv_rules *rules, const char *precision, bool compile)
{
	char what[64];
	bool bf16 = rules->precision == PRECISION_BF16;

	walk(model, input, bf16 ? 8 : 4);
	snprintf(what, sizeof(what), "%s/%d N=%d %s", model, input.h, input.batch, precision);
	printf("# %s: %d convolutions of %d shapes; %d linear layers are cuBLASLt's\n", what, convolutions, shapes, linear);
	check_direction(what, CONV_FPROP, rules, DTYPE_F32);
	check_direction(what, CONV_DGRAD, rules, DTYPE_F32);
	check_direction(what, CONV_DGRAD_ADD, rules, DTYPE_F32);
	check_direction(what, CONV_WGRAD, rules, bf16 ? DTYPE_BF16 : DTYPE_F32);
	if (bf16 && compile)
		check_direction(what, CONV_WGRAD, rules, DTYPE_F32);
	else if (bf16)
		skip(what, "wgrad to fp32 is compiled at run time: its plan cannot be built without a driver");
}

int main(int argc, char **argv)
{
	static const struct conv_rules bf16 = { PRECISION_BF16, true }, tf32 = { PRECISION_TF32, true }, fp32 = { PRECISION_FP32, true };
	static const char *const model[] = { "resnet18", "resnet20", "vgg16" };
	bool compile;

	if (cudnnGetVersion() < 90800) {
		skip("plans for an H100", "cuDNN is older than 9.8 and cannot plan for a GPU that is not there");
		return done_testing();
	}
	open_target(argc > 1 ? argv[1] : "test/h100.json");
	compile = can_compile();
	for (int m = 0; m < 3; m++)
		for (int large = 0; large < 2; large++) {
			struct model_input input = { .h = large ? 224 : 32, .w = large ? 224 : 32, .c = 3, .classes = large ? 1000 : 10 };

			if (large && !strcmp(model[m], "resnet20"))
				continue;
			for (input.batch = large ? 64 : 128; input.batch <= (large ? 64 : 512); input.batch *= 4)
				check_model(model[m], input, &bf16, "bf16", compile);
			input.batch = large ? 64 : 128;
			check_model(model[m], input, &tf32, "tf32", compile);
			check_model(model[m], input, &fp32, "fp32", compile);
		}
	return done_testing();
}
