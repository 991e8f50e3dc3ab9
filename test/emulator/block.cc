/*
 * Blocks of threads, on one thread of the host. Each thread of a block is a fiber that runs until it ends or meets a barrier or the
 * other lanes of its warp; then the next one goes on. So between two meeting points a thread runs alone, which hides races; with
 * EMULATOR_SHUFFLE the order changes from one meeting to the next, which shows them.
 *
 * A fiber that reaches the end of its thread begins the next one: kernels without meeting points never switch. Switches are
 * _setjmp and _longjmp, as swapcontext() would cost two system calls; only the first entry into a stack needs a context.
 */
#undef _FORTIFY_SOURCE          /* its longjmp takes a change of stacks for an attack */
#include <link.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

#include "emulator.h"

enum { MOST_THREADS = 1024, STACK = 256 << 10 };

enum state { NEW, RUNNING, READY, AT_BARRIER, AT_WARP, ENDED };

struct fiber {
	jmp_buf here;
	ucontext_t entry;
	bool started;
	char *stack;
	void *tsan, *asan;
};

struct thread {
	enum state state;
	struct fiber *fiber;
	uint3 index;
	enum emulator_meeting meeting;          /* at a meeting of lanes: what is done there, between whom, what each brings and gets */
	unsigned mask, source;
	uint64_t value, result;
};

struct emulator_runner {
	const char *name;                       /* of the kernel */
	void (*call)(const void *);
	const void *arguments;
	int threads, next, current;             /* next: place in `order` of the next thread to begin */
	int arrived, ended, predicates;         /* at the barrier that is closed; … */
	int opened;                             /* … at the one before: what its threads may still have to read */
	int64_t barriers;
	uint64_t random;
	struct thread thread[MOST_THREADS];
	int order[MOST_THREADS];
	std::vector<struct fiber *> idle, all;
	jmp_buf scheduler;
	void *tsan, *asan;
	const void *stack;                      /* the scheduler's own */
	size_t stack_size;
	char *shared;                           /* thread_local memory of this module, where __shared__ is */
	size_t shared_size;
};

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim, gridDim;

/* The sanitizers want to know that stacks change. Without them these do not exist. */
extern "C" {
void __sanitizer_start_switch_fiber(void **save, const void *stack, size_t size) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *save, const void **stack, size_t *size) __attribute__((weak));
void *__tsan_get_current_fiber(void) __attribute__((weak));
void *__tsan_create_fiber(unsigned flags) __attribute__((weak));
void __tsan_destroy_fiber(void *fiber) __attribute__((weak));
void __tsan_switch_to_fiber(void *fiber, unsigned flags) __attribute__((weak));
}

/* ---- switching ---- */

static void arrive(void *asan, const void **stack, size_t *size)
{
	if (__sanitizer_finish_switch_fiber)
		__sanitizer_finish_switch_fiber(asan, stack, size);
}

static void switch_to_fiber(struct emulator_runner *r, struct fiber *f)
{
	if (__sanitizer_start_switch_fiber)
		__sanitizer_start_switch_fiber(&r->asan, f->stack, STACK);
	if (__tsan_switch_to_fiber)
		__tsan_switch_to_fiber(f->tsan, 0);
	if (_setjmp(r->scheduler) == 0) {
		if (f->started)
			_longjmp(f->here, 1);
		f->started = true;
		setcontext(&f->entry);
	}
	arrive(r->asan, NULL, NULL);
}

static void switch_to_scheduler(struct emulator_runner *r, struct fiber *f)
{
	if (__sanitizer_start_switch_fiber)
		__sanitizer_start_switch_fiber(&f->asan, r->stack, r->stack_size);
	if (__tsan_switch_to_fiber)
		__tsan_switch_to_fiber(r->tsan, 0);
	if (_setjmp(f->here) == 0)
		_longjmp(r->scheduler, 1);
	arrive(f->asan, NULL, NULL);
}

/* The running thread stands aside until the scheduler takes it up again. */
static void leave(struct emulator_runner *r)
{
	switch_to_scheduler(r, r->thread[r->current].fiber);
	r->thread[r->current].state = RUNNING;
}

