/*
 * The loader: order, shards and prefetch (loader.h). How one sample becomes floats is augment.c.
 *
 * Two cursors walk over the same batches. The maker's runs ahead, on a thread of its own, and fills a ring of slots; the reader's
 * follows and hands them out. Both know where the epoch ends, so the ring carries batches and nothing else. One slot more than
 * `prefetch` is there: the reader's caller keeps the last one until he asks for the next. Without prefetch the reader is the
 * maker, and there is one slot.
 *
 * A batch is a function of its position alone, so it does not matter who makes it, or when.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "../core/rng.h"
#include "augment.h"
#include "loader.h"
#include "partition.h"

struct position {
	int64_t epoch, step;
};

struct slot {
	float *image;                   /* or */
	struct image_draw *draw;
	int32_t *label;
	int64_t *sample;
	int count;
	struct position at;
};

struct loader {
	struct loader_config config;
	const struct split *split;
	struct augment augment;
	int64_t first_image;            /* the split's place among the data set's images */
	int batch;                      /* this worker's */
	int64_t steps, from, to;        /* the shard is [from, to) of the order */
	const uint32_t *own;            /* the samples that are ordered; NULL: all of the split */
	int64_t owned;
	uint32_t *order;                /* of epoch `ordered`; the maker's alone */
	int64_t ordered;
	struct position reader;
	bool started;
	double waited;

	pthread_t thread;
	pthread_mutex_t lock;           /* guards what follows */
	pthread_cond_t made, freed;
	struct position maker;
	struct slot *slot;
	int slots, first, filled;       /* the ring: `filled` slots from `first` are ready */
	int held;                       /* 1: the slot before `first` is in the caller's hands */
	int64_t generation;             /* of loader_start: what was begun under an older one is dropped */
	bool running, quit;
};

/* ---- order and shards ---- */

