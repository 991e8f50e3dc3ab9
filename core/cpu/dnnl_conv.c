/*
 * Convolutions and linear layers through oneDNN, for every shape that our Winograd kernels leave. Activations stay NHWC. For the
 * weights oneDNN chooses its layout, and a reorder, planned once, translates between it and ours (OHWI); a linear layer is an
 * inner product on plain matrices, so that large weights need no copy.
 *
 * Everything is made while planning. An execution only tells the memory objects where the data lies this time; what a
 * primitive needs beside its tensors comes from the device's scratchpad. oneDNN works with the OpenMP team of its caller.
 */
#include <stdlib.h>

#include "cpu.h"
#include "dnnl.h"

/* Tensors of a pass: the three that each one has, the bias, and what lies in the scratchpad. */
enum { SRC, WEIGHTS, DST, BIAS, SCRATCHPAD, TENSORS };

struct reorder {
	dnnl_primitive_t primitive;     /* NULL: oneDNN takes our layout */
	dnnl_memory_t ours;             /* the weights as the caller has them */
};

struct pass {
	dnnl_primitive_t primitive;
	dnnl_memory_t memory[TENSORS];  /* NULL where there is none */
	int arg[TENSORS];
	struct reorder reorder;
	size_t scratchpad, weights, sum; /* offsets in the scratchpad: oneDNN's own, weights in its layout, dx to be added */
};

struct dnnl_plan {
	struct conv_plan base;
	bool linear;
	size_t dx_count;
	struct pass pass[DNNL_PASSES];
};

/* One engine and one stream for all plans, as long as there are any. */
static struct {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	dnnl_primitive_attr_t attr;     /* scratchpads are ours */
	int plans;
} library;

static void library_enter(void)
{
	if (library.plans++)
		return;
	DNNL(dnnl_engine_create(&library.engine, dnnl_cpu, 0));
	DNNL(dnnl_stream_create(&library.stream, library.engine, dnnl_stream_default_flags));
	DNNL(dnnl_primitive_attr_create(&library.attr));
	DNNL(dnnl_primitive_attr_set_scratchpad_mode(library.attr, dnnl_scratchpad_mode_user));
}

static void library_leave(void)
{
	if (--library.plans)
		return;
	DNNL(dnnl_primitive_attr_destroy(library.attr));
	DNNL(dnnl_stream_destroy(library.stream));
	DNNL(dnnl_engine_destroy(library.engine));
}

