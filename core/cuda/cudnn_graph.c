/*
 * Descriptors are cuDNN's only data type: created, filled attribute by attribute, finalized, then constant. Here they are collected
 * in a heap (struct descriptors) that is freed as one, youngest first, since cuDNN does not say which of them may go before those
 * that refer to them.
 *
 * Graphs: fprop, dgrad and wgrad are single operations. In bf16, wgrad alone would round dw to bf16; followed by an identity whose
 * result is fp32, with the tensor between them virtual, it is served by a kernel that writes its fp32 sums.
 */
#include "cudnn_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../die.h"

enum { ID_X = 1, ID_W, ID_Y, ID_BETWEEN };      /* of tensors */
enum { POINTERS = 3, KNOBS_MOST = 32, NOTES_MOST = 32, CONFIGS_MOST = 128, DESCRIPTORS_MOST = KNOBS_MOST + 8 };

const char *const conv_direction_name[CONV_DIRECTIONS] = { "fprop", "dgrad", "dgrad+=", "wgrad" };

struct descriptors {
	cudnnBackendDescriptor_t all[DESCRIPTORS_MOST];
	int count;
};

struct conv_graph {
	const struct cudnn_target *target;
	struct descriptors own;
	cudnnBackendDescriptor_t operations;
};

struct execution {
	struct descriptors own;
	cudnnBackendDescriptor_t plan;
	cudnnBackendDescriptor_t pack;          /* of these pointers; NULL: none yet */
	const void *pointer[POINTERS];
	void *workspace;
};

/* ---- errors ---- */

const char *cudnn_words(void)
{
	static char words[1024];

	words[0] = 0;
	cudnnGetLastErrorString(words, sizeof(words));
	for (char *c = words; *c; c++)
		if (*c == '\n')
			*c = ' ';
	return words;
}

void cudnn_check(cudnnStatus_t status, const char *call, const char *file, int line)
{
	if (status != CUDNN_STATUS_SUCCESS)
		die(STATUS_FAILURE, "%s:%d: %s: cuDNN says: %s. %s", file, line, call, cudnnGetErrorString(status), cudnn_words());
}

/* ---- descriptors ---- */

static cudnnBackendDescriptor_t create(struct descriptors *own, cudnnBackendDescriptorType_t type)
{
	cudnnBackendDescriptor_t d;

	CHECK(own->count < DESCRIPTORS_MOST);
	CUDNN(cudnnBackendCreateDescriptor(type, &d));
	own->all[own->count++] = d;
	return d;
}

static void destroy_all(struct descriptors *own)
{
	while (own->count)
		cudnnBackendDestroyDescriptor(own->all[--own->count]);
}

#define SET(descriptor, name, type, count, values) CUDNN(cudnnBackendSetAttribute(descriptor, name, type, count, values))
#define SET_DESCRIPTOR(descriptor, name, value) \
	SET(descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &(cudnnBackendDescriptor_t){ value })
#define SET_INT(descriptor, name, value) SET(descriptor, name, CUDNN_TYPE_INT64, 1, &(int64_t){ value })
#define SET_TYPE(descriptor, name, value) SET(descriptor, name, CUDNN_TYPE_DATA_TYPE, 1, &(cudnnDataType_t){ value })
#define GET(descriptor, name, type, most, count, values) CUDNN(cudnnBackendGetAttribute(descriptor, name, type, most, count, values))

