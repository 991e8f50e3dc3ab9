/*
 * cuDNN's graph API, as far as one convolution at a time needs it: describe the operation, ask which engines (families of kernels)
 * serve it, build a plan from an engine and its knobs, execute the plan.
 *
 * An engine with its knobs is a line of text here, "62:2=5,27=1" for engine 62 with knob 2 at 5 and knob 27 at 1. That is all a plan
 * needs beside the graph, it can be kept in a file, and a person can read it.
 *
 * What cuDNN may refuse in earnest (an operation, an engine for this shape) comes back as NULL, cudnn_words() says why. Every other
 * status but success dies.
 */
#ifndef COCOD_CUDNN_GRAPH_H
#define COCOD_CUDNN_GRAPH_H

#include <cudnn.h>

#include "../device.h"

/* The GPU that plans are made for. */
struct cudnn_target {
	cudnnHandle_t handle;                   /* its GPU, which must be there to execute */
	cudnnBackendDescriptor_t properties;    /* if not NULL: those of a GPU that need not be there (test/plan_check.c) */
};

enum conv_direction { CONV_FPROP, CONV_DGRAD, CONV_DGRAD_ADD, CONV_WGRAD, CONV_DIRECTIONS };
extern const char *const conv_direction_name[CONV_DIRECTIONS];

struct conv_problem {
	enum conv_direction direction;  /* y = x * w, dx = …, dx += …, dw = … */
	struct conv_desc shape;         /* its c is what lies in memory: pitch is not looked at, nor is the bias */
	enum dtype type;                /* of x, w, y, dx, dy: DTYPE_F32 or DTYPE_BF16; sums are fp32 */
	enum dtype dw;                  /* of what CONV_WGRAD writes */
};

enum { ENGINE_TEXT = 160 };

struct engine {
	char text[ENGINE_TEXT];         /* "62:2=5,27=1" */
	unsigned notes;                 /* bit i: cudnnBackendNumericalNote_t i holds */
	bool compiled;                  /* its kernel is compiled at run time: a second for each plan */
};

struct conv_graph;                      /* one operation */
struct execution;                       /* a plan for it */

struct conv_graph *conv_graph_open(const struct cudnn_target *, const struct conv_problem *);   /* NULL: not known to cuDNN */
void conv_graph_close(struct conv_graph *);                                                     /* after its executions; NULL-safe */
/* What cuDNN's heuristics propose, best first; one may come twice. Returns how many, at most `most`. */
int conv_graph_engines(struct conv_graph *, struct engine *, int most);

/* NULL: refused, or the text is not an engine. `workspace`: bytes of device memory that execution_run() wants, 256-byte aligned. */
struct execution *execution_open(struct conv_graph *, const char *engine, int64_t *workspace);
void execution_close(struct execution *);                                               /* NULL-safe */
/* Queues it on the handle's stream. x is dx and y is dy where the direction says so; all are 16-byte aligned. May be captured, but
 * the first execution of a plan may load its code: let it run once before. False: cuDNN refused, nothing was queued. */
bool execution_run(struct execution *, cudnnHandle_t, const void *x, const void *w, const void *y, void *workspace);

/* Dies with cuDNN's own words. */
#define CUDNN(call) cudnn_check((call), #call, __FILE__, __LINE__)
void cudnn_check(cudnnStatus_t, const char *call, const char *file, int line);
/* Why the last call was refused, on one line. Overwritten by the next call. */
const char *cudnn_words(void);

#endif
