// The emulator tests itself: what would be wrong in here would make every other test of the CUDA device say nothing. Run it with and
// without EMULATOR_SHUFFLE. What must end the program (a block that waits for ever, a write behind a block of memory) is tried in a
// child process.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tap.h"

static cudaStream_t stream, other;
static bool shuffled;

template <class... P>
static cudaError_t launch_on(cudaStream_t s, dim3 grid, dim3 block, void (*kernel)(P...), typename std::common_type<P>::type... a)
{
	void *args[] = { (void *)&a... };

	return cudaLaunchKernel(kernel, grid, block, args, 0, s);
}

#define LAUNCH(...) (void)launch_on(stream, __VA_ARGS__)

template <class T> static T *device_memory(size_t n)
{
	void *p;

	if (cudaMalloc(&p, n * sizeof(T)) != cudaSuccess)
		exit(1);
	return (T *)p;
}

static void wait() { cudaStreamSynchronize(stream); }

static double now()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_ms(int ms) { usleep((useconds_t)ms * 1000); }

// ---- threads, barriers ----

__global__ void who(int *out)
{
	int block = (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
	int inside = (int)(blockDim.x * blockDim.y * blockDim.z);
	int thread = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));

	out[block * inside + thread] = block * 10000 + thread;
}

static void test_indices()
{
	int *out = device_memory<int>(2 * 3 * 2 * 4 * 5 * 3), bad = 0;

	ok(out[0] == -1, "device memory begins as garbage");
	LAUNCH(dim3(2, 3, 2), dim3(4, 5, 3), who, out);
	wait();
	for (int i = 0; i < 12 * 60; i++)
		bad += out[i] != i / 60 * 10000 + i % 60;
	ok(bad == 0, "every thread of a 3-dimensional grid runs once, and knows who it is");
	ok(launch_on(stream, dim3(1), dim3(1025), who, out) == cudaErrorInvalidConfiguration && cudaGetLastError() == cudaErrorInvalidConfiguration &&
	   cudaGetLastError() == cudaSuccess, "a block of 1025 threads is refused, and the error is remembered once");
	ok(launch_on(stream, dim3(0), dim3(32), who, out) == cudaErrorInvalidConfiguration, "so is an empty grid");
	cudaGetLastError();
	cudaFree(out);
}

__global__ void prefix_sum(const int *in, int *out)
{
	__shared__ int s[2][1024];
	int t = (int)threadIdx.x, n = (int)blockDim.x, from = 0;

	s[0][t] = in[blockIdx.x * n + t];
	__syncthreads();
	for (int d = 1; d < n; d *= 2) {
		s[1 - from][t] = s[from][t] + (t >= d ? s[from][t - d] : 0);
		from = 1 - from;
		__syncthreads();
	}
	out[blockIdx.x * n + t] = s[from][t];
}

__global__ void counting(int *out)
{
	int t = (int)threadIdx.x, a, b, c, d;

	a = __syncthreads_count(t % 3 == 0);
	b = __syncthreads_or(t == 77);
	c = __syncthreads_and(t < 1000);
	d = __syncthreads_and(t != 5);
	out[t] = a * 1000 + b * 100 + c * 10 + d;
}

// Each thread reads what its neighbour wrote, without a barrier: not a valid program.
__global__ void racy(int *out)
{
	__shared__ int s[256];
	int t = (int)threadIdx.x;

	s[t] = 1000 + t;
	out[t] = s[(t + 255) % 256];
}

__global__ void leftover(int *out)
{
	__shared__ int s[64];

	out[threadIdx.x] = s[threadIdx.x];
	s[threadIdx.x] = 42;
}

