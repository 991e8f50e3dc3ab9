/*
 * A look-alike of what CUDA adds to C++, for tests (cuda_runtime_api.h): qualifiers, built-in variables, vector types, intrinsics,
 * and the typed cudaLaunchKernel. There is no <<< >>>, nor dynamic shared memory.
 *
 * __shared__ is `static thread_local`: the threads of a block are fibers of one thread, that of their stream. So two streams can run
 * the same kernel at a time, and shared memory keeps what the last block left there.
 *
 * nvcc includes its cuda_runtime.h by itself, and knows #pragma unroll:
 *   g++ -x c++ -std=c++17 -Itest/emulator -include cuda_runtime.h -Wno-unknown-pragmas -ffp-contract=off -c FILE.cu
 *
 * Rounding: nvcc contracts a * b + c to one operation unless told not to; here nothing is contracted (-ffp-contract=off).
 */
#ifndef EMULATOR_CUDA_RUNTIME_H
#define EMULATOR_CUDA_RUNTIME_H

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

/* ---- vector types ---- */

#define EMULATOR_VECTORS(name, type, align2, align4)                                                                                     \
	struct name##1 { type x; };                                                                                                      \
	struct __align__(align2) name##2 { type x, y; };                                                                                 \
	struct name##3 { type x, y, z; };                                                                                                \
	struct __align__(align4) name##4 { type x, y, z, w; };                                                                           \
	static inline name##1 make_##name##1(type x) { return name##1{ x }; }                                                            \
	static inline name##2 make_##name##2(type x, type y) { return name##2{ x, y }; }                                                 \
	static inline name##3 make_##name##3(type x, type y, type z) { return name##3{ x, y, z }; }                                      \
	static inline name##4 make_##name##4(type x, type y, type z, type w) { return name##4{ x, y, z, w }; }

