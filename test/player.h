/*
 * Training by hand, on the arena of kit_config.h: whoever gives the gradients also says when. For runs whose gradients are not the
 * oracle's, and for those that are timed: steps and exchanges that take as long as they are told to.
 */
#ifndef PLAYER_H
#define PLAYER_H

#include <time.h>

#include "../core/clock.h"
#include "sync_kit.h"

struct player {
	struct kit *kit;
	struct config *config;
	struct optimizer optimizer;
	struct sync sync;
	float *x, *g, *out;
	int64_t t;
};

static inline void player_open(struct player *p, struct kit *k, struct config *config, const int *batch)
{
	const struct mem_ops *mem = k->dev->ops->mem;

	*p = (struct player){ .kit = k, .config = config };
	p->x = mem->alloc(k->dev, KIT_N * sizeof(float));
	p->g = mem->alloc(k->dev, KIT_N * sizeof(float));
	p->out = mem->alloc(k->dev, KIT_N * sizeof(float));
	optimizer_init(&p->optimizer, optimizer_find(config_string(config, "optimizer.name")), config);
	optimizer_bind(&p->optimizer, k->dev, KIT_N);
	CHECK(sync_init(&p->sync, config, kit_tensor, KIT_TENSORS, KIT_N) == 0);
	sync_bind(&p->sync, k->comm, k->compute, &p->optimizer, p->x, p->g, batch);
}

static inline void player_begin(struct player *p)
{
	p->sync.lr = 0.03;
	sync_begin(&p->sync, p->t);
}

static inline void player_end(struct player *p, const float *gradient)
{
	p->kit->dev->ops->mem->copy(p->kit->compute, p->g, gradient, KIT_N * sizeof(float), COPY_TO_DEVICE);
	for (int i = 0; i < KIT_TENSORS; i++) {
		struct range r = kit_range(i);

		sync_grad_ready(&p->sync, &r);
	}
	sync_step(&p->sync, p->t++);
}

static inline void player_step(struct player *p, const float *gradient)
{
	player_begin(p);
	player_end(p, gradient);
}

static inline void player_close(struct player *p)
{
	const struct mem_ops *mem = p->kit->dev->ops->mem;

	p->kit->dev->ops->stream->sync(p->kit->comm->stream);
	sync_release(&p->sync);
	optimizer_release(&p->optimizer);
	config_free(p->config);
	mem->free(p->kit->dev, p->x);
	mem->free(p->kit->dev, p->g);
	mem->free(p->kit->dev, p->out);
}

/* ---- by the clock ---- */

/* A step takes so long by the clock, in pieces, between which the hook may run. It sleeps: computing would fight for the cores. */
static inline void pass_time(struct kit *k, double seconds)
{
	double until = clock_now() + seconds;

	while (clock_now() < until) {
		nanosleep(&(struct timespec){ 0, 500000 }, NULL);
		if (k->dev->ops->stream->progress)
			k->dev->ops->stream->progress(k->dev);
	}
}

/* Steps of `step` seconds each, exchanges that take `delay`; look: every 4 steps somebody asks for the consensus,
 * exchanges something himself, and takes as long as 5 steps. */
struct pace {
	int steps;
	double step, delay;
	bool look;
};

/* Seconds, on average over the steps: what a step computed, what it took. */
struct took {
	double step, wall;
};

static inline void look_at(struct player *p, struct pace pace)
{
	struct kit *k = p->kit;

	p->sync.ops->consensus(&p->sync, p->out);
	comm_fork(k->comm, k->compute);
	comm_delay(k->comm);
	comm_mark(k->comm, k->comm->forked);
	k->dev->ops->stream->wait(k->compute, k->comm->forked);
	pass_time(k, 5 * pace.step);
}

/* Plays so many steps and closes the player. model: the last. */
static inline struct took paced_run(struct player *p, struct pace pace, float *model)
{
	struct kit *k = p->kit;
	struct took took = { 0, 0 };
	float g[KIT_N];

	k->comm->delay = pace.delay;
	comm_barrier(verdicts);
	took.wall -= clock_now();
	for (int64_t t = 0; t < pace.steps; t++) {
		player_begin(p);
		took.step -= clock_now();
		pass_time(k, pace.step);
		took.step += clock_now();
		kit_read(k, g, p->x);
		for (int64_t j = 0; j < KIT_N; j++)
			g[j] = kit_real[j] ? (float)(g[j] - noise(1, (uint64_t)t, (uint64_t)world.rank, (uint64_t)j)) : 0;
		player_end(p, g);
		if (pace.look && t % 4 == 3)
			look_at(p, pace);
	}
	kit_read(k, model, p->x);
	took.wall += clock_now();
	player_close(p);
	k->comm->delay = 0;
	return (struct took){ most_everywhere(took.step) / pace.steps, most_everywhere(took.wall) / pace.steps };
}

#endif
