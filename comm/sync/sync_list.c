/* The synchronisation algorithms. A new one: one file plus one line here. */
#include <stddef.h>

#include "sync.h"

#define ALGORITHMS(A) \
	A(ssgd) \
	A(post_local) \
	A(pipe) \
	A(local) \
	A(cocod) \
	A(overlap_local) \
	A(losp) \
	A(easgd) \
	A(slowmo) \
	A(diloco) \
	A(streaming_diloco) \
	A(eager_diloco) \
	A(vrl) \
	A(stl) \
	A(adaptive) \
	A(acco) \
	A(dpsgd) \
	A(choco) \
	A(sgp) \
	A(adpsgd) \
	A(ssp) \
	A(asp)

#define DECLARE(name) extern const struct sync_ops sync_##name;
#define ENTRY(name) &sync_##name,

ALGORITHMS(DECLARE)

const struct sync_ops *const sync_list[] = { ALGORITHMS(ENTRY) NULL };
