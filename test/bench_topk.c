/*
 * Exact top-k on one core beside reading the vector once, choosing by a threshold from a sample, a plain quickselect, and PyTorch's topk:
 * milliseconds and their ratio to the read, all in turn in one run, the best of the rounds.
 *
 *     bench_topk [rounds 7 [density 0.001 [n …]]]          default n: 11173962 (resnet18) and 138357544 (VGG-16 for ImageNet)
 *
 * PyTorch runs in a process of its own ($PYTHON, or python3), is told when to begin, and takes the time itself; without it its column is
 * left out. A second row per n is error feedback: residual + in first, which reads twice as much and writes it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/device.h"
#include "../core/die.h"
#include "../core/rng.h"

enum what { READ, EXACT, SAMPLED, QUICK, TORCH, ADD, EXACT_ADD, SAMPLED_ADD, WHATS };

static const char *const script =
	"import sys, time\n"
	"import torch\n"
	"torch.set_num_threads(1)\n"
	"n, k = int(sys.argv[1]), int(sys.argv[2])\n"
	"x = torch.randn(n)\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    t = time.perf_counter()\n"
	"    torch.topk(x.abs(), k, sorted=False)\n"
	"    print(time.perf_counter() - t, flush=True)\n";

struct torch {
	FILE *to, *from;                /* NULL: there is none */
	pid_t pid;
};

static struct torch torch_open(int64_t n, int64_t k)
{
	static const char *const candidates[] = { "python3", "/usr/bin/python3" };
	const char *python = getenv("PYTHON");
	char size[2][32], line[100];

	snprintf(size[0], sizeof(size[0]), "%lld", (long long)n);
	snprintf(size[1], sizeof(size[1]), "%lld", (long long)k);
	fflush(stdout);
	for (int i = 0; i < (python ? 1 : 2); i++) {
		struct torch t = { NULL, NULL, -1 };
		int in[2], out[2];

		CHECK(pipe(in) == 0 && pipe(out) == 0);
		t.pid = fork();
		if (t.pid == 0) {
			dup2(in[0], 0);
			dup2(out[1], 1);
			if (!freopen("/dev/null", "w", stderr))
				_exit(1);
			for (int j = 0; j < 2; j++) {
				close(in[j]);
				close(out[j]);
			}
			setenv("OMP_NUM_THREADS", "1", 1);
			execlp(python ? python : candidates[i], "python3", "-c", script, size[0], size[1], (char *)NULL);
			_exit(1);
		}
		close(in[0]);
		close(out[1]);
		t.to = fdopen(in[1], "w");
		t.from = fdopen(out[0], "r");
		if (t.pid > 0 && fgets(line, sizeof(line), t.from) && !strncmp(line, "ready", 5))
			return t;
		fclose(t.to);
		fclose(t.from);
		waitpid(t.pid, NULL, 0);
	}
	return (struct torch){ NULL, NULL, -1 };
}

static double torch_time(struct torch *t)
{
	char line[100];

	if (!t->to)
		return INFINITY;
	fputs("go\n", t->to);
	fflush(t->to);
	return fgets(line, sizeof(line), t->from) ? atof(line) : INFINITY;
}

static void torch_close(struct torch *t)
{
	if (!t->to)
		return;
	fclose(t->to);
	fclose(t->from);
	waitpid(t->pid, NULL, 0);
}

/* ---- what it is compared with ---- */

typedef uint32_t words __attribute__((vector_size(64)));

/* The bits of all, or'ed: nothing but the read. */
static uint32_t read_once(int64_t n, const float *x)
{
	const words *v = (const words *)x;
	words sum[4] = { { 0 } };
	uint32_t all = 0;

	for (int64_t i = 0; i + 4 <= n / 16; i += 4)
		for (int j = 0; j < 4; j++)
			sum[j] |= v[i + j];
	for (int j = 0; j < 16; j++)
		all |= sum[0][j] | sum[1][j] | sum[2][j] | sum[3][j];
	return all;
}

/* Hoare's, on a copy of the magnitudes, the middle of three as pivot; then all that reach the k-th are listed. */
static void quickselect(int64_t n, int64_t k, const float *x, float *copy, struct sparse *out)
{
	int64_t from = 0, to = n - 1, at = k - 1, count = 0;
	float bound;

	for (int64_t i = 0; i < n; i++)
		copy[i] = fabsf(x[i]);
	while (from < to) {
		float a = copy[from], b = copy[from + (to - from) / 2], c = copy[to];
		float pivot = a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);
		int64_t i = from, j = to;

		while (i <= j) {
			while (copy[i] > pivot)
				i++;
			while (copy[j] < pivot)
				j--;
			if (i <= j) {
				float swap = copy[i];

				copy[i++] = copy[j];
				copy[j--] = swap;
			}
		}
		if (at <= j)
			to = j;
		else if (at >= i)
			from = i;
		else
			break;
	}
	bound = copy[at];
	for (int64_t i = 0; i < n && count < k; i++)
		if (fabsf(x[i]) >= bound)
			out[count++] = (struct sparse){ (uint32_t)i, x[i] };
}