static void test_barriers()
{
	enum { N = 777, BLOCKS = 5 };
	int *in = device_memory<int>(N * BLOCKS), *out = device_memory<int>(N * BLOCKS), bad = 0;

	for (int i = 0; i < N * BLOCKS; i++)
		in[i] = i * 7919 % 1000;
	LAUNCH(dim3(BLOCKS), dim3(N), prefix_sum, in, out);
	wait();
	for (int b = 0, sum; b < BLOCKS; b++) {
		sum = 0;
		for (int i = 0; i < N; i++) {
			sum += in[b * N + i];
			bad += out[b * N + i] != sum;
		}
	}
	ok(bad == 0, "a prefix sum by 777 threads, 10 barriers a block");
	LAUNCH(dim3(1), dim3(300), counting, out);
	wait();
	bad = 0;
	for (int i = 0; i < 300; i++)
		bad += out[i] != 100 * 1000 + 100 + 10;
	ok(bad == 0, "barriers that count predicates");
	LAUNCH(dim3(1), dim3(256), racy, out);
	wait();
	bad = 0;
	for (int i = 0; i < 256; i++)
		bad += out[i] != 1000 + (i + 255) % 256;
	ok(bad > (shuffled ? 40 : 0), "a race shows (%d of 256 wrong)", bad);
	LAUNCH(dim3(1), dim3(64), leftover, out);
	LAUNCH(dim3(1), dim3(64), leftover, out);
	wait();
	ok(out[0] == -1 && out[63] == -1, "shared memory begins as garbage");
	cudaFree(in);
	cudaFree(out);
}

// ---- warps ----

__global__ void warp_reduce(const float *in, float *out)
{
	float v = in[blockIdx.x * blockDim.x + threadIdx.x];

	for (int d = 16; d > 0; d /= 2)
		v += __shfl_down_sync(0xffffffff, v, (unsigned)d);
	if (threadIdx.x % 32 == 0)
		out[(blockIdx.x * blockDim.x + threadIdx.x) / 32] = v;
}

__global__ void shuffles(int *out, double *wide)
{
	int t = (int)threadIdx.x, *o = out + 8 * t;

	o[0] = __shfl_sync(0xffffffff, t, 5);
	o[1] = __shfl_sync(0xffffffff, t, 3, 8);
	o[2] = __shfl_up_sync(0xffffffff, t, 2);
	o[3] = __shfl_up_sync(0xffffffff, t, 3, 8);
	o[4] = __shfl_down_sync(0xffffffff, t, 3, 8);
	o[5] = __shfl_xor_sync(0xffffffff, t, 1);
	o[6] = __shfl_xor_sync(0xffffffff, t, 9, 8);
	o[7] = __shfl_sync(0xffffffff, t, t + 1);
	wide[t] = __shfl_xor_sync(0xffffffff, 0.1 * t, 31);
}

__global__ void votes(unsigned *out)
{
	unsigned t = threadIdx.x, lane = t % 32, *o = out + 10 * t;

	o[0] = __ballot_sync(0xffffffff, lane % 2);
	o[1] = (unsigned)__any_sync(0xffffffff, lane == 9);
	o[2] = (unsigned)__all_sync(0xffffffff, lane == 9);
	o[3] = __reduce_add_sync(0xffffffff, t);
	o[4] = __reduce_max_sync(0xffffffff, lane * 5 % 32);
	o[5] = (unsigned)__reduce_min_sync(0xffffffff, (int)lane - 7);
	o[6] = __match_any_sync(0xffffffff, (int)(lane / 8));
	// Two parts of a warp at work apart: each meets its own lanes only.
	if (lane < 8)
		o[7] = __ballot_sync(0xff, 1) + (unsigned)__shfl_xor_sync(0xff, (int)lane, 7);
	else
		o[7] = __ballot_sync(0xffffff00, lane > 20);
	__syncwarp();
	o[8] = __reduce_or_sync(0xffffffff, 1u << lane);
	o[9] = __activemask() >> lane & 1;
}

__global__ void lanes_end(int *out)
{
	if (threadIdx.x % 32 >= 20)
		return;
	out[threadIdx.x] = __popc(__ballot_sync(0xffffffff, 1));
	out[64 + threadIdx.x] = __shfl_down_sync(0xffffffff, (int)threadIdx.x, 1);
}

