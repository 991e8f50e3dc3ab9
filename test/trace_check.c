/*
 * Is a trace.json what the format wants, and what the run did? Reads it strictly (RFC 8259), and checks that
 *
 *   every event has what its kind needs; spans of a thread nest; ends are not before beginnings
 *   flows come in pairs, the finish not before the start, in one process, each end inside a span of its thread
 *   every process that has spans has a name, and so has each of its threads
 *
 * and what else is asked for:
 *
 *   trace_check FILE [RULE…]
 *     processes=N         so many
 *     has=THREAD/NAME     in every process that has a thread so named (or beginning so): a span with this name, or several beginning so
 *     none=THREAD/NAME    in none
 *     overlap=A/B/N       in every process: at least N spans A of the communication thread overlap a span B of the compute thread
 *     early=A/B/C/N       in every process: at least N spans A of the communication thread begin in a span C of the compute thread in which a
 *                         span B is yet to begin
 *     apart=A/B           in every process: no span A of communication overlaps a span B of compute
 *     spans<=N            in every process
 *     flows>=N            in every process with two streams
 *
 * A name that ends in a star stands for all that begin so. Prints what is wrong and exits with 1.
 */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event {
	char name[64], thread_name[64], id[32], kind;
	bool has_ts, has_dur, has_pid, has_tid, has_id;
	double ts, dur;
	int pid, tid;
};

static struct {
	const char *at, *begin;
	struct event *event;
	size_t events, room;
	int wrong;
} trace;

static void wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	if (++trace.wrong >= 20)
		exit(1);
}

/* ---- JSON ---- */

static void broken(const char *what)
{
	printf("# no JSON at byte %td: %s, near: %.40s\n", trace.at - trace.begin, what, trace.at);
	exit(1);
}

static void space(void)
{
	trace.at += strspn(trace.at, " \t\r\n");
}

static void take(char c)
{
	space();
	if (*trace.at != c)
		broken("another character is due");
	trace.at++;
	space();
}

static void escape(char *out)
{
	static const char code[] = "\"\\/bfnrt";

	trace.at++;
	if (*trace.at == 'u') {
		for (int i = 1; i <= 4; i++)
			if (!isxdigit((unsigned char)trace.at[i]))
				broken("not four hexadecimal digits");
		*out = '?';
		trace.at += 5;
		return;
	}
	if (!*trace.at || !strchr(code, *trace.at))
		broken("an unknown escape");
	*out = *trace.at++;
}

/* Cut to fit. */
static void string(char *out, size_t size)
{
	size_t n = 0;

	if (*trace.at != '"')
		broken("a string is due");
	for (trace.at++; *trace.at != '"';) {
		char c = *trace.at;

		if ((unsigned char)c < 0x20)
			broken("a bare control character");
		if (c == '\\')
			escape(&c);
		else
			trace.at++;
		if (n + 1 < size)
			out[n++] = c;
	}
	out[n] = 0;
	trace.at++;
}

static size_t digits(const char *p)
{
	size_t n = strspn(p, "0123456789");

	if (n == 0)
		broken("a digit is due");
	return n;
}

static double number(void)
{
	const char *start = trace.at, *p = start + (*start == '-');
	size_t n = digits(p);

	if (*p == '0' && n > 1)
		broken("a leading zero");
	p += n;
	if (*p == '.')
		p += 1 + digits(p + 1);
	if (*p == 'e' || *p == 'E') {
		p += 1 + (p[1] == '+' || p[1] == '-');
		p += digits(p);
	}
	trace.at = p;
	return strtod(start, NULL);
}

static void skip(int depth);

/* A list or an object; member(key, depth) reads a member's value. */
static void members(char open, char close, void (*member)(const char *key, int depth), int depth)
{
	char key[64] = "";

	if (depth > 16)
		broken("too deep");
	take(open);
	while (*trace.at != close) {
		if (open == '{') {
			string(key, sizeof(key));
			take(':');
		}
		member(key, depth + 1);
		space();
		if (*trace.at == close)
			break;
		take(',');
		if (*trace.at == close)
			broken("a comma at the end");
	}
	take(close);
}

static void skip_member(const char *key, int depth)
{
	(void)key;
	skip(depth);
}

