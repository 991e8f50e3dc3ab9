/*
 * cuDNN and cuBLASLt as far as they want a GPU, for test/conv_check.c; the rest of them is the real one. A plan is executed by plain
 * loops, from what the PLAN says of itself (its JSON), not from what we meant; a product from what its layouts say.
 */
#ifndef PLAY_LIBRARIES_H
#define PLAY_LIBRARIES_H

#include <dlfcn.h>
#include <stdio.h>

#include "../core/cuda/cublas.h"
#include "../core/cuda/cudnn_graph.h"
#include "play_cuda.h"

/* ---- cuDNN: only what needs a GPU ---- */

cudnnStatus_t cudnnCreate(cudnnHandle_t *h)
{
	*h = (cudnnHandle_t)xcalloc(1, 1);
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
	free(h);
	return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s) { return (void)h, (void)s, CUDNN_STATUS_SUCCESS; }

/* A variant pack does not tell what is in it. */
enum { PACKS = 4096 };
static struct pack {
	cudnnBackendDescriptor_t pack;
	void *pointer[8], *workspace;
	int64_t id[8], n;
} packs[PACKS];

static struct pack *pack_of(cudnnBackendDescriptor_t d)
{
	size_t i = 0;

	while (i < PACKS && packs[i].pack && packs[i].pack != d)
		i++;
	CHECK(i < PACKS);
	packs[i].pack = d;
	return &packs[i];
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t n, const void *values)
{
	static cudnnStatus_t (*real)(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, int64_t, const void *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "cudnnBackendSetAttribute");
	if (name == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS) {
		pack_of(d)->n = n;
		memcpy(pack_of(d)->id, values, (size_t)n * sizeof(int64_t));
	} else if (name == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS) {
		memcpy(pack_of(d)->pointer, values, (size_t)n * sizeof(void *));
	} else if (name == CUDNN_ATTR_VARIANT_PACK_WORKSPACE) {
		memcpy(&pack_of(d)->workspace, values, sizeof(void *));
	}
	return real(d, name, type, n, values);
}

/* What a plan says of itself. */
struct tensor_facts {
	enum dtype type;
	int64_t dim[4], stride[4];
	void *data;
};

struct plan_facts {
	enum { FORWARD, DATA, FILTER } kind;
	struct tensor_facts x, w, y;
	int64_t pad[2], stride[2];
	double alpha, beta;
	int engine;
	char knobs[512];
};

static void ints(const char *text, const char *key, int64_t *out, int n)
{
	const char *p = strstr(text, key);

	CHECK(p);
	p = strchr(p, '[') + 1;
	for (int i = 0; i < n; i++) {
		char *end;

		out[i] = strtoll(p, &end, 10);
		p = end + 1;
	}
}

/* The tensor that a node of the graph calls "dX" or the like; a virtual one is followed through the identity to its "Y". */
static struct tensor_facts tensor_of(const char *json, const char *role, const struct pack *pack)
{
	struct tensor_facts t = { .data = NULL };
	const char *nodes = strstr(json, "\"nodes\""), *p = strstr(nodes, role), *identity = strstr(nodes, "CUDNN_POINTWISE_IDENTITY");
	char name[32];
	int id;

	CHECK(p && sscanf(p + strlen(role), ":\"%d\"", &id) == 1);
	if (identity && id == 4)
		CHECK((p = strstr(identity, "\"Y\"")) && sscanf(p, "\"Y\":\"%d\"", &id) == 1);
	snprintf(name, sizeof(name), "{\"name\":\"%d\"", id);
	p = strstr(json, name);
	CHECK(p);
	t.type = strncmp(strstr(p, "CUDNN_DATA_"), "CUDNN_DATA_BFLOAT16", 19) ? DTYPE_F32 : DTYPE_BF16;
	ints(p, "\"dim\"", t.dim, 4);
	ints(p, "\"stride\"", t.stride, 4);
	for (int64_t i = 0; i < pack->n; i++)
		if (pack->id[i] == id)
			t.data = pack->pointer[i];
	CHECK(t.data && (uintptr_t)t.data % 16 == 0);
	return t;
}

static char *json_of(cudnnBackendDescriptor_t plan)
{
	int64_t n = 0;
	char *json;

	CUDNN(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &n, NULL));
	json = xcalloc(1, (size_t)n + 1);
	CUDNN(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n, &n, json));
	return json;
}

