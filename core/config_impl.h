/*
 * Inside the config. Three stages, a file each:
 *
 *   config_scan.c, config_read.c   text -> entries: (full key, value, where it stands), in the order given
 *   config_check.c, config_range.c entries and tables -> every mistake, and the settings in force
 *   config.c                       questions to the settings; config_print.c writes them
 *
 * Beside them config_value.c knows values and config_names.c names.
 *
 * Only config_read.c knows libconfig.
 */
#ifndef COCOD_CONFIG_IMPL_H
#define COCOD_CONFIG_IMPL_H

#include "config.h"

/* A value as it was written. The elements of a list are values themselves. */
struct value {
	unsigned type;                  /* one option_type; VALUE_GROUP, VALUE_NONE */
	int64_t i;                      /* OPTION_INT, OPTION_BOOL */
	double f;                       /* OPTION_FLOAT */
	char *s;                        /* OPTION_STRING */
	struct value *item;             /* OPTION_LIST */
	int count;
};

enum { VALUE_NONE = 0, VALUE_GROUP = 1 << 16 };

void value_release(struct value *);
void value_copy(struct value *to, const struct value *from);
void value_print(const struct value *, FILE *);         /* as libconfig reads it */
char *value_text(const struct value *);                 /* the same, shortened for a message; to be freed */
const char *value_kind(const struct value *);           /* "a string", "an empty list", … */

struct entry {
	char *key;                      /* "sync.period"; "sync" for an empty group, or for a scalar where a group belongs */
	struct value value;
	char *where;                    /* for messages: "run.cfg:12", "--set sync.period=0" */
	char *origin;                   /* for config_origin(): "run.cfg:12", "--set", "preset gtopk-1gbe" */
};

struct entries {
	struct entry *entry;
	int count;
};

/* Append to the entries; -1 if mistakes of syntax were recorded. `preset`: the preset's name, or NULL for the run file. */
int config_read_file_entries(struct entries *, const char *path, const char *preset);
int config_read_set(struct entries *, const char *set);
/* Parses one value (a default of a table); dies if it is malformed. */
void config_read_default(struct value *, const char *key, const char *text);
void entries_release(struct entries *);

/* libconfig 1.5 cuts an integer that does not fit into 32 bits, silently. Returns a copy of the text with an L behind each such
 * literal; NULL after recording the ones beyond 64 bits, and what else libconfig would not survive. `where`: for messages. */
char *config_scan(const char *text, const char *where, bool lines);

/* A key in force. */
struct setting {
	char *key;
	const struct option *option;
	struct value value;             /* VALUE_NONE: unset */
	char *origin;
	bool given;
};

struct config {
	struct setting *setting;
	int count;
	char *unused;
};

/* A set of names, for messages. */
struct names {
	const char **name;              /* ends with NULL */
	int count;
};

void names_add(struct names *, const char *);
char *names_join(const struct names *);                 /* "a, b, c"; to be freed */
/* hint(): the nearest to what was given (with `prefix` before it), else all of them behind `what`. */
void hint_names(const char *given, const char *prefix, const struct names *, const char *what);

/* The part of the key behind "group.", or NULL if it is of another group. */
const char *config_inside(const char *key, const char *group);
/* Records what is wrong with the entry's value under this option. */
void config_check_value(const struct schema *, const struct entry *, const struct option *);
/* Checks every entry and fills in settings and unused; -1 if mistakes were recorded. */
int config_check(struct config *, const struct schema *, const struct entries *);

#endif