static void skip(int depth)
{
	char text[8];

	if (*trace.at == '{')
		members('{', '}', skip_member, depth);
	else if (*trace.at == '[')
		members('[', ']', skip_member, depth);
	else if (*trace.at == '"')
		string(text, sizeof(text));
	else if (*trace.at == '-' || isdigit((unsigned char)*trace.at))
		number();
	else if (!strncmp(trace.at, "true", 4) || !strncmp(trace.at, "null", 4))
		trace.at += 4;
	else if (!strncmp(trace.at, "false", 5))
		trace.at += 5;
	else
		broken("a value is due");
}

/* ---- events ---- */

static void read_args(const char *key, int depth)
{
	struct event *e = &trace.event[trace.events - 1];

	if (!strcmp(key, "name") && *trace.at == '"')
		string(e->thread_name, sizeof(e->thread_name));
	else
		skip(depth);
}

static void read_field(const char *key, int depth)
{
	struct event *e = &trace.event[trace.events - 1];
	char text[8];

	if (!strcmp(key, "name")) {
		string(e->name, sizeof(e->name));
	} else if (!strcmp(key, "ph")) {
		string(text, sizeof(text));
		e->kind = text[0];
		if (strlen(text) != 1 || !strchr("XMCsf", text[0]))
			wrong("an event of kind \"%s\"", text);
	} else if (!strcmp(key, "ts")) {
		e->ts = number(), e->has_ts = true;
	} else if (!strcmp(key, "dur")) {
		e->dur = number(), e->has_dur = true;
	} else if (!strcmp(key, "pid")) {
		e->pid = (int)number(), e->has_pid = true;
	} else if (!strcmp(key, "tid")) {
		e->tid = (int)number(), e->has_tid = true;
	} else if (!strcmp(key, "id")) {
		snprintf(e->id, sizeof(e->id), "%.0f", number()), e->has_id = true;
	} else if (!strcmp(key, "args")) {
		members('{', '}', read_args, depth);
	} else {
		skip(depth);
	}
}

static void read_event(const char *key, int depth)
{
	struct event *e;

	(void)key;
	if (trace.events == trace.room) {
		trace.room = trace.room ? 2 * trace.room : 1024;
		trace.event = realloc(trace.event, trace.room * sizeof(*trace.event));
		if (!trace.event)
			exit(1);
	}
	e = &trace.event[trace.events++];
	*e = (struct event){ .kind = 0 };
	members('{', '}', read_field, depth);
	if (!e->name[0] || !e->kind || !e->has_pid || !e->has_tid || (e->kind != 'M' && !e->has_ts) || (e->kind == 'X' && !e->has_dur) ||
	    (strchr("sf", e->kind) && !e->has_id))
		wrong("event %zu, \"%s\", lacks what its kind needs", trace.events, e->name);
	if (e->has_dur && !(e->dur >= 0))
		wrong("\"%s\" ends before it begins", e->name);
}

static void read_top(const char *key, int depth)
{
	if (!strcmp(key, "traceEvents"))
		members('[', ']', read_event, depth);
	else
		skip(depth);
}

/* ---- what must hold ---- */

static int by_thread(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	if (x->tid != y->tid)
		return x->tid < y->tid ? -1 : 1;
	if (x->ts < y->ts || x->ts > y->ts)
		return x->ts < y->ts ? -1 : 1;
	return x->dur > y->dur ? -1 : x->dur < y->dur;
}

enum { DEPTH = 64 };
#define EXACT 1e-4              /* microseconds: less than a place of the file */

static void check_nesting(const struct event *span, size_t spans)
{
	double end[DEPTH];
	int depth = 0;

	for (size_t i = 0; i < spans; i++) {
		double begins = span[i].ts, ends = begins + span[i].dur;

		if (i > 0 && (span[i].pid != span[i - 1].pid || span[i].tid != span[i - 1].tid))
			depth = 0;
		while (depth > 0 && end[depth - 1] <= begins + EXACT)
			depth--;
		if (depth > 0 && !(ends <= end[depth - 1] + EXACT))
			wrong("\"%s\" of process %d at %.3f ends behind the span around it", span[i].name, span[i].pid, begins);
		if (depth < DEPTH)
			end[depth++] = ends;
	}
}

static bool inside_a_span(const struct event *e, const struct event *span, size_t spans)
{
	for (size_t i = 0; i < spans; i++)
		if (span[i].pid == e->pid && span[i].tid == e->tid && span[i].ts <= e->ts + EXACT && span[i].ts + span[i].dur >= e->ts - EXACT)
			return true;
	return false;
}

static int by_id(const void *a, const void *b)
{
	const struct event *x = a, *y = b;
	int c = strcmp(x->id, y->id);

	return c ? c : y->kind - x->kind;       /* s before f */
}

