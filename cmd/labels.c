/* Who owns how many images of which label, for the user: rank 0 prints a table, every rank logs its own row. */
#include "../core/die.h"
#include "run.h"

enum { LABELS_MOST = 12, RANKS_MOST = 16 };     /* columns and rows of the table of labels */

/* One rank's row: the images of each label; those beyond the last column are one sum. */
static void print_labels(const struct partition *p, int rank)
{
	const int64_t *count = p->count + (int64_t)rank * p->classes;
	int shown = p->classes > LABELS_MOST ? LABELS_MOST - 1 : p->classes, n;
	int64_t others = 0;
	char line[256];

	n = snprintf(line, sizeof(line), "  rank %-3d", rank);
	for (int c = 0; c < shown; c++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %7lld", (long long)count[c]);
	for (int c = shown; c < p->classes; c++)
		others += count[c];
	if (shown < p->classes)
		snprintf(line + n, sizeof(line) - (size_t)n, " %9lld", (long long)others);
	note("%s", line);
}

static void print_partition(const struct run *run)
{
	const struct partition *p = &run->partition;
	int shown = p->classes > LABELS_MOST ? LABELS_MOST - 1 : p->classes, n;
	char line[256], alpha[40] = "";

	if (!p->count)
		return;
	if (p->rule.kind == PARTITION_DIRICHLET)
		snprintf(alpha, sizeof(alpha), ", alpha %g", p->rule.alpha);
	note("partition  %s%s: a worker owns its images; skew %.2f (0: all have the same mixture); images of each label:",
	     partition_name(p->rule.kind), alpha, partition_skew(p));
	n = snprintf(line, sizeof(line), "  %-8s", "label");
	for (int c = 0; c < shown; c++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " %7d", c);
	if (shown < p->classes)
		snprintf(line + n, sizeof(line) - (size_t)n, " %4d-%-4d", shown, p->classes - 1);
	note("%s", line);
	for (int r = 0; r < p->workers; r++) {
		if (p->workers > RANKS_MOST && r == RANKS_MOST - 2) {
			note("  … the other ranks' are in their rank-NNN.log");
			r = p->workers - 1;
		}
		print_labels(p, r);
	}
}

/* In each rank's own log: all of it, however many there are. */
static void log_partition(const struct run *run)
{
	const struct partition *p = &run->partition;

	if (!p->count || !run->dir.log)
		return;
	fprintf(run->dir.log, "partition %s, alpha %g, seed %llu, skew %.4f; images of label:", partition_name(p->rule.kind), p->rule.alpha,
	        (unsigned long long)p->rule.seed, partition_skew(p));
	for (int c = 0; c < p->classes; c++)
		if (p->count[(int64_t)run->world.rank * p->classes + c])
			fprintf(run->dir.log, " %d: %lld", c, (long long)p->count[(int64_t)run->world.rank * p->classes + c]);
	fprintf(run->dir.log, "\n");
	rundir_flush(run->dir.log, "rank log");
}

void report_labels(struct run *run)
{
	print_partition(run);
	log_partition(run);
}
