/*
 * The clock. Engines that build, up to TRIALS, run on the device, on a stream of its own, with buffers that are there for the
 * measurement only and hold values between ½ and 1 of either sign (a GPU is faster on zeros, it draws less power). Where there is no
 * memory for that, the first engine is taken.
 *
 * The heuristics like to propose one engine in a dozen tile sizes before they come to the next, so of each engine only the first
 * OF_ONE get a trial.
 *
 * An engine for dx += … must be seen to add before it is used: from dx = 0, the second of two runs has to double what the first one
 * left. Nothing else would tell: the heuristics propose the same engines for = and for +=, and training goes on without the lost
 * gradient, only worse.
 */
#include "conv_select.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../die.h"
#include "conv_cache.h"

enum { TRIALS = 24, OF_ONE = 4, ENGINE_NUMBERS = 1000, BATCHES = 3, RUNS = 10, BLOCK = 1 << 17, SAMPLE = 2048 };

/* ---- keys ---- */

/* "wgrad 512x32x32x64 64x3x3 s1 p1 bf16>fp32 deterministic" */
static char *key_of(const struct conv_problem *p, const struct conv_rules *rules)
{
	static const char *const word[] = { [PRECISION_FP32] = "fp32", [PRECISION_TF32] = "tf32", [PRECISION_BF16] = "bf16" };
	const struct conv_desc *d = &p->shape;
	bool widens = p->direction == CONV_WGRAD && p->dw != p->type;

	return xasprintf("%s %dx%dx%dx%d %dx%dx%d s%d p%d %s%s%s", conv_direction_name[p->direction], d->n, d->h, d->w, d->c, d->out,
	                 d->kh, d->kw, d->stride, d->pad, word[rules->precision], widens ? ">fp32" : "",
	                 rules->deterministic ? " deterministic" : "");
}

/* ---- the clock ---- */

struct trial {
	struct conv_library *library;
	const struct conv_problem *problem;
	struct stream *stream;
	void *x, *w, *y, *workspace;
	size_t x_bytes;
	cudaEvent_t from, to;
};

/* Device memory full of values of magnitude ½ … 1; NULL: none left. Two bf16 with a random sign and mantissa, seen as one fp32, are
 * such a value too. */
static void *random_buffer(struct trial *t, size_t bytes)
{
	uint16_t *block;
	uint32_t seed = 1;
	char *buffer;
	size_t have = BLOCK * sizeof(*block);

	bytes = (bytes + have - 1) / have * have;
	if (cudaMalloc((void **)&buffer, bytes) != cudaSuccess) {
		cudaGetLastError();             /* or the next launch would find it */
		return NULL;
	}
	block = xcalloc(BLOCK, sizeof(*block));
	for (int i = 0; i < BLOCK; i++) {
		seed = seed * 1664525 + 1013904223;
		block[i] = (uint16_t)(0x3f00 | (seed >> 16 & 0x807f));
	}
	CUDA(cudaMemcpyAsync(buffer, block, have, cudaMemcpyHostToDevice, t->stream->handle));
	for (size_t n; have < bytes; have += n) {
		n = bytes - have < have ? bytes - have : have;
		CUDA(cudaMemcpyAsync(buffer + have, buffer, n, cudaMemcpyDeviceToDevice, t->stream->handle));
	}
	CUDA(cudaStreamSynchronize(t->stream->handle));
	free(block);
	return buffer;
}

static void trial_close(struct trial *t)
{
	CUDA(cudaFree(t->x));
	CUDA(cudaFree(t->w));
	CUDA(cudaFree(t->y));
	CUDA(cudaEventDestroy(t->from));
	CUDA(cudaEventDestroy(t->to));
	CUDNN(cudnnSetStream(t->library->target.handle, NULL));
	t->library->stream = NULL;
	cuda_stream_ops.close(t->stream);
}

