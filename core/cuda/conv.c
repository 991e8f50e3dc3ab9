/*
 * The convolutions of struct nn_ops: cuDNN for those that slide, cuBLASLt for those whose kernel covers the image (linear layers).
 *
 * bf16: x, y and their gradients are bf16; w is the bf16 copy of the parameters (cuda_half), dw is fp32. For bf16 factors and an
 * fp32 dw, cuDNN 9.19 has one engine for the H100, in tiles of 256x64, and it refuses to cut the sum over the pixels into pieces:
 * 3x3 weights of 64 by 64 channels are three to nine tiles, work for as many of 132 processors. The engines that do cut it write
 * bf16, rounded once at the end, which we then widen; so does PyTorch's autocast. Both ways are measured, and the fp32 one is taken
 * unless the other is a fifth faster.
 *
 * An image (pitch > c) has channels of zeros behind its own. The parameters have not, so they are copied to padded weights before
 * fprop, and wgrad writes a padded gradient that is trimmed. Nobody asks for the gradient of an image.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../die.h"
#include "conv_select.h"
#include "cublas.h"

enum { FPROP, DGRAD, WGRAD, PRODUCTS };         /* of a linear layer */

struct conv_plan {
	struct conv_desc desc;                  /* its pitch is never 0 */
	struct conv_library *library;
	int64_t rows;                           /* output pixels */
	int64_t weights;                        /* in memory: with padded channels */
	struct matmul *product[PRODUCTS];       /* a linear layer has these, else NULL, */
	struct conv_choice choice[CONV_DIRECTIONS];     /* the others these */
	/* Device memory of the plan; NULL where it is not needed. */
	void *padded;                           /* weights, activation type */
	float *padded_dw;
	void *narrow_dw;                        /* bf16, to be widened */
	void *dx;                               /* to be added; only where no engine adds */
	bool adds;                              /* dx += … has been planned */
	char name[160];
};

static bool is_linear(const struct conv_desc *d) { return d->kh == d->h && d->kw == d->w && d->pad == 0; }

static void *alloc(struct conv_plan *p, int64_t bytes)
{
	return cuda_mem_ops.alloc(&p->library->device->base, (size_t)bytes);
}

/* ---- planning ---- */

static struct conv_problem problem_of(const struct conv_plan *p, enum conv_direction direction, enum dtype dw)
{
	struct conv_problem problem = { direction, p->desc, p->library->device->base.activation, dw };

	problem.shape.c = p->desc.pitch;
	return problem;
}

static void plan_direction(struct conv_plan *p, enum conv_direction direction)
{
	const struct conv_problem problem = problem_of(p, direction, DTYPE_F32);

	p->choice[direction] = conv_select(p->library, &problem);
}

/* Is it worth to round dw to bf16? Widening costs a launch and six bytes an element. */
static bool worth(const struct conv_plan *p, float wide_us, float narrow_us)
{
	return narrow_us + 2 + 6 * (float)p->weights / 2e6f < 0.8f * wide_us;
}

static void plan_wgrad(struct conv_plan *p)
{
	const struct conv_problem wide = problem_of(p, CONV_WGRAD, DTYPE_F32), narrow = problem_of(p, CONV_WGRAD, DTYPE_BF16);
	float wide_us = conv_known(p->library, &wide), narrow_us = conv_known(p->library, &narrow);
	bool known = wide_us > 0 && narrow_us > 0, rounds = known && worth(p, wide_us, narrow_us);
	struct conv_choice first, second;

	if (wide.type == DTYPE_F32) {
		plan_direction(p, CONV_WGRAD);
		return;
	}
	first = conv_select(p->library, rounds ? &narrow : &wide);
	if (!known || !first.execution) {       /* else leave it: to build the wide one in vain takes a second */
		second = conv_select(p->library, rounds ? &wide : &narrow);
		if (second.execution && (!first.execution || worth(p, first.us, second.us))) {
			conv_choice_release(&first);
			first = second;
			rounds = !rounds;
		} else {
			conv_choice_release(&second);
		}
	}
	p->choice[CONV_WGRAD] = first;
	if (rounds)
		p->narrow_dw = alloc(p, p->weights * (int64_t)sizeof(uint16_t));
}

