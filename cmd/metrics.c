/* Rows of metrics.csv and the progress line: see metrics.h. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/clock.h"
#include "../core/die.h"
#include "metrics.h"
#include "tensorboard.h"

/* What a rank reports of the steps since the row before. Doubles only, so that it travels as it is. */
struct row {
	double step, samples, lr, steps, wall_s, trained;       /* samples: of all, at the row's end; trained: seconds, since the start */
	double loss, correct, count;
	double seconds, compute, comm, exposed, bytes;
	double virtual_s;               /* NAN: on the wall clock alone */
};

enum { ROWS = 256 };                    /* on their way: a worker may be so many rows ahead of the slowest before it waits */

struct flight {
	struct row mine, *all;          /* all: on rank 0 */
	struct event *arrived;
};

struct metrics {
	int64_t every, last;            /* samples between two rows; at the end of the last one */
	int64_t last_step;
	struct spent spent;             /* at the end of the last row with steps of ours */
	struct flight *flight;          /* a ring */
	struct stream *here;            /* the host itself, where it waits for a row */
	int64_t sent, written;          /* rows so far */
	bool terminal, live;
	double printed, first_printed;
	double *speed, rate;            /* images per second of each worker, in its last row; of all */
};

/* mpirun gives its ranks a pseudo-terminal even if its own output goes to a file, so under a launcher the parent's is looked at. */
static bool on_terminal(void)
{
	char path[64];
	bool terminal;
	int fd;

	if (!isatty(STDOUT_FILENO) || !launch_detect().launcher)
		return isatty(STDOUT_FILENO);
	snprintf(path, sizeof(path), "/proc/%d/fd/1", (int)getppid());
	fd = open(path, O_WRONLY | O_NOCTTY);
	terminal = fd >= 0 && isatty(fd);
	if (fd >= 0)
		close(fd);
	return terminal;
}

struct metrics *metrics_open(struct run *run)
{
	struct metrics *m = xcalloc(1, sizeof(*m));

	m->every = config_int(run->config, "output.log_every") * run->batch_total;
	m->speed = xcalloc((size_t)run->workers, sizeof(*m->speed));
	m->flight = xcalloc(ROWS, sizeof(*m->flight));
	for (int i = 0; i < ROWS; i++) {
		m->flight[i].all = run->world.rank ? NULL : xcalloc((size_t)run->workers, sizeof(struct row));
		m->flight[i].arrived = run->host->ops->stream->event_open(run->host);
	}
	m->here = run->host->ops->stream->open(run->host, STREAM_COMPUTE);
	m->terminal = on_terminal();
	m->first_printed = m->printed = clock_now();
	return m;
}

void metrics_close(struct run *run)
{
	struct metrics *m = run->metrics;

	if (!m)
		return;
	for (int i = 0; i < ROWS; i++) {
		run->host->ops->stream->event_close(m->flight[i].arrived);
		free(m->flight[i].all);
	}
	run->host->ops->stream->close(m->here);
	free(m->flight);
	free(m->speed);
	free(m);
	run->metrics = NULL;
}