static bool trial_open(struct trial *t, struct conv_library *l, const struct conv_problem *p)
{
	const struct conv_desc *d = &p->shape;
	int oh = conv_out(d->h, d->kh, d->stride, d->pad), ow = conv_out(d->w, d->kw, d->stride, d->pad);

	*t = (struct trial){ .library = l, .problem = p, .stream = cuda_stream_ops.open(&l->device->base, STREAM_COMPUTE) };
	t->x_bytes = (size_t)d->n * (size_t)d->h * (size_t)d->w * (size_t)d->c * dtype_size(p->type);
	t->x = random_buffer(t, t->x_bytes);
	t->w = random_buffer(t, (size_t)d->out * (size_t)d->kh * (size_t)d->kw * (size_t)d->c * sizeof(float));
	t->y = random_buffer(t, (size_t)d->n * (size_t)oh * (size_t)ow * (size_t)d->out * dtype_size(p->type));
	t->workspace = cuda_scratch(t->stream, CUDA_SCRATCH);
	CUDA(cudaEventCreate(&t->from));
	CUDA(cudaEventCreate(&t->to));
	if (t->x && t->w && t->y)
		return true;
	trial_close(t);
	return false;
}

static bool run(struct trial *t, struct execution *e)
{
	return execution_run(e, conv_library_on(t->library, t->stream), t->x, t->w, t->y, t->workspace);
}

/* The sum of the magnitudes at the head of x. */
static double head_of_x(struct trial *t)
{
	size_t size = dtype_size(t->problem->type), n = t->x_bytes / size < SAMPLE ? t->x_bytes / size : SAMPLE;
	uint16_t head[SAMPLE * 2];
	double sum = 0;

	CUDA(cudaMemcpyAsync(head, t->x, n * size, cudaMemcpyDeviceToHost, t->stream->handle));
	CUDA(cudaStreamSynchronize(t->stream->handle));
	for (size_t i = 0; i < n; i++) {
		uint16_t half[2] = { 0, head[i] };      /* bf16 is the upper half of an fp32 */
		float value;

		memcpy(&value, size == 4 ? head + 2 * i : half, sizeof(value));
		sum += fabsf(value);
	}
	return sum;
}

static bool adds(struct trial *t, struct execution *e)
{
	double once, twice;

	CUDA(cudaMemsetAsync(t->x, 0, t->x_bytes, t->stream->handle));
	if (!run(t, e))
		return false;
	once = head_of_x(t);
	if (!run(t, e))
		return false;
	twice = head_of_x(t);
	return once > 0 && fabs(twice / once - 2) < 0.01;
}

/* Microseconds; FLT_MAX: it does not run, or not right. */
static float measure(struct trial *t, struct execution *e)
{
	float best = FLT_MAX;

	if (!run(t, e) || (t->problem->direction == CONV_DGRAD_ADD && !adds(t, e)))
		return FLT_MAX;
	for (int batch = 0; batch < BATCHES; batch++) {
		float ms;

		CUDA(cudaEventRecord(t->from, t->stream->handle));
		for (int i = 0; i < RUNS; i++)
			if (!run(t, e))
				return FLT_MAX;
		CUDA(cudaEventRecord(t->to, t->stream->handle));
		CUDA(cudaEventSynchronize(t->to));
		CUDA(cudaEventElapsedTime(&ms, t->from, t->to));
		best = fminf(best, ms * 1000 / RUNS);
	}
	return fmaxf(roundf(best * 10) / 10, 0.1f);    /* as the file has it: the next run must come to the same conclusions */
}

/* ---- the choice ---- */

static struct execution *open_allowed(struct conv_graph *graph, const char *engine, int64_t *workspace)
{
	struct execution *e = execution_open(graph, engine, workspace);

	if (e && *workspace > CUDA_SCRATCH) {
		execution_close(e);
		return NULL;
	}
	return e;
}

static void announce(struct conv_library *l)
{
	if (!l->announced && conv_cache_path(l->cache))
		note("measuring convolutions, once for this GPU and cuDNN; kept in %s", conv_cache_path(l->cache));
	l->announced = true;
}

/* Fills in the fastest of the engines; t == NULL: the first that builds. Returns how many were built. */
static int choose(struct trial *t, struct conv_choice *choice, const struct engine *engine, int count)
{
	unsigned char tried[ENGINE_NUMBERS] = { 0 };
	float best = FLT_MAX;
	int built = 0;

	for (int i = 0; i < count && built < (t ? TRIALS : 1); i++) {
		int number = atoi(engine[i].text) % ENGINE_NUMBERS;
		int64_t workspace;
		struct execution *e = tried[number] < OF_ONE ? open_allowed(choice->graph, engine[i].text, &workspace) : NULL;
		float us = 0;

		if (!e)
			continue;
		built++;
		tried[number]++;
		if (t)
			us = measure(t, e);
		if (us >= best) {
			execution_close(e);
			continue;
		}
		execution_close(choice->execution);
		choice->execution = e;
		choice->workspace = workspace;
		choice->us = best = us;
		memcpy(choice->engine, engine[i].text, ENGINE_TEXT);
	}
	return built;
}