static void set_current(struct emulator_runner *r, int t)
{
	r->current = t;
	threadIdx = r->thread[t].index;
}

static void lanes_go_on(struct emulator_runner *r, int lane);

static void fiber_main(unsigned high, unsigned low)
{
	struct fiber *f = (struct fiber *)((uintptr_t)high << 32 | low);
	struct emulator_runner *r = emulator_self.runner;

	arrive(NULL, &r->stack, &r->stack_size);
	for (;;) {
		while (r->next < r->threads) {
			struct thread *t = &r->thread[r->order[r->next]];

			set_current(r, r->order[r->next++]);
			t->fiber = f;
			t->state = RUNNING;
			r->call(r->arguments);
			t = &r->thread[r->current];
			t->state = ENDED;
			r->ended++;
			lanes_go_on(r, r->current);
		}
		r->idle.push_back(f);
		switch_to_scheduler(r, f);
	}
}

static struct fiber *idle_fiber(struct emulator_runner *r)
{
	struct fiber *f;
	char *memory;

	if (!r->idle.empty()) {
		f = r->idle.back();
		r->idle.pop_back();
		return f;
	}
	/* An address that must not be touched below the stack: one that is too small is better found at once. */
	memory = (char *)mmap(NULL, STACK + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_NONE))
		emulator_die("no memory for the stack of a thread");
	f = new fiber();
	f->stack = memory + 4096;
	f->tsan = __tsan_create_fiber ? __tsan_create_fiber(0) : NULL;
	getcontext(&f->entry);
	f->entry.uc_stack.ss_sp = f->stack;
	f->entry.uc_stack.ss_size = STACK;
	makecontext(&f->entry, (void (*)())fiber_main, 2, (unsigned)((uintptr_t)f >> 32), (unsigned)(uintptr_t)f);
	r->all.push_back(f);
	return f;
}

/* ---- meetings ---- */

static const char *const meeting_name[] = {
	"a barrier", "__syncwarp", "a shuffle", "__ballot_sync", "__any_sync", "__all_sync", "__match_any_sync", "__reduce_add_sync",
	"__reduce_min_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",
	"__reduce_xor_sync",
};

static void where(const struct emulator_runner *r, char *text, size_t size)
{
	snprintf(text, size, "block (%u, %u, %u) of %s", blockIdx.x, blockIdx.y, blockIdx.z, r->name);
}

int emulator_barrier(bool predicate)
{
	struct emulator_runner *r = emulator_self.runner;

	r->thread[r->current].state = AT_BARRIER;
	r->arrived++;
	r->predicates += predicate;
	leave(r);
	return r->opened;
}

static uint64_t reduced(enum emulator_meeting meeting, uint64_t a, uint64_t b)
{
	int32_t x = (int32_t)a, y = (int32_t)b;

	switch (meeting) {
	case EMULATOR_ADD: return (uint32_t)(a + b);
	case EMULATOR_MIN: return a < b ? a : b;
	case EMULATOR_MAX: return a > b ? a : b;
	case EMULATOR_MIN_SIGNED: return x < y ? a : b;
	case EMULATOR_MAX_SIGNED: return x > y ? a : b;
	case EMULATOR_AND: return a & b;
	case EMULATOR_OR: return a | b;
	default: return a ^ b;
	}
}

/* Of the lanes that have met (a bit each), what one gets. A shuffle from a lane that is not there gives garbage, as on a GPU. */
static uint64_t meeting_result(const struct thread *warp, const struct thread *me, unsigned met)
{
	unsigned ballot = 0, match = 0;
	uint64_t total = 0;
	bool first = true;

	if (me->meeting == EMULATOR_SHUFFLE)
		return met >> me->source & 1 ? warp[me->source].value : ~(uint64_t)0;
	for (unsigned i = 0; i < 32; i++) {
		if (!(met >> i & 1))
			continue;
		ballot |= (unsigned)(warp[i].value != 0) << i;
		match |= (unsigned)(warp[i].value == me->value) << i;
		total = first ? warp[i].value : reduced(me->meeting, total, warp[i].value);
		first = false;
	}
	switch (me->meeting) {
	case EMULATOR_SYNC: return 0;
	case EMULATOR_BALLOT: return ballot;
	case EMULATOR_ANY: return ballot != 0;
	case EMULATOR_ALL: return ballot == met;
	case EMULATOR_MATCH: return match;
	default: return total;
	}
}

