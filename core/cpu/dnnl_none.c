/* The build without oneDNN: no shape is served, so the plain C convolution takes what Winograd does not. */
#include "cpu.h"

static struct conv_plan *no_plan(struct cpu_device *dev, const struct conv_desc *desc)
{
	(void)dev;
	(void)desc;
	return 0;
}

const struct conv_impl conv_dnnl = { .name = "direct", .plan = no_plan };

const char *dnnl_words(void) { return "no oneDNN"; }
