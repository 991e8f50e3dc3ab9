/*
 * Single operations of the CUDA device in the sizes of real training:
 *
 *     bench_gpu_ops convs [batch 64] [bf16|tf32|fp32] [repetitions 50]         the convolutions of ResNet-50 for 224 pixels
 *     bench_gpu_ops topk [repetitions 50] [elements …]                         top-k with error feedback, gTop-k's merge
 *
 * How they are timed, and what a floor is: bench_kit.h. scripts/gpu/bench puts PyTorch's times of the same shapes beside these.
 */
#include "bench_kit.h"

/* ---- convolutions ---- */

struct conv_shape {
	int c, out, image, kernel, stride, times;       /* times: how often the network has it */
};

static const struct conv_shape resnet50[] = {
	{ 3, 64, 224, 7, 2, 1 },
	{ 64, 64, 56, 1, 1, 1 }, { 256, 64, 56, 1, 1, 2 }, { 64, 64, 56, 3, 1, 3 }, { 64, 256, 56, 1, 1, 4 },
	{ 256, 128, 56, 1, 1, 1 }, { 128, 128, 56, 3, 2, 1 }, { 512, 128, 28, 1, 1, 3 }, { 128, 128, 28, 3, 1, 3 },
	{ 128, 512, 28, 1, 1, 4 }, { 256, 512, 56, 1, 2, 1 },
	{ 512, 256, 28, 1, 1, 1 }, { 256, 256, 28, 3, 2, 1 }, { 1024, 256, 14, 1, 1, 5 }, { 256, 256, 14, 3, 1, 5 },
	{ 256, 1024, 14, 1, 1, 6 }, { 512, 1024, 28, 1, 2, 1 },
	{ 1024, 512, 14, 1, 1, 1 }, { 512, 512, 14, 3, 2, 1 }, { 2048, 512, 7, 1, 1, 2 }, { 512, 512, 7, 3, 1, 2 },
	{ 512, 2048, 7, 1, 1, 3 }, { 1024, 2048, 14, 1, 2, 1 },
	{ 0 },
};

struct conv {
	struct conv_plan *plan;
	void *x, *y, *dx;
	float *w, *dw;
};

static void run_conv(void *p) { struct conv *c = p; ops->nn->conv_fwd(stream, c->plan, c->x, c->w, NULL, c->y); }
static void run_data(void *p) { struct conv *c = p; ops->nn->conv_bwd_data(stream, c->plan, c->y, c->w, c->dx, false); }
static void run_filter(void *p) { struct conv *c = p; ops->nn->conv_bwd_filter(stream, c->plan, c->x, c->y, c->dw, NULL); }

static void *random_activations(int64_t pixels, int c, int pitch)
{
	float *x = random_floats(pixels * c, 1);
	void *y = device_bytes((size_t)(pixels * pitch) * dtype_size(dev->activation));

	ops->nn->from_f32(stream, pixels, c, pitch, x, y);
	ops->stream->sync(stream);
	ops->mem->free(dev, x);
	return y;
}

/* Seconds forward, of the data's gradient (0: the image has none) and of the filter's. */
static void measure_conv(const struct conv_desc *d, double seconds[3], char *name, size_t size)
{
	int oh = conv_out(d->h, d->kh, d->stride, d->pad);
	int64_t n = (int64_t)d->out * d->kh * d->kw * d->c, in = (int64_t)d->n * d->h * d->w, out = (int64_t)d->n * oh * oh;
	struct conv c = {
		.plan = ops->nn->conv_plan(dev, d),
		.x = random_activations(in, d->c, d->pitch), .y = random_activations(out, d->out, d->out),
		.dx = device_bytes((size_t)(in * d->pitch) * dtype_size(dev->activation)),
		.w = random_floats(n, 0.1f), .dw = device_bytes((size_t)n * sizeof(float)),
	};

	ops->nn->prepare(stream, n, c.w);
	seconds[1] = d->pitch == d->c ? time_of(run_data, &c, true) : 0;
	seconds[2] = time_of(run_filter, &c, true);
	seconds[0] = time_of(run_conv, &c, true);
	snprintf(name, size, "%s", ops->nn->conv_name(c.plan));
	ops->nn->conv_release(dev, c.plan);
	ops->mem->free(dev, c.x);
	ops->mem->free(dev, c.y);
	ops->mem->free(dev, c.dx);
	ops->mem->free(dev, c.w);
	ops->mem->free(dev, c.dw);
}

