/*
 * Winograd convolutions: plans, buffers and threads. winograd.h explains the method, kernel/winograd.c does the arithmetic.
 *
 * There are two ways through the work, because either the tiles or the weights are the larger part of the data:
 *
 *   by tiles     (many pixels, few channels) Every thread takes its share of the tiles and carries small blocks of them through
 *                all three phases, so that a block's planes stay in its second-level cache. The transformed weights are
 *                shared; their gradients are summed by each thread for itself and reduced at the end.
 *   by weights   (few pixels, many channels: the last layers, and small batches) All tiles are transformed first. Then every
 *                thread takes its share of the weights and transforms them in pieces that are used at once: the transformed
 *                weights, four times the size of the weights, are never written to memory.
 *
 * The order of every sum depends on the shape and on the number of threads alone.
 */
#include "winograd.h"

#include <omp.h>
#include <stdlib.h>

#include "../die.h"
#include "cpu.h"
#include "kernel/isa.h"

KERNEL_TABLES(struct winograd_kernels, winograd);

/* The second-level cache that a thread counts on for the planes of its block of tiles; and how much of the summation index, or
 * of the output channels, a piece of weights covers. Measured on Zen 4 with 1 MiB; half or twice as much costs at most 8 %. */
enum { BLOCK_BYTES = 320 << 10, PIECE = 128 };

/* One direction: from which image through which tiles to which image. */
struct pass {
	struct winograd_map in, out;    /* in: 6x6 patches, out: 4x4 tiles */
	int64_t tiles;
	int block;                      /* tiles at once, when going by tiles */
	bool by_weights;
};

struct winograd_plan {
	struct conv_plan base;
	const struct winograd_kernels *kernels;
	struct pass fwd, bwd;           /* bwd: of the data; the filter's gradient uses fwd */
};

/* ---- scratch ---- */

/* Takes stacks from the scratchpad one after another; with base == NULL it only counts. */
struct carver {
	float *base;
	size_t used;                    /* floats */
};

static float *carve(struct carver *carver, size_t floats)
{
	float *at = carver->base ? carver->base + carver->used : NULL;

	carver->used += (floats + 15) / 16 * 16;
	return at;
}

/* `copies` stacks of `rows` x `cols`. Neither the planes nor the blocks of columns may lie a power of two apart: they are
 * walked in parallel and would fight for the same lines of the cache. */
static struct winograd_stack carve_stack(struct carver *carver, int vl, int64_t rows, int cols, int copies)
{
	size_t block = (size_t)(rows | 1) * vl;
	size_t plane_size = (cols / vl * block + 1023) / 1024 * 1024 + 80;
	float *data = carve(carver, WINOGRAD_PLANES * plane_size * copies);

	return (struct winograd_stack){ data, plane_size, block };
}

static size_t stack_size(const struct winograd_stack *s) { return WINOGRAD_PLANES * s->plane_size; }

/* The part of a stack that begins at a row and a column, or the stack of a thread. */
static struct winograd_stack part(const struct winograd_stack *s, int vl, int64_t row, int col)
{
	return (struct winograd_stack){ s->data + col / vl * s->block + row * vl, s->plane_size, s->block };
}

static struct winograd_stack own(const struct winograd_stack *s, int thread)
{
	return (struct winograd_stack){ s->data + thread * stack_size(s), s->plane_size, s->block };
}

static inline int min(int a, int b) { return a < b ? a : b; }

/* ---- forward, and the gradient of the data ---- */

struct convolution {
	struct cpu_device *dev;
	const struct winograd_plan *plan;
	const struct pass *pass;
	const float *x, *w, *bias;
	float *y;
	bool turned, accumulate;
	struct winograd_stack u, v, m;  /* weights; input; products */
};

static size_t convolution_carve(struct convolution *c, float *base)
{
	const struct pass *p = c->pass;
	struct carver carver = { base, 0 };
	int vl = c->plan->kernels->vl, threads = c->dev->threads, in = p->in.c, out = p->out.c;

	if (p->by_weights) {
		c->v = carve_stack(&carver, vl, p->tiles, in, 1);
		c->u = carve_stack(&carver, vl, min(in, PIECE), min(out, 2 * vl), threads);
		c->m = carve_stack(&carver, vl, p->tiles, min(out, 2 * vl), threads);
	} else {
		c->u = carve_stack(&carver, vl, in, out, 1);
		c->v = carve_stack(&carver, vl, p->block, in, threads);
		c->m = carve_stack(&carver, vl, p->block, out, threads);
	}
	return carver.used;
}