static cudnnDataType_t data_type(enum dtype type)
{
	CHECK(type == DTYPE_F32 || type == DTYPE_BF16);
	return type == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* ---- the operation ---- */

/* NHWC (for weights: KRSC) in memory; cuDNN names the dimensions in the order n c h w, whatever the strides. */
static cudnnBackendDescriptor_t tensor(struct conv_graph *g, int64_t id, enum dtype type, int n, int h, int w, int c, bool between)
{
	cudnnBackendDescriptor_t t = create(&g->own, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
	const int64_t dim[4] = { n, c, h, w }, stride[4] = { (int64_t)h * w * c, 1, (int64_t)w * c, c };

	SET_TYPE(t, CUDNN_ATTR_TENSOR_DATA_TYPE, data_type(type));
	SET(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
	SET(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
	SET_INT(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
	SET_INT(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
	SET(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &between);
	CUDNN(cudnnBackendFinalize(t));
	return t;
}

static cudnnBackendDescriptor_t convolution(struct conv_graph *g, const struct conv_desc *d)
{
	cudnnBackendDescriptor_t c = create(&g->own, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
	const int64_t pad[2] = { d->pad, d->pad }, stride[2] = { d->stride, d->stride }, dilation[2] = { 1, 1 };

	SET_TYPE(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
	SET(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &(cudnnConvolutionMode_t){ CUDNN_CROSS_CORRELATION });
	SET_INT(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
	SET(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
	SET(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
	SET(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
	SET(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
	CUDNN(cudnnBackendFinalize(c));
	return c;
}

/* The three kinds of operation differ in the names of their attributes. */
#define ATTRIBUTE(kind, name) CUDNN_ATTR_OPERATION_CONVOLUTION_##kind##_##name
#define OPERATION(type, kind, x, w, y) {                                                                                \
	CUDNN_BACKEND_OPERATION_CONVOLUTION_##type##_DESCRIPTOR, ATTRIBUTE(kind, CONV_DESC), ATTRIBUTE(kind, x),        \
	ATTRIBUTE(kind, w), ATTRIBUTE(kind, y), ATTRIBUTE(kind, ALPHA), ATTRIBUTE(kind, BETA) }

static const struct {
	cudnnBackendDescriptorType_t type;
	cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
} operation[] = {
	OPERATION(FORWARD, FORWARD, X, W, Y),
	OPERATION(BACKWARD_DATA, BWD_DATA, DX, W, DY),
	OPERATION(BACKWARD_FILTER, BWD_FILTER, X, DW, DY),
};

static cudnnBackendDescriptor_t conv_operation(struct conv_graph *g, const struct conv_problem *p, enum dtype w_type, bool w_between)
{
	const struct conv_desc *d = &p->shape;
	int kind = p->direction == CONV_FPROP ? 0 : p->direction == CONV_WGRAD ? 2 : 1;
	cudnnBackendDescriptor_t x = tensor(g, ID_X, p->type, d->n, d->h, d->w, d->c, false);
	cudnnBackendDescriptor_t w = tensor(g, w_between ? ID_BETWEEN : ID_W, w_type, d->out, d->kh, d->kw, d->c, w_between);
	cudnnBackendDescriptor_t y = tensor(g, ID_Y, p->type, d->n, conv_out(d->h, d->kh, d->stride, d->pad),
	                                    conv_out(d->w, d->kw, d->stride, d->pad), d->out, false);
	cudnnBackendDescriptor_t c = convolution(g, d), op = create(&g->own, operation[kind].type);

	SET_DESCRIPTOR(op, operation[kind].convolution, c);
	SET_DESCRIPTOR(op, operation[kind].x, x);
	SET_DESCRIPTOR(op, operation[kind].w, w);
	SET_DESCRIPTOR(op, operation[kind].y, y);
	SET(op, operation[kind].alpha, CUDNN_TYPE_FLOAT, 1, &(float){ 1 });
	SET(op, operation[kind].beta, CUDNN_TYPE_FLOAT, 1, &(float){ p->direction == CONV_DGRAD_ADD });
	return cudnnBackendFinalize(op) == CUDNN_STATUS_SUCCESS ? op : NULL;
}

/* From the virtual dw to the one in memory. */
static cudnnBackendDescriptor_t identity_operation(struct conv_graph *g, const struct conv_problem *p)
{
	const struct conv_desc *d = &p->shape;
	cudnnBackendDescriptor_t identity = create(&g->own, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
	cudnnBackendDescriptor_t from = tensor(g, ID_BETWEEN, p->dw, d->out, d->kh, d->kw, d->c, true);
	cudnnBackendDescriptor_t to = tensor(g, ID_W, p->dw, d->out, d->kh, d->kw, d->c, false);
	cudnnBackendDescriptor_t op = create(&g->own, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);

	SET(identity, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &(cudnnPointwiseMode_t){ CUDNN_POINTWISE_IDENTITY });
	SET_TYPE(identity, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
	CUDNN(cudnnBackendFinalize(identity));
	SET_DESCRIPTOR(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, identity);
	SET_DESCRIPTOR(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, from);
	SET_DESCRIPTOR(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to);
	CUDNN(cudnnBackendFinalize(op));
	return op;
}

struct conv_graph *conv_graph_open(const struct cudnn_target *target, const struct conv_problem *p)
{
	struct conv_graph *g = xcalloc(1, sizeof(*g));
	bool widen = p->direction == CONV_WGRAD && p->dw != p->type;
	enum dtype w_type = p->direction == CONV_WGRAD ? p->dw : p->type;
	cudnnBackendDescriptor_t op[2] = { conv_operation(g, p, w_type, widen), widen ? identity_operation(g, p) : NULL };
	bool known = op[0];

	g->target = target;
	if (known) {
		g->operations = create(&g->own, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
		if (!target->properties)
			SET(g->operations, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
		SET(g->operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, widen ? 2 : 1, op);
		known = cudnnBackendFinalize(g->operations) == CUDNN_STATUS_SUCCESS;
	}
	if (!known) {
		conv_graph_close(g);
		return NULL;
	}
	return g;
}

void conv_graph_close(struct conv_graph *g)
{
	if (g)
		destroy_all(&g->own);
	free(g);
}

/* ---- engines ---- */

static void describe_engine(cudnnBackendDescriptor_t engine, struct engine *e)
{
	cudnnBackendNumericalNote_t note[NOTES_MOST];
	cudnnBackendBehaviorNote_t behavior[NOTES_MOST];
	int64_t index, count = 0;

	GET(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &index);
	snprintf(e->text, sizeof(e->text), "%lld", (long long)index);
	GET(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES_MOST, &count, note);
	for (int64_t i = 0; i < count && i < NOTES_MOST; i++)
		e->notes |= 1u << note[i];
	GET(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, NOTES_MOST, &count, behavior);
	for (int64_t i = 0; i < count && i < NOTES_MOST; i++)
		e->compiled |= behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
}

static void describe_knobs(cudnnBackendDescriptor_t config, struct engine *e)
{
	struct descriptors own = { .count = 0 };
	cudnnBackendDescriptor_t knob[KNOBS_MOST];
	int64_t count = 0, one;

	for (int i = 0; i < KNOBS_MOST; i++)
		knob[i] = create(&own, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
	GET(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, KNOBS_MOST, &count, knob);
	CHECK(count <= KNOBS_MOST);
	for (int64_t i = 0; i < count; i++) {
		size_t used = strlen(e->text);
		cudnnBackendKnobType_t type;
		int64_t value;

		GET(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type);
		GET(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one, &value);
		snprintf(e->text + used, sizeof(e->text) - used, "%c%d=%lld", i ? ',' : ':', (int)type, (long long)value);
	}
	CHECK(strlen(e->text) < sizeof(e->text) - 1);
	destroy_all(&own);
}

/* The proposals of one mode of the heuristics; a mode that does not know the operation has none. */
static int heuristics(struct conv_graph *g, cudnnBackendHeurMode_t mode, struct engine *engines, int count, int most)
{
	cudnnBackendDescriptor_t config[CONFIGS_MOST], engine, h;
	struct descriptors own = { .count = 0 };
	int64_t configs = 0, one;

	h = create(&own, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
	SET_DESCRIPTOR(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->operations);
	SET(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
	if (g->target->properties)
		SET_DESCRIPTOR(h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, g->target->properties);
	if (cudnnBackendFinalize(h) == CUDNN_STATUS_SUCCESS) {
		for (int i = 0; i < CONFIGS_MOST; i++)
			CUDNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[i]));
		engine = create(&own, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
		GET(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MOST, &configs, config);
		for (int64_t i = 0; i < configs && i < CONFIGS_MOST && count < most; i++) {
			engines[count] = (struct engine){ .notes = 0 };
			GET(config[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one, &engine);
			describe_engine(engine, &engines[count]);
			describe_knobs(config[i], &engines[count++]);
		}
		for (int i = 0; i < CONFIGS_MOST; i++)
			cudnnBackendDestroyDescriptor(config[i]);
	}
	destroy_all(&own);
	return count;
}

int conv_graph_engines(struct conv_graph *g, struct engine *engines, int most)
{
	int count = heuristics(g, CUDNN_HEUR_MODE_A, engines, 0, most);

	count = heuristics(g, CUDNN_HEUR_MODE_B, engines, count, most);
	return heuristics(g, CUDNN_HEUR_MODE_FALLBACK, engines, count, most);
}

/* ---- plans ---- */

/* The engine at the head of the text; *knobs points behind it. */
static cudnnBackendDescriptor_t open_engine(struct conv_graph *g, struct descriptors *own, const char *text, const char **knobs)
{
	cudnnBackendDescriptor_t engine = create(own, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
	char *end;
	int64_t index = strtoll(text, &end, 10);

	*knobs = end;
	if (end == text || (*end && *end != ':'))
		return NULL;
	SET_DESCRIPTOR(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->operations);
	if (cudnnBackendSetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index) != CUDNN_STATUS_SUCCESS)
		return NULL;
	if (g->target->properties)
		SET_DESCRIPTOR(engine, CUDNN_ATTR_ENGINE_DEVICEPROP, g->target->properties);
	return cudnnBackendFinalize(engine) == CUDNN_STATUS_SUCCESS ? engine : NULL;
}

/* ":2=5,27=1" or "" to descriptors; -1 if it is neither, or cuDNN knows no such knob. */
static int open_knobs(struct descriptors *own, const char *text, cudnnBackendDescriptor_t knob[KNOBS_MOST])
{
	int count = 0;

	while (*text) {
		int type, length = 0;
		long long value;

		if (count == KNOBS_MOST || sscanf(text, count ? ",%d=%lld%n" : ":%d=%lld%n", &type, &value, &length) != 2)
			return -1;
		text += length;
		knob[count] = create(own, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
		if (cudnnBackendSetAttribute(knob[count], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
		                             &(cudnnBackendKnobType_t){ (cudnnBackendKnobType_t)type }) != CUDNN_STATUS_SUCCESS)
			return -1;
		SET_INT(knob[count], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
		if (cudnnBackendFinalize(knob[count]) != CUDNN_STATUS_SUCCESS)
			return -1;
		count++;
	}
	return count;
}

static cudnnBackendDescriptor_t open_config(struct conv_graph *g, struct descriptors *own, const char *text)
{
	cudnnBackendDescriptor_t knob[KNOBS_MOST], config;
	const char *knobs;
	cudnnBackendDescriptor_t engine = open_engine(g, own, text, &knobs);
	int count = engine ? open_knobs(own, knobs, knob) : -1;

	if (count < 0)
		return NULL;
	config = create(own, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
	SET_DESCRIPTOR(config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
	if (count)
		SET(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, knob);
	return cudnnBackendFinalize(config) == CUDNN_STATUS_SUCCESS ? config : NULL;
}

struct execution *execution_open(struct conv_graph *g, const char *engine, int64_t *workspace)
{
	struct execution *e = xcalloc(1, sizeof(*e));
	cudnnBackendDescriptor_t config = open_config(g, &e->own, engine);
	int64_t one;

	if (config) {
		e->plan = create(&e->own, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
		SET_DESCRIPTOR(e->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
		if (g->target->properties)
			SET_DESCRIPTOR(e->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, g->target->properties);
		else
			SET(e->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->target->handle);
	}
	if (!config || cudnnBackendFinalize(e->plan) != CUDNN_STATUS_SUCCESS) {
		execution_close(e);
		return NULL;
	}
	GET(e->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one, workspace);
	return e;
}

void execution_close(struct execution *e)
{
	if (!e)
		return;
	if (e->pack)
		cudnnBackendDestroyDescriptor(e->pack);
	destroy_all(&e->own);
	free(e);
}

/* Addresses hardly ever change from step to step, so the last pack is kept; a new one takes 1.5 µs. */
static void open_pack(struct execution *e)
{
	static const int64_t id[POINTERS] = { ID_X, ID_W, ID_Y };

	if (e->pack)
		CUDNN(cudnnBackendDestroyDescriptor(e->pack));
	CUDNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &e->pack));
	SET(e->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, POINTERS, id);
	SET(e->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, POINTERS, e->pointer);
	SET(e->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &e->workspace);
	CUDNN(cudnnBackendFinalize(e->pack));
}

bool execution_run(struct execution *e, cudnnHandle_t handle, const void *x, const void *w, const void *y, void *workspace)
{
	const void *pointer[POINTERS] = { x, w, y };

	if (!e->pack || memcmp(pointer, e->pointer, sizeof(pointer)) || workspace != e->workspace) {
		memcpy(e->pointer, pointer, sizeof(pointer));
		e->workspace = workspace;
		open_pack(e);
	}
	return cudnnBackendExecute(handle, e->plan, e->pack) == CUDNN_STATUS_SUCCESS;
}
