/* The ranks' texts, one behind the other, in one file: see trace.h. Nobody holds more than a piece. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../core/die.h"
#include "trace.h"

enum { PIECE = 1 << 16, MOST = 1000 };

struct trace_sink {
	struct comm *comm;
	FILE *file;                     /* rank 0's; else NULL */
	bool empty;                     /* no event yet, in the whole file */
	int64_t used;
	char text[PIECE];
};

static void send(struct trace_sink *k, const void *data, int64_t bytes)
{
	comm_exchange(k->comm, 0, data, bytes, -1, NULL, 0);
	k->comm->device->ops->stream->sync(k->comm->stream);
}

static void receive(struct trace_sink *k, int from, void *data, int64_t bytes)
{
	comm_exchange(k->comm, -1, NULL, 0, from, data, bytes);
	k->comm->device->ops->stream->sync(k->comm->stream);
}

static void flush(struct trace_sink *k)
{
	if (k->file) {
		fwrite(k->text, 1, (size_t)k->used, k->file);
	} else if (k->used) {
		send(k, &k->used, sizeof(k->used));
		send(k, k->text, k->used);
	}
	k->used = 0;
}

/* From a rank: pieces, each behind its length, and a length of 0. */
static void take_over(struct trace_sink *k, int rank)
{
	for (;;) {
		receive(k, rank, &k->used, sizeof(k->used));
		if (k->used == 0)
			return;
		CHECK(k->used > 0 && k->used <= PIECE);
		receive(k, rank, k->text, k->used);
		flush(k);
	}
}

void trace_put(struct trace_sink *k, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (k->used + MOST >= PIECE)
		flush(k);
	va_start(ap, fmt);
	n = vsnprintf(k->text + k->used, MOST, fmt, ap);
	va_end(ap);
	CHECK(n >= 0 && n < MOST);
	k->used += n;
}

void trace_quote(struct trace_sink *k, const char *text)
{
	char quoted[6 * 160 + 3], *at = quoted;

	CHECK(strlen(text) <= 160);
	*at++ = '"';
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			*at++ = '\\', *at++ = *text;
		else if ((unsigned char)*text < 0x20)
			at += sprintf(at, "\\u%04x", (unsigned)*text);
		else
			*at++ = *text;
	}
	*at++ = '"';
	*at = 0;
	trace_put(k, "%s", quoted);
}

void trace_open_event(struct trace_sink *k)
{
	trace_put(k, k->empty ? "{" : ",\n{");
	k->empty = false;
}

void trace_gather(struct run *run, FILE *f, void (*write)(struct trace_sink *, const struct run *), const char *tail)
{
	struct trace_sink *k = xcalloc(1, sizeof(*k));

	k->comm = run->control;
	k->file = f;
	k->empty = run->world.rank == 0;
	if (f)
		trace_put(k, "{\"displayTimeUnit\": \"ms\",\n\"traceEvents\": [\n");
	write(k, run);
	flush(k);
	if (!f) {
		send(k, &k->used, sizeof(k->used));
		free(k);
		return;
	}
	for (int r = 1; r < run->world.size; r++)
		take_over(k, r);
	trace_put(k, "\n],\n");
	trace_put(k, "%s}\n", tail);
	flush(k);
	free(k);
}
