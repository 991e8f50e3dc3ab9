/* The synchronisation algorithms. A new one: one file plus one line in each half. */
#include <stddef.h>

#include "sync.h"

extern const struct sync_ops sync_ssgd, sync_local, sync_cocod, sync_post_local, sync_dpsgd, sync_sgp, sync_adpsgd;

const struct sync_ops *const sync_list[] = {
	&sync_ssgd,
	&sync_local,
	&sync_cocod,
	&sync_post_local,
	&sync_dpsgd,
	&sync_sgp,
	&sync_adpsgd,
	NULL,
};
