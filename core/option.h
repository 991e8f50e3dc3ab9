/*
 * A config key as data: one line of a table says name, types, default, range and help. Every algorithm, model and data set
 * brings its own table; the parser, --list, --print-config and the messages are made from them (cf. redis config.c).
 */
#ifndef COCOD_OPTION_H
#define COCOD_OPTION_H

enum option_type {
	OPTION_BOOL = 1,
	OPTION_INT = 2,
	OPTION_FLOAT = 4,       /* an int is taken as well */
	OPTION_STRING = 8,
	OPTION_LIST = 16,       /* a list of numbers, e.g. [0.25, 0.01] (with OPTION_INT alone: of integers); with OPTION_STRING a list
	                         * of strings ("topk", "fp16") */
};

struct option {
	const char *key;        /* inside its group, "period"; NULL ends a table */
	unsigned types;         /* or-ed option_type */
	const char *value;      /* default in libconfig's syntax: "4", "0.1", "true", "\"ring\"", "[]"; NULL: no default, stays unset */
	double min, max;        /* for numbers (and each number of a list); min == max == 0: no bounds */
	const char *choices;    /* for strings: "a|b|c", else NULL */
	const char *help;       /* one line, no full stop */
};

#endif
