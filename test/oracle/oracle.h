/*
 * The trajectory oracle: all workers one after the other, in double precision, written from the papers and not from the code. Here is
 * the list of the algorithms, one file each, and what drives them:
 *
 *     begin;  g_i = gradient of worker i at x_i;  step
 *
 *   average     dense: sum_i w_i in_i.  top-k: each worker's k largest of residual + input.  gTop-k (Shi et al., ICDCS 2019):
 *               lists merged by recursive doubling, k largest of the sum survive each merge; a pick that is lost in any merge on
 *               its way returns to the residual of whoever picked it. Ranks beyond a power of two fold in first.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include "compressors.h"
#include "acco.h"
#include "adaptive.h"
#include "choco.h"
#include "cocod.h"
#include "diloco.h"
#include "eager_diloco.h"
#include "easgd.h"
#include "dpsgd.h"
#include "local.h"
#include "losp.h"
#include "overlap_local.h"
#include "pipe.h"
#include "post_local.h"
#include "slowmo.h"
#include "sgp.h"
#include "ssgd.h"
#include "streaming_diloco.h"
#include "stl.h"
#include "vrl.h"

static const struct oracle_algorithm *const oracle_list[] = {
	&oracle_ssgd,
	&oracle_local,
	&oracle_cocod,
	&oracle_post_local,
	&oracle_slowmo,
	&oracle_diloco,
	&oracle_streaming,
	&oracle_eager,
	&oracle_overlap_local,
	&oracle_pipe,
	&oracle_easgd,
	&oracle_losp,
	&oracle_vrl,
	&oracle_stl,
	&oracle_adaptive,
	&oracle_acco,
	&oracle_dpsgd,
	&oracle_choco,
	&oracle_sgp,
	NULL,
};

static inline void oracle_step(struct oracle *o)
{
	const struct oracle_setup *p = o->set;

	o->lr = problem_lr(p, o->t);
	if (p->algorithm->begin)
		p->algorithm->begin(o);
	for (int i = 0; i < p->workers; i++)
		for (int64_t j = 0; j < p->n; j++)
			o->g[i][j] = problem_gradient(p, i, o->t, j, o->x[i]);
	o->shared = false;
	p->algorithm->step(o);
	o->t++;
}

static inline double oracle_consensus(const struct oracle *o, int64_t j)
{
	double mean = 0;

	if (o->set->algorithm->consensus)
		return o->set->algorithm->consensus(o, j);
	for (int i = 0; i < o->set->workers; i++)
		mean += o->set->weight[i] * o->x[i][j];
	return mean;
}

static inline void oracle_open(struct oracle *o, const struct oracle_setup *set)
{
	memset(o, 0, sizeof(*o));
	o->set = set;
	o->gap = INFINITY;
	o->z = oracle_vector(o);
	o->average = oracle_vector(o);
	for (int64_t j = 0; j < set->n; j++)
		o->z[j] = problem_start(set, j);
	for (int i = 0; i < set->workers; i++) {
		double **vector[] = { &o->x[i], &o->m[i], &o->s[i], &o->g[i], &o->send[i], &o->residual[i] };

		for (size_t v = 0; v < sizeof(vector) / sizeof(*vector); v++)
			*vector[v] = oracle_vector(o);
		memcpy(o->x[i], o->z, (size_t)set->n * sizeof(double));
	}
	o->own = calloc(1, set->algorithm->own + 1);
	if (set->algorithm->open)
		set->algorithm->open(o);
}

static inline void oracle_close(struct oracle *o)
{
	for (int i = 0; i < o->vectors; i++)
		free(o->vector[i]);
	free(o->own);
}

#endif
