/*
 * A network is a topologically ordered array of nodes; building it needs no device.
 *
 *   net_init → net_input, net_conv, … (each returns a node id; shapes are inferred at once) → net_finish (fuses batch norm, add
 *   and ReLU, lays out the arenas) → net_bind (allocates and plans on a device) → net_forward, net_loss, net_backward … →
 *   net_release
 *
 * A mistake while building (an odd shape) is recorded with error(), makes every later call return -1 and net_finish return -1.
 * After net_bind the only allocations belong to the arenas; a step allocates nothing.
 *
 * Parameters, gradients and buffers are one arena each, laid out in the order in which backward finishes (last layer first):
 * the range of parameters that is final early lies first.
 */
#ifndef COCOD_NET_H
#define COCOD_NET_H

#include <stdio.h>

#include "device.h"
#include "range.h"

struct shape {
	int n, h, w, c;
};

static inline int64_t shape_count(struct shape s) { return (int64_t)s.n * s.h * s.w * s.c; }

struct tensor {
	struct shape shape;     /* NHWC */
	void *data;             /* a view, of the device's activation type; NULL before net_bind */
	void *grad;             /* a view; NULL where no gradient is wanted */
};

struct net;
struct node;
struct net_times;
struct rehearsal;

/* One kind of layer. Files layer_*.c; each node embeds `struct node` first. */
struct layer_ops {
	const char *name;       /* "conv" */
	/* Plans and private buffers; inputs and outputs have their addresses. */
	void (*bind)(struct net *, struct node *);                      /* (optional) */
	void (*forward)(struct net *, struct node *, bool train);
	/* Reads node->out.grad, writes or (node->add_grad[i]) adds to the inputs' grads where not NULL, and the parameters' grads. */
	void (*backward)(struct net *, struct node *);
	/* (optional) The parameters' grads alone, called before backward, where they can be had first: they are sent earlier. */
	void (*backward_params)(struct net *, struct node *);
	void (*release)(struct net *, struct node *);                   /* (optional) frees what bind and the constructor made, not the node */
	double (*flops)(const struct net *, const struct node *);       /* (optional) forward FLOPs of the batch, a multiply-add is 2 */
	const char *(*detail)(const struct node *);                     /* (optional) chosen kernel, for the layer table */
	int64_t (*private_bytes)(const struct net *, const struct node *);      /* (optional) size of node->own */
};

enum { NODE_INPUTS = 2, NODE_PARAMS = 4 };

/* What the memory plan must know of a node; or-ed into node->traits by the layer. */
enum node_trait {
	BACKWARD_READS_INPUT = 1,       /* input 0's data must live until the node's backward */
	BACKWARD_READS_OUTPUT = 2,
	FORWARD_IN_PLACE = 4,           /* the output may be written over input 0 */
	GRAD_IN_PLACE_0 = 8,            /* backward may leave the gradient of input 0 (or 1) in out.grad, but only one of them */
	GRAD_IN_PLACE_1 = 16,
	PINNED = 32,                    /* the output lives all the time (input and logits) */
};

struct node {
	const struct layer_ops *ops;
	char name[48];                          /* PyTorch's module name: "layer1.0.conv1" */
	int id, inputs, input[NODE_INPUTS];
	struct tensor out;
	int param[NODE_PARAMS], params;         /* indices into net->tensor (parameters), in PyTorch's order */
	int buffer[2], buffers;                 /* indices into net->buffer_tensor */
	struct range range;                     /* of the node's parameters in the arena; n == 0 if none */
	unsigned traits;
	bool learns;                            /* the output depends on parameters, so there is a gradient to compute */
	bool add_grad[NODE_INPUTS];             /* add to the input's grad instead of writing it */
	bool share_grad[NODE_INPUTS];           /* the input's grad IS out.grad (add, fused residual, in place); nothing to copy */
	bool fused;                             /* part of an earlier node now: forward and backward skip it, nobody reads it */
	bool cut_forward, cut_backward;         /* a hook queued something when it was called last: a graph must end there */
	void *own;                              /* ops->private_bytes of device memory, zeroed, from net_bind on */
	/* where time goes: [0] forward, [1] backward; [.][1] while the communication stream was active at both ends */
	double seconds[2][2];
	int64_t calls[2][2];
};

/* Called in the step path; all optional. Parameters must not change from net_forward until net_backward has returned, but for
 * what param_needed brings in: backward reads them after grad_ready told that their gradients are final. They return whether they
 * queued anything (an event, a wait): what a graph replays in one piece ends there. */
struct net_times;

struct net_hooks {
	void *context;
	bool (*param_needed)(void *context, const struct range *);      /* forward is about to read these parameters */
	bool (*grad_ready)(void *context, const struct range *);        /* the kernels that finish these gradients are queued */
	struct stream *watch;                   /* the communication stream, for the split of node->seconds; may be NULL */
};

struct net {
	char name[32];
	uint64_t seed;                          /* for init and dropout */
	int classes;
	struct node **node;
	int nodes;
	int output;                             /* the node whose output is the logits; the last one */
	bool broken;                            /* a mistake was recorded while building */
	bool no_fuse;                           /* net_finish leaves the layers apart (for tests) */
	double linear_std;                      /* initial values of linear layers: normal with this deviation and zero bias, as
	                                         * torchvision's VGG; 0: PyTorch's default, uniform in ±1/sqrt(inputs) */

	struct tensor_info *tensor;             /* parameters, arena order (after net_finish) */
	int tensors;
	int64_t n;                              /* floats in the parameter arena, padding included */
	int64_t param_count;                    /* without padding */
	struct tensor_info *buffer_tensor;      /* batch norm's running statistics */
	int buffer_tensors;
	int64_t buffer_n;

