/*
 * Exact top-k with error feedback in about one pass over memory:
 *
 *   1. A sample of the sums gives a magnitude that, almost surely, a little more than k of them reach.
 *   2. One pass forms acc = residual + in and lists the candidates that reach it, in order.
 *   3. The exact cut is sought among the candidates, of which there are hardly more than k.
 *
 * If luck or an odd distribution (all equal, everything large where nobody sampled) gives fewer than k candidates or more than
 * there is room for, the cut is sought in acc itself: slower, always right. Either way the choice is walked through in the
 * order of the indices, so it comes out sorted, and of equals the lowest are taken.
 *
 * If only what reaches a given bound is wanted, that bound takes the sample's place, and the list may come out short.
 */
#include <math.h>

#include "cpu_ops.h"
#include "cpu_select.h"
#include "cpu_sparse.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

#define HOST_DEVICE static inline
#include "../formulas.h"

KERNEL_TABLES(struct sparse_kernels, sparse_kernels);

enum { SAMPLE_MOST = 1 << 16, SAMPLE_LEAST = 1 << 10, SAMPLE_HITS = 32, ROOM_EXTRA = 1 << 15, TEAM_MOST = 64 };

/* Room for the candidates: normally 1.1 to 2 k of them come. */
static int64_t room_for(int64_t n, int64_t k)
{
	int64_t room = 4 * k + ROOM_EXTRA;

	return room < n ? room : n;
}

/* The sample is taken and done with before the candidates come: they share the memory. */
size_t cpu_topk_work(int64_t n, int64_t k)
{
	int64_t room = room_for(n, k);

	return (size_t)(room > SAMPLE_MOST ? room : SAMPLE_MOST) * sizeof(struct sparse);
}

int64_t cpu_topk_samples(int64_t n, int64_t k)
{
	int64_t m = (int64_t)(SAMPLE_HITS * (double)n / (double)k);

	m = m > SAMPLE_MOST ? SAMPLE_MOST : m < SAMPLE_LEAST ? SAMPLE_LEAST : m;
	if (n <= 2 * m && room_for(n, k) == n)
		return 0;
	return m < n / 2 ? m : n / 2;
}

/* One element of each of m equal stretches, at a place in it that hashing picks: data has periods, the sample must not. */
int64_t cpu_topk_place(int64_t n, int64_t m, int64_t i)
{
	uint64_t hash = (uint64_t)(i + 1) * 0x9E3779B97F4A7C15u, stretch = (uint64_t)(n / m);

	return i * (int64_t)stretch + (int64_t)((hash >> 32) * stretch >> 32);
}

/* A magnitude that at least k elements reach, but for some four standard deviations of bad luck; 0: all do. */
static uint32_t lower_bound(const struct topk_args *a)
{
	int64_t m = cpu_topk_samples(a->n, a->k), rank;
	double expected = (double)a->k * (double)m / (double)a->n;

	rank = (int64_t)(expected + 4 * sqrt(expected) + 2);
	if (rank > m)
		return 0;
	for (int64_t i = 0; i < m; i++) {
		int64_t at = cpu_topk_place(a->n, m, i);

		a->work[i] = (struct sparse){ (uint32_t)at, a->residual[at] + (a->in ? a->in[at] : 0) };
	}
	return cut_list(m, rank, a->work).bits;
}

/* The pass over memory. Each thread lists into its own part of the room; the parts are then moved together. -1: no room. */
static int64_t candidates(const struct topk_args *a, uint32_t least, int team)
{
	const struct sparse_kernels *kernel = sparse_kernels_tables[a->dev->isa];
	int64_t room = room_for(a->n, a->k), count[TEAM_MOST], total = 0;

	team = team < TEAM_MOST ? team : TEAM_MOST;
	if (team == 1)
		return kernel->filter(0, a->n, a->in, a->residual, least, a->work, room);
#pragma omp parallel for num_threads(team) schedule(static)
	for (int t = 0; t < team; t++) {
		int64_t from, to, begin, end;

		cpu_slice(a->n, team, t, 64, &from, &to);
		cpu_slice(room, team, t, 64, &begin, &end);
		count[t] = kernel->filter(from, to, a->in, a->residual, least, a->work + begin, end - begin);
	}
	for (int t = 0; t < team; t++) {
		int64_t begin, end;

		cpu_slice(room, team, t, 64, &begin, &end);
		if (count[t] < 0)
			return -1;
		memmove(a->work + total, a->work + begin, (size_t)count[t] * sizeof(*a->work));
		total += count[t];
	}
	return total;
}

/* What stays free of a list that came out short. */
static void fill_up(const struct topk_args *a, struct sparse *out)
{
	while (out < a->out + a->k)
		*out++ = (struct sparse){ SPARSE_HOLE, 0 };
}

/* All that reach `least`, which exceeds 0. */
static struct cut cut_at(uint32_t least) { return (struct cut){ least - 1, 0 }; }

static void take_from_list(const struct topk_args *a, int64_t n, uint32_t least)
{
	struct cut cut = n < a->k ? cut_at(least) : cut_list(n, a->k, a->work);
	struct sparse *out = a->out;

	for (int64_t i = 0; i < n; i++) {
		if (!cut_takes(&cut, a->work[i].value))
			continue;
		a->residual[a->work[i].index] = 0;
		*out++ = a->work[i];
	}
	fill_up(a, out);
}

static void take_from_vector(const struct topk_args *a, uint32_t least)
{
	struct cut cut = cut_vector(a->n, a->k, a->residual);
	struct sparse *out = a->out;

	if (a->least && cut.bits < least)
		cut = cut_at(least);
	for (int64_t i = 0; i < a->n; i++) {
		if (!cut_takes(&cut, a->residual[i]))
			continue;
		*out++ = (struct sparse){ (uint32_t)i, a->residual[i] };
		a->residual[i] = 0;
	}
	fill_up(a, out);
}

/* Zeros are no candidates of a selection. */
static uint32_t given_bound(const struct topk_args *a)
{
	uint32_t bits = magnitude_bits(*a->least);

	return bits > 0 ? bits : 1;
}

void cpu_topk_run(void *args, int team)
{
	const struct topk_args *a = args;
	uint32_t least = a->least ? given_bound(a) : lower_bound(a);
	int64_t n = candidates(a, least, cpu_team(a->dev, a->n) == 1 ? 1 : team);

	if (n >= (a->least ? 0 : a->k))
		take_from_list(a, n, least);
	else
		take_from_vector(a, least);
}

/* ---- the bound alone, estimated ---- */

struct sample_args {
	int64_t n, k;
	const float *x, *y;
	float *least;
	struct sparse *work;
};

static void run_sample_bound(void *args, int team)
{
	const struct sample_args *a = args;
	int64_t m = sample_count(a->n, a->k);
	uint32_t bits = 0;

	(void)team;
	for (int64_t i = 0; i < m && a->k < a->n; i++) {
		int64_t at = sample_place(a->n, m, i);

		a->work[i] = (struct sparse){ (uint32_t)at, a->x[at] + (a->y ? a->y[at] : 0) };
	}
	if (a->k < a->n)
		bits = cut_list(m, sample_rank(a->n, a->k, m), a->work).bits;
	memcpy(a->least, &bits, sizeof(bits));
}

void cpu_sample_bound(struct stream *s, int64_t n, int64_t k, const float *x, const float *y, float *least, void *work)
{
	cpu_run(s, run_sample_bound, &(struct sample_args){ n, k, x, y, least, work }, sizeof(struct sample_args));
}
