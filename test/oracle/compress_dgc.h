/* Deep gradient compression (Lin et al., ICLR 2018): top-k of accumulated velocities, with masking or without, clipped or not, plain or by Nesterov (u = (u + g) m,
 * v += u + g); the k largest, or those above the threshold from a sample (compress_sampled.h). */
#ifndef ORACLE_COMPRESS_DGC_H
#define ORACLE_COMPRESS_DGC_H

#include "../../core/die.h"
#include "compress_list.h"
#include "compress_sampled.h"

#define DGC_MOMENTUM 0.9
#define DGC_CLIP 2.5            /* about half of what gradients here measure, for a few workers */

enum { DGC_PLAIN, DGC_UNMASKED, DGC_CLIPPED, DGC_SAMPLED };

static inline int dgc_which(const struct oracle_setup *p)
{
	const char *name = p->compressor->name;

	return strstr(name, "clipped") ? DGC_CLIPPED : strstr(name, "without masking") ? DGC_UNMASKED :
	       strstr(name, "sampled") ? DGC_SAMPLED : DGC_PLAIN;
}

static inline bool dgc_by_nesterov(const struct oracle_setup *p) { return strstr(p->compressor->name, "nesterov") != NULL; }

static inline void oracle_dgc_average(struct oracle *o, int r, double *const in[], double *out)
{
	const struct oracle_setup *set = o->set;
	int64_t from = set->offset[r], n = set->length[r], k = oracle_k(oracle_density(o), n);
	double most = dgc_which(set) == DGC_CLIPPED ? DGC_CLIP / sqrt(set->workers) : INFINITY;
	struct candidate *c = malloc((size_t)n * sizeof(*c));

	memset(out + from, 0, (size_t)n * sizeof(double));
	for (int i = 0; i < set->workers; i++) {
		int64_t count = k;
		double norm = 0, *v = o->residual[i], *u = oracle_need(o, &o->velocity[i]), *entered = oracle_need(o, &o->entered[i]);

		for (int64_t j = from; j < from + n; j++)
			norm += in[i][j] * in[i][j];
		norm = sqrt(norm);
		for (int64_t j = from; j < from + n; j++) {
			double g = in[i][j] * (norm > most ? most / norm : 1), increment;

			u[j] = dgc_by_nesterov(set) ? (u[j] + g) * DGC_MOMENTUM : DGC_MOMENTUM * u[j] + g;
			increment = dgc_by_nesterov(set) ? u[j] + g : u[j];
			v[j] += increment;
			entered[j] += increment;
			c[j - from] = (struct candidate){ v[j], j };
		}
		if (dgc_which(set) == DGC_SAMPLED)
			count = oracle_choose_sampled(o, v, from, n, k, c);
		else
			choose(o, c, n, k);
		for (int64_t j = 0; j < count; j++) {
			int64_t at = c[j].index;

			oracle_send(o, i, at, c[j].v, out);
			if (dgc_which(set) != DGC_UNMASKED)
				u[at] = 0;
		}
	}
	free(c);
}

static inline int oracle_dgc_keys(const struct oracle_setup *p, const char **sets)
{
	sets[0] = xasprintf("compress.momentum=%g", DGC_MOMENTUM);
	sets[1] = xasprintf("compress.masking=%s", dgc_which(p) == DGC_UNMASKED ? "false" : "true");
	sets[2] = xasprintf("compress.clip=%g", dgc_which(p) == DGC_CLIPPED ? DGC_CLIP : 0);
	sets[3] = xasprintf("compress.selection=%s", dgc_which(p) == DGC_SAMPLED ? "sampled" : "exact");
	sets[4] = xasprintf("compress.nesterov=%s", dgc_by_nesterov(p) ? "true" : "false");
	return 5;
}

#define DGC(...) { .sparse = true, .method = "dgc", .gradients = true, .keys = oracle_dgc_keys, .average = oracle_dgc_average, .bytes = oracle_list_bytes, __VA_ARGS__ }
static const struct oracle_compressor oracle_dgc = DGC(.name = "dgc", .momentum = 0);
static const struct oracle_compressor oracle_dgc_unmasked = DGC(.name = "dgc without masking", .momentum = DGC_MOMENTUM);
static const struct oracle_compressor oracle_dgc_clipped = DGC(.name = "dgc, clipped", .never_all = true);
static const struct oracle_compressor oracle_dgc_nesterov = DGC(.name = "dgc, nesterov, clipped", .never_all = true);
static const struct oracle_compressor oracle_dgc_nesterov_unmasked =
	DGC(.name = "dgc, nesterov, without masking", .momentum = DGC_MOMENTUM, .nesterov = true);
static const struct oracle_compressor oracle_dgc_sampled = DGC(.name = "dgc, sampled", .momentum = 0);

#endif
