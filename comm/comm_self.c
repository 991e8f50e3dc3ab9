/* One worker alone: nothing to exchange. A single run needs no MPI, and does not start it. */
#include <stddef.h>
#include <stdlib.h>

#include "../core/die.h"
#include "comm.h"

static void self_world_open(struct world *w) { w->rank = 0; }
static void self_world_close(void) {}
static void self_open(struct comm *comm) { comm->state = NULL; }
static void self_close(struct comm *comm) { comm->state = NULL; }

static void self_exchange(struct comm *comm, int to, const void *send, int64_t send_bytes, int from, void *recv, int64_t recv_bytes)
{
	(void)comm, (void)send, (void)send_bytes, (void)recv, (void)recv_bytes;
	CHECK(to < 0 && from < 0);      /* a collective that sends to itself is a bug */
}

extern const struct comm_ops comm_self;
const struct comm_ops comm_self = {
	.name = "self",
	.help = "one worker, no communication",
	.world_open = self_world_open,
	.world_close = self_world_close,
	.open = self_open,
	.close = self_close,
	.exchange = self_exchange,
	.segment = INT64_MAX,
};
