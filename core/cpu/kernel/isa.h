/*
 * Which instruction sets were compiled, for the code that chooses among them at run time. KERNEL_TABLES(struct x_kernels, x)
 * defines `x_tables`, an array by enum cpu_isa of the tables that kernel/x.c exports once for each set.
 */
#ifndef COCOD_ISA_H
#define COCOD_ISA_H

#include "../cpu.h"

#if defined(__x86_64__)
#define KERNEL_TABLES(type, name) \
	extern const type name##_base, name##_avx2, name##_avx512; \
	static const type *const name##_tables[ISA_COUNT] = { &name##_base, &name##_avx2, &name##_avx512 }
static inline enum cpu_isa isa_best(void)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return ISA_BASE;
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") ? ISA_AVX512 : ISA_AVX2;
}
#else
#define KERNEL_TABLES(type, name) \
	extern const type name##_base; \
	static const type *const name##_tables[ISA_COUNT] = { &name##_base, &name##_base, &name##_base }
static inline enum cpu_isa isa_best(void) { return ISA_BASE; }
#endif

#endif
