/*
 * Two kinds of failure, and nothing in between.
 *
 * The user's mistake (config, file, shape): error() records a sentence and returns -1, hint() adds the remedy; the callers
 * return -1 up to main, which prints what was recorded and exits 2 or 3. Nothing is printed before, so that all mistakes are
 * shown at once and, of many ranks that made the same mistake, one speaks.
 *
 * Cannot go on (library status, out of memory, broken invariant): die() or CHECK() prints rank, host, step, expression and the
 * library's words at once and ends all ranks. They are never compiled out.
 */
#ifndef COCOD_DIE_H
#define COCOD_DIE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum exit_status {
	STATUS_DONE = 0,
	STATUS_FAILURE = 1,     /* run time: device, library, memory, disk */
	STATUS_CONFIG = 2,      /* usage or config */
	STATUS_DATA = 3,
	STATUS_NAN = 4,         /* the loss became NaN or Inf */
	STATUS_COMM = 5,        /* MPI, NCCL or watchdog */
	STATUS_REQUEUE = 75,    /* saved a checkpoint on a signal, wants to be started again */
};

#define PRINTF(a, b) __attribute__((format(printf, a, b)))

int error(const char *fmt, ...) PRINTF(1, 2);   /* records one mistake; returns -1 so that `return error(...)` works */
int hint(const char *fmt, ...) PRINTF(1, 2);    /* adds a remedy to the last one; returns -1 */
int errors_count(void);
const char *errors_text(void);                  /* all recorded so far, "error: …\n  hint: …\n" lines; "" if none */
void errors_clear(void);

void warn(const char *fmt, ...) PRINTF(1, 2);   /* "warning: …" on stderr, rank 0 only */
void note(const char *fmt, ...) PRINTF(1, 2);   /* a plain line on stdout, rank 0 only */
void note_aside(void);                          /* from now on on stderr: stdout is for a program that reads it */

/* Who speaks: set once the rank is known. `abort_all` ends every rank (MPI_Abort) and may be NULL. */
void die_identity(int rank, int size, const char *host, void (*abort_all)(int status));
void die_step(int64_t step);                    /* named in later messages of die() */
int die_rank(void);

void die(enum exit_status status, const char *fmt, ...) PRINTF(2, 3) __attribute__((noreturn));
void die_check(const char *file, int line, const char *expression) __attribute__((noreturn));

/* A broken invariant. */
#define CHECK(expression) ((expression) ? (void)0 : die_check(__FILE__, __LINE__, #expression))

/* Allocation that cannot fail: dies with STATUS_FAILURE. Memory is zeroed; xaligned() gives 64-byte aligned memory for free(). */
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t bytes);
void *xaligned(size_t bytes);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

#ifdef __cplusplus
}
#endif
#endif