EMULATOR_VECTORS(char, signed char, 2, 4)
EMULATOR_VECTORS(uchar, unsigned char, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(ushort, unsigned short, 4, 8)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(uint, unsigned, 8, 16)
EMULATOR_VECTORS(longlong, long long, 16, 16)
EMULATOR_VECTORS(ulonglong, unsigned long long, 16, 16)
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTORS(double, double, 16, 16)

struct dim3 {
	constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
	constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
	unsigned x, y, z;
};

/* ---- what a thread knows ---- */

extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;
static const int warpSize = 32;

static inline unsigned emulator_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
static inline unsigned emulator_lane() { return emulator_thread() % 32; }

/* ---- meeting points (block.cc) ---- */

enum emulator_meeting {
	EMULATOR_BARRIER,               /* __syncthreads, and the three that count predicates */
	EMULATOR_SYNC, EMULATOR_SHUFFLE, EMULATOR_BALLOT, EMULATOR_ANY, EMULATOR_ALL, EMULATOR_MATCH,
	EMULATOR_ADD, EMULATOR_MIN, EMULATOR_MIN_SIGNED, EMULATOR_MAX, EMULATOR_MAX_SIGNED, EMULATOR_AND, EMULATOR_OR, EMULATOR_XOR
};

/* All threads of the block, or die. Returns how many had a predicate. */
int emulator_barrier(bool predicate);
/* The lanes of the mask that have not ended, or die. `source`: whose value a shuffle returns. */
uint64_t emulator_warp(enum emulator_meeting, unsigned mask, uint64_t value, unsigned source);
/* Under EMULATOR_SHUFFLE now and then lets another thread of the block run. */
void emulator_let_in(void);

static inline void __syncthreads() { emulator_barrier(false); }
static inline int __syncthreads_count(int predicate) { return emulator_barrier(predicate != 0); }
static inline int __syncthreads_or(int predicate) { return emulator_barrier(predicate != 0) > 0; }
static inline int __syncthreads_and(int predicate) { return emulator_barrier(predicate == 0) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffff) { emulator_warp(EMULATOR_SYNC, mask, 0, 0); }

static inline unsigned __ballot_sync(unsigned mask, int p) { return (unsigned)emulator_warp(EMULATOR_BALLOT, mask, p != 0, 0); }
static inline int __any_sync(unsigned mask, int p) { return (int)emulator_warp(EMULATOR_ANY, mask, p != 0, 0); }
static inline int __all_sync(unsigned mask, int p) { return (int)emulator_warp(EMULATOR_ALL, mask, p != 0, 0); }
/* Which lanes run together is up to the hardware: none but oneself is always a possible answer. */
static inline unsigned __activemask() { return 1u << emulator_lane(); }

static inline unsigned __reduce_add_sync(unsigned mask, unsigned v) { return (unsigned)emulator_warp(EMULATOR_ADD, mask, v, 0); }
static inline unsigned __reduce_min_sync(unsigned mask, unsigned v) { return (unsigned)emulator_warp(EMULATOR_MIN, mask, v, 0); }
static inline unsigned __reduce_max_sync(unsigned mask, unsigned v) { return (unsigned)emulator_warp(EMULATOR_MAX, mask, v, 0); }
static inline unsigned __reduce_and_sync(unsigned mask, unsigned v) { return (unsigned)emulator_warp(EMULATOR_AND, mask, v, 0); }
static inline unsigned __reduce_or_sync(unsigned mask, unsigned v) { return (unsigned)emulator_warp(EMULATOR_OR, mask, v, 0); }
static inline unsigned __reduce_xor_sync(unsigned mask, unsigned v) { return (unsigned)emulator_warp(EMULATOR_XOR, mask, v, 0); }
static inline int __reduce_add_sync(unsigned mask, int v) { return (int)emulator_warp(EMULATOR_ADD, mask, (unsigned)v, 0); }
static inline int __reduce_min_sync(unsigned mask, int v) { return (int)emulator_warp(EMULATOR_MIN_SIGNED, mask, (unsigned)v, 0); }
static inline int __reduce_max_sync(unsigned mask, int v) { return (int)emulator_warp(EMULATOR_MAX_SIGNED, mask, (unsigned)v, 0); }

/* CUDA's types for shuffles: 4 and 8 bytes, arithmetic; and those of cuda_bf16.h. */
template <class T> static inline T emulator_shuffle(unsigned mask, T v, unsigned source)
{
	uint64_t bits = 0;

	static_assert(std::is_trivially_copyable<T>::value && (std::is_class<T>::value || sizeof(T) >= 4), "no shuffle of this type in CUDA");
	memcpy(&bits, (const void *)&v, sizeof(T));
	bits = emulator_warp(EMULATOR_SHUFFLE, mask, bits, source);
	memcpy((void *)&v, &bits, sizeof(T));
	return v;
}

template <class T> static inline unsigned __match_any_sync(unsigned mask, T v)
{
	uint64_t bits = 0;

	memcpy(&bits, &v, sizeof(T));
	return (unsigned)emulator_warp(EMULATOR_MATCH, mask, bits, 0);
}

template <class T> static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32)
{
	unsigned base = emulator_lane() & ~(unsigned)(width - 1);

	return emulator_shuffle(mask, v, base + ((unsigned)source & (unsigned)(width - 1)));
}

template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32)
{
	unsigned lane = emulator_lane(), base = lane & ~(unsigned)(width - 1);

	return emulator_shuffle(mask, v, lane - base < delta ? lane : lane - delta);
}

template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32)
{
	unsigned lane = emulator_lane(), base = lane & ~(unsigned)(width - 1);

	return emulator_shuffle(mask, v, lane - base + delta >= (unsigned)width ? lane : lane + delta);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32)
{
	unsigned lane = emulator_lane(), source = lane ^ (unsigned)bits, last = lane | (unsigned)(width - 1);

	return emulator_shuffle(mask, v, source > last ? lane : source);
}

