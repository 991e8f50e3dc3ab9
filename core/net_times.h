/*
 * What each layer takes. Three sources: measured here (net_times_measure), a text that was written by an earlier measurement
 * (net_times_read), or a speed that is given for all layers together (net_times_spread).
 *
 * Whoever fills one in points net->times at it. Layers are told apart in backward by when the gradients of their own parameters are
 * final: from there on they can be sent, while the gradient of the input is still being computed.
 */
#ifndef COCOD_NET_TIMES_H
#define COCOD_NET_TIMES_H

#include <stdio.h>

#include "net.h"

/* Seconds, for the net's batch. Arrays have an element a node; 0 where a node is fused into another, or has no backward. */
struct net_times {
	int nodes;
	double *forward;                /* the loss is in the last node's */
	double *backward;
	double *ready;                  /* the part of backward behind which the gradients of the node's parameters are final */
	double update;                  /* the optimizer, on the whole arena */
	int passes;                     /* that were measured; 0: none */
	char from[256];                 /* where they come from, for reports */
};

/* For a net that is finished; all zero. The three arrays are one piece of 3 nodes doubles that begins at `forward`. */
struct net_times *net_times_new(const struct net *);
void net_times_free(struct net_times *);                        /* NULL: nothing happens */

/* By FLOPs, so that forward takes a third of `seconds` and backward two thirds. Layers without FLOPs (batch norm, pools) take nothing: they
 * wait for memory, and how much is not known. A layer that nobody in front of learns has no gradient of its input to compute. */
void net_times_spread(struct net_times *, const struct net *, double seconds);
/* Of another batch: in proportion. The update stays. */
void net_times_scale(struct net_times *, double by);
double net_times_forward(const struct net_times *);             /* sums */
double net_times_backward(const struct net_times *);
/* What net_profile() measures, from these: returns backward's time, and ready[] of each parameter tensor. */
double net_times_profile(const struct net_times *, const struct net *, double *ready);

/* Lower quartiles of passes on the net's device, `seconds` in all or little more, but some at least; not the update. Between
 * net_rehearse() and net_resume(). A device that runs behind is waited for behind each layer; what that costs is taken off again, by
 * the time of passes in one piece (recorded ones, where net->graphs says so). */
void net_times_measure(struct net_times *, struct net *, double seconds);

/* As a text, a layer a line, in microseconds an image (net_times_file.c). machine: a few words about what was measured, one line. */
void net_times_write(FILE *, const struct net_times *, const struct net *, const char *machine);
/* For the net's batch. -1: error recorded; the file is not of this model, or no such file. origin: of cluster.compute.profile. */
int net_times_read(struct net_times *, const struct net *, const char *path, const char *origin);

#endif
