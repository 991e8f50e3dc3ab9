/*
 * What each layer takes, as a text:
 *
 *     model resnet20
 *     batch 64
 *     machine AMD EPYC, AVX-512, 2 threads
 *     update 185.3                                     microseconds of the optimizer, a step
 *     layer conv1 32x32x16 3.52 6.1 6.1                name, output; microseconds an image: forward, backward, of the latter until
 *     …                                                the gradients of its parameters are final
 *
 * Layers stand in the order of the net, those that were fused into others left out, spaces in a name made hyphens. The outputs are there
 * so that times of another width or size of images are not taken for this one's. Lines that begin with # are for the reader.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "die.h"
#include "net_times.h"

/* "layer max-pool5 8x8x64" */
static void line_of(const struct node *node, char text[96])
{
	int n = snprintf(text, 96, "layer ");

	for (const char *p = node->name; *p; p++)
		text[n++] = *p == ' ' ? '-' : *p;
	snprintf(text + n, 96 - (size_t)n, " %dx%dx%d", node->out.shape.h, node->out.shape.w, node->out.shape.c);
}

void net_times_write(FILE *f, const struct net_times *t, const struct net *net, const char *machine)
{
	int batch = net->node[0]->out.shape.n;
	double scale = 1e6 / batch;
	char line[96];

	fprintf(f, "# What each layer takes, for cluster.compute.profile. update: microseconds a step; layers: microseconds an image, forward,\n"
	           "# backward, and of backward until the gradients of the layer's parameters are final. Times go in proportion to the batch.\n");
	fprintf(f, "model %s\nbatch %d\nmachine %s\nupdate %.6g\n", net->name, batch, machine, 1e6 * t->update);
	for (int i = 0; i < net->nodes; i++) {
		if (net->node[i]->fused)
			continue;
		line_of(net->node[i], line);
		fprintf(f, "%s %.6g %.6g %.6g\n", line, scale * t->forward[i], scale * t->backward[i], scale * t->ready[i]);
	}
}

struct reader {
	FILE *file;
	int line;
	char text[256];
};

/* The next line that is not for the reader; false: there is none. */
static bool next_line(struct reader *r)
{
	do {
		r->line++;
		if (!fgets(r->text, sizeof(r->text), r->file)) {
			snprintf(r->text, sizeof(r->text), "the file ends");
			return false;
		}
		r->text[strcspn(r->text, "\n")] = 0;
	} while (r->text[0] == '#');
	return true;
}

/* What stands behind these words in the next line; NULL: something else does. */
static const char *behind(struct reader *r, const char *words)
{
	size_t n = strlen(words);

	return next_line(r) && !strncmp(r->text, words, n) && r->text[n] == ' ' ? r->text + n + 1 : NULL;
}

static bool is_time(double v) { return isfinite(v) && v >= 0; }

/* Returns what was wanted and is not there; NULL: all is. */
static const char *read_head(struct reader *r, const struct net *net, struct net_times *t, int *batch)
{
	const char *rest = behind(r, "model");

	if (!rest || strcmp(rest, net->name))
		return "the model of this run";
	rest = behind(r, "batch");
	if (!rest || sscanf(rest, "%d", batch) != 1 || *batch < 1)
		return "batch and a number of images";
	rest = behind(r, "machine");
	if (!rest)
		return "machine and where it was measured";
	snprintf(t->from, sizeof(t->from), "from cluster.compute.profile: %s, batch %d", rest, *batch);
	rest = behind(r, "update");
	if (!rest || sscanf(rest, "%lf", &t->update) != 1 || !is_time(t->update))
		return "update and microseconds";
	t->update *= 1e-6;
	return NULL;
}

static const char *read_layers(struct reader *r, const struct net *net, struct net_times *t, char wanted[96])
{
	for (int i = 0; i < net->nodes; i++) {
		const struct node *node = net->node[i];
		double *forward = &t->forward[i], *backward = &t->backward[i], *ready = &t->ready[i];
		const char *rest;

		if (node->fused)
			continue;
		line_of(node, wanted);
		rest = behind(r, wanted);
		if (!rest)
			return wanted;
		if (sscanf(rest, "%lf %lf %lf", forward, backward, ready) != 3 || !is_time(*forward) || !is_time(*backward) || !is_time(*ready))
			return "a layer with three times";
		if (*ready > *backward || (!node->learns && *backward > 0))
			return "a backward pass that the layer can have";
	}
	return next_line(r) ? "the end: the model has no more layers" : NULL;
}

int net_times_read(struct net_times *t, const struct net *net, const char *path, const char *origin)
{
	struct reader r = { .file = fopen(path, "r") };
	char layer[96];
	const char *wanted;
	int batch = 1;

	if (!r.file) {
		error("cluster.compute.profile = \"%s\" (%s): %s", path, origin, strerror(errno));
		return hint("cocod-train --calibrate=FILE run.cfg makes one");
	}
	wanted = read_head(&r, net, t, &batch);
	if (!wanted)
		wanted = read_layers(&r, net, t, layer);
	fclose(r.file);
	if (wanted) {
		error("cluster.compute.profile = \"%s\" (%s), line %d: wanted is %s (%s), but there is: %s", path, origin, r.line, wanted, net->name,
		      r.text);
		return hint("it must be of the same model, width and image size: cocod-train --calibrate=FILE run.cfg makes one");
	}
	net_times_scale(t, 1e-6 * net->node[0]->out.shape.n);
	return 0;
}
