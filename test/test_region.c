/* Lists dealt out by regions of the index, for Ok-Topk: as the reference, and nothing lost. */
#include "ops_kit.h"

enum { MOST = 3000, PARTS = 7, N = 4 * MOST };

/* k picks in order, `holes` of the places empty. */
static void random_list(struct rng *rng, int64_t k, int64_t holes, struct sparse *out)
{
	uint32_t index = 0;

	for (int64_t j = 0; j < k; j++) {
		index += 1 + rng_below(rng, 3);
		out[j] = j < k - holes ? (struct sparse){ index, (float)rng_normal(rng) } : (struct sparse){ SPARSE_HOLE, 0 };
	}
}

static void test_quantiles(struct rig *r, struct rig *ref)
{
	static const int64_t lengths[] = { 1, 3, 7, 8, 1000, MOST };
	static struct sparse list[MOST];
	uint32_t got[PARTS + 1], want[PARTS + 1];
	int wrong = 0, uneven = 0;
	struct rng rng;

	rng_init(&rng, 31, RNG_TEST, 0, 0);
	for (int i = 0; i < 6; i++) {
		int64_t k = lengths[i], in_region[PARTS] = { 0 };
		float least = -1, least_ref = -2;

		random_list(&rng, k, 0, list);
		r->ops->sparse->quantiles(r->stream, k, list, PARTS, &least, got);
		ref->ops->sparse->quantiles(ref->stream, k, list, PARTS, &least_ref, want);
		wrong += memcmp(got, want, sizeof(got)) || memcmp(&least, &least_ref, sizeof(least));
		for (int64_t j = 0; j < k; j++)
			for (int p = 0; p < PARTS; p++)
				in_region[p] += list[j].index >= got[p] && list[j].index < got[p + 1];
		for (int p = 0; p < PARTS; p++)
			uneven += in_region[p] < k / PARTS || in_region[p] > k / PARTS + 1;
	}
	ok(wrong == 0, "%s: quantiles as the reference", r->name);
	ok(uneven == 0, "%s: every region has as many, but for one", r->name);
}

/* Lists with holes, regions that are empty and that are too full. */
static void test_split(struct rig *r, struct rig *ref)
{
	static struct sparse list[MOST], got[2 * MOST], want[2 * MOST];
	static float left[N], left_ref[N], result[N];
	int wrong = 0;
	double lost = 0;
	struct rng rng;

	rng_init(&rng, 32, RNG_TEST, 0, 0);
	for (int i = 0; i < 50; i++) {
		int64_t k = 1 + rng_below(&rng, i % 2 ? 20 : MOST), room = 1 + 3 * k / (2 * PARTS);
		uint32_t bound[PARTS + 1] = { 0 };
		double before = 0, after = 0;

		random_list(&rng, k, i % 3 ? rng_below(&rng, (uint32_t)k) : 0, list);
		for (int p = 1; p < PARTS; p++)
			bound[p] = bound[p - 1] + rng_below(&rng, i % 5 ? (uint32_t)(4 * k / PARTS) + 1 : 1);
		bound[PARTS] = SPARSE_HOLE;
		for (int64_t j = 0; j < N; j++) {
			left[j] = left_ref[j] = 0;
			result[j] = rng_below(&rng, 2) ? 1 : 0;
		}
		for (int64_t j = 0; j < k; j++)
			before += list[j].value;
		r->ops->sparse->split(r->stream, k, list, PARTS, bound, room, got, left);
		ref->ops->sparse->split(ref->stream, k, list, PARTS, bound, room, want, left_ref);
		wrong += memcmp(got, want, (size_t)(PARTS * room) * sizeof(*got)) || memcmp(left, left_ref, sizeof(left));
		for (int64_t j = 0; j < PARTS * room; j++)
			after += got[j].value;
		for (int64_t j = 0; j < N; j++)
			after += left[j];
		lost = fmax(lost, fabs(after - before));
		r->ops->sparse->put_back_zero(r->stream, PARTS * room, got, result, left);
		ref->ops->sparse->put_back_zero(ref->stream, PARTS * room, want, result, left_ref);
		wrong += memcmp(left, left_ref, sizeof(left)) != 0;
		for (int64_t j = 0; j < PARTS * room; j++)
			wrong += got[j].index != SPARSE_HOLE && (result[got[j].index] == 0) != (left[got[j].index] == got[j].value);
	}
	ok(wrong == 0, "%s: split and put_back_zero as the reference", r->name);
	ok(lost <= 1e-4, "%s: split: what is in the blocks and what went back is all there was", r->name);
}

int main(void)
{
	for_all_rigs(test_quantiles);
	for_all_rigs(test_split);
	return done_testing();
}
