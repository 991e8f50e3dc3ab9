/*
 * The transports. A new one: one file plus one line in each half.
 *
 * NCCL's is in the shared object of the CUDA device, so that a run on the CPU does not load its 218 MB (core/backend.h). Here it
 * has a name and a line of help, and transport_find() fetches it.
 */
#include <stddef.h>
#include <string.h>

#include "../core/backend.h"
#include "../core/die.h"
#include "comm.h"

extern const struct comm_ops comm_self, comm_mpi;

static const char *nccl_version(void)
{
	const char *why;
	const struct backend *b = backend_likely() ? backend_open(&why) : NULL;

	return b && b->transport ? b->transport->version() : "NCCL, on a machine with NVIDIA GPUs";
}

static const struct comm_ops nccl_elsewhere = {
	.name = "nccl",
	.help = "NVIDIA's collectives, from GPU to GPU; one worker a GPU",
	.version = nccl_version,
};

const struct comm_ops *const transport_list[] = {
	&comm_self,
	&comm_mpi,
	&nccl_elsewhere,
	NULL,
};

static const struct comm_ops *fetch_nccl(void)
{
	const char *why;
	const struct backend *b = backend_open(&why);

	if (b && b->transport)
		return b->transport;
	error("comm.transport = \"nccl\": %s", b ? "the CUDA device was built without NCCL" : why);
	hint("build with CUDA=1 where NCCL is installed, or set comm.transport = \"auto\"");
	return NULL;
}

const struct comm_ops *transport_find(const char *name)
{
	for (int i = 0; transport_list[i]; i++)
		if (!strcmp(transport_list[i]->name, name))
			return transport_list[i] == &nccl_elsewhere ? fetch_nccl() : transport_list[i];
	return NULL;
}