/* Planned when it is first asked for, in the first pass, which is never recorded: only inputs with several readers want it. */
static void plan_dgrad_add(struct conv_plan *p)
{
	const struct conv_desc *d = &p->desc;

	p->adds = true;
	plan_direction(p, CONV_DGRAD_ADD);
	if (p->choice[CONV_DGRAD].execution && !p->choice[CONV_DGRAD_ADD].execution)
		p->dx = alloc(p, (int64_t)d->n * d->h * d->w * d->c * (int64_t)dtype_size(p->library->device->base.activation));
}

static void plan_products(struct conv_plan *p)
{
	const struct cuda_device *device = p->library->device;
	const struct conv_desc *d = &p->desc;
	int64_t k = (int64_t)d->kh * d->kw * d->pitch;
	enum dtype type = device->base.activation;
	const struct matmul_shape shape[PRODUCTS] = {
		/* y = x w', dx = dy w, dw = dy' x */
		[FPROP] = { .m = d->n, .n = d->out, .k = k, .b_transposed = true, .in = type, .out = type },
		[DGRAD] = { .m = d->n, .n = k, .k = d->out, .in = type, .out = type },
		[WGRAD] = { .m = d->out, .n = k, .k = d->n, .a_transposed = true, .in = type, .out = DTYPE_F32 },
	};

	for (int i = 0; i < PRODUCTS; i++) {
		struct matmul_shape s = shape[i];

		s.tf32 = device->base.config.precision == PRECISION_TF32;
		p->product[i] = matmul_open(p->library->blas, &s, CUDA_SCRATCH);
	}
	snprintf(p->name, sizeof(p->name), "cuBLASLt");
}

/* "cuDNN eng 62 14 µs | 67 15 µs | 65 21 µs", for fprop, dgrad and wgrad. */
static void name_plan(struct conv_plan *p)
{
	static const enum conv_direction shown[] = { CONV_FPROP, CONV_DGRAD, CONV_WGRAD };
	size_t used = (size_t)snprintf(p->name, sizeof(p->name), "cuDNN eng");

	for (int i = 0; i < 3 && used < sizeof(p->name); i++) {
		const struct conv_choice *c = &p->choice[shown[i]];

		used += (size_t)snprintf(p->name + used, sizeof(p->name) - used, "%s %.*s", i ? " |" : "",
		                         c->execution ? (int)strcspn(c->engine, ":") : 1, c->execution ? c->engine : "-");
		if (c->execution && c->us > 0 && used < sizeof(p->name))
			used += (size_t)snprintf(p->name + used, sizeof(p->name) - used, " %.0f µs", (double)c->us);
	}
	if (p->narrow_dw && used < sizeof(p->name))
		snprintf(p->name + used, sizeof(p->name) - used, " (bf16)");
}

struct conv_plan *cuda_conv_plan(struct device *device, const struct conv_desc *d)
{
	struct conv_plan *p = xcalloc(1, sizeof(*p));

	CHECK(d->n > 0 && d->c > 0 && conv_pitch(d) >= d->c && d->out > 0 && d->stride > 0 && d->pad >= 0);
	CHECK(d->h + 2 * d->pad >= d->kh && d->w + 2 * d->pad >= d->kw);
	p->desc = *d;
	p->desc.pitch = conv_pitch(d);
	p->library = conv_library(cuda(device));
	p->rows = (int64_t)d->n * conv_out(d->h, d->kh, d->stride, d->pad) * conv_out(d->w, d->kw, d->stride, d->pad);
	p->weights = (int64_t)d->out * d->kh * d->kw * p->desc.pitch;
	if (is_linear(d)) {
		plan_products(p);
	} else {
		plan_direction(p, CONV_FPROP);
		if (p->desc.pitch == d->c)
			plan_direction(p, CONV_DGRAD);
		plan_wgrad(p);
		name_plan(p);
	}
	if (p->desc.pitch > d->c) {
		p->padded = alloc(p, p->weights * (int64_t)dtype_size(device->activation));
		p->padded_dw = alloc(p, p->weights * (int64_t)sizeof(float));
	}
	return p;
}

const char *cuda_conv_name(const struct conv_plan *p) { return p->name; }

void cuda_conv_release(struct device *device, struct conv_plan *p)
{
	if (!p)
		return;
	for (int i = 0; i < CONV_DIRECTIONS; i++)
		conv_choice_release(&p->choice[i]);
	for (int i = 0; i < PRODUCTS; i++)
		matmul_close(p->product[i]);
	cuda_mem_ops.free(device, p->padded);
	cuda_mem_ops.free(device, p->padded_dw);
	cuda_mem_ops.free(device, p->narrow_dw);
	cuda_mem_ops.free(device, p->dx);
	free(p);
}

