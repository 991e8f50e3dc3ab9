/*
 * Batch norm on the CPU: two passes over the data, each cut over the team; between them one thread turns the threads' sums into
 * coefficients. The second pass runs backwards, to meet what the first left in the cache.
 *
 * Channels become the columns of a slice in one of two ways. Usually a column is a channel, at most WIDTH of them at a time.
 * Where c is small and no multiple of a vector, several pixels are folded into one row until the row is one: 2 pixels of 24 channels
 * or 16 pixels of 3 are a row of 48 columns. The pixels left over at the end are handled apart.
 */
#include <math.h>

#include "../die.h"
#include "cpu_ops.h"
#include "kernel/isa.h"
#include "kernel/kernels.h"

KERNEL_TABLES(struct bn_kernels, bn_kernels);

enum { WIDTH = 512, VECTOR = 16, PIECE_FLOATS = 1 << 14 };

/* What one thread found in its rows: mean and sum of squares, or the two sums of backward. */
struct part {
	double a[WIDTH], b[WIDTH];
	int64_t rows;
};

/* The coefficients of all columns, see struct bn_kernels; slope is for backward only. */
struct coef {
	float mean[WIDTH], scale[WIDTH], slope[WIDTH], shift[WIDTH];
};

struct job {
	struct cpu_device *dev;
	const struct bn_kernels *kernel;
	const struct bn_desc *d;
	int team;
	/* the columns under way */
	int first, channels;            /* channels [first, first + channels) */
	int fold, left;                 /* pixels a row; floats behind the last row */
	struct bn_slice all;
	struct part *part;              /* one a thread */
	struct coef *coef;
	/* forward */
	const float *x, *residual, *gamma, *beta;
	float *y, *mean, *invstd, *running_mean, *running_var;
	/* backward */
	const float *masks, *saved_mean, *saved_invstd;
	float *dy, *dx, *dresidual, *dgamma, *dbeta;
	bool keep, add_dx, add_dresidual;
};

size_t cpu_scratch_bytes(int threads) { return sizeof(struct coef) + (size_t)threads * sizeof(struct part); }

static struct job job_of(struct stream *s, const struct bn_desc *d)
{
	struct cpu_device *dev = stream_cpu(s);

	return (struct job){
		.dev = dev,
		.kernel = bn_kernels_tables[dev->isa],
		.d = d,
		.team = cpu_team(dev, d->pixels * d->c),
		.coef = dev->scratch,
		.part = (struct part *)((struct coef *)dev->scratch + 1),
	};
}

/* Sets the columns that begin with this channel; returns the channel after them. */
static int job_columns(struct job *j, int first)
{
	const struct bn_desc *d = j->d;
	int fold = 1;

	while (d->c * fold % VECTOR)
		fold *= 2;
	if (d->c * fold > WIDTH)
		fold = 1;
	j->first = first;
	j->channels = d->c - first < WIDTH ? d->c - first : WIDTH;
	j->fold = fold;
	j->left = (int)(d->pixels % fold) * d->c;
	j->all = (struct bn_slice){ .rows = d->pixels / fold, .stride = (int64_t)d->c * fold, .width = j->channels * fold };
	return first + j->channels;
}

/* The coefficients of a column are those of its channel. */
static void spread(const struct job *j, float *value)
{
	for (int i = j->channels; i < j->all.width; i++)
		value[i] = value[i - j->channels];
}

/* Runs fn over the thread's rows in pieces, from the first or from the last. */
typedef void piece_fn(const struct job *, const struct bn_slice *, int64_t offset, int64_t done, struct part *);

static void walk(const struct job *j, int t, bool backwards, piece_fn *fn)
{
	int64_t from, to, step = PIECE_FLOATS / j->all.width + 1;

	cpu_slice(j->all.rows, j->team, t, 1, &from, &to);
	for (int64_t done = 0; done < to - from; done += step) {
		struct bn_slice s = j->all;
		int64_t row;

		s.rows = to - from - done < step ? to - from - done : step;
		row = backwards ? to - done - s.rows : from + done;
		fn(j, &s, row * s.stride + j->first, done, &j->part[t]);
		cpu_poll(j->dev);
	}
	j->part[t].rows = to - from;
}

/* The pixels that filled no row, as a row of their own, narrower. */
static void walk_left(const struct job *j, piece_fn *fn)
{
	struct bn_slice s = { .rows = 1, .width = j->left, .stride = j->left };

	if (j->left)
		fn(j, &s, j->all.rows * j->all.stride, 0, NULL);
}

