/*
 * A training pass as recorded pieces. Queuing a pass kernel by kernel costs the host more than a GPU needs to run it; a device
 * that can record a stretch of its compute stream (stream->capture_begin) replays it in one call.
 *
 *     1st pass   as always: the device is warm after it, and the hooks have told where they queue something (node->cut_…)
 *     2nd pass   each stretch between two such places is recorded, and replayed at once
 *     later      replay
 *
 * Hooks are called between the pieces, never inside one: what needs parameters before the piece that reads them, what
 * gradients are final behind the piece that computes them. So nothing of communication is recorded, any transport and any
 * algorithm will do, and their decisions on the host stay alive. A hook that acts where it did not in the first pass is still
 * right, only earlier (parameters) or later (gradients) than it could be.
 *
 * The pass as a list of stations: every node forward, the loss, every node backward, parameters' gradients apart where the layer
 * can. A piece is a stretch of stations.
 */
#include <stdlib.h>

#include "die.h"
#include "layer.h"

enum work { FORWARD, LOSS, BACKWARD_PARAMS, BACKWARD };

struct station {
	enum work work;
	struct node *node;
	bool needs, final;      /* the node's hook belongs before, behind this station */
};

struct piece {
	int from, to;           /* stations [from, to) */
	struct graph *graph;
};

struct pass {
	struct station *station;
	struct piece *piece;
	int stations, pieces;
	int64_t calls;
	float scale;            /* recorded into the loss */
};

static bool supported(const struct net *net) { return net->graphs && net->device->ops->stream->capture_begin; }

static void list_stations(struct net *net, struct pass *p)
{
	p->station = xcalloc(3 * (size_t)net->nodes + 1, sizeof(*p->station));
	p->piece = xcalloc(3 * (size_t)net->nodes + 1, sizeof(*p->piece));
	for (int i = 0; i < net->nodes; i++)
		if (!net->node[i]->fused)
			p->station[p->stations++] = (struct station){ FORWARD, net->node[i], true, false };
	p->station[p->stations++] = (struct station){ .work = LOSS };
	for (int i = net->nodes - 1; i >= 0; i--) {
		struct node *node = net->node[i];
		bool apart = node->ops->backward_params;

		if (node->fused || !node->learns)
			continue;
		if (apart)
			p->station[p->stations++] = (struct station){ BACKWARD_PARAMS, node, false, true };
		p->station[p->stations++] = (struct station){ BACKWARD, node, false, !apart };
	}
}

static void run(struct net *net, const struct station *s, float scale)
{
	if (s->work == FORWARD)
		s->node->ops->forward(net, s->node, true);
	else if (s->work == LOSS)
		net_loss(net, scale);
	else if (s->work == BACKWARD_PARAMS)
		s->node->ops->backward_params(net, s->node);
	else
		s->node->ops->backward(net, s->node);
}

/* A piece ends behind station s if a hook acts behind it, or in front of the next one. */
static bool cut_behind(const struct pass *p, int s)
{
	const struct station *next = s + 1 < p->stations ? &p->station[s + 1] : NULL;

	return !next || (p->station[s].final && p->station[s].node->cut_backward) || (next->needs && next->node->cut_forward);
}

static void record(struct net *net, struct pass *p, struct piece *piece, int from)
{
	const struct stream_ops *stream = net->device->ops->stream;
	int at = from;

	stream->capture_begin(net->stream);
	do
		run(net, &p->station[at], p->scale);
	while (!cut_behind(p, at++));
	*piece = (struct piece){ from, at, stream->capture_end(net->stream) };
}

static void replay(struct net *net, struct pass *p, const struct piece *piece)
{
	for (int s = piece->from; s < piece->to; s++)
		if (p->station[s].needs)
			net_needs(net, p->station[s].node);
	net->device->ops->stream->replay(net->stream, piece->graph);
	for (int s = piece->from; s < piece->to; s++)
		if (p->station[s].final)
			net_grads_final(net, p->station[s].node);
}

static void plain(struct net *net, float scale)
{
	net_forward(net, true);
	net_loss(net, scale);
	net_backward(net);
}

void net_pass(struct net *net, float scale)
{
	struct pass *p = net->pass;

	if (!supported(net)) {
		plain(net, scale);
		return;
	}
	if (!p) {
		p = net->pass = xcalloc(1, sizeof(*p));
		list_stations(net, p);
	}
	if (p->calls++ == 0) {
		plain(net, scale);
		return;
	}
	CHECK(p->calls == 2 || scale == p->scale);
	net_prepare(net);
	if (p->calls == 2) {
		p->scale = scale;
		for (int at = 0; at < p->stations; at = p->piece[p->pieces++].to) {
			record(net, p, &p->piece[p->pieces], at);
			replay(net, p, &p->piece[p->pieces]);
		}
		return;
	}
	for (int i = 0; i < p->pieces; i++)
		replay(net, p, &p->piece[i]);
}

void net_pass_release(struct net *net)
{
	struct pass *p = net->pass;

	if (!p)
		return;
	for (int i = 0; i < p->pieces; i++)
		net->device->ops->stream->graph_free(p->piece[i].graph);
	free(p->piece);
	free(p->station);
	free(p);
	net->pass = NULL;
}
