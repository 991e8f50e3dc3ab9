/* Vector operations in plain C, each element in double. */
#include <math.h>

#include "../die.h"
#include "cpu.h"

struct vec_args {
	int64_t n;
	float a, b;
	enum dtype dtype;
	enum reduce reduce;
	const struct hyper *hyper;
	const void *in[4];
	void *out[3];
};

#define QUEUE(stream, fn, ...) cpu_run(stream, fn, &(struct vec_args){ __VA_ARGS__ }, sizeof(struct vec_args))

static void run_axpby(void *args, int team)
{
	const struct vec_args *v = args;
	const float *x = v->in[0];
	float *y = v->out[0];

	(void)team;
	for (int64_t i = 0; i < v->n; i++)
		y[i] = (float)((double)v->a * x[i] + (v->b == 0 ? 0 : (double)v->b * y[i]));
}

static void vec_scale(struct stream *s, int64_t n, float a, const float *x, float *y)
{
	QUEUE(s, run_axpby, .n = n, .a = a, .in = { x }, .out = { y });
}

static void vec_axpby(struct stream *s, int64_t n, float a, const float *x, float b, float *y)
{
	QUEUE(s, run_axpby, .n = n, .a = a, .b = b, .in = { x }, .out = { y });
}

static void run_diff(void *args, int team)
{
	const struct vec_args *v = args;
	const float *x = v->in[0], *z = v->in[1];
	float *d = v->out[0];

	(void)team;
	for (int64_t i = 0; i < v->n; i++)
		d[i] = x[i] - z[i];
}

static void vec_diff(struct stream *s, int64_t n, const float *x, const float *z, float *d)
{
	QUEUE(s, run_diff, .n = n, .in = { x, z }, .out = { d });
}

static bool takes(enum reduce op, double src, double dst) { return op == REDUCE_MAX ? src > dst : src < dst; }

static void reduce_one(const struct vec_args *v, int64_t i)
{
	const int64_t *ls = v->in[0];
	const double *ds = v->in[0];
	const float *fs = v->in[0];
	int64_t *ld = v->out[0];
	double *dd = v->out[0];
	float *fd = v->out[0];

	switch (v->dtype) {
	case DTYPE_F32:
		fd[i] = v->reduce == REDUCE_SUM ? fd[i] + fs[i] : takes(v->reduce, fs[i], fd[i]) ? fs[i] : fd[i];
		break;
	case DTYPE_F64:
		dd[i] = v->reduce == REDUCE_SUM ? dd[i] + ds[i] : takes(v->reduce, ds[i], dd[i]) ? ds[i] : dd[i];
		break;
	case DTYPE_I64:
		if (v->reduce == REDUCE_SUM)
			ld[i] += ls[i];
		else if (v->reduce == REDUCE_MAX ? ls[i] > ld[i] : ls[i] < ld[i])
			ld[i] = ls[i];
		break;
	case DTYPE_BF16:
		CHECK(!"no sums in bf16");
	}
}

static void run_reduce(void *args, int team)
{
	const struct vec_args *v = args;

	(void)team;
	for (int64_t i = 0; i < v->n; i++)
		reduce_one(v, i);
}

static void vec_reduce(struct stream *s, int64_t n, enum dtype dtype, enum reduce op, const void *src, void *dst)
{
	QUEUE(s, run_reduce, .n = n, .dtype = dtype, .reduce = op, .in = { src }, .out = { dst });
}

static void run_adopt(void *args, int team)
{
	const struct vec_args *v = args;
	const float *avg = v->in[0];
	float *z = v->out[0], *x = v->out[1];

	(void)team;
	for (int64_t i = 0; i < v->n; i++)
		x[i] = z[i] = z[i] + avg[i];
}

static void vec_adopt(struct stream *s, int64_t n, const float *avg, float *z, float *x)
{
	QUEUE(s, run_adopt, .n = n, .in = { avg }, .out = { z, x });
}