/* whose: 0: everybody's; else worker + 1. */
static void shuffle(uint64_t seed, int64_t epoch, uint32_t whose, int64_t count, uint32_t *order)
{
	struct rng rng;

	rng_init(&rng, seed, RNG_SHUFFLE, (uint64_t)epoch, whose);
	for (int64_t i = 0; i < count; i++)
		order[i] = (uint32_t)i;
	for (int64_t i = count - 1; i > 0; i--) {
		uint32_t j = rng_below(&rng, (uint32_t)i + 1);
		uint32_t swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
}

void loader_order(uint64_t seed, int64_t epoch, int64_t count, uint32_t *order) { shuffle(seed, epoch, 0, count, order); }

static int64_t batch_total(int workers, const int *batch)
{
	int64_t total = 0;

	for (int i = 0; i < workers; i++)
		total += batch[i];
	return total;
}

/*
 * The cut after the workers' first P of T samples a step lies at floor(count P / T). With count = q T + r that is q P and a bit
 * more, growing with P, so that every shard holds the q whole batches that its worker takes.
 */
void loader_shard(int64_t count, int workers, const int *batch, int worker, int64_t *from, int64_t *to)
{
	int64_t total = batch_total(workers, batch), before = batch_total(worker, batch);

	*from = count * before / total;
	*to = count * (before + batch[worker]) / total;
}

/* Of ceil sizes, so that no worker needs more steps than the first. */
static void evaluation_shard(int64_t count, int workers, int worker, int64_t *from, int64_t *to)
{
	int64_t size = (count + workers - 1) / workers;

	*from = size * worker < count ? size * worker : count;
	*to = *from + size < count ? *from + size : count;
}

/* ---- making a batch ---- */

static bool at_end(const struct loader *l, const struct position *at)
{
	return at->step >= l->steps;
}

static void advance(const struct loader *l, struct position *at)
{
	at->step++;
	if (at_end(l, at) && l->config.cyclic)
		*at = (struct position){ at->epoch + 1, 0 };
}

static void make_image(struct loader *l, struct slot *s, int64_t epoch, int64_t sample, int i)
{
	size_t pixels = (size_t)l->augment.h * (size_t)l->augment.w * (size_t)l->augment.c;

	if (l->config.draws)
		s->draw[i] = augment_record(&l->augment, l->config.seed, epoch, sample, l->first_image);
	else
		augment_image(&l->augment, l->config.seed, epoch, sample, l->split->image + (size_t)sample * pixels,
		              s->image + (size_t)i * pixels);
}

static void make_filler(struct loader *l, struct slot *s, int i)
{
	size_t pixels = (size_t)l->augment.h * (size_t)l->augment.w * (size_t)l->augment.c;

	s->sample[i] = -1;
	s->label[i] = -1;
	if (l->config.draws)
		s->draw[i] = (struct image_draw){ .empty = 1 };
	else
		memset(s->image + (size_t)i * pixels, 0, pixels * sizeof(float));
}

static void make_order(struct loader *l, int64_t epoch)
{
	shuffle(l->config.seed, epoch, l->own ? (uint32_t)l->config.worker + 1 : 0, l->owned, l->order);
	for (int64_t i = 0; i < l->owned && l->own; i++)
		l->order[i] = l->own[l->order[i]];
	l->ordered = epoch;
}

static void make_batch(struct loader *l, struct slot *s, const struct position *at)
{
	bool train = l->config.train;
	int64_t begin = l->from + at->step * l->batch;

	if (train && l->ordered != at->epoch)
		make_order(l, at->epoch);
	s->at = *at;
	s->count = l->to - begin < l->batch ? (int)(l->to - begin) : l->batch;
	for (int i = 0; i < s->count; i++) {
		int64_t sample = train ? l->order[begin + i] : begin + i;

		s->sample[i] = sample;
		s->label[i] = l->split->label[sample];
		make_image(l, s, at->epoch, sample, i);
	}
	for (int i = s->count; i < l->batch; i++)
		make_filler(l, s, i);
}

static void *maker_main(void *argument)
{
	struct loader *l = argument;

	pthread_mutex_lock(&l->lock);
	while (!l->quit) {
		struct position at = l->maker;
		int64_t generation = l->generation;
		struct slot *s = &l->slot[(l->first + l->filled) % l->slots];

		if (at_end(l, &at) || l->filled + l->held == l->slots) {
			pthread_cond_wait(&l->freed, &l->lock);
			continue;
		}
		pthread_mutex_unlock(&l->lock);
		make_batch(l, s, &at);
		pthread_mutex_lock(&l->lock);
		if (generation == l->generation) {
			advance(l, &l->maker);
			l->filled++;
			pthread_cond_signal(&l->made);
		}
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* ---- reading ---- */

static void hand_out(const struct slot *s, struct batch *b)
{
	*b = (struct batch){
		.image = s->image, .draw = s->draw, .label = s->label, .sample = s->sample,
		.count = s->count, .epoch = s->at.epoch, .step = s->at.step,
	};
}

static struct slot *take_slot(struct loader *l)
{
	struct slot *s;

	pthread_mutex_lock(&l->lock);
	l->held = 0;
	pthread_cond_signal(&l->freed);
	while (!l->filled)
		pthread_cond_wait(&l->made, &l->lock);
	s = &l->slot[l->first];
	l->first = (l->first + 1) % l->slots;
	l->filled--;
	l->held = 1;
	pthread_mutex_unlock(&l->lock);
	return s;
}

bool loader_next(struct loader *l, struct batch *b)
{
	struct slot *s = l->slot;
	double begin;

	CHECK(l->started);
	if (at_end(l, &l->reader))
		return false;
	begin = clock_now();
	if (l->config.prefetch)
		s = take_slot(l);
	else
		make_batch(l, s, &l->reader);
	l->waited += clock_now() - begin;
	CHECK(s->at.epoch == l->reader.epoch && s->at.step == l->reader.step);
	advance(l, &l->reader);
	hand_out(s, b);
	return true;
}

/*
 * The maker may be in the middle of a batch: it notices the new generation when it is done, drops the batch and goes on from the new
 * place. Nobody else writes to slots, so the ring is emptied by counting none as filled.
 */
void loader_start(struct loader *l, int64_t epoch, int64_t step)
{
	l->started = true;
	l->reader = (struct position){ epoch, step };
	if (!l->config.train)
		l->reader = (struct position){ 0, 0 };
	else if (l->config.cyclic && at_end(l, &l->reader))
		l->reader = (struct position){ epoch + 1, 0 };
	pthread_mutex_lock(&l->lock);
	l->generation++;
	l->filled = 0;
	l->held = 0;
	l->maker = l->reader;
	pthread_cond_signal(&l->freed);
	pthread_mutex_unlock(&l->lock);
}

int64_t loader_steps(const struct loader *l)
{
	return l->steps;
}

double loader_waited(const struct loader *l)
{
	return l->waited;
}

/* ---- life ---- */

/* The shard of a worker who owns its samples is the whole of them. */
static void take_own(struct loader *l, const struct partition *p, const struct loader_config *c)
{
	CHECK(p->workers == c->workers && p->from[p->workers] == l->split->count && l->to - l->from == p->from[c->worker + 1] - p->from[c->worker]);
	l->own = p->sample + p->from[c->worker];
	l->owned = l->to - l->from;
	l->from = 0;
	l->to = l->owned;
}

static int plan(struct loader *l, const struct loader_config *c)
{
	int64_t count = l->split->count, total = batch_total(c->workers, c->batch);

	if (c->train) {
		loader_shard(count, c->workers, c->batch, c->worker, &l->from, &l->to);
		l->steps = count / total;
		if (!l->steps) {
			error("the training set has %lld images, one step of all workers takes %lld", (long long)count, (long long)total);
			return hint("make train.batch smaller, or use fewer workers (now %d)", c->workers);
		}
		l->owned = count;
		if (c->partition && c->partition->sample)
			take_own(l, c->partition, c);
		l->order = xcalloc((size_t)l->owned, sizeof *l->order);
		l->ordered = -1;
	} else {
		evaluation_shard(count, c->workers, c->worker, &l->from, &l->to);
		l->steps = (l->to - l->from + l->batch - 1) / l->batch;
	}
	return 0;
}

static void allocate_slots(struct loader *l)
{
	size_t pixels = (size_t)l->augment.h * (size_t)l->augment.w * (size_t)l->augment.c;

	l->slots = l->config.prefetch + 1;
	l->slot = xcalloc((size_t)l->slots, sizeof *l->slot);
	for (int i = 0; i < l->slots; i++) {
		if (l->config.draws)
			l->slot[i].draw = xcalloc((size_t)l->batch, sizeof(struct image_draw));
		else
			l->slot[i].image = xaligned((size_t)l->batch * pixels * sizeof(float));
		l->slot[i].label = xcalloc((size_t)l->batch, sizeof(int32_t));
		l->slot[i].sample = xcalloc((size_t)l->batch, sizeof(int64_t));
	}
}

/* The thread takes no signals: they are main's, who has a checkpoint to write. */
static void start_thread(struct loader *l)
{
	sigset_t all, old;

	sigfillset(&all);
	CHECK(!pthread_sigmask(SIG_SETMASK, &all, &old));
	CHECK(!pthread_create(&l->thread, NULL, maker_main, l));
	CHECK(!pthread_sigmask(SIG_SETMASK, &old, NULL));
	l->running = true;
}

struct loader *loader_open(const struct dataset *d, const struct split *split, const struct loader_config *c)
{
	struct loader *l = xcalloc(1, sizeof *l);

	CHECK(c->worker >= 0 && c->worker < c->workers && c->batch[c->worker] > 0 && c->prefetch >= 0);
	CHECK(split->count > 0 && split->count <= UINT32_MAX);
	l->config = *c;
	l->config.batch = NULL;         /* the caller's list need not live */
	l->config.cyclic = c->train && c->cyclic;
	l->batch = c->batch[c->worker];
	l->split = split;
	CHECK(!pthread_mutex_init(&l->lock, NULL));
	CHECK(!pthread_cond_init(&l->made, NULL) && !pthread_cond_init(&l->freed, NULL));
	augment_init(&l->augment, d, c->train && c->augment);
	l->first_image = (split->image - d->train.image) / ((int64_t)d->h * d->w * d->c);
	if (plan(l, c)) {
		loader_close(l);
		return NULL;
	}
	allocate_slots(l);
	l->maker.step = l->steps;       /* nothing to make until loader_start */
	if (c->prefetch)
		start_thread(l);
	return l;
}

void loader_close(struct loader *l)
{
	if (!l)
		return;
	if (l->running) {
		pthread_mutex_lock(&l->lock);
		l->quit = true;
		pthread_cond_signal(&l->freed);
		pthread_mutex_unlock(&l->lock);
		CHECK(!pthread_join(l->thread, NULL));
	}
	pthread_cond_destroy(&l->made);
	pthread_cond_destroy(&l->freed);
	pthread_mutex_destroy(&l->lock);
	for (int i = 0; i < l->slots; i++) {
		free(l->slot[i].image);
		free(l->slot[i].draw);
		free(l->slot[i].label);
		free(l->slot[i].sample);
	}
	free(l->slot);
	free(l->order);
	augment_release(&l->augment);
	free(l);
}
