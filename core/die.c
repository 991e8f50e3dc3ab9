/*
 * The two kinds of failure (die.h): mistakes are collected and shown by main; what cannot go on is said at once, with who, when
 * and where, and takes all ranks along. And the allocation that cannot fail, because it dies.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"

static struct {
	int rank, size;
	char host[64];
	void (*abort_all)(int status);
	_Atomic int64_t step;
} self = { .size = 1, .step = -1 };

static bool aside;              /* note() speaks on stderr */

/* ---- the user's mistakes ---- */

static struct {
	char *text;
	size_t length;
	int count;
} recorded;

static void record(const char *prefix, const char *fmt, va_list ap)
{
	va_list again;
	size_t head = strlen(prefix);
	int body;

	va_copy(again, ap);
	body = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	CHECK(body >= 0);
	recorded.text = xrealloc(recorded.text, recorded.length + head + (size_t)body + 2);
	memcpy(recorded.text + recorded.length, prefix, head);
	vsnprintf(recorded.text + recorded.length + head, (size_t)body + 1, fmt, ap);
	recorded.length += head + (size_t)body;
	recorded.text[recorded.length++] = '\n';
	recorded.text[recorded.length] = 0;
}

int error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record("error: ", fmt, ap);
	va_end(ap);
	recorded.count++;
	return -1;
}

int hint(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record("  hint: ", fmt, ap);
	va_end(ap);
	return -1;
}

int errors_count(void)
{
	return recorded.count;
}

const char *errors_text(void)
{
	return recorded.text ? recorded.text : "";
}

void errors_clear(void)
{
	free(recorded.text);
	memset(&recorded, 0, sizeof recorded);
}

/* ---- rank 0 speaks ---- */

/* One fwrite a message, so that lines of several ranks or threads do not interleave inside. */
static void say(FILE *out, const char *prefix, const char *fmt, va_list ap)
{
	char line[4096];
	int n = snprintf(line, sizeof line, "%s", prefix);
	int body = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);

	if (body < 0)
		return;
	n += body;
	if (n > (int)sizeof line - 2)
		n = (int)sizeof line - 2;
	line[n++] = '\n';
	fwrite(line, 1, (size_t)n, out);
	fflush(out);
}

void warn(const char *fmt, ...)
{
	va_list ap;

	if (self.rank)
		return;
	fflush(stdout);         /* both may go into one file, and in their order */
	va_start(ap, fmt);
	say(stderr, "warning: ", fmt, ap);
	va_end(ap);
}

void note(const char *fmt, ...)
{
	va_list ap;

	if (self.rank)
		return;
	va_start(ap, fmt);
	say(aside ? stderr : stdout, "", fmt, ap);
	va_end(ap);
}

void note_aside(void) { aside = true; }

/* ---- cannot go on ---- */

void die_identity(int rank, int size, const char *host, void (*abort_all)(int status))
{
	self.rank = rank;
	self.size = size;
	snprintf(self.host, sizeof self.host, "%s", host ? host : "");
	self.abort_all = abort_all;
}

void die_step(int64_t step)
{
	self.step = step;
}

int die_rank(void)
{
	return self.rank;
}

_Noreturn static void end_all(enum exit_status status, const char *fmt, va_list ap)
{
	static atomic_flag dying = ATOMIC_FLAG_INIT;
	char who[160];
	int64_t step = self.step;
	int n;

	n = snprintf(who, sizeof who, "rank %d of %d", self.rank, self.size);
	if (self.host[0])
		n += snprintf(who + n, sizeof who - (size_t)n, " (%s)", self.host);
	if (step >= 0)
		n += snprintf(who + n, sizeof who - (size_t)n, ", step %lld", (long long)step);
	snprintf(who + n, sizeof who - (size_t)n, ": ");
	fflush(stdout);
	say(stderr, who, fmt, ap);
	/* Only the first thread (or the first failure, should abort_all itself die) asks the others to end. */
	if (self.abort_all && !atomic_flag_test_and_set(&dying))
		self.abort_all(status);
	_Exit(status);          /* no atexit handlers: they may wait for what just broke */
}

_Noreturn void die(enum exit_status status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end_all(status, fmt, ap);
}

_Noreturn void die_check(const char *file, int line, const char *expression)
{
	die(STATUS_FAILURE, "%s:%d: this must hold and does not: %s", file, line, expression);
}

/* ---- allocation ---- */

_Noreturn static void out_of_memory(size_t bytes)
{
	die(STATUS_FAILURE, "out of memory: %.1f MB more were asked for (%s)", (double)bytes / 1e6, strerror(ENOMEM));
}

void *xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		out_of_memory(count * size);
	return p;
}

void *xrealloc(void *old, size_t bytes)
{
	void *p = realloc(old, bytes ? bytes : 1);

	if (!p)
		out_of_memory(bytes);
	return p;
}

void *xaligned(size_t bytes)
{
	void *p;

	if (bytes > SIZE_MAX - 63 || posix_memalign(&p, 64, bytes ? bytes : 1))
		out_of_memory(bytes);
	return memset(p, 0, bytes);
}

char *xstrdup(const char *s)
{
	size_t bytes = strlen(s) + 1;

	return memcpy(xrealloc(NULL, bytes), s, bytes);
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	CHECK(n >= 0);
	s = xrealloc(NULL, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s;
}