	/* from net_bind on */
	struct device *device;
	struct stream *stream;                  /* the compute stream */
	float *x, *g;                           /* arenas of n: parameters, gradients */
	float *buffer;                          /* arena of buffer_n */
	char *activation;                       /* outputs and gradients of all nodes, and their private buffers */
	int64_t activation_bytes;
	int input_pitch;                        /* channels of an input pixel in memory */
	float *staging;                         /* the batch as floats, where the device's own form differs; else NULL */
	struct image_draw *draw;                /* where the device can augment: the batch's records; else NULL */
	bool graphs;                            /* net_pass() records and replays, if the device can; set by the owner */
	struct pass *pass;                      /* what it recorded: net_graph.c */
	int32_t *label;                         /* device memory, batch labels */
	struct loss_stats *stats;               /* device memory */
	int64_t *step;                          /* device memory: counter for dropout */
	bool train;                             /* bound with room for gradients */
	struct net_hooks hooks;
	const struct net_times *times;          /* what its layers take (net_times.h); NULL: nobody has asked. Its owner's */
	double slowness;                        /* of this step: they take so many times as long */
};

/* ---- building ---- */

void net_init(struct net *, const char *name, uint64_t seed);
void net_free(struct net *);                                    /* releases all, also after net_bind */

int net_input(struct net *, int n, int h, int w, int c);
int net_conv(struct net *, const char *name, int in, int out, int kernel, int stride, int pad, bool bias);
int net_bn(struct net *, const char *name, int in);             /* epsilon 1e-5, momentum 0.1 */
int net_relu(struct net *, int in);
int net_add(struct net *, int a, int b);
int net_max_pool(struct net *, int in, int kernel, int stride, int pad);
int net_avg_pool(struct net *, int in, int kernel, int stride, int pad);
int net_global_pool(struct net *, int in);                      /* average over the image */
int net_shortcut(struct net *, int in, int out);                /* ResNet's option A */
int net_linear(struct net *, const char *name, int in, int out);/* on the whole image, with bias */
int net_dropout(struct net *, int in, double p);
/* Records error("model NAME: …") and breaks the net; returns -1. For models that ask too much of an image. */
int net_fail(struct net *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The shape of a node, e.g. to ask for the channels; all zero if the net is broken. */
struct shape net_shape(const struct net *, int node);

/* Ends the building: the last node must be n × 1 × 1 × classes. Returns -1 if a mistake was recorded. */
int net_finish(struct net *);
double net_flops(const struct net *);                           /* forward, one batch */
/* Bytes that net_bind takes on a device (NULL: one like the CPU): parameters, gradients, activations (with gradients if train), private buffers. What
 * the device's convolution plans take for themselves comes on top. */
int64_t net_memory(const struct net *, struct device *, bool train);
void net_print(const struct net *, FILE *);                     /* the layer table: shape, parameters, FLOPs, kernel if bound */

/* ---- running ---- */

void net_bind(struct net *, struct device *, struct stream *compute, bool train);
/* Initial values from the seed: convolutions Kaiming normal (fan out), batch norm 1 and 0, linear as the model set it. */
void net_init_params(struct net *);
/* The batch: n × h × w × c floats and n labels (-1: padding), host memory, copied on the compute stream. */
void net_load(struct net *, const float *image, const int32_t *label);
/* A data set's images in device memory, and how its bytes become a network's input (nn->augment). */
struct images {
	const uint8_t *image;
	const float *table;
	int pad;
};
/* The batch from such images: n records and labels, host memory. */
void net_load_resident(struct net *, const struct images *, const struct image_draw *, const int32_t *label);
/* Parameters have changed, or net->x points elsewhere: before the forward passes that read them. Cheap if they have not. */
void net_prepare(struct net *);
void net_forward(struct net *, bool train);                     /* train: batch statistics, dropout, saved for backward */
/* Adds to *net->stats. With a scale (1 / batch) also writes the gradient of the logits, for net_backward. scale 0: none. */
void net_loss(struct net *, float scale);
void net_backward(struct net *);
/* One training step's forward, loss and backward. With net->graphs and a device that can, it is recorded in the second call, and
 * replayed from the third on, in as few pieces as the hooks allow: net_graph.c. */
void net_pass(struct net *, float scale);
void net_pass_release(struct net *);                            /* forgets the record: the next call is the first one again */
/* The host reads the sums (waits for the compute stream) and they start again at zero. */
struct loss_stats net_take_stats(struct net *);
void net_set_step(struct net *, int64_t step);                  /* the counter that dropout masks depend on */
/* Passes between these two leave no trace: parameters they must not change, buffers, sums, times and hooks are put back, and gradients are
 * zero. A made-up batch is loaded, and there are no hooks. For a net with room for gradients. */
struct rehearsal *net_rehearse(struct net *);
void net_resume(struct net *, struct rehearsal *);
/* Before the first step: returns how long backward takes, and in ready[] of each parameter tensor when its gradient is final, counted
 * from backward's begin; medians of some passes, `seconds` in all or little more. Never falls along the arena. A rehearsal. */
double net_profile(struct net *, double seconds, double *ready);

/* A parameter or buffer by PyTorch name; NULL if there is none. is_buffer (may be NULL) tells the arena. */
const struct tensor_info *net_find(const struct net *, const char *name, bool *is_buffer);
/* Copies a tensor between an arena in host memory and PyTorch's layout (OIHW for convolutions, out × (c h w) for linear). */
void tensor_to_torch(const struct tensor_info *, const float *arena, float *out);
void tensor_from_torch(const struct tensor_info *, const float *in, float *arena);

#endif