static void filter_piece(const struct convolution *c, int row, int rows, int col, int cols, const struct winograd_stack *u)
{
	const struct conv_desc *d = &c->plan->base.desc;

	c->plan->kernels->filter(c->w, d->c, c->turned, row, rows, col, cols, u);
}

static void convolve_by_tiles(const struct convolution *c, int thread, int team)
{
	const struct winograd_kernels *k = c->plan->kernels;
	const struct pass *p = c->pass;
	int vl = k->vl, in = p->in.c, out = p->out.c;
	struct winograd_stack v = own(&c->v, thread), m = own(&c->m, thread);
	int64_t from, to, parts;

	cpu_slice((int64_t)(in / vl) * (out / vl), team, thread, 1, &from, &to);
	for (int64_t i = from; i < to; i++) {
		int row = (int)(i % (in / vl)) * vl, col = (int)(i / (in / vl)) * vl;
		struct winograd_stack u = part(&c->u, vl, row, col);

		filter_piece(c, row, vl, col, vl, &u);
	}
	#pragma omp barrier
	cpu_slice(p->tiles, team, thread, 1, &from, &to);
	parts = (to - from + p->block - 1) / p->block;
	for (int64_t i = 0; i < parts; i++) {
		int64_t tile = from + (to - from) * i / parts;
		int n = (int)(from + (to - from) * (i + 1) / parts - tile);

		k->input(&p->in, c->x, tile, n, &v);
		k->multiply(n, in, out, &v, &c->u, false, &m);
		k->output(&p->out, &m, tile, n, 0, out, c->bias, c->accumulate, c->y);
		cpu_poll(c->dev);
	}
}

static void convolve_by_weights(const struct convolution *c, int thread, int team)
{
	const struct winograd_kernels *k = c->plan->kernels;
	const struct pass *p = c->pass;
	int vl = k->vl, in = p->in.c, out = p->out.c, panel = 2 * vl, panels = (out + panel - 1) / panel;
	int splits = (team + panels - 1) / panels;      /* more threads than panels: they share a panel's tiles */
	struct winograd_stack u = own(&c->u, thread), v, m = own(&c->m, thread);
	int64_t from, to;

	cpu_slice(p->tiles, team, thread, 1, &from, &to);
	v = part(&c->v, vl, from, 0);
	k->input(&p->in, c->x, from, (int)(to - from), &v);
	#pragma omp barrier
	cpu_slice((int64_t)panels * splits, team, thread, 1, &from, &to);
	for (int64_t i = from; i < to; i++) {
		int col = (int)(i / splits) * panel, cols = min(panel, out - col);
		int64_t tile = p->tiles * (i % splits) / splits;
		int n = (int)(p->tiles * (i % splits + 1) / splits - tile);

		for (int row = 0; row < in; row += PIECE) {
			int rows = min(PIECE, in - row);

			filter_piece(c, row, rows, col, cols, &u);
			v = part(&c->v, vl, tile, row);
			k->multiply(n, rows, cols, &v, &u, row > 0, &m);
			cpu_poll(c->dev);
		}
		k->output(&p->out, &m, tile, n, col, cols, c->bias, c->accumulate, c->y);
	}
}

static void convolve(struct convolution *c)
{
	convolution_carve(c, c->dev->scratch);
	#pragma omp parallel num_threads(c->dev->threads)
	{
		if (c->pass->by_weights)
			convolve_by_weights(c, omp_get_thread_num(), omp_get_num_threads());
		else
			convolve_by_tiles(c, omp_get_thread_num(), omp_get_num_threads());
	}
}

static void winograd_fwd(struct cpu_device *dev, struct conv_plan *base, const float *x, const float *w, const float *b, float *y)
{
	const struct winograd_plan *plan = (struct winograd_plan *)base;
	struct convolution c = { .dev = dev, .plan = plan, .pass = &plan->fwd, .x = x, .w = w, .bias = b, .y = y };

	convolve(&c);
}

static void winograd_bwd_data(struct cpu_device *dev, struct conv_plan *base, const float *dy, const float *w, float *dx, bool accumulate)
{
	const struct winograd_plan *plan = (struct winograd_plan *)base;
	struct convolution c = { .dev = dev, .plan = plan, .pass = &plan->bwd, .x = dy, .w = w, .y = dx, .turned = true, .accumulate = accumulate };

	convolve(&c);
}