static struct plan_facts facts_of(const char *json, const struct pack *pack)
{
	const char *nodes = strstr(json, "\"nodes\"");
	struct plan_facts f = { .kind = strstr(nodes, "CONVOLUTION_FORWARD") ? FORWARD : strstr(nodes, "BACKWARD_DATA") ? DATA : FILTER };

	f.x = tensor_of(json, f.kind == DATA ? "\"dX\"" : "\"X\"", pack);
	f.w = tensor_of(json, f.kind == FILTER ? "\"dW\"" : "\"W\"", pack);
	f.y = tensor_of(json, f.kind == FORWARD ? "\"Y\"" : "\"dY\"", pack);
	ints(nodes, "\"pad\"", f.pad, 2);
	ints(nodes, "\"stride\"", f.stride, 2);
	CHECK(sscanf(strstr(nodes, "\"alpha\""), "\"alpha\":%lf", &f.alpha) == 1 && sscanf(strstr(nodes, "\"beta\""), "\"beta\":%lf", &f.beta) == 1);
	CHECK(sscanf(strstr(json, "\"engineId\""), "\"engineId\":%d", &f.engine) == 1);
	if (strstr(json, "\"knobChoices\""))
		snprintf(f.knobs, sizeof(f.knobs), "%.*s", (int)strcspn(strstr(json, "\"knobChoices\""), "}"), strstr(json, "\"knobChoices\""));
	return f;
}

static int64_t offset(const struct tensor_facts *t, int64_t n, int64_t c, int64_t h, int64_t w)
{
	return n * t->stride[0] + c * t->stride[1] + h * t->stride[2] + w * t->stride[3];
}

static int64_t elements(const struct tensor_facts *t) { return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]; }

static void compute(const struct plan_facts *f)
{
	const struct tensor_facts *x = &f->x, *w = &f->w, *y = &f->y, *out = f->kind == FORWARD ? y : f->kind == DATA ? x : w;
	double *sum = xcalloc((size_t)elements(out), sizeof(*sum)), beta = play.deaf ? 0 : f->beta;

	for (int64_t n = 0; n < y->dim[0]; n++)
	for (int64_t o = 0; o < y->dim[1]; o++)
	for (int64_t oy = 0; oy < y->dim[2]; oy++)
	for (int64_t ox = 0; ox < y->dim[3]; ox++)
	for (int64_t ky = 0; ky < w->dim[2]; ky++)
	for (int64_t kx = 0; kx < w->dim[3]; kx++)
	for (int64_t c = 0; c < x->dim[1]; c++) {
		int64_t iy = oy * f->stride[0] + ky - f->pad[0], ix = ox * f->stride[1] + kx - f->pad[1];
		int64_t at_x, at_w = offset(w, o, c, ky, kx), at_y = offset(y, n, o, oy, ox);

		if (iy < 0 || iy >= x->dim[2] || ix < 0 || ix >= x->dim[3])
			continue;
		at_x = offset(x, n, c, iy, ix);
		if (f->kind == FORWARD)
			sum[at_y] += (double)get(x->type, x->data, at_x) * get(w->type, w->data, at_w);
		else if (f->kind == DATA)
			sum[at_x] += (double)get(y->type, y->data, at_y) * get(w->type, w->data, at_w);
		else
			sum[at_w] += (double)get(x->type, x->data, at_x) * get(y->type, y->data, at_y);
	}
	for (int64_t i = 0; i < elements(out); i++)
		put(out->type, out->data, i, f->alpha * sum[i] + (beta != 0 ? beta * get(out->type, out->data, i) : 0));
	free(sum);
}

/* Between 10 and 100 µs, by engine and knobs. */
static double duration(const struct plan_facts *f)
{
	unsigned hash = (unsigned)f->engine;

	for (const char *c = f->knobs; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 16777619u;
	return 10 + hash % 901 / 10.0;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t variants)
{
	const struct pack *pack = pack_of(variants);
	char *json = json_of(plan);
	struct plan_facts f = facts_of(json, pack);
	int64_t workspace = 0, one;
	float us = (float)duration(&f);

	(void)h;
	free(json);
	play.executions++;
	if (f.engine == play.broken)
		return CUDNN_STATUS_EXECUTION_FAILED;
	CUDNN(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one, &workspace));
	CHECK(!workspace || pack->workspace);
	if (workspace)
		memset(pack->workspace, 0xff, (size_t)workspace);
	if (play.timing) {
		play.now += us;
		play.fastest = fminf(play.fastest, us);
	} else {
		compute(&f);
	}
	return CUDNN_STATUS_SUCCESS;
}