static int expected_shuffle(int t, int which)
{
	int lane = t % 32, base = t - lane, part = lane % 8;

	switch (which) {
	case 0: return base + 5;
	case 1: return t - part + 3;
	case 2: return lane < 2 ? t : t - 2;
	case 3: return part < 3 ? t : t - 3;
	case 4: return part + 3 >= 8 ? t : t + 3;
	case 5: return t ^ 1;
	case 6: return (lane ^ 9) > lane - part + 7 ? t : t ^ 9;
	default: return base + (lane + 1) % 32;
	}
}

static void test_warps()
{
	float *in = device_memory<float>(3 * 96), *sum = device_memory<float>(9);
	int *out = device_memory<int>(8 * 64), bad = 0;
	unsigned *vote = device_memory<unsigned>(640);
	double *wide = device_memory<double>(64);

	for (int i = 0; i < 288; i++)
		in[i] = (float)(i % 11);
	LAUNCH(dim3(3), dim3(96), warp_reduce, in, sum);
	wait();
	for (int w = 0; w < 9; w++) {
		float s = 0;

		for (int i = 0; i < 32; i++)
			s += in[32 * w + i];
		bad += sum[w] != s;
	}
	ok(bad == 0, "sums of warps by shuffles");
	LAUNCH(dim3(1), dim3(64), shuffles, out, wide);
	wait();
	bad = 0;
	for (int i = 0; i < 512; i++)
		bad += out[i] != expected_shuffle(i / 8, i % 8);
	for (int i = 0; i < 64; i++)
		bad += wide[i] != 0.1 * (i ^ 31);
	ok(bad == 0, "shuffles of all four kinds, with widths, of 4 and 8 bytes");
	LAUNCH(dim3(1), dim3(64), votes, vote);
	wait();
	bad = 0;
	for (unsigned t = 0; t < 64; t++) {
		unsigned *o = vote + 10 * t, lane = t % 32, first = t - lane;

		bad += o[0] != 0xaaaaaaaa || o[1] != 1 || o[2] != 0 || o[3] != 32 * first + 496 || o[4] != 31 || (int)o[5] != -7;
		bad += o[6] != 0xffu << lane / 8 * 8 || o[7] != (lane < 8 ? 0xff + (lane ^ 7) : 0xffe00000) || o[8] != 0xffffffff || o[9] != 1;
	}
	ok(bad == 0, "votes, reductions, matches; parts of a warp under their own masks");
	LAUNCH(dim3(1), dim3(64), lanes_end, out);
	wait();
	bad = 0;
	for (int t = 0; t < 64; t++)
		if (t % 32 < 20)
			bad += out[t] != 20 || out[64 + t] != (t % 32 == 19 ? -1 : t + 1);
	ok(bad == 0, "lanes that have ended are not waited for, and give garbage");
	cudaFree(in);
	cudaFree(sum);
	cudaFree(out);
	cudaFree(vote);
	cudaFree(wide);
}

// ---- atomics, "last block done" ----

__device__ unsigned blocks_done;

__global__ void sum_all(int n, const int *in, long long *partial, unsigned long long *total, int *order, unsigned *tickets)
{
	__shared__ bool last;
	int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
	int v = i < n ? in[i] : 0;

	for (int d = 16; d > 0; d /= 2)
		v += __shfl_xor_sync(0xffffffff, v, d);
	if (threadIdx.x == 0)
		partial[blockIdx.x] = 0;
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		atomicAdd((unsigned long long *)&partial[blockIdx.x], (unsigned long long)v);
	order[i] = (int)atomicInc(tickets, 0xffffffff);
	__syncthreads();
	if (threadIdx.x == 0) {
		__threadfence();
		last = atomicInc(&blocks_done, gridDim.x - 1) == gridDim.x - 1;
	}
	__syncthreads();
	if (last && threadIdx.x == 0)
		for (unsigned b = 0; b < gridDim.x; b++)
			*total += (unsigned long long)__ldcg(&partial[b]);
}

