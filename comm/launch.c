/*
 * Under which launcher are we? A program told to be distributed must not run as N soloists, and a config mistake should be printed
 * once: both must be known before MPI is started, from the environment. Slurm counts only inside a step (srun): a batch script's
 * own shell has SLURM_NTASKS as well.
 */
#include <stdlib.h>

#include "comm.h"

struct variables {
	const char *launcher, *rank, *size;
};

static const struct variables known[] = {
	{ "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE" },
	{ "MVAPICH2", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE" },
	{ "MPICH", "PMI_RANK", "PMI_SIZE" },
	{ "Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS" },
};

struct launch launch_detect(void)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		const char *rank = getenv(known[i].rank), *size = getenv(known[i].size);

		if (rank && size && atoi(size) > 0)
			return (struct launch){ known[i].launcher, atoi(rank), atoi(size) };
	}
	return (struct launch){ NULL, 0, 1 };
}