static void run(struct job *j, piece_fn *collect, void (*solve)(struct job *), piece_fn *finish)
{
#pragma omp parallel for num_threads(j->team) schedule(static) if (j->team > 1)
	for (int t = 0; t < j->team; t++)
		walk(j, t, false, collect);
	solve(j);
#pragma omp parallel for num_threads(j->team) schedule(static) if (j->team > 1)
	for (int t = 0; t < j->team; t++)
		walk(j, t, true, finish);
	walk_left(j, finish);
}

/* ---- forward ---- */

static void piece_moments(const struct job *j, const struct bn_slice *s, int64_t offset, int64_t done, struct part *part)
{
	j->kernel->moments(s, done, j->x + offset, part->a, part->b);
}

static void piece_normalise(const struct job *j, const struct bn_slice *s, int64_t offset, int64_t done, struct part *part)
{
	const struct coef *k = j->coef;

	(void)done;
	(void)part;
	j->kernel->normalise(s, j->x + offset, j->residual ? j->residual + offset : NULL, k->mean, k->scale, k->shift, j->d->relu,
	                     j->y + offset);
}

/* Chan's formula, as in kernel/bn.c: `rows` values of mean `m` and sum of squares `q` join the `done` before. */
static void join(int64_t *done, int64_t rows, double m, double q, double *mean, double *m2)
{
	double delta = m - *mean, share;

	if (rows == 0)
		return;
	share = (double)rows / (double)(*done + rows);
	*mean += delta * share;
	*m2 += q + delta * delta * share * (double)*done;
	*done += rows;
}

/* The moments of a channel: of all threads' rows, all its columns, and of the pixels left over. */
static void channel_moments(const struct job *j, int channel, double *mean, double *var)
{
	const float *left = j->x + j->all.rows * j->all.stride;
	double m2 = 0;
	int64_t done = 0;

	*mean = 0;
	for (int t = 0; t < j->team; t++)
		for (int i = channel; i < j->all.width; i += j->channels)
			join(&done, j->part[t].rows, j->part[t].a[i], j->part[t].b[i], mean, &m2);
	for (int i = channel; i < j->left; i += j->channels)
		join(&done, 1, left[i], 0, mean, &m2);
	*var = m2 > 0 || isnan(m2) ? m2 / (double)done : 0;
}

static void solve_train(struct job *j)
{
	struct coef *k = j->coef;
	double momentum = j->d->momentum, n = (double)j->d->pixels, unbiased = n > 1 ? n / (n - 1) : 1;

	for (int i = 0; i < j->channels; i++) {
		int c = j->first + i;
		double mean, var, inverse;

		channel_moments(j, i, &mean, &var);
		inverse = 1 / sqrt(var + j->d->epsilon);
		j->mean[c] = k->mean[i] = (float)mean;
		j->invstd[c] = (float)inverse;
		j->running_mean[c] = (float)((1 - momentum) * j->running_mean[c] + momentum * mean);
		j->running_var[c] = (float)((1 - momentum) * j->running_var[c] + momentum * var * unbiased);
		k->scale[i] = (float)(j->gamma[c] * inverse);
		k->shift[i] = j->beta[c];
	}
	spread(j, k->mean);
	spread(j, k->scale);
	spread(j, k->shift);
}

void cpu_bn_train(struct stream *s, const struct bn_desc *d, const void *x, const void *residual, const float *gamma,
                  const float *beta, float *running_mean, float *running_var, float *mean, float *invstd, void *y)
{
	struct job j = job_of(s, d);

	j.x = x;
	j.residual = residual;
	j.gamma = gamma;
	j.beta = beta;
	j.running_mean = running_mean;
	j.running_var = running_var;
	j.mean = mean;
	j.invstd = invstd;
	j.y = y;
	for (int c = 0; c < d->c;) {
		c = job_columns(&j, c);
		run(&j, piece_moments, solve_train, piece_normalise);
	}
}