const char *dnnl_words(void)
{
	static char words[48];
	const dnnl_version_t *v = dnnl_version();

	snprintf(words, sizeof(words), "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
	return words;
}

/* ---- planning ---- */

/* The tensors of a layer as descriptors: activations and our weights as they are, `any`: the weights as oneDNN likes them. */
struct layout {
	dnnl_memory_desc_t src, dst, bias, weights, any;
};

static struct layout layout_init(const struct conv_desc *d, bool linear)
{
	int oh = conv_out(d->h, d->kh, d->stride, d->pad), ow = conv_out(d->w, d->kw, d->stride, d->pad);
	int64_t features = (int64_t)d->h * d->w * d->c, out = d->out;

	if (linear) {
		dnnl_dims_t weights = { out, features };

		return (struct layout){
			.src = dnnl_md_init(2, (dnnl_dims_t){ d->n, features }, dnnl_ab),
			.dst = dnnl_md_init(2, (dnnl_dims_t){ d->n, out }, dnnl_ab),
			.bias = dnnl_md_init(1, (dnnl_dims_t){ out }, dnnl_a),
			.weights = dnnl_md_init(2, weights, dnnl_ab),
			.any = dnnl_md_init(2, weights, dnnl_ab),
		};
	}
	/* oneDNN names dimensions in the order (n, c, h, w) and (out, in, kh, kw), wherever they lie; acdb puts c last */
	dnnl_dims_t weights = { out, d->c, d->kh, d->kw };

	return (struct layout){
		.src = dnnl_md_init(4, (dnnl_dims_t){ d->n, d->c, d->h, d->w }, dnnl_acdb),
		.dst = dnnl_md_init(4, (dnnl_dims_t){ d->n, out, oh, ow }, dnnl_acdb),
		.bias = dnnl_md_init(1, (dnnl_dims_t){ out }, dnnl_a),
		.weights = dnnl_md_init(4, weights, dnnl_acdb),
		.any = dnnl_md_init(4, weights, dnnl_format_tag_any),
	};
}

static void layout_release(struct layout *l)
{
	dnnl_md_release(&l->src), dnnl_md_release(&l->dst), dnnl_md_release(&l->bias);
	dnnl_md_release(&l->weights), dnnl_md_release(&l->any);
}

/* A memory object without memory: executions say where it is. */
static dnnl_memory_t memory_of(const dnnl_memory_desc_t *md)
{
	dnnl_memory_t memory;

	DNNL(dnnl_memory_create(&memory, dnnl_md(md), library.engine, DNNL_MEMORY_NONE));
	return memory;
}

/* Room in the scratchpad behind what is already taken; large enough alignment for any vector and page trick. */
static size_t take(size_t *used, size_t bytes)
{
	size_t at = *used;

	*used += (bytes + 4095) / 4096 * 4096;
	return at;
}

static void pass_reorder(struct pass *p, const struct layout *l, const dnnl_memory_desc_t *chosen, bool back, size_t *used)
{
	dnnl_primitive_desc_t pd;

	if (dnnl_memory_desc_equal(dnnl_md(chosen), dnnl_md(&l->weights)))
		return;
	if (back)
		DNNL(dnnl_reorder_desc(&pd, chosen, &l->weights, NULL, library.engine));
	else
		DNNL(dnnl_reorder_desc(&pd, &l->weights, chosen, NULL, library.engine));
	DNNL(dnnl_primitive_create(&p->reorder.primitive, pd));
	DNNL(dnnl_primitive_desc_destroy(pd));
	p->reorder.ours = memory_of(&l->weights);
	p->weights = take(used, dnnl_memory_desc_get_size(dnnl_md(chosen)));
}

static void pass_init(struct pass *p, enum dnnl_pass kind, const struct dnnl_plan *plan, const struct layout *l, dnnl_primitive_desc_t pd,
                      size_t *used)
{
	static const int args[DNNL_PASSES][TENSORS] = {
		{ DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS, DNNL_ARG_SCRATCHPAD },
		{ DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST, 0, DNNL_ARG_SCRATCHPAD },
		{ DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_BIAS, DNNL_ARG_SCRATCHPAD },
	};
	bool back = kind == DNNL_BACKWARD_WEIGHTS;
	dnnl_memory_desc_t chosen = dnnl_md_query(pd, back ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
	dnnl_memory_desc_t scratchpad = dnnl_md_query(pd, dnnl_query_scratchpad_md);
	size_t bytes = dnnl_memory_desc_get_size(dnnl_md(&scratchpad));

	for (int i = 0; i < TENSORS; i++)
		p->arg[i] = args[kind][i];
	DNNL(dnnl_primitive_create(&p->primitive, pd));
	p->memory[SRC] = memory_of(&l->src);
	p->memory[DST] = memory_of(&l->dst);
	p->memory[WEIGHTS] = memory_of(&chosen);
	if (plan->base.desc.bias && kind != DNNL_BACKWARD_DATA)
		p->memory[BIAS] = memory_of(&l->bias);
	if (bytes) {
		p->memory[SCRATCHPAD] = memory_of(&scratchpad);
		p->scratchpad = take(used, bytes);
	}
	pass_reorder(p, l, &chosen, back, used);
	if (kind == DNNL_BACKWARD_DATA)
		p->sum = take(used, plan->dx_count * sizeof(float));
	dnnl_md_release(&chosen);
	dnnl_md_release(&scratchpad);
}

static struct conv_plan *dnnl_plan(struct cpu_device *dev, const struct conv_desc *d)
{
	struct dnnl_plan *plan = xcalloc(1, sizeof(*plan));
	bool linear = d->kh == d->h && d->kw == d->w && d->pad == 0;
	struct layout l;
	struct dnnl_problem problem = { .linear = linear, .src = &l.src, .weights = &l.any, .bias = d->bias ? &l.bias : NULL, .dst = &l.dst,
		.strides = { d->stride, d->stride }, .padding = { d->pad, d->pad } };
	dnnl_primitive_desc_t forward = NULL, pd;
	const char *implementation = "";

	library_enter();
	l = layout_init(d, linear);
	plan->base = (struct conv_plan){ .impl = &conv_dnnl, .desc = *d };
	plan->linear = linear;
	plan->dx_count = (size_t)d->n * d->h * d->w * d->c;
	for (int kind = 0; kind < DNNL_PASSES; kind++) {
		size_t used = 0;

		DNNL(dnnl_problem_desc(&pd, &problem, kind, forward, library.attr, library.engine));
		pass_init(&plan->pass[kind], kind, plan, &l, pd, &used);
		cpu_scratch_reserve(dev, used);
		if (kind == DNNL_FORWARD)
			forward = pd;
		else
			DNNL(dnnl_primitive_desc_destroy(pd));
	}
	DNNL(dnnl_primitive_desc_query(forward, dnnl_query_impl_info_str, 0, &implementation));
	snprintf(plan->base.name, sizeof(plan->base.name), "oneDNN %s", implementation);
	DNNL(dnnl_primitive_desc_destroy(forward));
	layout_release(&l);
	return &plan->base;
}

static void dnnl_release(struct conv_plan *base)
{
	struct dnnl_plan *plan = (struct dnnl_plan *)base;

	for (int kind = 0; kind < DNNL_PASSES; kind++) {
		struct pass *p = &plan->pass[kind];

		DNNL(dnnl_primitive_destroy(p->primitive));
		for (int i = 0; i < TENSORS; i++)
			if (p->memory[i])
				DNNL(dnnl_memory_destroy(p->memory[i]));
		if (p->reorder.primitive) {
			DNNL(dnnl_primitive_destroy(p->reorder.primitive));
			DNNL(dnnl_memory_destroy(p->reorder.ours));
		}
	}
	free(plan);
	library_leave();
}

/* ---- execution ---- */

/* oneDNN's interface knows no const: it writes only to what is an output of the pass. */
static void point(dnnl_memory_t memory, const void *data) { DNNL(dnnl_memory_set_data_handle(memory, (void *)data)); }

static void reorder(dnnl_primitive_t primitive, dnnl_memory_t from, dnnl_memory_t to)
{
	dnnl_exec_arg_t args[] = { { DNNL_ARG_FROM, from }, { DNNL_ARG_TO, to } };

	DNNL(dnnl_primitive_execute(primitive, library.stream, 2, args));
	DNNL(dnnl_stream_wait(library.stream));
}

static void pass_run(struct cpu_device *dev, struct pass *p, const float *src, const float *weights, const float *dst, const float *bias, bool back)
{
	dnnl_exec_arg_t args[TENSORS];
	char *scratch = dev->scratch;
	int count = 0;

	point(p->memory[SRC], src);
	point(p->memory[DST], dst);
	point(p->memory[WEIGHTS], p->reorder.primitive ? (const void *)(scratch + p->weights) : weights);
	if (p->memory[BIAS])
		point(p->memory[BIAS], bias);
	if (p->memory[SCRATCHPAD])
		point(p->memory[SCRATCHPAD], scratch + p->scratchpad);
	if (p->reorder.primitive)
		point(p->reorder.ours, weights);
	if (p->reorder.primitive && !back)
		reorder(p->reorder.primitive, p->reorder.ours, p->memory[WEIGHTS]);
	for (int i = 0; i < TENSORS; i++)
		if (p->memory[i])
			args[count++] = (dnnl_exec_arg_t){ p->arg[i], p->memory[i] };
	DNNL(dnnl_primitive_execute(p->primitive, library.stream, count, args));
	DNNL(dnnl_stream_wait(library.stream));
	cpu_poll(dev);
	if (p->reorder.primitive && back)
		reorder(p->reorder.primitive, p->memory[WEIGHTS], p->reorder.ours);
}

static void dnnl_fwd(struct cpu_device *dev, struct conv_plan *base, const float *x, const float *w, const float *b, float *y)
{
	pass_run(dev, &((struct dnnl_plan *)base)->pass[DNNL_FORWARD], x, w, y, b, false);
}

/* oneDNN cannot add to the gradient of the data; we do, from a temporary. */
static void dnnl_bwd_data(struct cpu_device *dev, struct conv_plan *base, const float *dy, const float *w, float *dx, bool accumulate)
{
	struct dnnl_plan *plan = (struct dnnl_plan *)base;
	struct pass *p = &plan->pass[DNNL_BACKWARD_DATA];
	float *sum = accumulate ? (float *)((char *)dev->scratch + p->sum) : dx;
	int64_t n = (int64_t)plan->dx_count;

	pass_run(dev, p, sum, w, dy, NULL, false);
	if (accumulate) {
		#pragma omp parallel for simd schedule(static) num_threads(dev->threads)
		for (int64_t i = 0; i < n; i++)
			dx[i] += sum[i];
	}
}

static void dnnl_bwd_filter(struct cpu_device *dev, struct conv_plan *base, const float *x, const float *dy, float *dw, float *db)
{
	pass_run(dev, &((struct dnnl_plan *)base)->pass[DNNL_BACKWARD_WEIGHTS], x, dw, dy, db, true);
}

const struct conv_impl conv_dnnl = {
	.name = "direct",
	.plan = dnnl_plan,
	.release = dnnl_release,
	.fwd = dnnl_fwd,
	.bwd_data = dnnl_bwd_data,
	.bwd_filter = dnnl_bwd_filter,
};