__global__ void atomics(int *i, unsigned *u, float *f, double *d, unsigned long long *l)
{
	int t = (int)threadIdx.x;

	atomicAdd(i, 1);
	atomicSub(i + 1, t);
	atomicMax(i + 2, t * 37 % 101);
	atomicMin(i + 3, -(t * 37 % 101));
	atomicOr(u, 1u << t % 32);
	atomicAnd(u + 1, ~(1u << t % 7));
	atomicXor(u + 2, (unsigned)t);
	atomicAdd(f, 0.5f);
	atomicAdd(d, 0.25);
	atomicMax(l, 1ull << 40 | (unsigned)t);
	while (atomicCAS(u + 3, 0u, (unsigned)t + 1) != 0)
		if (atomicExch(u + 3, 0u))
			atomicAdd(i + 4, 1);
}

static void test_atomics()
{
	enum { N = 5000, BLOCKS = 40 };
	int *in = device_memory<int>(N), *order = device_memory<int>(BLOCKS * 128), *i = device_memory<int>(5);
	int seen[BLOCKS * 128] = { 0 }, bad = 0;
	long long *partial = device_memory<long long>(BLOCKS), sum = 0;
	unsigned long long *total = device_memory<unsigned long long>(2);
	unsigned *u = device_memory<unsigned>(5);
	float *f = device_memory<float>(1);
	double *d = device_memory<double>(1);

	for (int k = 0; k < N; k++)
		sum += in[k] = k * 31 % 1009;
	cudaMemsetAsync(total, 0, 16, stream);
	for (int k = 0; k < 3; k++) {
		cudaMemsetAsync(u, 0, 20, stream);      // the ticket counter is u[4]
		LAUNCH(dim3(BLOCKS), dim3(128), sum_all, N, in, partial, total, order, u + 4);
		wait();
	}
	ok((long long)total[0] == 3 * sum, "the last block adds the parts, three launches in a row");
	for (int k = 0; k < BLOCKS * 128; k++)
		if (order[k] >= 0 && order[k] < BLOCKS * 128)
			seen[order[k]]++;
	for (int k = 0; k < BLOCKS * 128; k++)
		bad += seen[k] != 1;
	ok(bad == 0, "every ticket is drawn once");
	cudaMemsetAsync(i, 0, 20, stream);
	cudaMemsetAsync(f, 0, 4, stream);
	cudaMemsetAsync(d, 0, 8, stream);
	wait();
	u[1] = 0xff;
	LAUNCH(dim3(1), dim3(100), atomics, i, u, f, d, total + 1);
	wait();
	ok(i[0] == 100 && i[1] == -4950 && i[2] == 100 && i[3] == -100 && i[4] >= 0 && u[0] == 0xffffffff && u[1] == 0x80 && u[2] == 0 &&
	   *f == 50 && *d == 25 && total[1] == (1ull << 40 | 99), "add, sub, max, min, or, and, xor, exchange, compare and swap");
	cudaFree(in);
	cudaFree(order);
	cudaFree(i);
	cudaFree(partial);
	cudaFree(total);
	cudaFree(u);
	cudaFree(f);
	cudaFree(d);
}

// ---- bits and numbers ----