/* If all that this lane waits for are there, they get their results and can go on. Lanes that have ended are not waited for. */
static bool meeting_complete(struct emulator_runner *r, int lane)
{
	int base = lane / 32 * 32;
	struct thread *warp = &r->thread[base], *me = &r->thread[lane];
	unsigned met = 0;
	char text[1024];

	/* Downwards: threads mostly come in order, so that the last one is the one to miss. */
	for (int i = 31; i >= 0; i--) {
		if (!(me->mask >> i & 1) || base + i >= r->threads || warp[i].state == ENDED)
			continue;
		if (warp[i].state != AT_WARP || warp[i].mask != me->mask)
			return false;
		if (warp[i].meeting != me->meeting) {
			where(r, text, sizeof(text));
			emulator_die("%s: lanes of a warp meet at different places: thread %d at %s, thread %d at %s", text, lane,
			             meeting_name[me->meeting], base + i, meeting_name[warp[i].meeting]);
		}
		met |= 1u << i;
	}
	for (int i = 0; i < 32; i++)
		if (met >> i & 1)
			warp[i].result = meeting_result(warp, &warp[i], met);
	for (int i = 0; i < 32; i++)
		if (met >> i & 1)
			warp[i].state = READY;
	return true;
}

uint64_t emulator_warp(enum emulator_meeting meeting, unsigned mask, uint64_t value, unsigned source)
{
	struct emulator_runner *r = emulator_self.runner;
	struct thread *t = &r->thread[r->current];
	char text[1024];

	if (!(mask >> r->current % 32 & 1)) {
		where(r, text, sizeof(text));
		emulator_die("%s: thread %d is at %s with a mask (%08x) that does not name it", text, r->current, meeting_name[meeting], mask);
	}
	t->meeting = meeting;
	t->mask = mask;
	t->value = value;
	t->source = source;
	t->state = AT_WARP;
	if (!meeting_complete(r, r->current))
		leave(r);
	t->state = RUNNING;
	return t->result;
}

/* A lane has ended: those that waited for nobody else can go on. */
static void lanes_go_on(struct emulator_runner *r, int lane)
{
	int base = lane / 32 * 32;

	for (int i = base; i < base + 32 && i < r->threads; i++)
		if (r->thread[i].state == AT_WARP)
			meeting_complete(r, i);
}

void emulator_let_in(void)
{
	struct emulator_runner *r = emulator_self.runner;

	if (!emulator_config()->shuffle || !r || r->current < 0 || emulator_random(&r->random) % 4)
		return;
	r->thread[r->current].state = READY;
	leave(r);
}

/* ---- the scheduler ---- */

static void shuffle(struct emulator_runner *r)
{
	if (!emulator_config()->shuffle)
		return;
	for (int i = r->threads - 1; i > 0; i--) {
		int j = (int)(emulator_random(&r->random) % (uint64_t)(i + 1)), t = r->order[i];

		r->order[i] = r->order[j];
		r->order[j] = t;
	}
}

static void dead_lock(const struct emulator_runner *r)
{
	char text[1024];

	where(r, text, sizeof(text));
	for (int i = 0; i < r->threads; i++)
		if (r->thread[i].state == AT_WARP)
			emulator_die("%s waits for ever: thread %d is at %s with mask %08x, but not all those lanes come; %d of %d threads are at a "
			             "barrier (after %lld), %d have ended", text, i, meeting_name[r->thread[i].meeting], r->thread[i].mask,
			             r->arrived, r->threads, (long long)r->barriers, r->ended);
	emulator_die("%s: %d of %d threads are at a barrier (after %lld), %d have ended without it", text, r->arrived, r->threads,
	             (long long)r->barriers, r->ended);
}

