/*
 * All-reduce and all-gather as algorithms call them: the transport's own, or the ring. Both count the same bytes, so that a figure of
 * "bytes sent" means the algorithm's volume, whatever carries it. With parameter servers the sum is made there.
 */
#include "../../core/die.h"
#include "ps.h"

void comm_expect_allreduce(struct comm *comm, int64_t n, enum dtype type)
{
	if (!comm->servers && !comm->ops->allreduce)
		comm_reserve(comm, ring_work(n, comm->size, type));
}

void comm_allreduce(struct comm *comm, void *buffer, int64_t n, enum dtype type, enum reduce op)
{
	if (comm->servers) {
		ps_allreduce(comm, buffer, n, type, op);
	} else if (!comm->ops->allreduce) {
		ring_allreduce(comm, buffer, n, type, op);
	} else if (comm->size > 1 && n > 0) {
		comm->bytes_sent += ring_allreduce_elements(n, comm->size, comm->rank) * (int64_t)dtype_size(type);
		comm->ops->allreduce(comm, buffer, n, type, op);
	}
}

double comm_allreduce_bytes(const struct comm *comm, double n, int workers)
{
	return comm && comm->servers ? ps_bytes((int64_t)n, comm->servers) : 2.0 * (workers - 1) / workers * 4.0 * n;
}

double comm_allreduce_cost(const struct comm *comm, const struct cost_model *m, double bytes)
{
	return comm && comm->servers ? ps_cost(m, bytes, bytes, comm->servers) : ring_allreduce_cost(m, bytes);
}

void comm_allgather(struct comm *comm, void *buffer, int64_t bytes)
{
	CHECK(!comm->servers);          /* servers only add; sync_init() has refused whoever gathers */
	if (!comm->ops->allgather) {
		ring_allgather(comm, buffer, bytes);
	} else if (comm->size > 1 && bytes > 0) {
		comm->bytes_sent += (comm->size - 1) * bytes;
		comm->ops->allgather(comm, buffer, bytes);
	}
}