/* ---- the step path ---- */

static void convolve(struct stream *s, const struct conv_plan *p, enum conv_direction direction, const void *x, const void *w,
                     const void *y)
{
	const struct conv_choice *c = &p->choice[direction];
	const struct conv_desc *d = &p->desc;
	void *workspace = c->workspace ? cuda_scratch(s, (size_t)c->workspace) : NULL;

	if (!c->execution)
		die(STATUS_FAILURE, "cuDNN has no engine for %s of %dx%dx%dx%d by %d filters of %dx%d, stride %d, padding %d, within "
		    "device.precision and deterministic as they are set; another precision may have one", conv_direction_name[direction],
		    d->n, d->h, d->w, d->pitch, d->out, d->kh, d->kw, d->stride, d->pad);
	if (!execution_run(c->execution, conv_library_on(p->library, s), x, w, y, workspace))
		die(STATUS_FAILURE, "cuDNN's engine %s fails at %s: %s", c->engine, conv_direction_name[direction], cudnn_words());
	cuda_queued(s, conv_direction_name[direction]);
}

static void multiply(struct stream *s, const struct conv_plan *p, int product, const void *a, const void *b, float beta, void *c)
{
	const struct matmul *m = p->product[product];
	size_t bytes = matmul_workspace(m);

	matmul_run(m, p->library->blas, s->handle, a, b, beta, c, bytes ? cuda_scratch(s, bytes) : NULL);
	cuda_queued(s, "linear");
}

/* The parameters in the type and with the channels that the kernels read. */
static const void *ready_weights(struct stream *s, const struct conv_plan *p, const float *w)
{
	const struct conv_desc *d = &p->desc;
	const void *weights = s->dev->base.activation == DTYPE_BF16 ? cuda_half(s->dev, w) : w;

	if (!p->padded)
		return weights;
	cuda_weight_pad(s, (int64_t)d->out * d->kh * d->kw, d->c, d->pitch, weights, p->padded);
	return p->padded;
}

void cuda_conv_fwd(struct stream *s, struct conv_plan *p, const void *x, const float *w, const float *b, void *y)
{
	const void *weights = ready_weights(s, p, w);

	CHECK(!p->desc.bias || b);
	if (p->product[FPROP])
		multiply(s, p, FPROP, x, weights, 0, y);
	else
		convolve(s, p, CONV_FPROP, x, weights, y);
	if (p->desc.bias)
		cuda_bias_add(s, p->rows, p->desc.out, b, y);
}

void cuda_conv_bwd_data(struct stream *s, struct conv_plan *p, const void *dy, const float *w, void *dx, bool accumulate)
{
	const struct conv_desc *d = &p->desc;
	const void *weights = ready_weights(s, p, w);

	CHECK(d->pitch == d->c);
	if (p->product[DGRAD]) {
		multiply(s, p, DGRAD, dy, weights, accumulate, dx);
		return;
	}
	if (accumulate && !p->adds)
		plan_dgrad_add(p);
	if (accumulate && p->dx) {
		convolve(s, p, CONV_DGRAD, p->dx, weights, dy);
		cuda_grad_add(s, (int64_t)d->n * d->h * d->w * d->c, p->dx, dx);
	} else {
		convolve(s, p, accumulate ? CONV_DGRAD_ADD : CONV_DGRAD, dx, weights, dy);
	}
}

void cuda_conv_bwd_filter(struct stream *s, struct conv_plan *p, const void *x, const void *dy, float *dw, float *db)
{
	const struct conv_desc *d = &p->desc;
	float *wide = p->padded_dw ? p->padded_dw : dw;

	if (p->product[WGRAD])
		multiply(s, p, WGRAD, dy, x, 0, wide);
	else
		convolve(s, p, CONV_WGRAD, x, p->narrow_dw ? p->narrow_dw : wide, dy);
	if (p->narrow_dw)
		cuda_to_f32(s, p->weights, p->narrow_dw, wide);
	if (p->padded_dw)
		cuda_weight_trim(s, (int64_t)d->out * d->kh * d->kw, d->c, d->pitch, p->padded_dw, dw);
	if (d->bias && db)
		cuda_bias_sum(s, p->rows, d->out, dy, db);
}
