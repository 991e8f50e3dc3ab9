/*
 * The one header that knows which oneDNN it is: 2.6 and later of the 2 series, where a memory descriptor is a struct and a
 * primitive descriptor is made in two steps, and 3.x, where both are handles made by one call. What is below looks the same for
 * both. A `dnnl_memory_desc_t *` may be NULL where a tensor (the bias) may be missing.
 *
 * Whatever oneDNN refuses is a bug or a broken library: DNNL() prints its status and dies.
 */
#ifndef COCOD_DNNL_H
#define COCOD_DNNL_H

#include <dnnl.h>

#include "../die.h"

#define DNNL(call) dnnl_must((call), __FILE__, __LINE__, #call)

static inline void dnnl_must(dnnl_status_t status, const char *file, int line, const char *call)
{
	static const char *const words[] = { "success", "out of memory", "invalid arguments", "unimplemented", "iterator ends",
		"runtime error", "not required" };

	if (status != dnnl_success)
		die(STATUS_FAILURE, "%s:%d: oneDNN says \"%s\" (status %d) to %s", file, line,
		    (unsigned)status < sizeof(words) / sizeof(words[0]) ? words[status] : "?", (int)status, call);
}

enum dnnl_pass { DNNL_FORWARD, DNNL_BACKWARD_DATA, DNNL_BACKWARD_WEIGHTS, DNNL_PASSES };

/* What the six primitives are made of: a convolution or an inner product, in one of its passes. */
struct dnnl_problem {
	bool linear;
	const dnnl_memory_desc_t *src, *weights, *bias, *dst;
	dnnl_dims_t strides, padding;   /* of a convolution */
};

#if DNNL_VERSION_MAJOR >= 3

static inline const_dnnl_memory_desc_t dnnl_md(const dnnl_memory_desc_t *md) { return md ? *md : NULL; }

static inline dnnl_memory_desc_t dnnl_md_init(int dims, const dnnl_dims_t dim, dnnl_format_tag_t tag)
{
	dnnl_memory_desc_t md;

	DNNL(dnnl_memory_desc_create_with_tag(&md, dims, dim, dnnl_f32, tag));
	return md;
}

static inline void dnnl_md_release(dnnl_memory_desc_t *md) { DNNL(dnnl_memory_desc_destroy(*md)); }

/* The layout that a primitive chose for a tensor; released by the caller. */
static inline dnnl_memory_desc_t dnnl_md_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
	dnnl_memory_desc_t md;

	DNNL(dnnl_memory_desc_clone(&md, dnnl_primitive_desc_query_md(pd, what, 0)));
	return md;
}

static inline dnnl_status_t dnnl_problem_desc(dnnl_primitive_desc_t *pd, const struct dnnl_problem *p, enum dnnl_pass pass,
                                              dnnl_primitive_desc_t hint, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
	const_dnnl_memory_desc_t src = dnnl_md(p->src), weights = dnnl_md(p->weights), bias = dnnl_md(p->bias), dst = dnnl_md(p->dst);
	const dnnl_alg_kind_t direct = dnnl_convolution_direct;

	if (p->linear)
		switch (pass) {
		case DNNL_FORWARD:
			return dnnl_inner_product_forward_primitive_desc_create(pd, engine, dnnl_forward_training, src, weights, bias, dst, attr);
		case DNNL_BACKWARD_DATA:
			return dnnl_inner_product_backward_data_primitive_desc_create(pd, engine, src, weights, dst, hint, attr);
		default:
			return dnnl_inner_product_backward_weights_primitive_desc_create(pd, engine, src, weights, bias, dst, hint, attr);
		}
	switch (pass) {
	case DNNL_FORWARD:
		return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training, direct, src, weights, bias, dst,
		                                                      p->strides, NULL, p->padding, p->padding, attr);
	case DNNL_BACKWARD_DATA:
		return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, direct, src, weights, dst, p->strides, NULL,
		                                                            p->padding, p->padding, hint, attr);
	default:
		return dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, direct, src, weights, bias, dst, p->strides,
		                                                               NULL, p->padding, p->padding, hint, attr);
	}
}

static inline dnnl_status_t dnnl_reorder_desc(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                                              const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
	return dnnl_reorder_primitive_desc_create(pd, *from, engine, *to, engine, attr);
}

#else

static inline const dnnl_memory_desc_t *dnnl_md(const dnnl_memory_desc_t *md) { return md; }

static inline dnnl_memory_desc_t dnnl_md_init(int dims, const dnnl_dims_t dim, dnnl_format_tag_t tag)
{
	dnnl_memory_desc_t md;

	DNNL(dnnl_memory_desc_init_by_tag(&md, dims, dim, dnnl_f32, tag));
	return md;
}

static inline void dnnl_md_release(dnnl_memory_desc_t *md) { (void)md; }

static inline dnnl_memory_desc_t dnnl_md_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
	return *dnnl_primitive_desc_query_md(pd, what, 0);
}

static inline dnnl_status_t dnnl_problem_desc(dnnl_primitive_desc_t *pd, const struct dnnl_problem *p, enum dnnl_pass pass,
                                              dnnl_primitive_desc_t hint, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
	const dnnl_alg_kind_t direct = dnnl_convolution_direct;
	dnnl_convolution_desc_t convolution;
	dnnl_inner_product_desc_t product;
	dnnl_status_t status;

	switch (pass) {
	case DNNL_FORWARD:
		status = p->linear ? dnnl_inner_product_forward_desc_init(&product, dnnl_forward_training, p->src, p->weights, p->bias, p->dst)
		                   : dnnl_convolution_forward_desc_init(&convolution, dnnl_forward_training, direct, p->src, p->weights,
		                                                        p->bias, p->dst, p->strides, p->padding, p->padding);
		break;
	case DNNL_BACKWARD_DATA:
		status = p->linear ? dnnl_inner_product_backward_data_desc_init(&product, p->src, p->weights, p->dst)
		                   : dnnl_convolution_backward_data_desc_init(&convolution, direct, p->src, p->weights, p->dst, p->strides,
		                                                              p->padding, p->padding);
		break;
	default:
		status = p->linear ? dnnl_inner_product_backward_weights_desc_init(&product, p->src, p->weights, p->bias, p->dst)
		                   : dnnl_convolution_backward_weights_desc_init(&convolution, direct, p->src, p->weights, p->bias, p->dst,
		                                                                 p->strides, p->padding, p->padding);
	}
	if (status != dnnl_success)
		return status;
	return dnnl_primitive_desc_create(pd, p->linear ? (const_dnnl_op_desc_t)&product : &convolution, attr, engine, hint);
}

static inline dnnl_status_t dnnl_reorder_desc(dnnl_primitive_desc_t *pd, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                                              const_dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
	return dnnl_reorder_primitive_desc_create(pd, from, engine, to, engine, attr);
}

#endif

#endif
