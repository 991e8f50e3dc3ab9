/*
 * Which transport carries the model's traffic. Every rank tells all others where it computes and what it lacks, over the control
 * communicator; so all draw the same conclusion, and a machine that differs from the others is named by its rank and host.
 *
 * NCCL refuses two ranks on one GPU. There, MPI carries the messages through host memory: slow, but it trains. $NCCL_HOSTID, with
 * another value for each rank, makes NCCL take them for ranks of different hosts; that is how its path is tested on one GPU.
 *
 * A parameter server takes whatever comes first. NCCL cannot: its receives name their sender, so MPI carries the messages there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/backend.h"
#include "../core/die.h"
#include "comm.h"

struct offer {
	char host[64];
	char machine[64];       /* its boot id: containers of one machine may have names of their own */
	char gpu[64];           /* "": computes on a CPU */
	char lacks[160];        /* why there is no NCCL; "": there is */
	bool disguised;         /* $NCCL_HOSTID */
	bool any_thread;
};

static void describe(struct offer *mine, const struct world *w, struct device *dev)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
	const struct backend *b;
	const char *why;

	memset(mine, 0, sizeof(*mine));         /* its padding travels as well */
	snprintf(mine->host, sizeof(mine->host), "%s", w->host);
	if (!f || !fgets(mine->machine, sizeof(mine->machine), f))
		snprintf(mine->machine, sizeof(mine->machine), "%s", w->host);
	if (f)
		fclose(f);
	snprintf(mine->gpu, sizeof(mine->gpu), "%s", dev->where);
	mine->disguised = getenv("NCCL_HOSTID") != NULL;
	mine->any_thread = w->any_thread;
	if (!*dev->where)
		return;
	b = backend_open(&why);
	if (!b || !b->transport)
		snprintf(mine->lacks, sizeof(mine->lacks), "%s", b ? "its CUDA device was built without NCCL" : why);
}

static bool same_gpu(const struct offer *a, const struct offer *b)
{
	return !strcmp(a->gpu, b->gpu) && !strcmp(a->machine, b->machine);
}

/* The first thing that keeps NCCL from serving all ranks, as a clause; false: nothing does. */
static bool obstacle(const struct offer *all, int n, bool disguise, char *text, size_t size)
{
	int gpus = 0;

	for (int r = 0; r < n; r++)
		gpus += *all[r].gpu != 0;
	if (gpus == 0)
		return snprintf(text, size, "the workers compute on CPUs");
	for (int r = 0; r < n; r++) {
		if (!*all[r].gpu)
			return snprintf(text, size, "rank %d on %s computes on a CPU", r, all[r].host);
		if (*all[r].lacks)
			return snprintf(text, size, "rank %d on %s has no NCCL: %s", r, all[r].host, all[r].lacks);
		for (int q = 0; q < r; q++)
			if (same_gpu(&all[q], &all[r]) && !(disguise && all[q].disguised && all[r].disguised))
				return snprintf(text, size, "ranks %d and %d share GPU %s of %s, which NCCL refuses", q, r,
				                all[r].gpu, all[r].host);
	}
	return false;
}

/* Staged messages are driven by a thread of CUDA's. */
static int any_thread_missing(const struct offer *all, int n)
{
	for (int r = 0; r < n; r++)
		if (*all[r].gpu && !all[r].any_thread) {
			error("rank %d on %s: this MPI serves only the thread that started it, which is not CUDA's", r, all[r].host);
			return hint("use an MPI library that has MPI_THREAD_SERIALIZED, or comm.transport = \"nccl\" with one worker a GPU");
		}
	return 0;
}

const struct comm_ops *comm_choose(const char *name, const struct world *w, struct device *dev, struct comm *control, char *why,
                                   size_t size)
{
	bool automatic = !strcmp(name, "auto"), nccl = !strcmp(name, "nccl"), hindered;
	struct offer mine, *all;
	char text[400] = "";
	const struct comm_ops *chosen = w->transport;

	if (w->size == 1 && !nccl) {
		snprintf(why, size, "%s", automatic ? "one worker has nothing to send" : "as asked for");
		return automatic ? transport_find("self") : chosen;
	}
	all = xcalloc((size_t)w->size, sizeof(*all));
	describe(&mine, w, dev);
	comm_host_gather(control, &mine, all, sizeof(mine));
	hindered = obstacle(all, w->size, nccl, text, sizeof(text));
	if (nccl && hindered) {
		error("comm.transport = \"nccl\": %s", text);
		hint("set comm.transport = \"%s\", or start one worker for each GPU", w->size > 1 ? "mpi" : "auto");
		chosen = NULL;
	} else if (nccl || (automatic && !hindered)) {
		snprintf(why, size, "%s", nccl ? "as asked for" : "each worker has a GPU of its own");
		chosen = transport_find("nccl");
	} else if (any_thread_missing(all, w->size)) {
		chosen = NULL;
	} else {
		snprintf(why, size, "%s", automatic ? text : "as asked for");
	}
	free(all);
	return chosen;
}

const struct comm_ops *comm_choose_served(const char *name, const struct world *w, struct device *dev, struct comm *control, char *why,
                                          size_t size)
{
	const struct comm_ops *chosen;

	if (!strcmp(name, "nccl")) {
		error("comm.transport = \"nccl\": a parameter server takes the message that comes first, and NCCL has none without a sender's name");
		hint("set comm.transport = \"mpi\" or \"auto\", or topology.kind = \"all-reduce\"");
		return NULL;
	}
	chosen = comm_choose("mpi", w, dev, control, why, size);
	if (chosen && !strcmp(name, "auto"))
		snprintf(why, size, "a parameter server takes the message that comes first, which needs MPI");
	return chosen;
}
