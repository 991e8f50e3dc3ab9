/* The keys of the transports. They are always in force, because comm.transport = "auto" may choose any of them. */
#include <stddef.h>

#include "../core/config.h"
#include "comm.h"

const struct option transport_options[] = {
	{ "staged", OPTION_BOOL, "false", 0, 0, NULL, "mpi: copies through pinned host memory even where it need not, for tests" },
	{ "max_ctas", OPTION_INT, "0", 0, 64, NULL, "nccl: most thread blocks, each takes an SM from computing; 0: its choice" },
	{ "timeout_s", OPTION_FLOAT, "300.0", 0, 1e6, NULL,
	  "nccl: an operation that takes longer ends the run, since some worker hangs; 0: never" },
	{ 0 },
};

struct comm_config comm_config(const struct config *config)
{
	return (struct comm_config){
		.staged = config_bool(config, "comm.staged"),
		.max_ctas = (int)config_int(config, "comm.max_ctas"),
		.timeout = config_float(config, "comm.timeout_s"),
	};
}
