/*
 * How fast the convolutions of a network are: milliseconds and effective GF/s (of the plain sum's operations) for each shape,
 * direction and implementation, and the sum over the network for what the device would choose.
 *
 *     bench_conv [batch 64] [threads 1] [resnet18|resnet20|vgg16] [winograd|direct|reference|all] [repetitions 7]
 *
 * The fastest of the repetitions. Compare figures of one run only: the machine may be shared.
 */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/cpu/cpu_conv.h"
#include "../core/cpu/kernel/isa.h"
#include "../core/die.h"

struct shape {
	int c, out, image, kernel, stride, times;       /* times: how often the network has it */
};

static const struct shape resnet18[] = {
	{ 3, 64, 32, 3, 1, 1 }, { 64, 64, 32, 3, 1, 4 }, { 64, 128, 32, 3, 2, 1 }, { 64, 128, 32, 1, 2, 1 }, { 128, 128, 16, 3, 1, 3 },
	{ 128, 256, 16, 3, 2, 1 }, { 128, 256, 16, 1, 2, 1 }, { 256, 256, 8, 3, 1, 3 }, { 256, 512, 8, 3, 2, 1 },
	{ 256, 512, 8, 1, 2, 1 }, { 512, 512, 4, 3, 1, 3 }, { 512, 10, 1, 1, 1, 1 }, { 0 },
};
static const struct shape resnet20[] = {
	{ 3, 16, 32, 3, 1, 1 }, { 16, 16, 32, 3, 1, 6 }, { 16, 32, 32, 3, 2, 1 }, { 32, 32, 16, 3, 1, 5 }, { 32, 64, 16, 3, 2, 1 },
	{ 64, 64, 8, 3, 1, 5 }, { 64, 10, 1, 1, 1, 1 }, { 0 },
};
static const struct shape vgg16[] = {
	{ 3, 64, 32, 3, 1, 1 }, { 64, 64, 32, 3, 1, 1 }, { 64, 128, 16, 3, 1, 1 }, { 128, 128, 16, 3, 1, 1 }, { 128, 256, 8, 3, 1, 1 },
	{ 256, 256, 8, 3, 1, 2 }, { 256, 512, 4, 3, 1, 1 }, { 512, 512, 4, 3, 1, 2 }, { 512, 512, 2, 3, 1, 3 }, { 512, 10, 1, 1, 1, 1 }, { 0 },
};

enum { DIRECTIONS = 3 };

static float *filled(size_t n, unsigned seed)
{
	float *p = xaligned(n * sizeof(float));

	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (float)(seed >> 8) / (1 << 24) - 0.5f;
	}
	return p;
}

/* Seconds of forward, data gradient and filter gradient; false if the implementation refuses the shape. */
static bool measure(struct cpu_device *dev, const struct conv_impl *impl, const struct conv_desc *d, int repetitions, double seconds[])
{
	struct conv_plan *plan = impl->plan(dev, d);
	int oh = conv_out(d->h, d->kh, d->stride, d->pad);
	size_t nx = (size_t)d->n * d->h * d->w * d->c, ny = (size_t)d->n * oh * oh * d->out, nw = (size_t)d->out * d->kh * d->kw * d->c;
	float *x, *y, *w, *dx, *dw;

	if (!plan)
		return false;
	x = filled(nx, 1), y = filled(ny, 2), w = filled(nw, 3), dx = filled(nx, 4), dw = filled(nw, 5);
	for (int i = -1; i < repetitions; i++) {
		double t[DIRECTIONS + 1];

		t[0] = clock_now();
		impl->fwd(dev, plan, x, w, NULL, y);
		t[1] = clock_now();
		impl->bwd_data(dev, plan, y, w, dx, false);
		t[2] = clock_now();
		impl->bwd_filter(dev, plan, x, y, dw, NULL);
		t[3] = clock_now();
		for (int k = 0; k < DIRECTIONS && i >= 0; k++)
			seconds[k] = i == 0 || t[k + 1] - t[k] < seconds[k] ? t[k + 1] - t[k] : seconds[k];
	}
	impl->release(plan);
	free(x), free(y), free(w), free(dx), free(dw);
	return true;
}

int main(int argc, char **argv)
{
	static const struct conv_impl *const impls[] = { &conv_winograd, &conv_dnnl, &conv_reference };
	int batch = argc > 1 ? atoi(argv[1]) : 64, threads = argc > 2 ? atoi(argv[2]) : 1;
	const char *net = argc > 3 ? argv[3] : "resnet18", *only = argc > 4 ? argv[4] : "all";
	int repetitions = argc > 5 ? atoi(argv[5]) : 7;
	const struct shape *shapes = !strcmp(net, "resnet20") ? resnet20 : !strcmp(net, "vgg16") ? vgg16 : resnet18;
	struct cpu_device dev = { .base.config = { .threads = threads }, .isa = cpu_isa(), .threads = threads };
	double sum[DIRECTIONS] = { 0 }, wino[DIRECTIONS] = { 0 };

	if (batch < 1 || threads < 1 || repetitions < 1)
		die(STATUS_CONFIG, "usage: bench_conv [batch] [threads] [net] [implementation] [repetitions]");
	omp_set_num_threads(threads);
	printf("%s, batch %d, %d thread%s, %s, %s: ms (effective GF/s)\n", net, batch, threads, threads > 1 ? "s" : "", cpu_isa_name(dev.isa), dnnl_words());
	for (const struct shape *s = shapes; s->c; s++) {
		struct conv_desc d = { .n = batch, .h = s->image, .w = s->image, .c = s->c, .out = s->out, .kh = s->kernel,
			.kw = s->kernel, .stride = s->stride, .pad = s->kernel / 2 };
		int oh = conv_out(d.h, d.kh, d.stride, d.pad);
		double flops = 2.0 * batch * oh * oh * s->out * s->c * s->kernel * s->kernel, t[DIRECTIONS];
		bool chosen = false;

		for (int i = 0; i < 3; i++) {
			if ((strcmp(only, "all") && strcmp(only, impls[i]->name)) || (!strcmp(only, "all") && impls[i] == &conv_reference && chosen))
				continue;
			if (!measure(&dev, impls[i], &d, repetitions, t))
				continue;
			printf("%3d>%3d %2dx%-2d k%d s%d x%d %-9s", s->c, s->out, s->image, s->image, s->kernel, s->stride, s->times, impls[i]->name);
			for (int k = 0; k < DIRECTIONS; k++) {
				printf("  %s %7.2f (%4.0f)", (const char *[]){ "fwd", "data", "filter" }[k], t[k] * 1e3, flops / t[k] / 1e9);
				sum[k] += chosen ? 0 : t[k] * s->times;
				wino[k] += impls[i] == &conv_winograd ? t[k] * s->times : 0;
			}
			printf("\n");
			fflush(stdout);
			chosen = true;
		}
	}
	printf("chosen, whole network: fwd %.1f data %.1f filter %.1f sum %.1f ms\n", sum[0] * 1e3, sum[1] * 1e3, sum[2] * 1e3,
	       (sum[0] + sum[1] + sum[2]) * 1e3);
	printf("Winograd alone:        fwd %.1f data %.1f filter %.1f sum %.1f ms\n", wino[0] * 1e3, wino[1] * 1e3, wino[2] * 1e3,
	       (wino[0] + wino[1] + wino[2]) * 1e3);
	free(dev.scratch);
	return 0;
}
