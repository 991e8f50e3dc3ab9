/*
 * cuBLASLt thinks in columns. A row-major m × n matrix in memory is, read by columns, its transpose n × m, with the same leading
 * dimension n. So a row-major C = op(A) op(B) is computed as the column-major
 *
 *     C' = op(B)' op(A)'          (n × m = n × k times k × m)
 *
 * B comes first. Of a B that is not transposed, memory read by columns already is B', no operation is left; of one that lies
 * transposed it is B itself, and the transpose remains. Hence each factor keeps its flag, only their places are exchanged.
 *
 * The algorithm is the first of cuBLASLt's heuristics, which are good for plain products and the same on every rank. Kernels that
 * split k and add the parts up in C are left out: with C in bf16 they would round each partial sum.
 */
#include "cublas.h"

#include <stdlib.h>

#include "../die.h"

enum { ALIGNMENT = 16 };        /* bytes, of every matrix: weights lie at multiples of 16 elements in their arena */

struct matmul {
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t algorithm;
	size_t workspace;
};

void cublas_check(cublasStatus_t status, const char *call, const char *file, int line)
{
	if (status != CUBLAS_STATUS_SUCCESS)
		die(STATUS_FAILURE, "%s:%d: %s: cuBLAS says: %s", file, line, call, cublasLtGetStatusString(status));
}

static cudaDataType_t data_type(enum dtype type)
{
	CHECK(type == DTYPE_F32 || type == DTYPE_BF16);
	return type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A row-major matrix, as cuBLASLt sees it. */
static cublasLtMatrixLayout_t layout(enum dtype type, int64_t rows, int64_t columns)
{
	cublasLtMatrixLayout_t l;

	CUBLAS(cublasLtMatrixLayoutCreate(&l, data_type(type), (uint64_t)columns, (uint64_t)rows, columns));
	return l;
}

static void set_transposed(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t which, bool transposed)
{
	cublasOperation_t op = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;

	CUBLAS(cublasLtMatmulDescSetAttribute(operation, which, &op, sizeof(op)));
}

static void set_preference(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t which, uint32_t value)
{
	CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, which, &value, sizeof(value)));
}

static void choose(struct matmul *p, cublasLtHandle_t handle, const struct matmul_shape *s, size_t workspace)
{
	cublasLtMatmulHeuristicResult_t result;
	cublasLtMatmulPreference_t preference;
	uint64_t most = workspace;
	cublasStatus_t status;
	int found = 0;

	CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
	CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof(most)));
	set_preference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
	set_preference(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, ALIGNMENT);
	set_preference(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, ALIGNMENT);
	set_preference(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, ALIGNMENT);
	set_preference(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, ALIGNMENT);
	status = cublasLtMatmulAlgoGetHeuristic(handle, p->operation, p->b, p->a, p->c, p->c, preference, 1, &result, &found);
	if (status != CUBLAS_STATUS_SUCCESS || !found)
		die(STATUS_FAILURE, "cuBLASLt has no kernel for %lld x %lld by %lld x %lld on this GPU (%s); another device.precision may have one",
		    (long long)s->m, (long long)s->k, (long long)s->k, (long long)s->n, cublasLtGetStatusString(status));
	CUBLAS(cublasLtMatmulPreferenceDestroy(preference));
	p->algorithm = result.algo;
	p->workspace = result.workspaceSize;
}

struct matmul *matmul_open(cublasLtHandle_t handle, const struct matmul_shape *s, size_t workspace)
{
	struct matmul *p = xcalloc(1, sizeof(*p));

	CUBLAS(cublasLtMatmulDescCreate(&p->operation, s->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
	set_transposed(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, s->b_transposed);
	set_transposed(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, s->a_transposed);
	p->a = s->a_transposed ? layout(s->in, s->k, s->m) : layout(s->in, s->m, s->k);
	p->b = s->b_transposed ? layout(s->in, s->n, s->k) : layout(s->in, s->k, s->n);
	p->c = layout(s->out, s->m, s->n);
	choose(p, handle, s, workspace);
	return p;
}

void matmul_close(struct matmul *p)
{
	if (!p)
		return;
	CUBLAS(cublasLtMatrixLayoutDestroy(p->a));
	CUBLAS(cublasLtMatrixLayoutDestroy(p->b));
	CUBLAS(cublasLtMatrixLayoutDestroy(p->c));
	CUBLAS(cublasLtMatmulDescDestroy(p->operation));
	free(p);
}

size_t matmul_workspace(const struct matmul *p) { return p->workspace; }

void matmul_run(const struct matmul *p, cublasLtHandle_t handle, cudaStream_t stream, const void *a, const void *b, float beta, void *c,
                void *workspace)
{
	const float alpha = 1;

	CUBLAS(cublasLtMatmul(handle, p->operation, &alpha, b, p->b, a, p->a, &beta, c, p->c, c, p->c, &p->algorithm, workspace,
	                      p->workspace, stream));
}