static void test_numbers()
{
	float one = 1, just = __uint_as_float(0x3f808000), odd = __uint_as_float(0x3f818000);

	ok(__popc(0xf0f0) == 8 && __popcll(~0ull) == 64 && __clz(1) == 31 && __clz(0) == 32 && __clzll(1) == 63 && __clzll(0) == 64 && __ffs(8) == 4 &&
	   __ffs(0) == 0 && __brev(1) == 0x80000000 && __brev(0x12345678) == 0x1e6a2c48, "bits");
	ok(__umulhi(0xffffffff, 0xffffffff) == 0xfffffffe && __umul64hi(1ull << 63, 6) == 3 && __mulhi(-1, 1) == -1, "high halves of products");
	ok(min(3, 5) == 3 && max(-1, 2) == 2 && min(2u, 7u) == 2 && max((long long)1 << 40, 1ll) == 1ll << 40 && max(1.5f, 2.5f) == 2.5f &&
	   min(NAN, 1.0f) == 1 && max(1.0f, NAN) == 1, "min and max");
	ok(__bfloat162float(__float2bfloat16_rn(one)) == 1 && __bfloat16_as_ushort(__float2bfloat16_rn(just)) == 0x3f80 &&
	   __bfloat16_as_ushort(__float2bfloat16_rn(odd)) == 0x3f82 && __bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(0x3f808001))) == 0x3f81,
	   "bf16: to the nearest, ties to even");
	ok(__bfloat16_as_ushort(__float2bfloat16_rn(NAN)) == 0x7fff && __bfloat16_as_ushort(__float2bfloat16_rn(-INFINITY)) == 0xff80 &&
	   __bfloat16_as_ushort(__float2bfloat16_rn(3.4e38f)) == 0x7f80 && __bfloat16_as_ushort(__float2bfloat16_rn(-0.0f)) == 0x8000 &&
	   __bfloat16_as_ushort(__float2bfloat16_rn(1e-40f)) == 0x0001, "bf16: NaN, infinity, overflow, -0, denormal");
	ok(__low2float(__floats2bfloat162_rn(2, 3)) == 2 && __bfloat1622float2(__floats2bfloat162_rn(2, 3)).y == 3 && sizeof(__nv_bfloat162) == 4 &&
	   alignof(float4) == 16 && sizeof(float3) == 12 && alignof(int2) == 8, "pairs; sizes and alignments");
}

// ---- streams, events, memory ----

__global__ void add_one(int *p) { *p += 1; }
__global__ void copy_int(const int *from, int *to) { *to = *from; }

static void host_sleep(void *) { sleep_ms(30); }
static void host_count(void *p) { ++*(int *)p; }
static void host_query(void *p) { *(cudaError_t *)p = cudaStreamQuery(stream); }