/* Everybody is at the barrier, or the block is stuck. */
static void barrier_opens(struct emulator_runner *r)
{
	if (r->arrived != r->threads)
		dead_lock(r);
	r->barriers++;
	for (int i = 0; i < r->threads; i++)
		r->thread[i].state = READY;
	r->opened = r->predicates;
	r->arrived = r->predicates = 0;
	shuffle(r);
}

static void run_block(struct emulator_runner *r)
{
	r->next = r->arrived = r->ended = r->predicates = 0;
	r->barriers = 0;
	for (int i = 0; i < r->threads; i++)
		r->thread[i].state = NEW;
	shuffle(r);
	while (r->next < r->threads)
		switch_to_fiber(r, idle_fiber(r));
	while (r->ended < r->threads) {
		bool moved = false;

		for (int i = 0; i < r->threads; i++) {
			int t = r->order[i];

			if (r->thread[t].state != READY)
				continue;
			set_current(r, t);
			switch_to_fiber(r, r->thread[t].fiber);
			moved = true;
		}
		if (!moved)
			barrier_opens(r);
	}
	r->current = -1;
}

/* ---- shared memory ---- */

static int find_module(struct dl_phdr_info *info, size_t, void *arg)
{
	struct emulator_runner *r = (struct emulator_runner *)arg;
	char *self = (char *)&emulator_self;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		char *base = (char *)info->dlpi_tls_data;

		if (p->p_type == PT_TLS && base && self >= base && self < base + p->p_memsz) {
			r->shared = base;
			r->shared_size = p->p_memsz;
			return 1;
		}
	}
	return 0;
}

/* All thread_local memory of this module becomes garbage, but for the emulator's own: the kernels' shared memory. */
static void poison_shared(struct emulator_runner *r)
{
	struct emulator_self self = emulator_self;
	uint3 block = blockIdx;
	dim3 threads = blockDim, blocks = gridDim;

	if (!r->shared)
		return;
	memset(r->shared, 0xff, r->shared_size);
	emulator_self = self;
	blockIdx = block;
	blockDim = threads;
	gridDim = blocks;
}

/* ---- a kernel ---- */

static struct emulator_runner *runner(void)
{
	struct emulator_runner *r = emulator_self.runner;

	if (r)
		return r;
	r = new emulator_runner();
	r->tsan = __tsan_get_current_fiber ? __tsan_get_current_fiber() : NULL;
	r->random = emulator_config()->shuffle;
	r->current = -1;
	dl_iterate_phdr(find_module, r);
	return emulator_self.runner = r;
}

void emulator_blocks_end(void)
{
	struct emulator_runner *r = emulator_self.runner;

	if (!r)
		return;
	for (struct fiber *f : r->all) {
		if (__tsan_destroy_fiber)
			__tsan_destroy_fiber(f->tsan);
		munmap(f->stack - 4096, STACK + 4096);
		delete f;
	}
	delete r;
	emulator_self.runner = NULL;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t c = a % b;

		a = b;
		b = c;
	}
	return a;
}

void emulator_blocks(dim3 grid, dim3 block, const char *name, void (*call)(const void *), const void *arguments)
{
	struct emulator_runner *r = runner();
	uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, stride = 1, at = 0;
	bool shuffled = emulator_config()->shuffle != 0;

	r->name = name;
	r->call = call;
	r->arguments = arguments;
	r->threads = (int)(block.x * block.y * block.z);
	for (int i = 0; i < r->threads; i++) {
		unsigned t = (unsigned)i;

		r->order[i] = i;
		r->thread[i].index = make_uint3(t % block.x, t / block.x % block.y, t / (block.x * block.y));
	}
	if (shuffled) {
		at = emulator_random(&r->random) % blocks;
		do
			stride = 1 + emulator_random(&r->random) % blocks;
		while (common_divisor(stride, blocks) != 1);
	}
	blockDim = block;
	gridDim = grid;
	for (uint64_t i = 0; i < blocks; i++, at = (at + stride) % blocks) {
		blockIdx = make_uint3((unsigned)(at % grid.x), (unsigned)(at / grid.x % grid.y), (unsigned)(at / grid.x / grid.y));
		if (i == 0 || shuffled)
			poison_shared(r);
		run_block(r);
	}
}