/* ---- cuBLASLt: likewise ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
	*h = (cublasLtHandle_t)xcalloc(1, 1);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
	free(h);
	return CUBLAS_STATUS_SUCCESS;
}

/* What a layout says: column-major. */
struct layout_facts {
	uint64_t rows, columns;
	int64_t ld;
	enum dtype type;
};

static struct layout_facts facts_of_layout(cublasLtMatrixLayout_t l)
{
	struct layout_facts f;
	uint32_t type;
	int32_t order;
	size_t n;

	CUBLAS(cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ROWS, &f.rows, sizeof(f.rows), &n));
	CUBLAS(cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_COLS, &f.columns, sizeof(f.columns), &n));
	CUBLAS(cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_LD, &f.ld, sizeof(f.ld), &n));
	CUBLAS(cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_TYPE, &type, sizeof(type), &n));
	CUBLAS(cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof(order), &n));
	CHECK(order == CUBLASLT_ORDER_COL && f.ld >= (int64_t)f.rows && (type == CUDA_R_32F || type == CUDA_R_16BF));
	f.type = type == CUDA_R_32F ? DTYPE_F32 : DTYPE_BF16;
	return f;
}

static bool transposed(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t which)
{
	int32_t op;
	size_t n;

	CUBLAS(cublasLtMatmulDescGetAttribute(d, which, &op, sizeof(op), &n));
	return op == CUBLAS_OP_T;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t e, cublasLtMatmulPreference_t preference,
                                              int asked, cublasLtMatmulHeuristicResult_t results[], int *found)
{
	uint32_t alignment;
	size_t n;

	(void)h, (void)d, (void)a, (void)b, (void)c, (void)e;
	CHECK(asked == 1);
	CUBLAS(cublasLtMatmulPreferenceGetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof(alignment), &n));
	CHECK(alignment == 16);
	memset(results, 0, sizeof(*results));
	results->workspaceSize = 1000;
	*found = 1;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void *alpha, const void *A, cublasLtMatrixLayout_t la,
                              const void *B, cublasLtMatrixLayout_t lb, const void *beta, const void *C, cublasLtMatrixLayout_t lc, void *D,
                              cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes, cudaStream_t s)
{
	struct layout_facts a = facts_of_layout(la), b = facts_of_layout(lb), c = facts_of_layout(lc), d = facts_of_layout(ld);
	bool ta = transposed(desc, CUBLASLT_MATMUL_DESC_TRANSA), tb = transposed(desc, CUBLASLT_MATMUL_DESC_TRANSB);
	uint64_t k = ta ? a.rows : a.columns;

	(void)h, (void)algorithm, (void)s;
	CHECK(workspace && bytes == 1000);
	CHECK((ta ? a.columns : a.rows) == d.rows && (tb ? b.rows : b.columns) == d.columns && (tb ? b.columns : b.rows) == k);
	CHECK(C == D && c.rows == d.rows && c.columns == d.columns && c.type == d.type && a.type == b.type);
	memset(workspace, 0xff, bytes);
	for (uint64_t i = 0; i < d.rows; i++)
		for (uint64_t j = 0; j < d.columns; j++) {
			double sum = 0, old = *(const float *)beta;

			for (uint64_t q = 0; q < k; q++)
				sum += (double)get(a.type, A, (int64_t)(ta ? i * (uint64_t)a.ld + q : q * (uint64_t)a.ld + i)) *
				       get(b.type, B, (int64_t)(tb ? q * (uint64_t)b.ld + j : j * (uint64_t)b.ld + q));
			old = old != 0 ? old * get(d.type, D, (int64_t)(j * (uint64_t)d.ld + i)) : 0;
			put(d.type, D, (int64_t)(j * (uint64_t)d.ld + i), *(const float *)alpha * sum + old);
		}
	return CUBLAS_STATUS_SUCCESS;
}

#endif
