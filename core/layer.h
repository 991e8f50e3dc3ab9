/* For the layer files only: how a constructor makes its node. A new layer from existing kernels is one file. */
#ifndef COCOD_LAYER_H
#define COCOD_LAYER_H

#include "net.h"

/* A zeroed node of `size` bytes (struct node first), appended to the net. name may be NULL for layers without parameters (the
 * layer's own name and number serve). Returns NULL if the net is broken or an input id is not a node. */
void *net_append(struct net *, const struct layer_ops *, size_t size, const char *name, const int *input, int inputs, struct shape out);
/* Adds a parameter (or, for TENSOR_MEAN and TENSOR_VAR, a buffer) named "<node name>.<suffix>". */
void node_param(struct net *, struct node *, enum tensor_kind, const char *suffix, int dims, const int64_t *dim);

static inline struct tensor *node_in(struct net *net, struct node *node, int i) { return &net->node[node->input[i]]->out; }
static inline float *node_param_x(struct net *net, const struct node *node, int i) { return net->x + net->tensor[node->param[i]].offset; }
static inline float *node_param_g(struct net *net, const struct node *node, int i) { return net->g + net->tensor[node->param[i]].offset; }
static inline float *node_buffer(struct net *net, const struct node *node, int i) { return net->buffer + net->buffer_tensor[node->buffer[i]].offset; }

/* Layers that the fusion pass of net_finish knows. */
extern const struct layer_ops layer_input, layer_conv, layer_linear, layer_bn, layer_relu, layer_add;
/* Batch norm takes over an add (its other input, an earlier node) and / or a ReLU behind it. False: this one cannot. */
bool bn_fuse_residual(struct net *, struct node *bn, int residual);
void bn_fuse_relu(struct node *bn);
void add_fuse_relu(struct node *add);

/* The hooks of a node; false: there is none, or it queued nothing. */
bool net_needs(struct net *, struct node *);
bool net_grads_final(struct net *, struct node *);

/* The passes of net_finish: net_fuse.c, net_arena.c. */
void net_fuse(struct net *);
void net_layout(struct net *);

#endif
