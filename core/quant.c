/* The length of packed vectors (quant.h). */
#define HOST_DEVICE static inline

#include "quant_formulas.h"

int64_t quant_bytes(const struct quant *q, int64_t n)
{
	int64_t whole = n / q->bucket, rest = n % q->bucket;

	return 4 * (whole * quant_record(q, q->bucket) + (rest ? quant_record(q, rest) : 0));
}