static void run_merge(void *args, int team)
{
	const struct vec_args *v = args;
	const float *avg = v->in[0];
	float *x = v->out[0], *z = v->out[1], *d = v->out[2];

	(void)team;
	for (int64_t i = 0; i < v->n; i++) {
		z[i] = z[i] + avg[i];
		x[i] = x[i] + (avg[i] - d[i]);
		d[i] = x[i] - z[i];
	}
}

static void vec_merge(struct stream *s, int64_t n, const float *avg, float *x, float *z, float *d)
{
	QUEUE(s, run_merge, .n = n, .in = { avg }, .out = { x, z, d });
}

static void run_sgd(void *args, int team)
{
	const struct vec_args *a = args;
	const struct hyper *h = a->hyper;
	const float *g = a->in[0], *v = a->in[1], *x = a->in[2];
	float *v_out = a->out[0], *x_out = a->out[1];

	(void)team;
	for (int64_t i = 0; i < a->n; i++) {
		double step = g[i] + (double)h->weight_decay * x[i];

		if (h->momentum != 0) {
			double velocity = h->first ? step : (double)h->momentum * v[i] + step;

			v_out[i] = (float)velocity;
			step = h->nesterov ? step + (double)h->momentum * velocity : velocity;
		}
		x_out[i] = (float)(x[i] - (double)h->lr * step);
	}
}

static void vec_sgd(struct stream *s, int64_t n, const struct hyper *h, const float *g, const float *v, const float *x,
                    float *v_out, float *x_out)
{
	QUEUE(s, run_sgd, .n = n, .hyper = h, .in = { g, v, x }, .out = { v_out, x_out });
}

static void run_adamw(void *args, int team)
{
	const struct vec_args *a = args;
	const struct hyper *h = a->hyper;
	const float *g = a->in[0], *m = a->in[1], *v = a->in[2], *x = a->in[3];
	float *m_out = a->out[0], *v_out = a->out[1], *x_out = a->out[2];
	double decay = 1 - (double)h->lr * h->weight_decay;

	(void)team;
	for (int64_t i = 0; i < a->n; i++) {
		double first = (double)h->beta1 * m[i] + (1 - (double)h->beta1) * g[i];
		double second = (double)h->beta2 * v[i] + (1 - (double)h->beta2) * g[i] * g[i];

		x_out[i] = (float)(decay * x[i] - h->lr * (first / h->correct1) / (sqrt(second / h->correct2) + h->epsilon));
		m_out[i] = (float)first;
		v_out[i] = (float)second;
	}
}

static void vec_adamw(struct stream *s, int64_t n, const struct hyper *h, const float *g, const float *m, const float *v,
                      const float *x, float *m_out, float *v_out, float *x_out)
{
	QUEUE(s, run_adamw, .n = n, .hyper = h, .in = { g, m, v, x }, .out = { m_out, v_out, x_out });
}

static void run_clip(void *args, int team)
{
	const struct vec_args *v = args;
	const float *x = v->in[0];
	float *y = v->out[0];
	double squares = 0;

	(void)team;
	for (int64_t i = 0; i < v->n; i++)
		squares += (double)x[i] * x[i];
	for (int64_t i = 0; i < v->n; i++)
		y[i] = sqrt(squares) > v->a ? (float)(v->a / sqrt(squares) * x[i]) : x[i];
}

static void vec_clip(struct stream *s, int64_t n, float most, const float *x, float *y)
{
	QUEUE(s, run_clip, .n = n, .a = most, .in = { x }, .out = { y });
}

const struct vec_ops reference_vec_ops = {
	.scale = vec_scale,
	.axpby = vec_axpby,
	.diff = vec_diff,
	.reduce = vec_reduce,
	.adopt = vec_adopt,
	.merge = vec_merge,
	.sgd = vec_sgd,
	.adamw = vec_adamw,
	.clip = vec_clip,
};
