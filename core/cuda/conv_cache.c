/*
 * Several ranks of a node, or several jobs that share a home, read and write the file at the same time without asking each other:
 * every line is complete in itself and appended by one write(), a later line of the same key replaces an earlier one, and a line that
 * makes no sense (torn by a full disk, or by a network file system that does not append as one) is passed over.
 *
 * What that means for runs that must repeat bit by bit: which of two equally fast engines wins a measurement is chance, and engines
 * sum in different orders. So ranks that measure may choose differently, and round differently. Within a run that is harmless, since
 * parameters or gradients are exchanged and no two ranks have to compute the same thing. But `deterministic` promises the same bits
 * only from the second run on, when all ranks read the same file. (A first run of one rank, which writes each key once, fills it.)
 */
#include "conv_cache.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../die.h"

struct entry {
	char *key, *engine;
	float us;
};

struct conv_cache {
	char *path;             /* NULL: no file */
	struct entry *entry;
	int count, room;
	bool complained;        /* about reading or writing: once is enough */
};

/* ---- in memory ---- */

static struct entry *find(const struct conv_cache *c, const char *key)
{
	for (int i = 0; i < c->count; i++)
		if (!strcmp(c->entry[i].key, key))
			return &c->entry[i];
	return NULL;
}

static void put(struct conv_cache *c, const char *key, const char *engine, float us)
{
	struct entry *e = find(c, key);

	if (!e) {
		if (c->count == c->room) {
			c->room = c->room ? 2 * c->room : 64;
			c->entry = xrealloc(c->entry, (size_t)c->room * sizeof(*c->entry));
		}
		e = &c->entry[c->count++];
		*e = (struct entry){ .key = xstrdup(key) };
	}
	free(e->engine);
	e->engine = xstrdup(engine);
	e->us = us;
}

/* ---- the file ---- */

static void complain(struct conv_cache *c, const char *what, int line)
{
	if (c->complained)
		return;
	c->complained = true;
	if (line)
		warn("%s:%d: %s", c->path, line, what);
	else
		warn("%s: %s; convolutions are measured in every run", c->path, what);
}

/* "key = engine 14.2 us" into its parts; false if it is not that. Writes into the line. */
static bool parse(char *line, char **key, char **engine, float *us)
{
	char *middle = strstr(line, " = "), *blank = middle ? strchr(middle + 3, ' ') : NULL, *end;

	if (!blank || middle == line || blank == middle + 3)
		return false;
	*middle = *blank = 0;
	*key = line;
	*engine = middle + 3;
	*us = strtof(blank + 1, &end);
	if (end == blank + 1 || strcmp(end, " us"))
		return false;
	return strcmp(*engine, CONV_NONE) ? *us > 0 && isdigit((unsigned char)**engine) : *us == 0;
}

static void read_file(struct conv_cache *c)
{
	FILE *in = fopen(c->path, "r");
	char line[512];
	int number = 0;

	if (!in) {
		if (errno != ENOENT)
			complain(c, strerror(errno), 0);
		return;
	}
	while (fgets(line, sizeof(line), in)) {
		size_t length = strlen(line);
		bool whole = length && line[length - 1] == '\n';
		char *key, *engine;
		float us;

		number++;
		if (*line == '#' || *line == '\n')
			continue;
		if (whole)
			line[length - 1] = 0;
		if (whole && parse(line, &key, &engine, &us))
			put(c, key, engine, us);
		else
			complain(c, "not a line of ours, passed over (as all like it); the file may be deleted", number);
	}
	fclose(in);
}

static void append(struct conv_cache *c, const char *line)
{
	int file = open(c->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	bool good = file >= 0 && write(file, line, strlen(line)) == (ssize_t)strlen(line);

	if (!good)
		complain(c, file < 0 ? strerror(errno) : "cannot be written", 0);
	if (file >= 0)
		close(file);
}

/* The folder of the path, with those above it. */
static void make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
}

/* Letters, digits and dots stay; the rest becomes a dash. */
static void clean(char *name)
{
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '.')
			*name = '-';
}

static char *path_of(const char *gpu, const char *library)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *name = xasprintf("%s-%s", gpu, library), *path = NULL;

	clean(name);
	if (cache && *cache == '/')             /* the standard says to ignore a relative one */
		path = xasprintf("%s/cocod/plans-%s.txt", cache, name);
	else if (home && *home == '/')
		path = xasprintf("%s/.cache/cocod/plans-%s.txt", home, name);
	free(name);
	return path;
}

struct conv_cache *conv_cache_open(const char *gpu, const char *library)
{
	struct conv_cache *c = xcalloc(1, sizeof(*c));

	c->path = path_of(gpu, library);
	if (c->path) {
		make_folders(c->path);
		read_file(c);
	} else {
		note("neither HOME nor XDG_CACHE_HOME is set: convolutions are measured in every run");
	}
	return c;
}

void conv_cache_close(struct conv_cache *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->count; i++) {
		free(c->entry[i].key);
		free(c->entry[i].engine);
	}
	free(c->entry);
	free(c->path);
	free(c);
}

const char *conv_cache_path(const struct conv_cache *c) { return c->path; }

const char *conv_cache_find(const struct conv_cache *c, const char *key, float *us)
{
	const struct entry *e = find(c, key);

	if (e)
		*us = e->us;
	return e ? e->engine : NULL;
}

void conv_cache_add(struct conv_cache *c, const char *key, const char *engine, float us)
{
	char *line = xasprintf("%s = %s %.1f us\n", key, engine, us);

	CHECK(!strstr(key, " = ") && !strchr(engine, ' ') && (us > 0 || !strcmp(engine, CONV_NONE)));
	put(c, key, engine, us);
	if (c->path)
		append(c, line);
	free(line);
}
