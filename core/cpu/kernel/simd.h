/*
 * The one place that knows vector widths and compilers. A kernel file includes it, writes its loops with `vec` (VL floats) and
 * names what it exports KERNEL(x). With 64-byte vectors under AVX2 gcc falls off a cliff, so the width equals the ISA's.
 */
#ifndef COCOD_SIMD_H
#define COCOD_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VL = 16 };
#define VEC_BYTES 64
#elif defined(__AVX2__)
enum { VL = 8 };
#define VEC_BYTES 32
#else
enum { VL = 4 };
#define VEC_BYTES 16
#endif

#define KERNEL_PASTE(name, isa) name##_##isa
#define KERNEL_NAME(name, isa) KERNEL_PASTE(name, isa)
#define KERNEL(name) KERNEL_NAME(name, KERNEL_ISA)

#if defined(__clang__)
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#else
#define UNROLL_TEXT(x) _Pragma(#x)
#define UNROLL(n) UNROLL_TEXT(GCC unroll n)
#endif
#define INLINE static inline __attribute__((always_inline, unused))

typedef float vec __attribute__((vector_size(VEC_BYTES)));
typedef float vec_unaligned __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef int32_t vec_int __attribute__((vector_size(VEC_BYTES)));

INLINE vec vec_load(const float *p) { return *(const vec_unaligned *)p; }
INLINE void vec_store(float *p, vec v) { *(vec_unaligned *)p = v; }
INLINE vec vec_all(float x) { return x - (vec){ 0 }; }
/* v where m > 0, else 0 */
INLINE vec vec_where_positive(vec v, vec m) { return (vec)((vec_int)v & (vec_int)(m > (vec){ 0 })); }

#endif