static void test_streams()
{
	int *a = device_memory<int>(1), *b = device_memory<int>(1), *pinned, plain = 7, count = 0;
	cudaEvent_t e, f;
	cudaError_t inside = cudaSuccess;
	float ms = 0;
	double start;
	void *p;

	cudaHostAlloc(&p, 4, 0);
	pinned = (int *)p;
	cudaEventCreate(&e);
	cudaEventCreate(&f);
	ok(cudaEventQuery(e) == cudaSuccess && cudaStreamWaitEvent(stream, e) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess,
	   "an event that was never recorded has happened, and is not waited for");
	start = now();
	cudaMemsetAsync(a, 0, 4, stream);
	cudaEventRecord(f, stream);
	cudaLaunchHostFunc(stream, host_sleep, NULL);
	LAUNCH(dim3(1), dim3(1), add_one, a);
	cudaEventRecord(e, stream);
	cudaStreamWaitEvent(other, e);
	cudaEventRecord(e, other);              // another record: the wait above is not touched
	launch_on(other, dim3(1), dim3(1), copy_int, a, b);
	ok(now() - start < 0.02 && cudaStreamQuery(other) == cudaErrorNotReady && cudaStreamQuery(stream) == cudaErrorNotReady && cudaEventQuery(e) ==
	   cudaErrorNotReady && cudaEventElapsedTime(&ms, f, e) == cudaErrorNotReady, "the host does not wait for streams");
	cudaStreamSynchronize(other);
	ok(*b == 1 && cudaEventQuery(e) == cudaSuccess && now() - start >= 0.03, "a stream waits for the record before it");
	ok(cudaEventElapsedTime(&ms, f, e) == cudaSuccess && ms >= 29 && ms < 500, "time between two events: %.1f ms", (double)ms);

	*b = 99;
	cudaLaunchHostFunc(stream, host_sleep, NULL);
	launch_on(other, dim3(1), dim3(1), copy_int, a, b);
	cudaStreamSynchronize(other);
	ok(*b == 1, "streams do not wait for each other by themselves");
	wait();

	*pinned = 1;
	cudaLaunchHostFunc(stream, host_sleep, NULL);
	cudaMemcpyAsync(a, pinned, 4, cudaMemcpyHostToDevice, stream);
	*pinned = 2;
	wait();
	ok(*a == 2, "pinned memory is read when the stream comes to it");
	cudaLaunchHostFunc(stream, host_sleep, NULL);
	cudaMemcpyAsync(a, &plain, 4, cudaMemcpyHostToDevice, stream);
	plain = 8;
	wait();
	ok(*a == 7, "a little pageable memory is taken at the call");
	cudaLaunchHostFunc(stream, host_sleep, NULL);
	cudaMemcpyAsync(&plain, a, 4, cudaMemcpyDefault, stream);
	ok(plain == 7, "the host waits for a copy into pageable memory");
	ok(cudaMemcpyAsync(a, b, 8, cudaMemcpyDeviceToDevice, stream) == cudaErrorInvalidValue &&
	   cudaMemcpyAsync(a, b, 4, cudaMemcpyHostToDevice, stream) == cudaErrorInvalidValue, "copies that leave a block, or name the wrong side, are refused");

	for (int i = 0; i < 1000; i++)
		cudaLaunchHostFunc(i % 2 ? stream : other, host_count, &count);
	cudaDeviceSynchronize();
	ok(count == 1000, "host functions of two streams run one at a time");
	cudaLaunchHostFunc(stream, host_query, &inside);
	wait();
	ok(inside == cudaErrorNotPermitted, "a host function must not call CUDA");
	cudaGetLastError();
	cudaFree(a);
	cudaFree(b);
	cudaFreeHost(pinned);
	cudaEventDestroy(e);
	cudaEventDestroy(f);
	ok(cudaEventQuery(e) == cudaErrorInvalidResourceHandle, "a destroyed event is refused");
}

// ---- graphs ----

static void add_hook(void *args) { **(int **)args += 10; }

static void test_graphs()
{
	int *a = device_memory<int>(2), count = 0;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	cudaEvent_t outside, inside;
	enum cudaStreamCaptureStatus status;
	void *p;

	cudaEventCreateWithFlags(&outside, cudaEventDisableTiming);
	cudaEventCreateWithFlags(&inside, cudaEventDisableTiming);
	cudaMemsetAsync(a, 0, 8, stream);
	wait();
	ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess && cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
	   status == cudaStreamCaptureStatusActive, "a capture begins");
	LAUNCH(dim3(1), dim3(1), add_one, a);
	cudaMemcpyAsync(a + 1, a, 4, cudaMemcpyDeviceToDevice, stream);
	cudaLaunchHostFunc(stream, host_count, &count);
	emulator_run(stream, add_hook, &a, sizeof(a));
	ok(cudaStreamEndCapture(stream, &graph) == cudaSuccess && a[0] == 0 && count == 0, "what is captured does not run");
	cudaGraphInstantiate(&exec, graph);
	cudaGraphDestroy(graph);
	for (int i = 0; i < 3; i++)
		cudaGraphLaunch(exec, stream);
	wait();
	ok(a[0] == 33 && a[1] == 23 && count == 3, "three replays run it three times, in order");
	cudaGraphExecDestroy(exec);

	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	cudaEventRecord(inside, stream);
	cudaStreamWaitEvent(other, inside);
	launch_on(other, dim3(1), dim3(1), add_one, a);
	cudaEventRecord(inside, other);
	ok(cudaEventQuery(inside) == cudaErrorCapturedEvent, "an event in a capture cannot be asked");
	cudaStreamWaitEvent(stream, inside);
	ok(cudaStreamEndCapture(stream, &graph) == cudaSuccess && cudaStreamIsCapturing(other, &status) == cudaSuccess && status ==
	   cudaStreamCaptureStatusNone, "a second stream joins a capture by an event, and leaves it by another");
	cudaGraphDestroy(graph);

	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	cudaEventRecord(inside, stream);
	cudaStreamWaitEvent(other, inside);
	launch_on(other, dim3(1), dim3(1), add_one, a);
	ok(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureUnjoined && !graph, "work that is not joined is an error");

	cudaEventRecord(outside, other);
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	ok(cudaStreamWaitEvent(stream, outside) == cudaErrorStreamCaptureIsolation && launch_on(stream, dim3(1), dim3(1), add_one, a) ==
	   cudaErrorStreamCaptureInvalidated && cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated,
	   "waiting for an event from outside ends a capture");
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	ok(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported && cudaStreamEndCapture(stream, &graph) ==
	   cudaErrorStreamCaptureInvalidated, "so does waiting for the stream");
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
	ok(cudaMalloc(&p, 4) == cudaErrorStreamCaptureUnsupported && cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated,
	   "so does cudaMalloc, but in a relaxed capture");
	cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
	ok(cudaMalloc(&p, 4) == cudaSuccess && cudaStreamEndCapture(stream, &graph) == cudaSuccess, "in a relaxed one it is allowed");
	cudaGraphDestroy(graph);
	ok(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState, "no capture, no end");
	cudaGetLastError();
	cudaFree(p);
	cudaFree(a);
	cudaEventDestroy(outside);
	cudaEventDestroy(inside);
}

