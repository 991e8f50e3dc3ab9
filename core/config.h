/*
 * The config file (libconfig syntax), checked against tables of options. Loading reports ALL mistakes at once (die.h's error(),
 * with file and line and the nearest known name) and never guesses: an unknown key, a wrong type, a value out of range or an
 * unknown name is an error.
 *
 * A key is "group.key" ("sync.period"; the key itself may have dots, "cluster.inter.gbit_per_s"). A group has keys of its own
 * and keys that belong to one choice, e.g. to sync.algorithm = "cocod". A key of another registered choice is accepted, and
 * listed once as unused: sweeps need that.
 */
#ifndef COCOD_CONFIG_H
#define COCOD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "option.h"

struct config;

/* One table of options of a group; a schema is an array of these ended by group == NULL. */
struct schema {
	const char *group;              /* "sync" */
	const char *select;             /* key of the group that chooses among owners ("algorithm"); NULL: always in force */
	const char *owner;              /* the value of `select` for which the table is in force ("cocod"); NULL: always */
	const struct option *options;   /* may be NULL: an owner without keys */
	const char *help;               /* the owner in one line, for --list */
};

/*
 * Reads `path` (NULL: only defaults and sets), then sets ("KEY=VALUE", libconfig's syntax for the value, a bare word is a string); later
 * ones win. The preset that cluster.preset names (a file NAME.cfg in preset_dir, may be NULL) is read first; if a set names it, behind the
 * file and in front of the sets: so presets can be swept over one file. Returns NULL after
 * recording every mistake. The owners named by the select keys must be registered in the schema.
 */
struct config *config_load(const struct schema *, const char *path, const char *const *sets, int set_count, const char *preset_dir);
/* The same with these sets behind all else. Given keys that belong to what is no longer chosen become unused ones. NULL as above. */
struct config *config_variant(const struct config *, const struct schema *, const char *const *sets, int set_count);
void config_free(struct config *);

/* Values by full key. Asking for a key that is not in the schema, is not in force or has another type is a bug and dies. */
int64_t config_int(const struct config *, const char *key);
double config_float(const struct config *, const char *key);            /* an int is converted */
bool config_bool(const struct config *, const char *key);
const char *config_string(const struct config *, const char *key);      /* lives as long as the config */
int config_list(const struct config *, const char *key, double *values, int most);      /* returns the count; a scalar counts as one */
int config_strings(const struct config *, const char *key, const char **values, int most);
bool config_is_text(const struct config *, const char *key);            /* a string, or a list of strings */
enum option_type config_type(const struct config *, const char *key);   /* which of the allowed types was given */
bool config_has(const struct config *, const char *key);                /* has a value: given, or a default that is not NULL */
bool config_given(const struct config *, const char *key);              /* given by the preset, the file or a set */
/* "run.cfg:12", "--set", "preset gtopk-1gbe" or "default": where the value came from; for messages of later checks. */
const char *config_origin(const struct config *, const char *key);

/* A value that said how to decide ("proportional"), or was left out, becomes what was decided: config_print() writes it from now on. */
void config_decide(struct config *, const char *key, const int *values, int count);
void config_decide_floats(struct config *, const char *key, const double *values, int count);

/* All values in force, as a config file that gives the same run (with the defaults spelled out). */
void config_print(const struct config *, FILE *);
/* Keys that were given but belong to a choice that is not in force, as "sync.period (local, cocod), …"; "" if none. */
const char *config_unused(const struct config *);

/* The known name nearest to `name` by edit distance, or NULL if none is near. names ends with NULL. */
const char *config_nearest(const char *name, const char *const *names);

const char *config_library(void);               /* "libconfig 1.5", for --version */

#endif
