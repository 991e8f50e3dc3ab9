/* A look-alike of CUDA's bf16 types, for tests (cuda_runtime_api.h). Only named conversions: what compiles here compiles there. */
#ifndef EMULATOR_CUDA_BF16_H
#define EMULATOR_CUDA_BF16_H

#include "cuda_runtime.h"

struct __nv_bfloat16_raw { unsigned short x; };

struct alignas(2) __nv_bfloat16 {
	__nv_bfloat16() = default;
	constexpr __nv_bfloat16(__nv_bfloat16_raw r) : bits(r.x) {}
	unsigned short bits;
};

struct alignas(4) __nv_bfloat162 {
	__nv_bfloat162() = default;
	constexpr __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
	__nv_bfloat16 x, y;
};

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16(__nv_bfloat16_raw{ bits }); }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }

/* To the nearest, ties to even. CUDA has one NaN: 0x7fff. */
static inline __nv_bfloat16 __float2bfloat16_rn(float v)
{
	unsigned word = __float_as_uint(v);

	if (v != v)
		return __ushort_as_bfloat16(0x7fff);
	return __ushort_as_bfloat16((unsigned short)((word + 0x7fff + (word >> 16 & 1)) >> 16));
}

static inline __nv_bfloat16 __float2bfloat16(float v) { return __float2bfloat16_rn(v); }
static inline float __bfloat162float(__nv_bfloat16 v) { return __uint_as_float((unsigned)v.bits << 16); }

static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
	return __nv_bfloat162(__float2bfloat16_rn(a), __float2bfloat16_rn(b));
}

static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return make_float2(__bfloat162float(v.x), __bfloat162float(v.y)); }
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) { return __nv_bfloat162(a, b); }
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
static inline float __low2float(__nv_bfloat162 v) { return __bfloat162float(v.x); }
static inline float __high2float(__nv_bfloat162 v) { return __bfloat162float(v.y); }
static inline bool __hisnan(__nv_bfloat16 v) { return (v.bits & 0x7fff) > 0x7f80; }

#endif