// ---- what must end the program ----

__global__ void one_stays_away()
{
	if (threadIdx.x != 7)
		__syncthreads();
}

__global__ void wrong_mask()
{
	if (threadIdx.x < 16)
		__shfl_xor_sync(0xffffffff, 1, 1);
	__syncthreads();
}

__global__ void not_named() { __ballot_sync(0xfffffffe, 1); }

__global__ void write_at(int *p, int i) { p[i] = 0; }

static void child_barrier() { LAUNCH(dim3(1), dim3(32), one_stays_away); }
static void child_mask() { LAUNCH(dim3(1), dim3(32), wrong_mask); }
static void child_name() { LAUNCH(dim3(1), dim3(32), not_named); }
static void child_behind(int at)
{
	int *p = device_memory<int>(5);

	LAUNCH(dim3(1), dim3(1), write_at, p, at);
	wait();
	cudaFree(p);
}
static void child_slack() { child_behind(5); }
static void child_front() { child_behind(-1); }
static void child_far() { child_behind(64); }
static void child_freed()
{
	int *p = device_memory<int>(5);

	cudaFree(p);
	LAUNCH(dim3(1), dim3(1), write_at, p, 0);
}

// A child has no threads of its parent: it makes its own stream.
static void dies(const char *what, void (*child)())
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
		child();
		wait();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	ok(pid > 0 && status != 0, "%s ends the program", what);
}

static void test_deaths()
{
	dies("a thread that ends while others are at a barrier", child_barrier);
	dies("a shuffle that half of its lanes do not reach", child_mask);
	dies("a mask that does not name its own lane", child_name);
	dies("writing behind device memory", child_slack);
	dies("writing in front of it", child_front);
	dies("writing far behind it", child_far);
	dies("writing to what was freed", child_freed);
}

int main()
{
	int count = 0;

	shuffled = getenv("EMULATOR_SHUFFLE") && atoi(getenv("EMULATOR_SHUFFLE"));
	test_deaths();                  // first: it forks, which is no good with threads
	ok(cudaGetDeviceCount(&count) == cudaSuccess && count == 1, "there is one device");
	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	cudaStreamCreateWithPriority(&other, cudaStreamNonBlocking, -5);
	test_indices();
	test_barriers();
	test_warps();
	test_atomics();
	test_numbers();
	test_streams();
	test_graphs();
	cudaStreamDestroy(stream);
	cudaStreamDestroy(other);
	return done_testing();
}
