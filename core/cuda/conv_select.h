/*
 * Which engine serves a convolution: cuDNN's heuristics propose, rules exclude, the clock decides, the cache remembers. At bind time,
 * or in the first step.
 *
 * What was chosen stays open as long as somebody uses it, and equal convolutions share it: some engines are compiled when they are
 * opened, which takes a second.
 */
#ifndef COCOD_CONV_SELECT_H
#define COCOD_CONV_SELECT_H

#include "conv_library.h"

enum { ENGINES_MOST = 256 };    /* that the heuristics propose for one convolution */

struct conv_rules {
	enum precision precision;       /* never AUTO */
	bool deterministic;
};

/* May this engine be used? */
bool conv_allowed(const struct engine *, const struct conv_rules *);
/* Those that may, each once, best first: with tensor cores first, then as the heuristics order them; of those that are compiled at
 * run time only the first. */
int conv_engines(struct conv_graph *, const struct conv_rules *, struct engine engine[ENGINES_MOST]);

struct conv_choice {
	struct conv_graph *graph;
	struct execution *execution;    /* NULL: cuDNN has no engine */
	int64_t workspace;              /* bytes, at most CUDA_SCRATCH */
	char engine[ENGINE_TEXT];
	float us;                       /* 0: not measured */
	struct conv_kept *kept;         /* what it is shared through; NULL: nothing to release */
};

struct conv_choice conv_select(struct conv_library *, const struct conv_problem *);
/* The time that was measured before, in µs; 0: not yet; FLT_MAX: no engine does it right. Builds nothing. */
float conv_known(struct conv_library *, const struct conv_problem *);
void conv_choice_release(struct conv_choice *);
void conv_kept_free(struct conv_library *);     /* all choices have been released */

#endif
