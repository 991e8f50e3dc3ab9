/* The command line. */
#ifndef COCOD_OPTIONS_H
#define COCOD_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

enum action { ACTION_TRAIN, ACTION_DRY_RUN, ACTION_PREDICT, ACTION_CALIBRATE, ACTION_PRINT_CONFIG, ACTION_LIST, ACTION_VERSION, ACTION_HELP };

enum { PREDICTED_MOST = 64 };

/* What --predict is to predict. */
struct question {
	bool all;                       /* --predict=all: beside the config's choices all others */
	bool csv;                       /* --csv */
	int workers[PREDICTED_MOST], count;     /* --workers; count 0: not said */
};

struct options {
	enum action action;
	struct question question;
	const char *path;               /* the config file; NULL for --list, --version, --help */
	const char **set;               /* KEY=VALUE of each --set, in order */
	int sets;
	const char *profile;            /* --calibrate=FILE; NULL: none */
};

/* Returns -1 after recording every mistake (die.h). */
int options_parse(struct options *, int argc, char **argv);
void options_release(struct options *);
void options_help(FILE *);

/* list.c */
void list_print(FILE *);                /* --list: models, data sets, devices, algorithms with papers and keys */
void version_print(FILE *);             /* --version: with backends and library versions */

#endif