/* ---- the gradient of the filter ---- */

struct gradient {
	struct cpu_device *dev;
	const struct winograd_plan *plan;
	const float *x, *dy;
	float *dw, *db;
	struct winograd_stack u, v, m;  /* u's rows: output channels, columns: input channels */
	float *sums;                    /* of dy by channel, for each thread */
};

static size_t gradient_carve(struct gradient *g, float *base)
{
	const struct pass *p = &g->plan->fwd;
	struct carver carver = { base, 0 };
	int vl = g->plan->kernels->vl, threads = g->dev->threads, in = p->in.c, out = p->out.c;

	g->sums = carve(&carver, (size_t)out * threads);
	if (p->by_weights) {
		g->v = carve_stack(&carver, vl, p->tiles, in, 1);
		g->m = carve_stack(&carver, vl, p->tiles, out, 1);
		g->u = carve_stack(&carver, vl, min(out, PIECE), min(in, 2 * vl), threads);
	} else {
		g->v = carve_stack(&carver, vl, p->block, in, threads);
		g->m = carve_stack(&carver, vl, p->block, out, threads);
		g->u = carve_stack(&carver, vl, out, in, threads);
	}
	return carver.used;
}

/* Transforms tiles for the products. The plane of the point (1, 1) holds the plain sum of each tile of dy: the bias' gradient. */
static void transform_tiles(const struct gradient *g, int64_t tile, int n, const struct winograd_stack *v,
                            const struct winograd_stack *m, float *sums)
{
	const struct winograd_kernels *k = g->plan->kernels;
	const struct pass *p = &g->plan->fwd;

	k->input(&p->in, g->x, tile, n, v);
	k->gradient(&p->out, g->dy, tile, n, m);
	if (g->db)
		k->column_sums(n, p->out.c, m, 1 * 6 + 1, sums);
}

static void gradient_by_tiles(const struct gradient *g, int thread, int team)
{
	const struct winograd_kernels *k = g->plan->kernels;
	const struct pass *p = &g->plan->fwd;
	int vl = k->vl, in = p->in.c, out = p->out.c;
	struct winograd_stack u = own(&g->u, thread), v = own(&g->v, thread), m = own(&g->m, thread);
	int64_t from, to, parts;

	cpu_slice(p->tiles, team, thread, 1, &from, &to);
	parts = (to - from + p->block - 1) / p->block;
	for (int64_t i = 0; i < parts || i == 0; i++) {         /* a thread without tiles still leaves zeros */
		int64_t tile = parts ? from + (to - from) * i / parts : 0;
		int n = parts ? (int)(from + (to - from) * (i + 1) / parts - tile) : 0;

		transform_tiles(g, tile, n, &v, &m, g->sums + (size_t)thread * out);
		k->multiply_transposed(n, out, in, &m, &v, i > 0, &u);
		cpu_poll(g->dev);
	}
	#pragma omp barrier
	cpu_slice((int64_t)out * (in / vl), team, thread, 1, &from, &to);
	for (int64_t i = from; i < to; i++) {
		int row = (int)(i % out), col = (int)(i / out) * vl;

		u = part(&g->u, vl, row, col);
		k->filter_gradient(&u, team, stack_size(&u), in, row, 1, col, vl, g->dw);
	}
}

static void gradient_by_weights(const struct gradient *g, int thread, int team)
{
	const struct winograd_kernels *k = g->plan->kernels;
	const struct pass *p = &g->plan->fwd;
	int vl = k->vl, in = p->in.c, out = p->out.c, panel = 2 * vl, panels = (in + panel - 1) / panel;
	int pieces = (out + PIECE - 1) / PIECE;
	struct winograd_stack u = own(&g->u, thread), v, m;
	int64_t from, to;

	cpu_slice(p->tiles, team, thread, 1, &from, &to);
	v = part(&g->v, vl, from, 0);
	m = part(&g->m, vl, from, 0);
	transform_tiles(g, from, (int)(to - from), &v, &m, g->sums + (size_t)thread * out);
	#pragma omp barrier
	cpu_slice((int64_t)panels * pieces, team, thread, 1, &from, &to);
	for (int64_t i = from; i < to; i++) {
		int col = (int)(i / pieces) * panel, cols = min(panel, in - col);
		int row = (int)(i % pieces) * PIECE, rows = min(PIECE, out - row);

		v = part(&g->v, vl, 0, col);
		m = part(&g->m, vl, 0, row);
		k->multiply_transposed((int)p->tiles, rows, cols, &m, &v, false, &u);
		k->filter_gradient(&u, 1, 0, in, row, rows, col, cols, g->dw);
		cpu_poll(g->dev);
	}
}

