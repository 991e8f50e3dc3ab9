/*
 * Which engines may serve a convolution, and in which order they are tried.
 *
 * In fp32 an engine must compute in fp32: one on tensor cores rounds its inputs to TF32. Winograd and Fourier transforms, and sums
 * that are rounded on the way, are left out in every precision: what they save, they take from the digits. `deterministic` leaves
 * out what cuDNN notes as not so. The heuristics know none of this: for the 1x1 convolution of stride 2 in a residual block their
 * first proposal in bf16 has no tensor cores, and a workspace of 100 MB.
 */
#include <stdlib.h>
#include <string.h>

#include "../die.h"
#include "conv_select.h"

static bool notes(const struct engine *e, cudnnBackendNumericalNote_t note) { return e->notes >> note & 1; }

bool conv_allowed(const struct engine *e, const struct conv_rules *rules)
{
	bool rounds = notes(e, CUDNN_NUMERICAL_NOTE_TENSOR_CORE) || notes(e, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);

	if (rules->precision == PRECISION_FP32 && rounds)
		return false;
	if (rules->deterministic && notes(e, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC))
		return false;
	return !notes(e, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) && !notes(e, CUDNN_NUMERICAL_NOTE_FFT) &&
	       !notes(e, CUDNN_NUMERICAL_NOTE_WINOGRAD);
}

static bool is_among(const struct engine *engine, int count, const char *text)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(engine[i].text, text))
			return true;
	return false;
}

int conv_engines(struct conv_graph *graph, const struct conv_rules *rules, struct engine engine[ENGINES_MOST])
{
	struct engine *proposed = xcalloc(ENGINES_MOST, sizeof(*proposed));
	int proposals = conv_graph_engines(graph, proposed, ENGINES_MOST), count = 0;
	bool compiled = false;

	for (int tensor_core = 1; tensor_core >= 0; tensor_core--)
		for (int i = 0; i < proposals; i++) {
			const struct engine *e = &proposed[i];

			if (notes(e, CUDNN_NUMERICAL_NOTE_TENSOR_CORE) != tensor_core || !conv_allowed(e, rules))
				continue;
			if ((e->compiled && compiled) || is_among(engine, count, e->text))
				continue;
			compiled |= e->compiled;
			engine[count++] = *e;
		}
	free(proposed);
	return count;
}