static void check_flows(struct event *end, size_t ends, const struct event *span, size_t spans)
{
	qsort(end, ends, sizeof(*end), by_id);
	if (ends % 2)
		wrong("%zu ends of flows are no pairs", ends);
	for (size_t i = 0; i + 1 < ends; i += 2) {
		const struct event *s = &end[i], *f = &end[i + 1];

		if (s->kind != 's' || f->kind != 'f' || strcmp(s->id, f->id) || strcmp(s->name, f->name) || s->pid != f->pid)
			wrong("flow %s is no pair of start and finish", s->id);
		if (!(f->ts >= s->ts - EXACT))
			wrong("flow %s of process %d ends before it starts", s->id, s->pid);
		if (!inside_a_span(s, span, spans) || !inside_a_span(f, span, spans))
			wrong("an end of flow %s is in no span", s->id);
	}
}

/* ---- what is asked for ---- */

static struct event *span, *flow;
static size_t spans, flows;

static bool matches(const char *name, const char *pattern)
{
	size_t n = strlen(pattern);

	return n && pattern[n - 1] == '*' ? !strncmp(name, pattern, n - 1) : !strcmp(name, pattern);
}

/* The name of a thread, or of a process (tid -1). NULL: it has none. */
static const char *name_of(int pid, int tid)
{
	for (size_t i = 0; i < trace.events; i++) {
		const struct event *e = &trace.event[i];

		if (e->kind == 'M' && e->pid == pid && !strcmp(e->name, tid < 0 ? "process_name" : "thread_name") && (tid < 0 || e->tid == tid))
			return e->thread_name;
	}
	return NULL;
}

static void check_names(void)
{
	for (size_t i = 0; i < spans; i++) {
		if (i > 0 && span[i].pid == span[i - 1].pid && span[i].tid == span[i - 1].tid)
			continue;
		if (!name_of(span[i].pid, -1))
			wrong("process %d has no name", span[i].pid);
		if (!name_of(span[i].pid, span[i].tid))
			wrong("thread %d of process %d has no name", span[i].tid, span[i].pid);
	}
}

static bool has_thread(int pid, const char *name)
{
	for (size_t i = 0; i < trace.events; i++)
		if (trace.event[i].kind == 'M' && trace.event[i].pid == pid && !strcmp(trace.event[i].name, "thread_name") &&
		    !strcmp(trace.event[i].thread_name, name))
			return true;
	return false;
}

static int count_spans(int pid, int tid, const char *pattern)
{
	int n = 0;

	for (size_t i = 0; i < spans; i++)
		n += span[i].pid == pid && (tid < 0 || span[i].tid == tid) && matches(span[i].name, pattern);
	return n;
}

static bool on_thread(const struct event *e, const char *pattern)
{
	const char *name = name_of(e->pid, e->tid);

	return name && matches(name, pattern);
}

static int count_overlaps(int pid, const char *a, const char *b)
{
	int n = 0;

	for (size_t i = 0; i < spans; i++) {
		bool found = false;

		if (span[i].pid != pid || !matches(span[i].name, a) || !on_thread(&span[i], "communication"))
			continue;
		for (size_t j = 0; j < spans && !found; j++)
			found = span[j].pid == pid && matches(span[j].name, b) && span[i].ts + EXACT < span[j].ts + span[j].dur &&
			        span[j].ts + EXACT < span[i].ts + span[i].dur && on_thread(&span[j], "compute");
		n += found;
	}
	return n;
}

/* Is there a compute span of that name that begins between two moments; or, `around`, one that they both lie in? Its end, or -1. */
static double find_compute(int pid, const char *name, double from, double to, bool around)
{
	for (size_t i = 0; i < spans; i++) {
		double begin = span[i].ts, end = begin + span[i].dur;

		if (span[i].pid == pid && matches(span[i].name, name) && (around ? begin <= from && to <= end : from <= begin && begin <= to) &&
		    on_thread(&span[i], "compute"))
			return end;
	}
	return -1;
}

static int count_early(int pid, const char *a, const char *b, const char *c)
{
	int n = 0;

	for (size_t i = 0; i < spans; i++) {
		double begin = span[i].ts, end;

		if (span[i].pid != pid || !matches(span[i].name, a) || !on_thread(&span[i], "communication"))
			continue;
		end = find_compute(pid, c, begin, begin, true);
		n += end >= 0 && find_compute(pid, b, begin, end, false) >= 0;
	}
	return n;
}

