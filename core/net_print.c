/* The layer table of the start-up: what was built, how large it is, what it costs and which kernel runs it. */
#include <string.h>

#include "layer.h"

double net_flops(const struct net *net)
{
	double sum = 0;

	for (int i = 0; i < net->nodes; i++)
		if (net->node[i]->ops->flops)
			sum += net->node[i]->ops->flops(net, net->node[i]);
	return sum;
}

/* 11173962 as "11,173,962". */
static const char *grouped(int64_t n, char text[32])
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%lld", (long long)n), at = 0;

	for (int i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = 0;
	return text;
}

static int64_t node_param_count(const struct net *net, const struct node *node)
{
	int64_t n = 0;

	for (int i = 0; i < node->params; i++)
		n += net->tensor[node->param[i]].n;
	return n;
}

static void print_count(int64_t n, FILE *out)
{
	char text[32];

	fprintf(out, "  %13s", n ? grouped(n, text) : "");
}

static void print_megaflops(double flops, FILE *out)
{
	if (flops > 0)
		fprintf(out, "  %11.3f", flops * 1e-6);
	else
		fprintf(out, "  %11s", "");
}

/* "--" under a heading, without a line of them in the source. */
static void rule(int width, FILE *out)
{
	for (int i = 0; i < width; i++)
		fputc('-', out);
	fputc('\n', out);
}

void net_print(const struct net *net, FILE *out)
{
	int width = 8, batch = net->node[0]->out.shape.n;

	for (int i = 0; i < net->nodes; i++)
		if (!net->node[i]->fused && (int)strlen(net->node[i]->name) > width)
			width = (int)strlen(net->node[i]->name);
	fprintf(out, "%s, %d classes, batch %d\n", net->name, net->classes, batch);
	fprintf(out, "%-*s  %-11s  %-13s  %13s  %11s  %s\n", width, "layer", "kind", "output", "parameters", "MFLOP/image", "kernel");
	rule(width + 67, out);
	for (int i = 0; i < net->nodes; i++) {
		const struct node *node = net->node[i];
		struct shape s = node->out.shape;
		const char *detail = node->ops->detail ? node->ops->detail(node) : "";
		char size[48];

		if (node->fused)
			continue;
		snprintf(size, sizeof(size), "%dx%dx%d", s.h, s.w, s.c);
		fprintf(out, "%-*s  %-11s  %-13s", width, node->name, node->ops->name, size);
		print_count(node_param_count(net, node), out);
		print_megaflops(node->ops->flops ? node->ops->flops(net, node) / batch : 0, out);
		fprintf(out, "%s%s\n", *detail ? "  " : "", detail);
	}
	rule(width + 67, out);
	fprintf(out, "%-*s  %-11s  %-13s", width, "total", "", "");
	print_count(net->param_count, out);
	print_megaflops(net_flops(net) / batch, out);
	fprintf(out, "\n");
}