static void convs(int batch)
{
	double sum[3] = { 0 }, least = 0;

	printf("ResNet-50's convolutions, batch %d, %d repetitions: us (TFLOP/s)\n", batch, repetitions);
	printf("%5s %5s %5s %2s %2s %5s %19s %19s %19s  kernels\n", "c", "out", "image", "k", "s", "times", "forward", "data", "filter");
	for (const struct conv_shape *s = resnet50; s->c; s++) {
		struct conv_desc d = { .n = batch, .h = s->image, .w = s->image, .c = s->c, .out = s->out, .kh = s->kernel, .kw = s->kernel,
		                       .stride = s->stride, .pad = s->kernel / 2, .pitch = s->c == 3 ? ops->nn->input_pitch(dev, 3) : s->c };
		int oh = conv_out(d.h, d.kh, d.stride, d.pad);
		double flops = 2.0 * batch * oh * oh * s->out * s->c * s->kernel * s->kernel, e = (double)dtype_size(dev->activation);
		double bytes = e * batch * ((double)s->image * s->image * s->c + (double)oh * oh * s->out);
		double seconds[3];
		char name[200];

		measure_conv(&d, seconds, name, sizeof(name));
		printf("%5d %5d %5d %2d %2d %5d", s->c, s->out, s->image, s->kernel, s->stride, s->times);
		for (int i = 0; i < 3; i++) {
			printf(" %10.1f %8.1f", 1e6 * seconds[i], seconds[i] > 0 ? flops / seconds[i] / 1e12 : 0);
			sum[i] += s->times * seconds[i];
			least += seconds[i] > 0 ? s->times * floor_of(flops, bytes) : 0;
		}
		printf("  %s\n", name);
		fflush(stdout);
	}
	printf("network: forward %.0f us, data %.0f, filter %.0f, together %.0f; floor %.0f\n", 1e6 * sum[0], 1e6 * sum[1], 1e6 * sum[2],
	       1e6 * (sum[0] + sum[1] + sum[2]), 1e6 * least);
}

/* ---- sparse vectors ---- */

struct lists {
	int64_t n, k;
	float *in, *residual;
	struct sparse *list[3];
	void *work;
};

static void run_topk(void *p)
{
	struct lists *l = p;

	ops->sparse->topk(stream, l->n, l->k, l->in, l->residual, l->list[0], l->work);
}

static void run_sparse_merge(void *p)
{
	struct lists *l = p;

	ops->sparse->merge(stream, l->k, l->list[0], l->list[1], l->list[2], l->work);
}

static void topk(int64_t n)
{
	int64_t k = n / 1000 > 0 ? n / 1000 : 1;
	struct lists l = { .n = n, .k = k, .in = random_floats(n, 1), .residual = device_bytes((size_t)n * sizeof(float)),
	                   .work = device_bytes(ops->sparse->work_size(n, k)) };
	double select, merge;

	for (int i = 0; i < 3; i++)
		l.list[i] = device_bytes((size_t)k * sizeof(struct sparse));
	ops->sparse->topk(stream, n, k, l.in, l.residual, l.list[1], l.work);
	select = time_of(run_topk, &l, true);
	merge = time_of(run_sparse_merge, &l, true);
	printf("%12lld %10lld %12.1f %12.1f %12.1f\n", (long long)n, (long long)k, 1e6 * select, 1e6 * floor_of(0, 12.0 * (double)n),
	       1e6 * merge);
	fflush(stdout);
	for (int i = 0; i < 3; i++)
		ops->mem->free(dev, l.list[i]);
	ops->mem->free(dev, l.in);
	ops->mem->free(dev, l.residual);
	ops->mem->free(dev, l.work);
}

/* ---- */

int main(int argc, char **argv)
{
	const char *what = word(argc, argv, 1, "");

	if (!strcmp(what, "convs")) {
		repetitions = atoi(word(argc, argv, 4, "50"));
		open_device(word(argc, argv, 3, "bf16"));
		convs(atoi(word(argc, argv, 2, "64")));
	} else if (!strcmp(what, "topk")) {
		repetitions = atoi(word(argc, argv, 2, "50"));
		open_device("fp32");
		printf("%12s %10s %12s %12s %12s\n", "n", "k", "top-k us", "floor us", "merge us");
		for (int i = 3; i < (argc > 3 ? argc : 5); i++)
			topk(argc > 3 ? atoll(argv[i]) : i == 3 ? 11173962 : 138357544);
	} else {
		fprintf(stderr, "usage: bench_gpu_ops convs [batch] [precision] [repetitions] | topk [repetitions] [elements …]\n");
		return STATUS_CONFIG;
	}
	ops->stream->close(stream);
	ops->close(dev);
	return STATUS_DONE;
}