/* ---- atomics and fences: other streams may be at the same memory ---- */

static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T, class F> static inline T emulator_atomic(T *p, F f)
{
	typedef typename std::conditional<sizeof(T) == 4, uint32_t, uint64_t>::type word;
	word seen, next;
	T old, v;

	static_assert(sizeof(T) == 4 || sizeof(T) == 8, "no atomics of this type in CUDA");
	emulator_let_in();
	seen = __atomic_load_n((word *)p, __ATOMIC_SEQ_CST);
	do {
		memcpy(&old, &seen, sizeof(T));
		v = f(old);
		memcpy(&next, &v, sizeof(T));
	} while (!__atomic_compare_exchange_n((word *)p, &seen, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	return old;
}

/* The second argument takes the type of the first, as with CUDA's overloads. */
template <class T> struct emulator_same { typedef T type; };

#define EMULATOR_ATOMIC(name, result)                                                                                                    \
	template <class T> static inline T name(T *p, typename emulator_same<T>::type v)                                                 \
	{                                                                                                                                \
		return emulator_atomic(p, [v](T old) -> T { return result; });                                                           \
	}

EMULATOR_ATOMIC(atomicAdd, (T)(old + v))
EMULATOR_ATOMIC(atomicSub, (T)(old - v))
EMULATOR_ATOMIC(atomicMax, old > v ? old : v)
EMULATOR_ATOMIC(atomicMin, old < v ? old : v)
EMULATOR_ATOMIC(atomicAnd, (T)(old & v))
EMULATOR_ATOMIC(atomicOr, (T)(old | v))
EMULATOR_ATOMIC(atomicXor, (T)(old ^ v))
EMULATOR_ATOMIC(atomicExch, ((void)old, v))
EMULATOR_ATOMIC(atomicInc, old >= v ? (T)0 : (T)(old + 1))
EMULATOR_ATOMIC(atomicDec, old == 0 || old > v ? v : (T)(old - 1))

template <class T> static inline T atomicCAS(T *p, typename emulator_same<T>::type expected, typename emulator_same<T>::type v)
{
	return emulator_atomic(p, [expected, v](T old) { return old == expected ? v : old; });
}

/* ---- loads and stores with a cache's name in them ---- */

template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline T __ldca(const T *p) { return *p; }
template <class T> static inline T __ldcv(const T *p) { return *(const volatile T *)p; }
template <class T> static inline T __ldlu(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, typename emulator_same<T>::type v) { *p = v; }
template <class T> static inline void __stcg(T *p, typename emulator_same<T>::type v) { *p = v; }
template <class T> static inline void __stwb(T *p, typename emulator_same<T>::type v) { *p = v; }
template <class T> static inline void __stwt(T *p, typename emulator_same<T>::type v) { *p = v; }

/* ---- bits ---- */

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }

static inline unsigned __brev(unsigned v)
{
	unsigned r = 0;

	for (int i = 0; i < 32; i++)
		r |= (v >> i & 1) << (31 - i);
	return r;
}

static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
	__extension__ typedef unsigned __int128 wide;

	return (unsigned long long)((wide)a * b >> 64);
}

template <class To, class From> static inline To emulator_bits(From v)
{
	To r;

	static_assert(sizeof(To) == sizeof(From), "same size");
	memcpy(&r, &v, sizeof(r));
	return r;
}

static inline unsigned __float_as_uint(float v) { return emulator_bits<unsigned>(v); }
static inline int __float_as_int(float v) { return emulator_bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return emulator_bits<float>(v); }
static inline float __int_as_float(int v) { return emulator_bits<float>(v); }
static inline long long __double_as_longlong(double v) { return emulator_bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return emulator_bits<double>(v); }