static void measure_all(struct conv_library *l, const struct conv_problem *p, const struct conv_rules *rules, const char *key,
                        struct conv_choice *choice)
{
	struct engine *engine = xcalloc(ENGINES_MOST, sizeof(*engine));
	int count = conv_engines(choice->graph, rules, engine);
	struct trial t;
	int built;

	announce(l);
	if (count && trial_open(&t, l, p)) {
		built = choose(&t, choice, engine, count);
		trial_close(&t);
		if (choice->execution)
			conv_cache_add(l->cache, key, choice->engine, choice->us);
		else if (built)         /* what does not even build may be for want of a library, and build tomorrow */
			conv_cache_add(l->cache, key, CONV_NONE, 0);
	} else if (count && p->direction != CONV_DGRAD_ADD) {
		if (!l->crowded)
			warn("no device memory is left to measure convolutions; cuDNN's first proposals are taken");
		l->crowded = true;
		choose(NULL, choice, engine, count);
	}
	free(engine);
}

static struct conv_rules rules_of(const struct conv_library *l)
{
	return (struct conv_rules){ l->device->base.config.precision, l->device->base.config.deterministic };
}

static bool is_none(const char *engine) { return engine && !strcmp(engine, CONV_NONE); }

float conv_known(struct conv_library *l, const struct conv_problem *p)
{
	const struct conv_rules rules = rules_of(l);
	char *key = key_of(p, &rules);
	float us = 0;

	if (is_none(conv_cache_find(l->cache, key, &us)))
		us = FLT_MAX;
	free(key);
	return us;
}

static void close_choice(struct conv_choice *c)
{
	execution_close(c->execution);
	conv_graph_close(c->graph);
	*c = (struct conv_choice){ .graph = NULL };
}

/* Leaves it empty if there is no engine. */
static void open_choice(struct conv_library *l, const struct conv_problem *p, const struct conv_rules *rules, const char *key,
                        struct conv_choice *c)
{
	const char *known = conv_cache_find(l->cache, key, &c->us);

	if (is_none(known))
		return;
	c->graph = conv_graph_open(&l->target, p);
	if (c->graph && known && strlen(known) < ENGINE_TEXT) {
		snprintf(c->engine, sizeof(c->engine), "%s", known);
		c->execution = open_allowed(c->graph, known, &c->workspace);
	}
	if (c->graph && !c->execution)
		measure_all(l, p, rules, key, c);
	if (!c->execution)
		close_choice(c);
}

/* ---- shared ---- */

struct conv_kept {
	struct conv_library *library;
	char *key;
	struct conv_choice choice;
	int users;                      /* it goes with the last one */
	struct conv_kept *next;
};

static void drop(struct conv_kept *k)
{
	struct conv_kept **at = &k->library->kept;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	close_choice(&k->choice);
	free(k->key);
	free(k);
}

struct conv_choice conv_select(struct conv_library *l, const struct conv_problem *p)
{
	const struct conv_rules rules = rules_of(l);
	char *key = key_of(p, &rules);
	struct conv_kept *k = l->kept;

	while (k && strcmp(k->key, key))
		k = k->next;
	if (!k) {
		k = xcalloc(1, sizeof(*k));
		*k = (struct conv_kept){ .library = l, .key = xstrdup(key), .next = l->kept };
		l->kept = k;
		open_choice(l, p, &rules, key, &k->choice);
		/* That there is no engine is kept to the end: to look for one in vain takes a second, too. */
		k->choice.kept = k->choice.execution ? k : NULL;
	}
	k->users++;
	free(key);
	return k->choice;
}

void conv_choice_release(struct conv_choice *c)
{
	if (c->kept && --c->kept->users == 0)
		drop(c->kept);
	*c = (struct conv_choice){ .graph = NULL };
}

void conv_kept_free(struct conv_library *l)
{
	while (l->kept)
		drop(l->kept);
}
