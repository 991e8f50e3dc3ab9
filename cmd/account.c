/* Where the time of a run's steps went. */
#include <math.h>
#include <sys/resource.h>

#include "account.h"

/* Time of the layers while communication was active, over what the same calls took while it was not; NaN if never both. */
static double dilation(const struct net *net)
{
	double active = 0, quiet = 0;

	for (int i = 0; i < net->nodes; i++)
		for (int phase = 0; phase < 2; phase++) {
			const struct node *n = net->node[i];

			if (n->calls[phase][0] == 0 || n->calls[phase][1] == 0)
				continue;
			active += n->seconds[phase][1];
			quiet += n->seconds[phase][0] / (double)n->calls[phase][0] * (double)n->calls[phase][1];
		}
	return quiet > 0 ? active / quiet : NAN;
}

static struct virtual virtual_since(const struct run *run, const struct mark *mark, double steps)
{
	struct timeline_account compute = timeline_account(run->compute), comm = timeline_account(run->comm->stream);

	return (struct virtual){
		.all = compute.now - mark->compute.now,
		.step = (compute.now - mark->compute.now) / steps,
		.computing = (compute.busy - mark->compute.busy) / steps,
		.comm = (comm.busy - mark->comm.busy) / steps,
		.exposed = (compute.waited - mark->compute.waited) / steps,
	};
}

struct account account_since(const struct run *run, const struct mark *mark)
{
	const struct spent *all = &run->spent, *before = &mark->spent;
	double taken = (double)(run->step - mark->step), steps = taken > 0 ? taken : 1;
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct account){
		.steps = taken,
		.wall = (all->wall - before->wall) / steps,
		.computing = (all->wall - all->exposed - all->data - (before->wall - before->exposed - before->data)) / steps,
		.comm = (all->comm - before->comm) / steps,
		.exposed = (all->exposed - before->exposed) / steps,
		.data = (all->data - before->data) / steps,
		.bytes = (all->bytes - before->bytes) / steps,
		.dilation = dilation(&run->net),
		.memory_mb = (double)usage.ru_maxrss / 1024,
		.served = run->served,
		.virtual = virtual_since(run, mark, steps),
	};
}

double account_steps(const struct run *run, const struct account *account)
{
	double steps = 0;

	for (int r = 0; r < run->workers; r++)
		steps += account[r].steps;
	return steps / run->workers;
}

struct account account_mean(const struct run *run, const struct account *account)
{
	double n = run->workers, steps = account_steps(run, account);
	struct account mean = { .steps = steps };

	for (int r = 0; r < run->workers; r++) {
		const struct account *a = &account[r];
		double share = steps > 0 ? a->steps / (n * steps) : 0;

		mean.wall += a->wall * share;
		mean.computing += a->computing * share;
		mean.comm += a->comm * share;
		mean.exposed += a->exposed * share;
		mean.data += a->data * share;
		mean.bytes += a->bytes * share;
		mean.dilation += a->dilation / n;
		mean.virtual.step += a->virtual.step / n;
		mean.virtual.computing += a->virtual.computing / n;
		mean.virtual.comm += a->virtual.comm / n;
		mean.virtual.exposed += a->virtual.exposed / n;
	}
	return mean;
}