static int count_flows(int pid)
{
	int n = 0;

	for (size_t i = 0; i < flows; i++)
		n += flow[i].pid == pid && flow[i].kind == 's';
	return n;
}

/* For a process; the text is "A/B/N" or less. */
static void check_rule(const char *rule, int pid)
{
	char copy[200], *part[4] = { "", "", "", "" };
	const char *text = strpbrk(rule, "=");
	int parts = 0;

	if (!name_of(pid, -1))          /* complained of already */
		return;
	snprintf(copy, sizeof(copy), "%s", text ? text + 1 : "");
	for (char *p = strtok(copy, "/"); p && parts < 4; p = strtok(NULL, "/"))
		part[parts++] = p;
	if (!strncmp(rule, "has=", 4) || !strncmp(rule, "none=", 5)) {
		bool has = rule[0] == 'h';

		for (size_t i = 0; i < trace.events; i++) {
			const struct event *e = &trace.event[i];

			if (e->kind == 'M' && e->pid == pid && !strcmp(e->name, "thread_name") && matches(e->thread_name, part[0]) &&
			    has != (count_spans(pid, e->tid, part[1]) > 0))
				wrong("%s, %s: %s \"%s\"", name_of(pid, -1), e->thread_name, has ? "no" : "there is", part[1]);
		}
	} else if (!strncmp(rule, "overlap=", 8)) {
		if (count_overlaps(pid, part[0], part[1]) < atoi(part[2]))
			wrong("%s: only %d of \"%s\" overlap \"%s\"", name_of(pid, -1), count_overlaps(pid, part[0], part[1]), part[0], part[1]);
	} else if (!strncmp(rule, "early=", 6)) {
		int early = count_early(pid, part[0], part[1], part[2]);

		if (early < atoi(part[3]))
			wrong("%s: only %d of \"%s\" begin in front of \"%s\" in \"%s\"", name_of(pid, -1), early, part[0], part[1], part[2]);
	} else if (!strncmp(rule, "apart=", 6)) {
		if (count_overlaps(pid, part[0], part[1]) > 0)
			wrong("%s: \"%s\" overlaps \"%s\"", name_of(pid, -1), part[0], part[1]);
	} else if (!strncmp(rule, "spans<=", 7)) {
		if (count_spans(pid, -1, "*") > atoi(rule + 7))
			wrong("%s: %d spans", name_of(pid, -1), count_spans(pid, -1, "*"));
	} else if (!strncmp(rule, "flows>=", 7)) {
		if (has_thread(pid, "compute") && count_flows(pid) < atoi(rule + 7))
			wrong("%s: %d flows", name_of(pid, -1), count_flows(pid));
	} else if (strncmp(rule, "processes=", 10)) {
		wrong("no such rule: %s", rule);
	}
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text;
	long size;

	if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0) {
		perror(path);
		exit(1);
	}
	rewind(f);
	text = calloc(1, (size_t)size + 1);
	if (!text || fread(text, 1, (size_t)size, f) != (size_t)size)
		exit(1);
	fclose(f);
	return text;
}

/* Events of some kinds, in an array of their own. */
static struct event *pick(const char *kinds, size_t *count)
{
	struct event *all = calloc(trace.events + 1, sizeof(*all));

	if (!all)
		exit(1);
	for (size_t i = 0; i < trace.events; i++)
		if (trace.event[i].kind && strchr(kinds, trace.event[i].kind))
			all[(*count)++] = trace.event[i];
	return all;
}

int main(int argc, char **argv)
{
	int last = -1, processes = 0;

	if (argc < 2)
		return 2;
	trace.begin = trace.at = read_file(argv[1]);
	space();
	members('{', '}', read_top, 0);
	if (*trace.at)
		broken("something behind the end");
	span = pick("X", &spans);
	flow = pick("sf", &flows);
	if (!spans)
		wrong("there are no spans");
	qsort(span, spans, sizeof(*span), by_thread);
	check_nesting(span, spans);
	check_names();
	for (size_t i = 0; i < spans; i++) {
		if (span[i].pid == last)
			continue;
		last = span[i].pid;
		processes++;
		for (int r = 2; r < argc; r++)
			check_rule(argv[r], last);
	}
	for (int r = 2; r < argc; r++)
		if (!strncmp(argv[r], "processes=", 10) && atoi(argv[r] + 10) != processes)
			wrong("%d processes have spans", processes);
	check_flows(flow, flows, span, spans);
	if (!trace.wrong)
		printf("%zu spans and %zu flows of %d processes\n", spans, flows / 2, processes);
	return trace.wrong > 0;
}
