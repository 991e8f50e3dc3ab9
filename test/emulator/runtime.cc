/*
 * Devices, errors, memory, copies, launches.
 *
 * Device memory is poisoned with 0xff (a NaN, in fp32 and bf16), ends within 256 bytes of a page that must not be touched, and has
 * guard bytes on both sides that are checked when it is freed. The blocks that were freed last must not be touched either; older
 * addresses come back, as they do on a GPU. Copies must stay inside of one block.
 */
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "emulator.h"

__thread struct emulator_self emulator_self;

/* ---- the environment ---- */

static uint64_t environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

const struct emulator_settings *emulator_config(void)
{
	static const struct emulator_settings config = {
		environment("EMULATOR_SHUFFLE", 0),
		(int)environment("EMULATOR_DEVICES", 1),
		(size_t)environment("EMULATOR_MEMORY", 8192) << 20,
	};

	return &config;
}

/* splitmix64 */
uint64_t emulator_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* ---- errors ---- */

void emulator_die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "CUDA emulator: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	_exit(70);
}

cudaError_t emulator_error(cudaError_t e)
{
	if (e != cudaSuccess)
		emulator_self.last = e;
	return e;
}

static const struct {
	cudaError_t e;
	const char *name, *words;
} error_table[] = {
	{ cudaSuccess, "cudaSuccess", "no error" },
	{ cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument" },
	{ cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory" },
	{ cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument" },
	{ cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy" },
	{ cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version" },
	{ cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected" },
	{ cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal" },
	{ cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle" },
	{ cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state" },
	{ cudaErrorNotReady, "cudaErrorNotReady", "device not ready" },
	{ cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered" },
	{ cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure" },
	{ cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted" },
	{ cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported" },
	{ cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing" },
	{ cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture" },
	{ cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences" },
	{ cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began" },
	{ cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work" },
	{ cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream" },
	{ cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit", "operation would make the legacy stream depend on a capturing one" },
	{ cudaErrorCapturedEvent, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream" },
	{ cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread", "capture must be ended by the thread that began it" },
};

extern "C" {

const char *cudaGetErrorName(cudaError_t e)
{
	for (auto &row : error_table)
		if (row.e == e)
			return row.name;
	return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t e)
{
	for (auto &row : error_table)
		if (row.e == e)
			return row.words;
	return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError(void) { return emulator_self.last; }

cudaError_t cudaGetLastError(void)
{
	cudaError_t e = emulator_self.last;

	emulator_self.last = cudaSuccess;
	return e;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = CUDART_VERSION;
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = emulator_config()->devices > 0 ? CUDART_VERSION : 0;
	return cudaSuccess;
}

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
	if (emulator_config()->devices <= 0)
		return emulator_error(cudaErrorNoDevice);
	*count = emulator_config()->devices;
	return cudaSuccess;
}

static bool no_such_device(int device) { return device < 0 || device >= emulator_config()->devices; }

cudaError_t cudaSetDevice(int device)
{
	if (no_such_device(device))
		return emulator_error(emulator_config()->devices > 0 ? cudaErrorInvalidDevice : cudaErrorNoDevice);
	emulator_self.device = device;
	return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
	*device = emulator_self.device;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
	if (no_such_device(device))
		return emulator_error(cudaErrorInvalidDevice);
	memset(p, 0, sizeof(*p));
	snprintf(p->name, sizeof(p->name), "emulated GPU");
	for (int i = 0; i < 16; i++)
		p->uuid.bytes[i] = (char)(0xe0 + i + 16 * device);
	p->totalGlobalMem = emulator_config()->memory;
	p->sharedMemPerBlock = 48 << 10;
	p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = 227 << 10;
	p->regsPerBlock = 65536;
	p->warpSize = 32;
	p->maxThreadsPerBlock = 1024;
	p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
	p->maxThreadsDim[2] = 64;
	p->maxGridSize[0] = 0x7fffffff;
	p->maxGridSize[1] = p->maxGridSize[2] = 65535;
	p->major = 9;
	p->multiProcessorCount = 4;
	p->maxThreadsPerMultiProcessor = 2048;
	p->l2CacheSize = 50 << 20;
	p->pciBusID = device + 1;
	p->asyncEngineCount = 3;
	p->concurrentKernels = p->unifiedAddressing = p->managedMemory = p->concurrentManagedAccess = 1;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
	struct cudaDeviceProp p;
	cudaError_t e = cudaGetDeviceProperties(&p, device);

	if (e != cudaSuccess)
		return e;
	switch (attribute) {
	case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
	case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
	case cudaDevAttrWarpSize: *value = p.warpSize; break;
	case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
	case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
	case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
	case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
	case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
	case cudaDevAttrManagedMemory: *value = p.managedMemory; break;
	case cudaDevAttrConcurrentManagedAccess: *value = p.concurrentManagedAccess; break;
	default: return emulator_error(cudaErrorInvalidValue);
	}
	return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *bus, int length, int device)
{
	if (no_such_device(device))
		return emulator_error(cudaErrorInvalidDevice);
	if (length < 13)
		return emulator_error(cudaErrorInvalidValue);
	snprintf(bus, (size_t)length, "0000:%02X:00.0", (unsigned)(device + 1) & 0xff);
	return cudaSuccess;
}

}

/* ---- memory ---- */

enum { GRAIN = 256, PAGE = 4096, FREED = 64 };
static const unsigned char GUARD = 0xa5, POISON = 0xff;

struct block {
	size_t bytes;
	enum cudaMemoryType type;
	char *map;
	size_t mapped;
};

static struct store {
	std::mutex lock;
	std::map<uintptr_t, struct block> blocks;
	std::deque<struct block> freed;         /* the last ones */
	size_t used = 0;
} &store = *new struct store;

/* | untouchable page | … guard | bytes, at a multiple of 256 | up to 255 guards | untouchable page | */
static cudaError_t allocate(void **p, size_t bytes, enum cudaMemoryType type)
{
	size_t rounded = (bytes + GRAIN - 1) / GRAIN * GRAIN, inside = (rounded + GRAIN + PAGE - 1) / PAGE * PAGE;
	struct block b = { bytes, type, NULL, inside + 2 * PAGE };
	std::lock_guard<std::mutex> g(store.lock);
	char *data;

	*p = NULL;
	if (bytes == 0)
		return cudaSuccess;
	if (type != cudaMemoryTypeHost && (bytes > emulator_config()->memory || rounded > emulator_config()->memory - store.used))
		return cudaErrorMemoryAllocation;
	b.map = (char *)mmap(NULL, b.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b.map == MAP_FAILED || mprotect(b.map, PAGE, PROT_NONE) || mprotect(b.map + PAGE + inside, PAGE, PROT_NONE))
		return cudaErrorMemoryAllocation;
	data = b.map + PAGE + inside - rounded;
	memset(data - GRAIN, GUARD, GRAIN);
	memset(data, POISON, bytes);
	memset(data + bytes, GUARD, rounded - bytes);
	store.blocks[(uintptr_t)data] = b;
	store.used += type == cudaMemoryTypeHost ? 0 : rounded;
	*p = data;
	return cudaSuccess;
}

static bool guarded(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] != GUARD)
			return false;
	return true;
}

static cudaError_t release(void *p, bool host)
{
	std::lock_guard<std::mutex> g(store.lock);
	auto at = store.blocks.find((uintptr_t)p);
	char *data = (char *)p;
	struct block b;
	size_t rounded;

	if (!p)
		return cudaSuccess;
	if (at == store.blocks.end() || (at->second.type == cudaMemoryTypeHost) != host)
		return cudaErrorInvalidValue;
	b = at->second;
	rounded = (b.bytes + GRAIN - 1) / GRAIN * GRAIN;
	if (!guarded(data - GRAIN, GRAIN))
		emulator_die("something wrote in front of a block of %zu bytes", b.bytes);
	if (!guarded(data + b.bytes, rounded - b.bytes))
		emulator_die("something wrote behind a block of %zu bytes", b.bytes);
	store.used -= host ? 0 : rounded;
	store.blocks.erase(at);
	mprotect(b.map, b.mapped, PROT_NONE);
	madvise(b.map, b.mapped, MADV_DONTNEED);
	store.freed.push_back(b);
	if (store.freed.size() > FREED) {
		munmap(store.freed.front().map, store.freed.front().mapped);
		store.freed.pop_front();
	}
	return cudaSuccess;
}

enum cudaMemoryType emulator_memory(const void *p, size_t bytes, bool *fits)
{
	std::lock_guard<std::mutex> g(store.lock);
	auto at = store.blocks.upper_bound((uintptr_t)p);
	uintptr_t offset;

	*fits = true;
	if (at == store.blocks.begin())
		return cudaMemoryTypeUnregistered;
	at--;
	offset = (uintptr_t)p - at->first;
	if (offset >= at->second.bytes)
		return cudaMemoryTypeUnregistered;
	*fits = bytes <= at->second.bytes - offset;
	return at->second.type;
}

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes)
{
	cudaError_t e = emulator_allowed();

	return emulator_error(e == cudaSuccess ? allocate(p, bytes, cudaMemoryTypeDevice) : e);
}

cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned flags)
{
	cudaError_t e = emulator_allowed();

	if (bytes == 0 || flags != cudaMemAttachGlobal)
		return emulator_error(cudaErrorInvalidValue);
	return emulator_error(e == cudaSuccess ? allocate(p, bytes, cudaMemoryTypeManaged) : e);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
	cudaError_t e = emulator_allowed();

	(void)flags;
	return emulator_error(e == cudaSuccess ? allocate(p, bytes, cudaMemoryTypeHost) : e);
}

cudaError_t cudaMallocHost(void **p, size_t bytes) { return cudaHostAlloc(p, bytes, cudaHostAllocDefault); }

static cudaError_t release_idle(void *p, bool host)
{
	cudaError_t e = emulator_allowed();

	if (e == cudaSuccess && p)
		e = cudaDeviceSynchronize();
	return emulator_error(e == cudaSuccess ? release(p, host) : e);
}

cudaError_t cudaFree(void *p) { return release_idle(p, false); }
cudaError_t cudaFreeHost(void *p) { return release_idle(p, true); }

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
	std::lock_guard<std::mutex> g(store.lock);

	*total = emulator_config()->memory;
	*free = *total - store.used;
	return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
	bool fits;

	a->type = emulator_memory(p, 0, &fits);
	a->device = a->type == cudaMemoryTypeUnregistered ? -2 : 0;
	a->devicePointer = a->type == cudaMemoryTypeUnregistered ? NULL : (void *)p;
	a->hostPointer = a->type == cudaMemoryTypeDevice ? NULL : (void *)p;
	return cudaSuccess;
}

/* ---- copies ---- */

static bool on_device(enum cudaMemoryType t) { return t == cudaMemoryTypeDevice || t == cudaMemoryTypeManaged; }
static bool on_host(enum cudaMemoryType t) { return t != cudaMemoryTypeDevice; }

/* Are both sides what `kind` says, and large enough? */
static cudaError_t copy_check(const void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, enum cudaMemoryType *to,
                              enum cudaMemoryType *from)
{
	bool fits, source_fits;

	*to = emulator_memory(dst, bytes, &fits);
	*from = emulator_memory(src, bytes, &source_fits);
	if (!fits || !source_fits)
		return cudaErrorInvalidValue;
	switch (kind) {
	case cudaMemcpyHostToDevice: return on_host(*from) && on_device(*to) ? cudaSuccess : cudaErrorInvalidValue;
	case cudaMemcpyDeviceToHost: return on_device(*from) && on_host(*to) ? cudaSuccess : cudaErrorInvalidValue;
	case cudaMemcpyDeviceToDevice: return on_device(*from) && on_device(*to) ? cudaSuccess : cudaErrorInvalidValue;
	case cudaMemcpyHostToHost: return on_host(*from) && on_host(*to) ? cudaSuccess : cudaErrorInvalidValue;
	case cudaMemcpyDefault: return cudaSuccess;
	}
	return cudaErrorInvalidMemcpyDirection;
}

/*
 * Pinned memory is read and written when the stream comes to it. Pageable memory is not: up to 64 KB are taken at the call; for more,
 * and for copies into pageable memory, the host waits. (Recorded copies always happen when they are replayed.)
 */
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	enum cudaMemoryType to, from;
	cudaError_t e = copy_check(dst, src, bytes, kind, &to, &from);
	bool capturing = emulator_capturing(stream);

	if (e != cudaSuccess || bytes == 0)
		return emulator_error(e);
	if (!capturing && from == cudaMemoryTypeUnregistered && bytes <= 64 << 10) {
		std::shared_ptr<std::vector<char>> staged = std::make_shared<std::vector<char>>((const char *)src, (const char *)src + bytes);

		e = emulator_queue(stream, [dst, staged]() { memcpy(dst, staged->data(), staged->size()); });
	} else {
		e = emulator_queue(stream, [dst, src, bytes]() { memcpy(dst, src, bytes); });
	}
	if (e == cudaSuccess && !capturing &&
	    (to == cudaMemoryTypeUnregistered || (from == cudaMemoryTypeUnregistered && bytes > 64 << 10)))
		e = cudaStreamSynchronize(stream);
	return emulator_error(e);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
	bool fits;
	enum cudaMemoryType to = emulator_memory(dst, bytes, &fits);

	if (!fits || !on_device(to))
		return emulator_error(bytes ? cudaErrorInvalidValue : cudaSuccess);
	return emulator_error(emulator_queue(stream, [dst, value, bytes]() { memset(dst, value, bytes); }));
}

/* On stream 0, to its end. It does not wait for streams that were made not to wait for it. */
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
	cudaError_t e = emulator_allowed();

	if (e == cudaSuccess)
		e = cudaMemcpyAsync(dst, src, bytes, kind, 0);
	if (e == cudaSuccess)
		e = cudaStreamSynchronize(0);
	return emulator_error(e);
}

cudaError_t cudaMemset(void *dst, int value, size_t bytes)
{
	cudaError_t e = emulator_allowed();

	if (e == cudaSuccess)
		e = cudaMemsetAsync(dst, value, bytes, 0);
	return emulator_error(e);
}

}

/* ---- kernels ---- */

cudaError_t emulator_launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, const char *name, void (*call)(const void *),
                            void *arguments, void (*drop)(void *))
{
	std::shared_ptr<void> kept(arguments, drop);

	if (shared)
		emulator_die("dynamic shared memory is not emulated: %s", name);
	if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535 || block.x == 0 ||
	    block.y == 0 || block.z == 0 || block.z > 64 || (uint64_t)block.x * block.y * block.z > 1024)
		return emulator_error(cudaErrorInvalidConfiguration);
	return emulator_error(emulator_queue(stream, [grid, block, name, call, kept]() {
		emulator_blocks(grid, block, name, call, kept.get());
	}));
}