/* ---- numbers ---- */

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __frcp_rn(float a) { return 1 / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frsqrt_rn(float a) { return (float)(1 / sqrt((double)a)); }
static inline float __fdividef(float a, float b) { return a / b; }
/* These are names of the C library's own as well. */
#define __expf(a) expf(a)
#define __logf(a) logf(a)
#define __log2f(a) log2f(a)
#define __log10f(a) log10f(a)
#define __powf(a, b) powf(a, b)
#define __sinf(a) sinf(a)
#define __cosf(a) cosf(a)
static inline float __saturatef(float a) { return a > 0 ? a < 1 ? a : 1 : 0; }
static inline float rsqrtf(float a) { return (float)(1 / sqrt((double)a)); }
static inline double rsqrt(double a) { return 1 / sqrt(a); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __double2float_rn(double a) { return (float)a; }
static inline float __int2float_rn(int a) { return (float)a; }
static inline float __uint2float_rn(unsigned a) { return (float)a; }
static inline float __ll2float_rn(long long a) { return (float)a; }
static inline float __ull2float_rn(unsigned long long a) { return (float)a; }
static inline int __float2int_rn(float a) { return (int)rintf(a); }
static inline int __float2int_rz(float a) { return (int)a; }
static inline unsigned __float2uint_rn(float a) { return (unsigned)rintf(a); }
static inline unsigned __float2uint_rz(float a) { return (unsigned)a; }

/* CUDA's min and max, in the global namespace: of two floating numbers the one that is not a NaN. */
template <class A, class B, class T = typename std::common_type<A, B>::type> static inline T min(A a, B b)
{
	static_assert(std::is_arithmetic<T>::value, "numbers");
	if constexpr (std::is_floating_point<T>::value)
		return std::fmin((T)a, (T)b);
	else
		return (T)a < (T)b ? (T)a : (T)b;
}

template <class A, class B, class T = typename std::common_type<A, B>::type> static inline T max(A a, B b)
{
	static_assert(std::is_arithmetic<T>::value, "numbers");
	if constexpr (std::is_floating_point<T>::value)
		return std::fmax((T)a, (T)b);
	else
		return (T)a > (T)b ? (T)a : (T)b;
}

/* ---- ends of everything ---- */

void emulator_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
static inline void __trap() { emulator_die("a kernel ended itself by __trap()"); }

/* ---- launching ---- */

/* A kernel with its arguments, as it is kept in a queue or a graph: call(arguments) runs one thread. */
cudaError_t emulator_launch(cudaStream_t, dim3 grid, dim3 block, size_t shared, const char *name, void (*call)(const void *),
                            void *arguments, void (*drop)(void *));

template <class... P> struct emulator_kernel {
	void (*entry)(P...);
	std::tuple<P...> argument;

	static void call(const void *kernel)
	{
		const emulator_kernel *k = (const emulator_kernel *)kernel;

		std::apply(k->entry, k->argument);
	}
	static void drop(void *kernel) { delete (emulator_kernel *)kernel; }
	template <size_t... I> static emulator_kernel *make(void (*entry)(P...), void **args, std::index_sequence<I...>)
	{
		(void)args;             /* unused by kernels without arguments */
		return new emulator_kernel{ entry, std::tuple<P...>(*(P *)args[I]...) };
	}
};

template <class... P>
static inline cudaError_t cudaLaunchKernel(void (*entry)(P...), dim3 grid, dim3 block, void **args, size_t shared = 0,
                                           cudaStream_t stream = 0)
{
	typedef emulator_kernel<P...> kernel;

	return emulator_launch(stream, grid, block, shared, __PRETTY_FUNCTION__, kernel::call,
	                       kernel::make(entry, args, std::index_sequence_for<P...>()), kernel::drop);
}

template <class T> static inline cudaError_t cudaFuncSetAttribute(T *, enum cudaFuncAttribute, int) { return cudaSuccess; }

template <class T> static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, T *, int threads, size_t shared)
{
	*blocks = shared || threads <= 0 || threads > 1024 ? 0 : 2048 / threads;
	return cudaSuccess;
}

#endif
