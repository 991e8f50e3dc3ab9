/*
 * Convolutions and matrix products for the emulated GPU, in place of core/cuda/cudnn_graph.c, conv_select.c, conv_cache.c,
 * conv_library.c and cublas.c; core/cuda/conv.c, above them, is the real one. Plain loops on the CPU, in stream order, sums in double.
 *
 * All that conv.c can meet is met, by the shape: no engine widens the weight gradient where the outputs are a multiple of 16; none
 * adds where the input channels are odd. Addresses must be aligned as cuDNN's plans want them, and what is in the workspace before is
 * lost.
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/cuda/conv_select.h"
#include "../../core/cuda/cublas.h"
#include "../../core/die.h"

enum { WORKSPACE = 4096, ALIGNMENT = 16 };

const char *const conv_direction_name[CONV_DIRECTIONS] = { "fprop", "dgrad", "dgrad+=", "wgrad" };

/* ---- numbers ---- */

static double load(enum dtype type, const void *p, int64_t i)
{
	uint32_t bits;
	float value;

	if (type == DTYPE_F32)
		return ((const float *)p)[i];
	bits = (uint32_t)((const uint16_t *)p)[i] << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* To the nearest, ties to even; a NaN stays one. */
static void store(enum dtype type, void *p, int64_t i, double v)
{
	float value = (float)v;
	uint32_t bits;

	if (type == DTYPE_F32) {
		((float *)p)[i] = value;
		return;
	}
	memcpy(&bits, &value, sizeof(bits));
	if (value == value)
		bits += 0x7fff + (bits >> 16 & 1);
	else
		bits |= 0x400000;
	((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
}

static double *unpack(enum dtype type, const void *p, int64_t n)
{
	double *d = xcalloc((size_t)n, sizeof(*d));

	for (int64_t i = 0; i < n; i++)
		d[i] = load(type, p, i);
	return d;
}

/* rows × columns to columns × rows */
static double *turned(double *from, int64_t rows, int64_t columns)
{
	double *to = xcalloc((size_t)(rows * columns), sizeof(*to));

	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < columns; j++)
			to[j * rows + i] = from[i * columns + j];
	free(from);
	return to;
}

static void check_aligned(const void *p) { CHECK(p && (uintptr_t)p % ALIGNMENT == 0); }

/* ---- convolutions ---- */

struct execution {
	struct conv_problem problem;
};

/* One convolution, queued. */
struct job {
	struct conv_problem problem;
	void *x, *w, *y, *workspace;
};

/* Unpacked. For fprop w is turned, the outputs of a tap and channel lie side by side: no loop waits for its own sum. */
struct work {
	double *x, *w, *y;
	int c, out;
	int64_t row;                    /* weights of an output */
};

/* What one output pixel and one tap have to do with each other; all three directions walk the same pairs. `in`: where the input
 * pixel's channels begin, `tap`: the tap's, in a row of weights, `at`: the output pixel's. */
static void add_products(const struct work *k, enum conv_direction direction, int64_t in, int64_t tap, int64_t at)
{
	double *restrict x = k->x + in, *restrict y = k->y + at;

	if (direction == CONV_FPROP) {
		for (int c = 0; c < k->c; c++) {
			const double *restrict w = k->w + (tap + c) * k->out;

			for (int o = 0; o < k->out; o++)
				y[o] += x[c] * w[o];
		}
		return;
	}
	for (int o = 0; o < k->out; o++) {
		double *restrict w = k->w + o * k->row + tap, g = y[o];

		if (direction == CONV_WGRAD)
			for (int c = 0; c < k->c; c++)
				w[c] += g * x[c];
		else
			for (int c = 0; c < k->c; c++)
				x[c] += g * w[c];
	}
}

static void walk(const struct conv_problem *p, const struct work *k)
{
	const struct conv_desc *d = &p->shape;
	int oh = conv_out(d->h, d->kh, d->stride, d->pad), ow = conv_out(d->w, d->kw, d->stride, d->pad);
	int64_t at = 0;

	for (int n = 0; n < d->n; n++)
		for (int oy = 0; oy < oh; oy++)
			for (int ox = 0; ox < ow; ox++, at += d->out)
				for (int ky = 0; ky < d->kh; ky++)
					for (int kx = 0; kx < d->kw; kx++) {
						int iy = oy * d->stride + ky - d->pad, ix = ox * d->stride + kx - d->pad;

						if (iy >= 0 && iy < d->h && ix >= 0 && ix < d->w)
							add_products(k, p->direction, (((int64_t)n * d->h + iy) * d->w + ix) * d->c,
							             ((int64_t)ky * d->kw + kx) * d->c, at);
					}
}

static void run_job(void *args)
{
	const struct job *j = args;
	const struct conv_problem *p = &j->problem;
	const struct conv_desc *d = &p->shape;
	int64_t nx = (int64_t)d->n * d->h * d->w * d->c, row = (int64_t)d->kh * d->kw * d->c, nw = d->out * row;
	int64_t ny = (int64_t)d->n * conv_out(d->h, d->kh, d->stride, d->pad) * conv_out(d->w, d->kw, d->stride, d->pad) * d->out;
	bool to_x = p->direction == CONV_DGRAD || p->direction == CONV_DGRAD_ADD, to_w = p->direction == CONV_WGRAD;
	struct work k = {
		.x = p->direction == CONV_DGRAD ? xcalloc((size_t)nx, sizeof(double)) : unpack(p->type, j->x, nx),
		.w = to_w ? xcalloc((size_t)nw, sizeof(double)) : unpack(p->type, j->w, nw),
		.y = !to_x && !to_w ? xcalloc((size_t)ny, sizeof(double)) : unpack(p->type, j->y, ny),
		.c = d->c, .out = d->out, .row = row,
	};

	memset(j->workspace, 0xff, WORKSPACE);
	if (p->direction == CONV_FPROP)
		k.w = turned(k.w, d->out, row);
	walk(p, &k);
	for (int64_t i = 0; i < nx && to_x; i++)
		store(p->type, j->x, i, k.x[i]);
	for (int64_t i = 0; i < nw && to_w; i++)
		store(p->dw, j->w, i, k.w[i]);
	for (int64_t i = 0; i < ny && !to_x && !to_w; i++)
		store(p->type, j->y, i, k.y[i]);
	free(k.x);
	free(k.w);
	free(k.y);
}

bool execution_run(struct execution *e, cudnnHandle_t handle, const void *x, const void *w, const void *y, void *workspace)
{
	struct job job = { e->problem, (void *)x, (void *)w, (void *)y, workspace };

	check_aligned(x), check_aligned(w), check_aligned(y), check_aligned(workspace);
	CUDA(emulator_run((cudaStream_t)handle, run_job, &job, sizeof(job)));
	return true;
}

const char *cudnn_words(void) { return "emulated"; }

/* ---- the choice ---- */

float conv_known(struct conv_library *l, const struct conv_problem *p)
{
	(void)l, (void)p;
	return 0;
}

struct conv_choice conv_select(struct conv_library *l, const struct conv_problem *p)
{
	struct conv_choice choice = { .engine = "emulated", .workspace = WORKSPACE };
	bool widens = p->direction == CONV_WGRAD && p->dw != p->type;

	(void)l;
	if ((p->direction == CONV_DGRAD_ADD && p->shape.c % 2) || (widens && p->shape.out % 16 == 0))
		return (struct conv_choice){ .graph = NULL };
	choice.execution = xcalloc(1, sizeof(*choice.execution));
	choice.execution->problem = *p;
	return choice;
}

void conv_choice_release(struct conv_choice *choice)
{
	free(choice->execution);
	choice->execution = NULL;
}

/* ---- matrix products ---- */

struct matmul {
	struct matmul_shape shape;
};

struct product {
	struct matmul_shape shape;
	const void *a, *b;
	void *c, *workspace;
	float beta;
};

static void run_product(void *args)
{
	const struct product *p = args;
	const struct matmul_shape *s = &p->shape;
	double *a = unpack(s->in, p->a, s->m * s->k), *b = unpack(s->in, p->b, s->k * s->n);

	memset(p->workspace, 0xff, WORKSPACE);
	for (int64_t i = 0; i < s->m; i++)
		for (int64_t j = 0; j < s->n; j++) {
			double sum = p->beta != 0 ? p->beta * load(s->out, p->c, i * s->n + j) : 0;

			for (int64_t k = 0; k < s->k; k++)
				sum += a[s->a_transposed ? k * s->m + i : i * s->k + k] * b[s->b_transposed ? j * s->k + k : k * s->n + j];
			store(s->out, p->c, i * s->n + j, sum);
		}
	free(a);
	free(b);
}

struct matmul *matmul_open(cublasLtHandle_t handle, const struct matmul_shape *shape, size_t workspace)
{
	struct matmul *m = xcalloc(1, sizeof(*m));

	(void)handle;
	CHECK(workspace >= WORKSPACE);
	m->shape = *shape;
	return m;
}

void matmul_close(struct matmul *m) { free(m); }

size_t matmul_workspace(const struct matmul *m) { return m ? WORKSPACE : 0; }

void matmul_run(const struct matmul *m, cublasLtHandle_t handle, cudaStream_t stream, const void *a, const void *b, float beta, void *c,
                void *workspace)
{
	struct product p = { m->shape, a, b, c, workspace, beta };

	(void)handle;
	check_aligned(a), check_aligned(b), check_aligned(c), check_aligned(workspace);
	CUDA(emulator_run(stream, run_product, &p, sizeof(p)));
}

/* ---- the library: the handle is the stream itself ---- */

struct conv_library *conv_library(struct cuda_device *device)
{
	if (!device->conv) {
		device->conv = xcalloc(1, sizeof(*device->conv));
		device->conv->device = device;
	}
	return device->conv;
}

cudnnHandle_t conv_library_on(struct conv_library *l, struct stream *s)
{
	(void)l;
	return (cudnnHandle_t)s->handle;
}

void cuda_conv_library_close(struct cuda_device *device)
{
	free(device->conv);
	device->conv = NULL;
}

const char *cuda_conv_words(void) { return "emulated cuDNN"; }