void cpu_bn_infer(struct stream *s, const struct bn_desc *d, const void *x, const void *residual, const float *gamma,
                  const float *beta, const float *running_mean, const float *running_var, void *y)
{
	struct job j = job_of(s, d);
	struct coef *k = j.coef;

	j.x = x;
	j.residual = residual;
	j.y = y;
	for (int c = 0; c < d->c;) {
		c = job_columns(&j, c);
		for (int i = 0; i < j.channels; i++) {
			k->mean[i] = running_mean[j.first + i];
			k->scale[i] = (float)(gamma[j.first + i] / sqrt((double)running_var[j.first + i] + d->epsilon));
			k->shift[i] = beta[j.first + i];
		}
		spread(&j, k->mean);
		spread(&j, k->scale);
		spread(&j, k->shift);
#pragma omp parallel for num_threads(j.team) schedule(static) if (j.team > 1)
		for (int t = 0; t < j.team; t++)
			walk(&j, t, false, piece_normalise);
		walk_left(&j, piece_normalise);
	}
}

/* ---- backward ---- */

static void piece_sums(const struct job *j, const struct bn_slice *s, int64_t offset, int64_t done, struct part *part)
{
	for (int i = 0; done == 0 && i < s->width; i++)
		part->a[i] = part->b[i] = 0;
	j->kernel->sums(s, j->x + offset, j->masks ? j->masks + offset : NULL, j->coef->mean, j->dy + offset, j->keep, part->a, part->b);
}

static void piece_apply(const struct job *j, const struct bn_slice *s, int64_t offset, int64_t done, struct part *part)
{
	const struct coef *k = j->coef;

	(void)done;
	(void)part;
	j->kernel->apply(s, j->x + offset, j->masks && !j->keep ? j->masks + offset : NULL, j->dy + offset, k->mean, k->scale, k->slope,
	                 k->shift, j->dx ? j->dx + offset : NULL, j->add_dx, j->dresidual ? j->dresidual + offset : NULL,
	                 j->add_dresidual);
}

/* The sums of a channel over all threads' rows, all its columns and the pixels left over, which are masked here if need be. */
static void channel_sums(const struct job *j, int channel, double *sum, double *dot)
{
	int64_t end = j->all.rows * j->all.stride;

	*sum = *dot = 0;
	for (int t = 0; t < j->team; t++) {
		for (int i = channel; j->part[t].rows && i < j->all.width; i += j->channels) {
			*sum += j->part[t].a[i];
			*dot += j->part[t].b[i];
		}
	}
	for (int64_t i = end + channel; i < end + j->left; i += j->channels) {
		float dz = j->masks && !(j->masks[i] > 0) ? 0 : j->dy[i];

		if (j->keep)
			j->dy[i] = dz;
		*sum += dz;
		*dot += dz * ((double)j->x[i] - j->coef->mean[channel]);
	}
}

/* With xhat = (x - mean) invstd: dx = gamma invstd (dz - sum(dz) / n - xhat sum(dz xhat) / n), sorted by what it multiplies. */
static void solve_bwd(struct job *j)
{
	struct coef *k = j->coef;
	double n = (double)j->d->pixels;

	for (int i = 0; i < j->channels; i++) {
		int c = j->first + i;
		double sum, dot, inverse = j->saved_invstd[c], scale = j->gamma[c] * inverse;

		channel_sums(j, i, &sum, &dot);
		j->dgamma[c] = (float)(dot * inverse);
		j->dbeta[c] = (float)sum;
		k->scale[i] = (float)scale;
		k->slope[i] = (float)(-scale * inverse * inverse * dot / n);
		k->shift[i] = (float)(-scale * sum / n);
	}
	spread(j, k->scale);
	spread(j, k->slope);
	spread(j, k->shift);
}

void cpu_bn_bwd(struct stream *s, const struct bn_desc *d, const void *x, const void *y, const float *gamma, const float *mean,
                const float *invstd, void *dy, void *dx, bool add_dx, void *dresidual, bool add_dresidual, float *dgamma,
                float *dbeta)
{
	struct job j = job_of(s, d);

	j.x = x;
	j.masks = d->relu ? y : NULL;
	j.gamma = gamma;
	j.saved_mean = mean;
	j.saved_invstd = invstd;
	j.dy = dy;
	j.dx = dx;
	j.add_dx = add_dx;
	j.keep = d->relu && dresidual == dy;
	j.dresidual = dresidual == dy ? NULL : dresidual;
	j.add_dresidual = add_dresidual;
	j.dgamma = dgamma;
	j.dbeta = dbeta;
	for (int c = 0; c < d->c;) {
		c = job_columns(&j, c);
		for (int i = 0; i < j.channels; i++)
			j.coef->mean[i] = mean[j.first + i];
		spread(&j, j.coef->mean);
		run(&j, piece_sums, solve_bwd, piece_apply);
	}
}