/* ---- one length ---- */

struct bench {
	struct device *dev;
	struct stream *stream;
	int64_t n, k;
	float *x, *zero, *copy, least;
	struct sparse *out;
	void *work;
	double best[WHATS];
	uint32_t seen;                  /* so that the read is not optimised away */
};

static void once(struct bench *b, enum what what, struct torch *torch)
{
	const struct sparse_ops *ops = b->dev->ops->sparse;
	const float *in = what >= ADD ? b->zero : NULL;
	double took = clock_now();

	if (what == READ)
		b->seen |= read_once(b->n, b->x);
	else if (what == QUICK)
		quickselect(b->n, b->k, b->x, b->copy, b->out);
	else if (what == ADD)
		b->dev->ops->vec->axpby(b->stream, b->n, 1, b->zero, 1, b->x);
	else if (what == EXACT || what == EXACT_ADD)
		ops->topk(b->stream, b->n, b->k, in, b->x, b->out, b->work);
	else if (what != TORCH)
		ops->sample_bound(b->stream, b->n, b->k, b->x, in, &b->least, b->work);
	if (what == SAMPLED || what == SAMPLED_ADD)
		ops->select(b->stream, b->n, b->k, &b->least, in, b->x, b->out, b->work);
	took = what == TORCH ? torch_time(torch) : clock_now() - took;
	b->best[what] = took < b->best[what] ? took : b->best[what];
	if (what == EXACT || what == SAMPLED || what > ADD)             /* what was taken goes back */
		ops->scatter_add(b->stream, b->k, 1, b->out, b->x);
}

static void row(const struct bench *b, const char *name, enum what base, enum what first, int count)
{
	printf("| %lld | %s | %.2f |", (long long)b->n, name, 1e3 * b->best[base]);
	for (int i = 0; i < count; i++)
		if (isinf(b->best[first + i]))
			printf(" - |");
		else
			printf(" %.2f (%.2f) |", 1e3 * b->best[first + i], b->best[first + i] / b->best[base]);
	for (int i = count; i < 4; i++)
		printf(" |");
	putchar('\n');
}

static void measure(struct device *dev, int64_t n, double density, int rounds)
{
	struct bench b = { .dev = dev, .n = n, .k = (int64_t)(density * (double)n) };
	struct torch torch;
	struct rng rng;

	b.k = b.k < 1 ? 1 : b.k;
	b.stream = dev->ops->stream->open(dev, STREAM_COMPUTE);
	b.x = xaligned((size_t)n * sizeof(float));
	b.zero = xaligned((size_t)n * sizeof(float));
	b.copy = xaligned((size_t)n * sizeof(float));
	b.out = xcalloc((size_t)b.k, sizeof(*b.out));
	b.work = xaligned(dev->ops->sparse->work_size(n, b.k));
	rng_init(&rng, 1, RNG_TEST, 0, 0);
	for (int64_t i = 0; i < n; i++) {
		b.x[i] = (float)rng_normal(&rng);
		b.zero[i] = b.copy[i] = 0;
	}
	for (int w = 0; w < WHATS; w++)
		b.best[w] = INFINITY;
	torch = torch_open(n, b.k);
	for (int r = 0; r < rounds; r++)
		for (int w = 0; w < WHATS; w++)
			once(&b, (enum what)w, &torch);
	row(&b, "the vector alone", READ, EXACT, 4);
	row(&b, "residual += in", ADD, EXACT_ADD, 2);
	torch_close(&torch);
	dev->ops->stream->close(b.stream);
	free(b.x);
	free(b.zero);
	free(b.copy);
	free(b.out);
	free(b.work);
	if (b.seen == 0)
		puts("all zeros");
}

int main(int argc, char **argv)
{
	const struct device_ops *ops = device_find("cpu");
	struct device *dev = ops->open(&(struct device_config){ .threads = 1, .progress = PROGRESS_HOOK, .conv = "auto", .index = -1 });
	int rounds = argc > 1 ? atoi(argv[1]) : 7;
	double density = argc > 2 ? atof(argv[2]) : 0.001;

	CHECK(dev && rounds > 0 && density > 0 && density <= 1);
	printf("%s, density %g; milliseconds, and how many times the read (of a second row: residual += in alone)\n\n", ops->describe(dev),
	       density);
	puts("| elements | | read | exact | sampled | quickselect | PyTorch |\n|---|---|---|---|---|---|---|");
	if (argc <= 3) {
		measure(dev, 11173962, density, rounds);
		measure(dev, 138357544, density, rounds);
	}
	for (int i = 3; i < argc; i++)
		measure(dev, atoll(argv[i]), density, rounds);
	ops->close(dev);
	return 0;
}