static void winograd_bwd_filter(struct cpu_device *dev, struct conv_plan *base, const float *x, const float *dy, float *dw, float *db)
{
	const struct winograd_plan *plan = (struct winograd_plan *)base;
	struct gradient g = { .dev = dev, .plan = plan, .x = x, .dy = dy, .dw = dw, .db = db };
	int out = base->desc.out, team = 1;

	gradient_carve(&g, dev->scratch);
	for (int i = 0; i < out * dev->threads; i++)
		g.sums[i] = 0;
	#pragma omp parallel num_threads(dev->threads)
	{
		#pragma omp master
		team = omp_get_num_threads();
		if (plan->fwd.by_weights)
			gradient_by_weights(&g, omp_get_thread_num(), omp_get_num_threads());
		else
			gradient_by_tiles(&g, omp_get_thread_num(), omp_get_num_threads());
	}
	for (int o = 0; o < out && db; o++) {
		db[o] = g.sums[o];
		for (int t = 1; t < team; t++)
			db[o] += g.sums[(size_t)t * out + o];
	}
}

/* ---- planning ---- */

static struct pass pass_between(const struct winograd_kernels *k, struct winograd_map in, struct winograd_map out, int images)
{
	struct pass p = { .in = in, .out = out };
	int bytes = WINOGRAD_PLANES * (in.c + out.c) * (int)sizeof(float);

	p.in.th = p.out.th = (out.h + WINOGRAD_TILE - 1) / WINOGRAD_TILE;
	p.in.tw = p.out.tw = (out.w + WINOGRAD_TILE - 1) / WINOGRAD_TILE;
	p.tiles = (int64_t)images * p.out.th * p.out.tw;
	p.block = BLOCK_BYTES / bytes / k->rows * k->rows;
	if (p.block < k->rows)
		p.block = k->rows;
	/* the planes of all tiles are no larger than those of the weights; measured: near that point both ways take the same time */
	p.by_weights = p.tiles * (in.c + out.c) <= 2 * (int64_t)in.c * out.c;
	return p;
}

static struct conv_plan *winograd_plan(struct cpu_device *dev, const struct conv_desc *d)
{
	const struct winograd_kernels *k = winograd_tables[dev->isa];
	int oh = conv_out(d->h, d->kh, d->stride, d->pad), ow = conv_out(d->w, d->kw, d->stride, d->pad);
	struct winograd_plan *plan;
	struct convolution fwd, bwd;
	struct gradient gradient;

	if (d->kh != 3 || d->kw != 3 || d->stride != 1 || d->pad > 2 || d->c % k->vl || d->out % k->vl)
		return NULL;
	plan = xcalloc(1, sizeof(*plan));
	plan->base = (struct conv_plan){ .impl = &conv_winograd, .desc = *d, .name = "Winograd F(4x4,3x3)" };
	plan->kernels = k;
	plan->fwd = pass_between(k, (struct winograd_map){ .h = d->h, .w = d->w, .c = d->c, .pad = d->pad },
	                         (struct winograd_map){ .h = oh, .w = ow, .c = d->out }, d->n);
	plan->bwd = pass_between(k, (struct winograd_map){ .h = oh, .w = ow, .c = d->out, .pad = 2 - d->pad },
	                         (struct winograd_map){ .h = d->h, .w = d->w, .c = d->c }, d->n);
	fwd = (struct convolution){ .dev = dev, .plan = plan, .pass = &plan->fwd };
	bwd = (struct convolution){ .dev = dev, .plan = plan, .pass = &plan->bwd };
	gradient = (struct gradient){ .dev = dev, .plan = plan };
	cpu_scratch_reserve(dev, convolution_carve(&fwd, NULL) * sizeof(float));
	cpu_scratch_reserve(dev, convolution_carve(&bwd, NULL) * sizeof(float));
	cpu_scratch_reserve(dev, gradient_carve(&gradient, NULL) * sizeof(float));
	return &plan->base;
}

static void winograd_release(struct conv_plan *plan) { free(plan); }

const struct conv_impl conv_winograd = {
	.name = "winograd",
	.plan = winograd_plan,
	.release = winograd_release,
	.fwd = winograd_fwd,
	.bwd_data = winograd_bwd_data,
	.bwd_filter = winograd_bwd_filter,
};
