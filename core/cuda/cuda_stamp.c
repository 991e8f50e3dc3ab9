/*
 * Moments of a stream: an event each, which the GPU times itself. Nobody waits for them; they are read when they have happened.
 *
 *   base     the host waits for an event and reads its own clock: the two clocks are joined there
 *   stamp    the time of the event before, and what has passed since: each interval is short, so a float holds it
 *
 * The first stamp after a pause makes a new base, since a long interval is not held exactly (a float's 24 bits of an hour are 0.2 ms).
 */
#include <math.h>
#include <stdlib.h>

#include "../clock.h"
#include "../die.h"
#include "cuda.h"

enum { STAMPS = 2048, TRIES = 8 };

static const double PAUSE = 1;  /* seconds between two stamps */

struct stamps {
	cudaEvent_t event[STAMPS];      /* a ring: [tail, head) are not read yet */
	double *at[STAMPS];
	int64_t head, tail;
	cudaEvent_t base, trial;
	cudaEvent_t read;               /* what was read last, one of the above */
	double last;                    /* when that happened, by clock_now() */
	double queued;                  /* when the last stamp was queued */
};

static void read_next(struct stamps *p)
{
	int i = (int)(p->tail++ % STAMPS);
	float ms;

	CUDA(cudaEventElapsedTime(&ms, p->read, p->event[i]));
	p->read = p->event[i];
	p->last += 1e-3 * (double)ms;
	*p->at[i] = p->last;
}

/* All that is queued has run. */
static void read_all(struct stamps *p)
{
	while (p->tail < p->head)
		read_next(p);
}

/* The host learns a little late that an event has happened: of some tries the quickest is the best. */
static void make_base(struct stamps *p, cudaStream_t stream)
{
	double best = INFINITY;

	CUDA(cudaStreamSynchronize(stream));
	read_all(p);
	for (int i = 0; i < TRIES; i++) {
		double before = clock_now(), took;
		cudaEvent_t event = p->trial;

		CUDA(cudaEventRecord(event, stream));
		CUDA(cudaEventSynchronize(event));
		took = clock_now() - before;
		if (took >= best)
			continue;
		best = took;
		p->last = before + took / 2;
		p->trial = p->base;
		p->base = event;
	}
	p->read = p->base;
}

static struct stamps *stamps_create(void)
{
	struct stamps *p = xcalloc(1, sizeof(*p));

	for (int i = 0; i < STAMPS; i++)
		CUDA(cudaEventCreate(&p->event[i]));
	CUDA(cudaEventCreate(&p->base));
	CUDA(cudaEventCreate(&p->trial));
	return p;
}

void cuda_stamps_free(struct stream *s)
{
	struct stamps *p = s->stamps;

	if (!p)
		return;
	for (int i = 0; i < STAMPS; i++)
		CUDA(cudaEventDestroy(p->event[i]));
	CUDA(cudaEventDestroy(p->base));
	CUDA(cudaEventDestroy(p->trial));
	free(p);
}

void cuda_stamps_settle(struct stream *s)
{
	if (s->stamps)
		read_all(s->stamps);
}

void cuda_stamp(struct stream *s, double *at)
{
	struct stamps *p = s->stamps;

	if (!p)
		p = s->stamps = stamps_create();
	if (clock_now() - p->queued > PAUSE)
		make_base(p, s->handle);
	while (p->head - p->tail > STAMPS - 2) {        /* the host is far ahead, and has time to wait. What was read last is still wanted */
		CUDA(cudaEventSynchronize(p->event[p->tail % STAMPS]));
		read_next(p);
	}
	p->at[p->head % STAMPS] = at;
	CUDA(cudaEventRecord(p->event[p->head++ % STAMPS], s->handle));
	p->queued = clock_now();
}