static void format_time(double seconds, char *out, size_t size)
{
	int s = (int)(seconds + 0.5);

	if (s >= 3600)
		snprintf(out, size, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(out, size, "%d:%02d", s / 60, s % 60);
}

static void print_progress(struct run *run, const struct row *sum)
{
	struct metrics *m = run->metrics;
	double now = clock_now(), done = sum->samples / run->batch_total, left = (double)run->steps - done;
	char eta[32];

	/* In a file a line every ten seconds is plenty; a terminal is refreshed with every row. */
	if (!m->terminal && now - m->printed < 10 && left > 0)
		return;
	m->printed = now;
	format_time(done > 0 ? sum->trained / done * left : 0, eta, sizeof(eta));
	printf("%sepoch %6.2f/%g  step %.0f/%lld  loss %.4f  accuracy %5.2f %%  lr %.4g  %.0f img/s  ETA %s%s", m->terminal ? "\r\033[K" : "",
	       run_epochs(run, (int64_t)sum->samples), run->epochs, done, (long long)run->steps, sum->loss / sum->count,
	       100 * sum->correct / sum->count, sum->lr, m->rate, eta, m->terminal ? "" : "\n");
	fflush(stdout);
	m->live = m->terminal;
}

void metrics_progress_end(struct run *run)
{
	if (run->metrics->live)
		printf("\n");
	run->metrics->live = false;
}

/* The row of all workers: sums of samples and bytes, means of times, the latest virtual time. Step and wall time are rank 0's; where each goes at its own pace, the
 * others were there earlier or later, and have taken another number of steps; the run is done when the slowest is. */
static struct row add_up(struct run *run, const struct row *all)
{
	struct metrics *m = run->metrics;
	struct row sum = all[0];

	m->rate = 0;
	for (int r = 0; r < run->workers; r++) {
		if (all[r].count > 0)
			m->speed[r] = all[r].seconds > 0 ? all[r].count / all[r].seconds : 0;
		m->rate += m->speed[r];
	}
	for (int r = 1; r < run->workers; r++) {
		const struct row *a = &all[r];

		sum.steps += a->steps;
		sum.loss += a->loss;
		sum.correct += a->correct;
		sum.count += a->count;
		sum.compute += a->compute;
		sum.comm += a->comm;
		sum.exposed += a->exposed;
		sum.bytes += a->bytes;
		sum.trained = a->trained > sum.trained ? a->trained : sum.trained;
		sum.virtual_s = fmax(sum.virtual_s, a->virtual_s);
	}
	return sum;
}

static void write_row(struct run *run, const struct row *all)
{
	struct metrics *m = run->metrics;
	struct row sum = add_up(run, all);

	if (sum.count == 0)
		return;
	run->train_loss = sum.loss / sum.count;
	fprintf(run->dir.metrics, "%.0f,%.6g,%.6g,%.6g,%.6g,%.1f,%.3f,%.3f,%.3f,%.0f,%.3f,", sum.step, run_epochs(run, (int64_t)sum.samples),
	        sum.loss / sum.count, sum.correct / sum.count, sum.lr, m->rate, 1e3 * sum.compute / sum.steps, 1e3 * sum.comm / sum.steps,
	        1e3 * sum.exposed / sum.steps, sum.bytes / run->workers, sum.wall_s);
	rundir_virtual(run->dir.metrics, sum.virtual_s);
	rundir_flush(run->dir.metrics, "metrics.csv");
	if (run->dir.events) {
		tensorboard_scalar(run->dir.events, (int64_t)sum.step, "train/loss", sum.loss / sum.count);
		tensorboard_scalar(run->dir.events, (int64_t)sum.step, "train/accuracy", sum.correct / sum.count);
		tensorboard_scalar(run->dir.events, (int64_t)sum.step, "train/lr", sum.lr);
		tensorboard_scalar(run->dir.events, (int64_t)sum.step, "speed/images_per_s", m->rate);
		tensorboard_scalar(run->dir.events, (int64_t)sum.step, "speed/exposed_ms", 1e3 * sum.exposed / sum.steps);
	}
	print_progress(run, &sum);
}

/* Writes the rows that have come, in their order. */
static void finish_rows(struct run *run)
{
	struct metrics *m = run->metrics;

	for (; m->written < m->sent; m->written++) {
		struct flight *f = &m->flight[m->written % ROWS];

		if (!run->host->ops->stream->done(f->arrived))
			return;
		if (run->world.rank == 0)
			write_row(run, f->all);
	}
}

/* As little as makes room for the next row: we are ahead of the slowest worker, and stay so. */
static void wait_for_oldest(struct run *run)
{
	struct metrics *m = run->metrics;
	struct spent before = run_counters(run);

	run_rest(run);
	run->host->ops->stream->wait(m->here, m->flight[m->written % ROWS].arrived);
	run_set_aside(run, &before);
	finish_rows(run);
}

void metrics_flush(struct run *run)
{
	run->host->ops->stream->sync(run->team->stream);
	finish_rows(run);
}

/* What became of our steps since the last row with any. The host waits. */
static void fill_row(struct run *run, struct row *row)
{
	struct metrics *m = run->metrics;
	struct loss_stats sums = net_take_stats(&run->net);

	run_clock(run);
	if (!isfinite(sums.loss)) {
		metrics_progress_end(run);
		die(STATUS_NAN, "the loss became %g between steps %lld and %lld. Lower optimizer.lr, or add optimizer.warmup_epochs",
		    sums.loss, (long long)m->last_step, (long long)run->step);
	}
	row->steps = (double)(run->step - m->last_step);
	row->loss = sums.loss;
	row->correct = (double)sums.correct;
	row->count = (double)sums.count;
	row->seconds = run->spent.wall - m->spent.wall;
	row->comm = run->spent.comm - m->spent.comm;
	row->exposed = run->spent.exposed - m->spent.exposed;
	row->bytes = run->spent.bytes - m->spent.bytes;
	row->compute = row->seconds - row->exposed - (run->spent.data - m->spent.data);
	m->spent = run->spent;
	m->last_step = run->step;
}

static void send_row(struct run *run, int64_t end, bool fill)
{
	struct metrics *m = run->metrics;
	struct flight *f = &m->flight[m->sent % ROWS];

	if (m->sent - m->written == ROWS)
		wait_for_oldest(run);
	rundir_flush_decisions(&run->dir);
	f->mine = (struct row){ .step = (double)run->step, .samples = (double)end, .lr = run->sync.lr, .trained = run->spent.wall };
	if (fill && run->step > m->last_step)
		fill_row(run, &f->mine);
	f->mine.wall_s = clock_now() - run->started;
	f->mine.virtual_s = run_virtual_now(run);
	comm_gather(run->team, &f->mine, f->all, sizeof(f->mine));
	comm_mark(run->team, f->arrived);
	m->sent++;
}

static int64_t row_end(const struct metrics *m, int64_t begin, int64_t until)
{
	return begin + m->every < until ? begin + m->every : until;
}

void metrics_reach(struct run *run, int64_t samples, int64_t until)
{
	struct metrics *m = run->metrics;

	finish_rows(run);
	for (int64_t end; (end = row_end(m, m->last, until)) < until && end <= samples; m->last = end)
		send_row(run, end, row_end(m, end, until) > samples);
}

void metrics_complete(struct run *run, int64_t until)
{
	run->metrics->last = until;
	send_row(run, until, true);
}
